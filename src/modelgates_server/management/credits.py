"""Prepaid credit: grants, top-ups, adjustments, refunds, transfers, and the list of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from modelgates_server.errors import BadRequest, Forbidden, NotFound
from modelgates_server.ledger import credit
from modelgates_server.ledger.credit import Movement, Moves, Standing
from modelgates_server.ledger.units import customer
from modelgates_server.management.change import Change, Note, change
from modelgates_server.management.idempotency import Form, do_once
from modelgates_server.management.paging import Page, page
from modelgates_server.money import usd_text
from modelgates_server.privacy import visible
from modelgates_server.storage import schema
from modelgates_server.storage.engine import reading

NOTE_CHARACTERS_MAX: Final = 500

ADJUSTMENT: Final = "adjustment"
WORDS: Final = {**{kind: str(kind) for kind in Moves}, Moves.CORRECTION: ADJUSTMENT}
"""What people and programs are told. The books call the operator's adjustment a correction: their entries of the kind `adjustment`
are the late settlements of requests (ledger/closing.py), which are no transactions."""

_ENTRIES = schema.entries


@dataclass(frozen=True, slots=True)
class Transaction:
    """A change of the credit. `amount_nusd` is below zero where credit was taken away; `kind` is one of `WORDS`."""

    id: int
    created_at_s: int
    kind: str
    amount_nusd: int
    note: str
    author: str
    generation_id: str | None


@dataclass(frozen=True, slots=True)
class Moved:
    """What was done, and how the credit stands after it."""

    transaction: Transaction
    standing: Standing


def credit_standing(engine: sa.Engine, organization_id: str) -> Standing:
    """How an organisation's credit stands."""
    with reading(engine) as connection:
        return credit.standing(connection, organization_id)


def grant_credits(
    engine: sa.Engine, organization_id: str, amount_nusd: int, note: str, actor: str, now_s: float
) -> Standing:
    """Add credit and give the new standing. Raises BadRequest unless the amount is above zero and at most a million USD."""
    return give_credits(engine, organization_id, Movement(Moves.GRANT, amount_nusd, note, actor), now_s).standing


def give_credits(
    engine: sa.Engine, organization_id: str, movement: Movement, now_s: float, form: Form | None = None
) -> Moved:
    """Add credit: a grant or a top-up; with a form, once. Raises DoneAlready.

    Raises BadRequest unless the amount is above zero and at most a million USD.
    """
    if movement.amount_nusd <= 0:
        raise BadRequest(f"a {movement.kind} must be more than zero; to take credit away, make an adjustment")
    with change(engine, now_s) as changing:
        _once(changing, organization_id, form)
        return _moved(changing, organization_id, movement)


def adjust_credits(  # noqa: PLR0913 - how much, why and who
    engine: sa.Engine,
    organization_id: str,
    amount_nusd: int,
    note: str,
    actor: str,
    now_s: float,
    form: Form | None = None,
) -> Moved:
    """Adjust the credit upwards or (below zero) downwards; a note must say why. With a form, once. Raises BadRequest, DoneAlready."""
    if not visible(note, NOTE_CHARACTERS_MAX):
        raise BadRequest("an adjustment needs a note that says why")
    with change(engine, now_s) as changing:
        _once(changing, organization_id, form)
        return _moved(changing, organization_id, Movement(Moves.CORRECTION, amount_nusd, note, actor))


def refund_credits(  # noqa: PLR0913 - what, how much, why and who
    engine: sa.Engine,
    organization_id: str,
    generation_id: str,
    amount_nusd: int | None,
    note: str,
    actor: str,
    now_s: float,
    form: Form | None = None,
) -> Moved:
    """Give back what a generation was charged, or (with an amount) a part of it; with a form, once. Raises DoneAlready.

    Raises NotFound for a generation of nobody or of somebody else, BadRequest for more than is left of its charge.
    """
    with change(engine, now_s) as changing:
        _once(changing, organization_id, form)
        _close_estimate(changing, organization_id, generation_id)
        left_nusd = _charged(changing.connection, organization_id, generation_id)
        left_nusd -= _refunded(changing.connection, organization_id, generation_id)
        wanted_nusd = left_nusd if amount_nusd is None else amount_nusd
        if not 0 < wanted_nusd <= left_nusd:
            raise BadRequest(
                f"of this generation's charge {usd_text(left_nusd)} USD can be refunded" if left_nusd > 0
                else "there is nothing left of this generation's charge to refund"
            )  # fmt: skip
        movement = Movement(Moves.REFUND, wanted_nusd, note, actor, generation_id)
        return _moved(changing, organization_id, movement)


def _close_estimate(changing: Change, organization_id: str, generation_id: str) -> None:
    """What a sweeper supposed for a dead owner is taken as it is from now on.

    A late settlement would otherwise give back a second time what is refunded here. It locks as the ledger does: meter, then receipt.
    """
    receipts = schema.generations.c
    changing.lock_meters(schema.meters.c.id == credit.credit_meter(organization_id).row_id(changing.now_s))
    changing.connection.execute(
        sa.update(schema.generations)
        .where(receipts.id == generation_id, receipts.organization_id == organization_id, receipts.outcome == "lost")
        .values(estimated=0)
    )


def transfer_credits(  # noqa: PLR0913 - from whom, to whom, how much, why and who
    engine: sa.Engine, giver_id: str, receiver_id: str, amount_nusd: int, note: str, actor: str, now_s: float
) -> Moved:
    """Move free credit to another organisation. For the operator only: it touches two organisations, and stands in both logs.

    Gives the giver's side. Raises BadRequest when the giver has not that much free, NotFound for who does not exist.
    """
    movement = Movement(Moves.TRANSFER, amount_nusd, _note(note), actor)
    with change(engine, now_s) as changing:
        for organization_id in (giver_id, receiver_id):
            _check_exists(changing.connection, organization_id)
        given, _ = credit.transfer(changing.connection, giver_id, receiver_id, movement, now_s)
        said = {"amount_nusd": amount_nusd, "note": movement.note}
        changing.note(Note(giver_id, actor, "credits.transfer", giver_id, said | {"to": receiver_id}))
        changing.note(Note(receiver_id, actor, "credits.transfer", receiver_id, said | {"from": giver_id}))
        return _told(changing.connection, giver_id, given)


def list_transactions(engine: sa.Engine, organization_id: str, offset: int, limit: int | None) -> Page[Transaction]:
    """Give a page of what changed the credit, newest first. What requests used is in the activity."""
    with reading(engine) as connection:
        return page(connection, _transactions(organization_id), _transaction, offset, limit)


def transactions_before(
    engine: sa.Engine, organization_id: str, before_id: int | None, limit: int
) -> list[Transaction]:
    """Give up to `limit` changes of the credit, newest first, from those before one (None: from the newest)."""
    query = _transactions(organization_id)
    if before_id is not None:
        query = query.where(_ENTRIES.c.id < before_id)
    with reading(engine) as connection:
        return [_transaction(row) for row in connection.execute(query.limit(limit)).mappings()]


def check_may_move(engine: sa.Engine, organization_id: str, *, api_grants: bool) -> None:
    """Whether an administrator who is signed in may add credit or take it away. Raises Forbidden.

    Credit is the operator's money. Whoever runs the gateway is at home in the organisation that was there first; the others'
    administrators need the operator's leave, as management keys do.
    """
    organizations = schema.organizations.c
    first = sa.select(organizations.id).order_by(organizations.created_at_s, organizations.id).limit(1)
    with reading(engine) as connection:
        if not api_grants and connection.execute(first).scalar_one_or_none() != organization_id:
            raise Forbidden(
                "Credit of this organization comes from whoever runs the gateway.",
                remedy="they use `modelgates credits grant`, or set [credits] api_grants = true",
            )


def _once(changing: Change, organization_id: str, form: Form | None) -> None:
    if form is not None:
        do_once(changing, organization_id, form)


def _moved(changing: Change, organization_id: str, movement: Movement) -> Moved:
    kind = movement.kind
    movement = Movement(kind, movement.amount_nusd, _note(movement.note), movement.author, movement.generation_id)
    entry_id = credit.move(changing.connection, organization_id, movement, changing.now_s)
    details = {"amount_nusd": movement.amount_nusd, "note": movement.note}
    if movement.generation_id is not None:
        details["generation_id"] = movement.generation_id
    changing.note(Note(organization_id, movement.author, f"credits.{WORDS[kind]}", organization_id, details))
    return _told(changing.connection, organization_id, entry_id)


def _transactions(organization_id: str) -> sa.Select[Any]:
    return (
        sa.select(_ENTRIES)
        .where(
            _ENTRIES.c.organization_id == organization_id,
            _ENTRIES.c.kind.in_([str(kind) for kind in Moves]),
            sa.text(schema.FEW),
        )
        .order_by(_ENTRIES.c.id.desc())
    )


def _told(connection: sa.Connection, organization_id: str, entry_id: int) -> Moved:
    row = connection.execute(sa.select(_ENTRIES).where(_ENTRIES.c.id == entry_id)).mappings().one()
    return Moved(_transaction(row), credit.standing(connection, organization_id))


def _transaction(row: sa.RowMapping) -> Transaction:
    given = row["credit"] == customer(row["organization_id"])
    return Transaction(
        id=row["id"],
        created_at_s=row["created_at_s"],
        kind=WORDS[Moves(row["kind"])],
        amount_nusd=row["amount_nusd"] if given else -row["amount_nusd"],
        note=row["note"] or "",
        author=row["author"] or "",
        generation_id=row["generation_id"],
    )


def _charged(connection: sa.Connection, organization_id: str, generation_id: str) -> int:
    known = schema.generations.c
    query = sa.select(known.cost_nusd).where(known.id == generation_id, known.organization_id == organization_id)
    found: int | None = connection.execute(query).scalar()
    if found is None:
        raise NotFound("there is no such generation")
    return found


def _refunded(connection: sa.Connection, organization_id: str, generation_id: str) -> int:
    """What was given back of a generation so far."""
    mine = (
        _ENTRIES.c.generation_id == generation_id,
        _ENTRIES.c.organization_id == organization_id,
        _ENTRIES.c.kind == str(Moves.REFUND),
        sa.text(schema.FEW),  # leads to the index that knows no requests
    )
    total: int = connection.execute(
        sa.select(sa.func.coalesce(sa.func.sum(_ENTRIES.c.amount_nusd), 0)).where(*mine)
    ).scalar_one()
    return total


def _check_exists(connection: sa.Connection, organization_id: str) -> None:
    known = schema.organizations.c.id
    if connection.execute(sa.select(known).where(known == organization_id)).first() is None:
        raise NotFound(f"there is no organization {organization_id[:60]}")


def _note(note: str) -> str:
    return visible(note, NOTE_CHARACTERS_MAX)
