"""What of the log a visitor asks for, read from the fields of the address; and what its form offers to choose from."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from modelgates_server.activity.logs_filter import OUTCOMES, LogFilter
from modelgates_server.console.key_forms import OPTIONS_MAX, Option
from modelgates_server.console.visits import Visit
from modelgates_server.errors import BadRequest
from modelgates_server.management.key_lists import KeysWanted, slice_keys, workspaces_for
from modelgates_server.management.members import list_members

TEXT_MAX: Final = 512
KEYS_MAX: Final = 200
"""The newest keys are offered; any other is reached from its own page."""

FIELDS: Final = (
    "model", "provider", "key", "member", "workspace", "app", "outcome", "finish", "cached", "streamed", "session", "user", "id",
    "from", "to",
)  # fmt: skip
"""The fields of the address that filter."""

RARE: Final = ("workspace", "app", "finish", "cached", "streamed", "session", "user", "id")
"""Those that stand under "More filters"."""

_SWITCH: Final = {"": None, "yes": True, "no": False}
_MOMENT: Final = re.compile(r"\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}(?::\d{2})?)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class LogChoices:
    """What the filter's lists hold. People and their keys are shown to those who may see them."""

    models: tuple[Option, ...]
    providers: tuple[Option, ...]
    keys: tuple[Option, ...]
    members: tuple[Option, ...]
    workspaces: tuple[Option, ...]


def log_filter(visit: Visit) -> LogFilter:
    """What is asked for, confined to what the visitor may see. Raises BadRequest."""
    query = visit.query
    outcome = query.get("outcome")
    if outcome and outcome not in OUTCOMES:
        raise BadRequest(f"outcome must be one of {', '.join(OUTCOMES)}")
    model = _text(visit, "model")
    known = None if model is None else visit.house.catalogue.names.find(model)
    return LogFilter(
        only_member_id=visit.only_member_id,
        model=model if known is None else known.model.slug,
        provider=_text(visit, "provider"),
        key_hash=_text(visit, "key"),
        member_id=_text(visit, "member"),
        workspace_id=_text(visit, "workspace"),
        app=_text(visit, "app"),
        outcome=outcome or None,
        finish_reason=_text(visit, "finish"),
        cached=_switch(visit, "cached"),
        streamed=_switch(visit, "streamed"),
        session_id=_text(visit, "session"),
        external_user=_text(visit, "user"),
        generation_id=_text(visit, "id"),
        since_ms=moment_ms(query.get("from"), "from"),
        until_ms=moment_ms(query.get("to"), "to"),
    )


def filtered(visit: Visit) -> bool:
    """Whether anything was asked for."""
    return any(visit.query.get(name) for name in FIELDS)


def log_choices(visit: Visit) -> LogChoices:
    """What the lists of the form hold."""
    house, organization_id = visit.house, visit.organization_id
    wanted = KeysWanted(member_id=visit.only_member_id)
    keys = slice_keys(house.engine, organization_id, wanted, None, KEYS_MAX, visit.now_s).entries
    listed = [Option(one.row.hash, f"{one.row.name} ({one.row.label})") for one in keys]
    members: tuple[Option, ...] = ()
    if visit.is_admin:
        people = list_members(house.engine, organization_id, 0, OPTIONS_MAX).rows
        members = tuple(Option(one.id, one.name) for one in people)
    return LogChoices(
        models=tuple(Option(model.slug, model.name) for model in house.catalogue.models.values()),
        providers=_with(visit, "provider", [Option(one.slug, one.slug) for one in house.providers]),
        keys=_with(visit, "key", listed),
        members=_with(visit, "member", members) if visit.is_admin else (),
        workspaces=_with(
            visit,
            "workspace",
            [Option(*one) for one in workspaces_for(house.engine, organization_id, visit.only_member_id)],
        ),
    )


def moment_ms(text: str, name: str) -> int | None:
    """A moment as Unix milliseconds; None for an empty field. Raises BadRequest.

    It is written as a day or a day with a time in UTC, as the browser's own fields do, or as Unix milliseconds.
    """
    if not text:
        return None
    if text.isascii() and text.isdecimal() and len(text) <= 15:
        return int(text)
    try:
        if not _MOMENT.fullmatch(text):
            raise ValueError  # noqa: TRY301 - one answer for all that is no moment
        return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)
    except ValueError as error:
        raise BadRequest(
            f"{name}: {text[:40]!r} is no moment; write it like 2026-11-26 or 2026-11-26T14:30 (UTC)"
        ) from error


def _text(visit: Visit, name: str) -> str | None:
    text = visit.query.get(name)
    if len(text) > TEXT_MAX:
        raise BadRequest(f"{name} may have at most {TEXT_MAX} characters")
    return text or None


def _switch(visit: Visit, name: str) -> bool | None:
    text = visit.query.get(name)
    if text not in _SWITCH:
        raise BadRequest(f"{name} must be yes or no")
    return _SWITCH[text]


def _with(visit: Visit, name: str, options: list[Option] | tuple[Option, ...]) -> tuple[Option, ...]:
    """The options, and what is chosen already: it may be none of them any more."""
    chosen = visit.query.get(name)
    known = not chosen or any(one.value == chosen for one in options)
    return tuple(options) if known else (*options, Option(chosen, chosen if len(chosen) <= 24 else f"{chosen[:24]}…"))
