"""Credit: how it stands, what changed it, the rule for top-ups; grants, adjustments and refunds where the operator allows them.

Paths and shapes of product-surface 2.7, and our own where a self-hosted gateway has no payment page.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from modelgates_server.api.answers import Answer, answer, page
from modelgates_server.api.faults import fault
from modelgates_server.api.house import House
from modelgates_server.api.routes import Housed, Managing, new_router
from modelgates_server.api.shapes import Body, Paged, PositiveUsd, Shown, SignedUsd, Usd, UsdShown
from modelgates_server.errors import BadRequest, Forbidden
from modelgates_server.ledger.credit import Movement, Moves, Standing
from modelgates_server.management import credits as work
from modelgates_server.management import settings
from modelgates_server.management.credits import Moved, Transaction
from modelgates_server.management.describe import rfc3339
from modelgates_server.management.settings import TopUpRule

router = new_router("credits")

Note = Annotated[str, Field(max_length=4 * work.NOTE_CHARACTERS_MAX)]


class Grant(Body):
    """Credit to add."""

    amount: Usd
    note: Note = ""


class Adjustment(Body):
    """An adjustment; an amount below zero takes away. The note says why."""

    amount: SignedUsd
    note: Note


class Refund(Body):
    """What to give back of a generation's charge; without an amount all that is left of it."""

    generation_id: Annotated[str, Field(min_length=1, max_length=200)]
    amount: PositiveUsd | None = None
    note: Note = ""


class TopUp(Body):
    """When free credit falls below `threshold`, `amount` is added; at most `monthly_max` in a month (UTC). Left out: stays."""

    enabled: bool = False
    threshold: Usd = 0
    amount: Usd = 0
    monthly_max: Usd | None = None


class Credits(Shown):
    """`balance` counts open requests as unspent; `held` is what they may at most cost."""

    total_credits: UsdShown
    total_usage: UsdShown
    balance: UsdShown
    held: UsdShown


class CreditsAnswer(Shown):
    """How the credit stands."""

    data: Credits


class TransactionShown(Shown):
    """A change of the credit. `amount` is below zero where credit was taken away."""

    id: str
    created_at: str
    type: Literal["grant", "topup", "transfer", "refund", "adjustment"]
    amount: UsdShown
    note: str
    author: str
    generation_id: str | None


class TransactionList(Shown):
    """A page of changes, newest first."""

    data: list[TransactionShown]
    total_count: int


class MovedAnswer(Shown):
    """What was done, and how the credit stands after it."""

    data: TransactionShown
    credits: Credits


class TopUpShown(Shown):
    """The rule."""

    enabled: bool
    threshold: UsdShown
    amount: UsdShown
    monthly_max: UsdShown | None


class TopUpAnswer(Shown):
    """The rule; null when there is none."""

    data: TopUpShown | None


class Nothing(Shown):
    """There is none."""

    data: None


@router.get("/credits", response_model=CreditsAnswer)
def show_credits(house: Housed, manager: Managing) -> Answer:
    """Give what was granted, used, is left, and is held by open requests."""
    return answer({"data": _standing(work.credit_standing(house.engine, manager.organization_id))})


@router.get("/transactions", response_model=TransactionList)
def list_transactions(house: Housed, manager: Managing, paging: Paged) -> Answer:
    """List what changed the credit, newest first; what requests used is in the activity."""
    found = work.list_transactions(house.engine, manager.organization_id, paging.offset, paging.limit)
    return page([_transaction(row) for row in found.rows], found.total)


@router.post("/credits", include_in_schema=False)
def buy_credits(_manager: Managing) -> Answer:
    """Older clients expect the address of a payment page."""
    return fault(400, "This gateway has no payment page", {"remedy": "POST /api/v1/credits/grants adds credit"})


@router.post("/credits/grants", status_code=201, response_model=MovedAnswer)
def grant(house: Housed, manager: Managing, body: Grant) -> Answer:
    """Add credit. Only where the operator allows it: `[credits] api_grants`."""
    _check_allowed(house)
    movement = Movement(Moves.GRANT, body.amount, body.note, manager.actor)
    return _moved(work.give_credits(house.engine, manager.organization_id, movement, house.clock.now_s()))


@router.post("/credits/adjustments", status_code=201, response_model=MovedAnswer)
def adjust(house: Housed, manager: Managing, body: Adjustment) -> Answer:
    """Adjust the credit. Only where the operator allows it: `[credits] api_grants`."""
    _check_allowed(house)
    now_s = house.clock.now_s()
    return _moved(
        work.adjust_credits(house.engine, manager.organization_id, body.amount, body.note, manager.actor, now_s)
    )


@router.post("/credits/refunds", status_code=201, response_model=MovedAnswer)
def refund(house: Housed, manager: Managing, body: Refund) -> Answer:
    """Give back what a generation was charged. Only where the operator allows it: `[credits] api_grants`."""
    _check_allowed(house)
    return _moved(
        work.refund_credits(
            house.engine, manager.organization_id, body.generation_id, body.amount, body.note, manager.actor,
            house.clock.now_s(),
        )
    )  # fmt: skip


@router.get("/credits/topup", response_model=TopUpAnswer)
def show_topup(house: Housed, manager: Managing) -> Answer:
    """Give the rule for top-ups."""
    return answer({"data": _rule(settings.read_settings(house.engine, manager.organization_id).topup)})


@router.patch("/credits", response_model=TopUpAnswer)
def change_topup(house: Housed, manager: Managing, body: TopUp) -> Answer:
    """Change the rule for top-ups. To switch it on takes the operator's leave: `[credits] api_grants`."""
    changes = {name: value for name, value in (
        ("enabled", body.enabled), ("threshold_nusd", body.threshold), ("amount_nusd", body.amount),
        ("monthly_max_nusd", body.monthly_max),
    ) if name.removesuffix("_nusd") in body.model_fields_set}  # fmt: skip
    before = settings.read_settings(house.engine, manager.organization_id).topup
    if changes != {"enabled": False}:
        _check_allowed(house)
    if before is None and not {"threshold", "amount"} <= body.model_fields_set:
        raise BadRequest("there is no rule yet: a first one needs threshold and amount")
    rule = TopUpRule(**{"enabled": False, **({} if before is None else _members(before)), **changes})
    now_s = house.clock.now_s()
    after = settings.update_settings(house.engine, manager.organization_id, manager.actor, now_s, topup=rule)
    return answer({"data": _rule(after.topup)})


@router.get("/credits/payment-method", response_model=Nothing)
def payment_method(_manager: Managing) -> Answer:
    """Give the stored means of payment: none, a self-hosted gateway takes no payments."""
    return answer({"data": None})


@router.post("/credits/coinbase", include_in_schema=False)
def coinbase(_manager: Managing) -> Answer:
    """Gone at the original, too."""
    return fault(410, "Paying by Coinbase is gone")


def _check_allowed(house: House) -> None:
    if not house.api_grants:
        raise Forbidden(
            "Keys cannot add credit on this gateway: that is for its operator",
            remedy="use `modelgates credits grant`, or set [credits] api_grants = true",
        )


def _moved(moved: Moved) -> Answer:
    return answer({"data": _transaction(moved.transaction), "credits": _standing(moved.standing)}, 201)


def _standing(now: Standing) -> dict[str, Any]:
    return {
        "total_credits_nusd": now.granted_nusd,
        "total_usage_nusd": now.used_nusd,
        "balance_nusd": now.balance_nusd,
        "held_nusd": now.held_nusd,
    }


def _transaction(row: Transaction) -> dict[str, Any]:
    return {
        "id": f"txn-{row.id}",
        "created_at": rfc3339(row.created_at_s),
        "type": row.kind,
        "amount_nusd": row.amount_nusd,
        "note": row.note,
        "author": row.author,
        "generation_id": row.generation_id,
    }


def _members(rule: TopUpRule) -> dict[str, Any]:
    return {name: getattr(rule, name) for name in TopUpRule.__slots__}


def _rule(rule: TopUpRule | None) -> dict[str, Any] | None:
    return None if rule is None else _members(rule)
