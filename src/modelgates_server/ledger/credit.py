"""An organisation's prepaid credit: how it stands, and what changes it. The credit meter's limit is what was ever given.

Each change is a `Movement`: one entry between the organisation's account and an account of the operator's, and the meter's limit
by the same amount, in one transaction. What requests use is posted by the ledger and moves no limit.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import sqlalchemy as sa

from modelgates_server.errors import BadRequest
from modelgates_server.ledger.units import GRANTS, customer, new_meter
from modelgates_server.limits import MeterRef, Scope, Unit, Window
from modelgates_server.money import AMOUNT_NUSD_MAX
from modelgates_server.storage import schema
from modelgates_server.storage.portable import upsert

CREDIT_STANDING = 'SELECT "limit", posted, held FROM meters WHERE id = :id'


class Moves(StrEnum):
    """Kinds of entries that change the credit; the others use it."""

    GRANT = "grant"
    TOPUP = "topup"
    TRANSFER = "transfer"
    REFUND = "refund"
    CORRECTION = "correction"


_ACCOUNTS: Final = {
    Moves.GRANT: GRANTS,
    Moves.TOPUP: "operator:topups",
    Moves.TRANSFER: "operator:transfers",  # both halves of a transfer pass it, so it always stands at zero
    Moves.REFUND: "operator:refunds",
    Moves.CORRECTION: "operator:corrections",
}
"""Where the amount comes from, and goes to when it is taken away."""

_METERS = schema.meters


@dataclass(frozen=True, slots=True)
class Standing:
    """Nano-USD: everything granted, everything used, and what open requests reserve."""

    granted_nusd: int
    used_nusd: int
    held_nusd: int

    @property
    def balance_nusd(self) -> int:
        """What is left, with open requests still counted as unspent."""
        return self.granted_nusd - self.used_nusd


@dataclass(frozen=True, slots=True)
class Movement:
    """Credit that comes, or goes where `amount_nusd` is below zero. A refund names its generation."""

    kind: Moves
    amount_nusd: int
    note: str
    author: str
    generation_id: str | None = None


def credit_meter(organization_id: str) -> MeterRef:
    """The meter of an organisation's credit."""
    return MeterRef(Scope.ORGANIZATION, organization_id, Unit.NUSD, Window.LIFE, limit_from_row=True)


def standing(connection: sa.Connection, organization_id: str) -> Standing:
    """How the credit stands."""
    row = connection.execute(
        sa.select(_METERS).where(_METERS.c.id == credit_meter(organization_id).row_id(0))
    ).one_or_none()
    return Standing(row.limit, row.posted, row.held) if row is not None else Standing(0, 0, 0)


def grant(
    connection: sa.Connection, organization_id: str, amount_nusd: int, note: str, author: str, now_s: float
) -> None:
    """Add credit. Raises BadRequest unless the amount is positive and sane."""
    if not 0 < amount_nusd <= AMOUNT_NUSD_MAX:
        raise BadRequest("a grant must be more than zero and at most one million USD")
    move(connection, organization_id, Movement(Moves.GRANT, amount_nusd, note, author), now_s)


def move(connection: sa.Connection, organization_id: str, movement: Movement, now_s: float) -> int:
    """Change the credit; give the entry's id. The organisation's meter stays locked until the transaction ends.

    Taking away may leave less than was used already, which admits nothing new, but never less than nothing was ever given.
    Raises BadRequest for an amount of zero, beyond a million USD, or beyond what was given.
    """
    amount_nusd = movement.amount_nusd
    if not 0 < abs(amount_nusd) <= AMOUNT_NUSD_MAX:
        raise BadRequest("an amount must not be zero, and at most one million USD")
    ref = credit_meter(organization_id)
    row = new_meter(ref, ref.row_id(now_s), organization_id, now_s) | {"limit": amount_nusd}
    statement = upsert(connection, _METERS).values(row)
    raised = {"limit": _METERS.c.limit + amount_nusd}
    statement = statement.on_conflict_do_update(index_elements=["id"], set_=raised).returning(_METERS.c.limit)
    if connection.execute(statement).scalar_one() < 0:
        raise BadRequest("that is more than the organization was ever given")
    return _book(connection, organization_id, movement, now_s)


def transfer(
    connection: sa.Connection, giver_id: str, receiver_id: str, movement: Movement, now_s: float
) -> tuple[int, int]:
    """Move credit that is free from one organisation to another; give both entries' ids.

    Free is what is neither used nor held by open requests. Raises BadRequest when that is less than the amount.
    """
    amount_nusd = movement.amount_nusd
    if amount_nusd <= 0 or giver_id == receiver_id:
        raise BadRequest("a transfer moves more than zero, from one organization to another")
    halves = {
        giver_id: Movement(movement.kind, -amount_nusd, movement.note, movement.author),
        receiver_id: movement,
    }
    made = {one: move(connection, one, halves[one], now_s) for one in sorted(halves)}  # locks in the order of ids
    after = standing(connection, giver_id)
    if after.granted_nusd - after.used_nusd - after.held_nusd < 0:
        raise BadRequest("the giver has not that much left that is neither used nor held by open requests")
    return made[giver_id], made[receiver_id]


def _book(connection: sa.Connection, organization_id: str, movement: Movement, now_s: float) -> int:
    operator, own = _ACCOUNTS[movement.kind], customer(organization_id)
    debit, credit = (operator, own) if movement.amount_nusd > 0 else (own, operator)
    statement = sa.insert(schema.entries).values(
        organization_id=organization_id,
        created_at_s=int(now_s),
        kind=str(movement.kind),
        debit=debit,
        credit=credit,
        amount_nusd=abs(movement.amount_nusd),
        generation_id=movement.generation_id,
        note=movement.note,
        author=movement.author,
    )
    entry_id: int = connection.execute(statement.returning(schema.entries.c.id)).scalar_one()
    return entry_id
