"""Limits as pages show them: a bar with its name in words, how long it lasts and when it starts again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from modelgates_server.accounts.policy import Layer
from modelgates_server.management.limits_over import LimitOver

_PER: Final = {"day": "a day", "week": "a week", "month": "a month", "life": "in all"}


@dataclass(frozen=True, slots=True)
class LimitBar:
    """A limit. Nano-USD: `used_nusd` is spent, `held_nusd` is reserved by open requests. `per` is "a month" and the like.

    `resets_at_s` is None for a limit that never starts again. A soft one refuses nothing.
    """

    title: str
    per: str
    used_nusd: int
    held_nusd: int
    limit_nusd: int
    resets_at_s: int | None
    soft: bool
    guardrail_id: str | None = None


def bar(over: LimitOver, member: str | None, workspace: str) -> LimitBar:
    """The bar of a limit over a key of a member (None: nobody's) in a workspace."""
    return LimitBar(
        title=_title(over, member or "its member", workspace),
        per=_PER[over.window],
        used_nusd=over.posted_nusd,
        held_nusd=over.held_nusd,
        limit_nusd=over.amount_nusd,
        resets_at_s=over.ends_at_s,
        soft=over.soft,
        guardrail_id=over.guardrail_id,
    )


def per(window: str) -> str:
    """How long a limit counts, in words."""
    return _PER[window]


def _title(over: LimitOver, member: str, workspace: str) -> str:
    titles = {
        Layer.KEY_LIMIT: "Limit of this key",
        Layer.API_KEY: f"Guardrail “{over.name}” of this key",
        Layer.DEFAULT_KEY: f"Guardrail “{over.name}”, for each key in {workspace}",
        Layer.DEFAULT_MEMBER: f"Guardrail “{over.name}”, for each member in {workspace}",
        Layer.MEMBER: f"Guardrail “{over.name}” of {member}",
        Layer.MEMBER_BUDGET: f"Share of {member}",
        Layer.WORKSPACE: f"Budget of the workspace {workspace}",
        Layer.APP: f"Budget of the app {over.name}",
        Layer.ORGANIZATION: "Budget of the organization",
    }
    return titles[Layer(over.layer)]
