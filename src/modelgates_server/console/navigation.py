"""What stands in the navigation, in its order, and for whom."""

from __future__ import annotations

from typing import Final, NamedTuple

from modelgates_server.console.visits import ADMIN, MEMBER


class Entry(NamedTuple):
    """A link of the navigation. `role` is the least that a visitor must be to see it."""

    path: str
    label: str
    role: str = MEMBER


NAVIGATION: Final = (
    Entry("/", "Overview"),
    Entry("/activity", "Activity"),
    Entry("/logs", "Logs"),
    Entry("/keys", "Keys"),
    Entry("/credits", "Credits", ADMIN),
    Entry("/members", "Members", ADMIN),
    Entry("/guardrails", "Guardrails", ADMIN),
    Entry("/providers", "Providers", ADMIN),
    Entry("/models", "Models"),
    Entry("/setup", "Set-up"),
    Entry("/settings", "Settings", ADMIN),
    Entry("/privacy", "Privacy"),
    Entry("/audit", "Audit", ADMIN),
)


def entries(*, admin: bool) -> tuple[Entry, ...]:
    """What somebody sees of it."""
    return tuple(entry for entry in NAVIGATION if admin or entry.role != ADMIN)


def current(entry: Entry, path: str) -> bool:
    """Whether a page belongs under an entry."""
    return path == entry.path or (entry.path != "/" and path.startswith(entry.path + "/"))
