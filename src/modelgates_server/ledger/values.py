"""What the ledger takes and gives: requests for a hold, holds, refusals."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from modelgates_server.ledger.room import Room
from modelgates_server.limits import MeterRef, Scope, Unit


class Line(NamedTuple):
    """One meter that a hold reserves on: its row (fixed when the hold was made), its unit, and how much."""

    meter_id: str
    unit: Unit
    held: int


class HoldRequest(msgspec.Struct, frozen=True):
    """Reserve `amount_nusd` on every credit meter, `tokens` on every token meter and one request on every rate meter.

    `spend_nusd` goes to the meters of spend; None means the same as `amount_nusd`, which counts only what credit pays.
    `floor_nusd` is what the input alone costs: the least that is charged if the process dies with the hold open.
    `context` is JSON for whoever settles a lost hold. `policy_version` is the one that `meters` was read under.
    """

    id: str
    organization_id: str
    policy_version: int
    meters: tuple[MeterRef, ...]
    amount_nusd: int
    floor_nusd: int
    tokens: int
    context: str
    now_s: float
    spend_nusd: int | None = None


class Hold(msgspec.Struct, frozen=True):
    """Money reserved in every scope that the request touches.

    `tightest` is the limit in USD that leaves least, `fullest` the budget of which most is used; None where there is none, and in a
    hold that was read back from its row.
    """

    id: str
    organization_id: str
    amount_nusd: int
    lines: tuple[Line, ...]
    tightest: Room | None = None
    fullest: Room | None = None

    def split(self, cost_nusd: int) -> tuple[int, int]:
        """What the budgets pay of a cost, and what is left to the operator because the bound was broken."""
        charged = min(cost_nusd, self.amount_nusd)
        return charged, cost_nusd - charged


class Bill(msgspec.Struct, frozen=True):
    """What a request cost.

    Budgets pay `charged_nusd`, at most the hold; `operator_nusd` is owed to the provider as well but nobody's budget pays it
    (a failure that was not the customer's). `tokens` go to the token meters. `uncertain` are attempts whose fate is unknown, as
    (provider, nano-USD at most): they stand on an account of their own until the provider's report clears them (reliability 3.0).
    `byok_nusd` is what the customer's own account at the provider is asked: it moves no credit, and counts on meters of spend.
    """

    charged_nusd: int = 0
    operator_nusd: int = 0
    tokens: int = 0
    provider: str = "none"
    uncertain: tuple[tuple[str, int], ...] = ()
    byok_nusd: int = 0


class Refusal(msgspec.Struct, frozen=True):
    """A meter that does not admit the request, and what is `left` on it.

    `available` is what is left now on the tightest meter of that unit, among those that something is asked of; `unheld` is what would
    be left if every open hold were released without charge. Both are never negative, in the meter's unit. `label` is that of the
    meter's reference. `spend_available` is what meters of spend alone leave, None without one: all that limits own provider keys.
    """

    scope: Scope
    scope_id: str
    unit: Unit
    limit: int
    available: int
    unheld: int
    resets_at_s: int | None
    label: str = ""
    spend_available: int | None = None
    left: int = 0


class Stale(msgspec.Struct, frozen=True):
    """The caller's policy changed since it was read: read it again."""


class Fenced(msgspec.Struct, frozen=True):
    """This process was taken for dead, and its holds were settled for it: it must take a new epoch before it admits more."""


class Settled(msgspec.Struct, frozen=True):
    """How a settlement went: what the budgets were charged, what the operator bears, and whether it came late."""

    charged_nusd: int
    overrun_nusd: int
    late: bool = False
