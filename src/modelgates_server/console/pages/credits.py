"""Credits: how much is left and how long it lasts, what changed it, and adding some. For administrators."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

from modelgates_server.activity.runway import pace
from modelgates_server.console.forms import form_of
from modelgates_server.console.routes import get, post
from modelgates_server.console.visits import ADMIN, Moved, Page, Visit, whole
from modelgates_server.errors import BadRequest, Forbidden, NotFound
from modelgates_server.ledger import credit
from modelgates_server.ledger.credit import Movement, Moves
from modelgates_server.management import credits as work
from modelgates_server.management.audit_words import names_of, who
from modelgates_server.management.idempotency import DoneAlready
from modelgates_server.management.settings import TopUpRule, read_settings
from modelgates_server.money import nusd_from_usd
from modelgates_server.storage.engine import reading

ROWS_MAX: Final = 50
ID_MAX: Final = 10**18
LASTS_DAYS_MAX: Final = 3_650
"""A longer end is no forecast."""


@dataclass(frozen=True, slots=True)
class Runway:
    """How long the free credit lasts. `ends_at_s` is None when nothing was spent, or when that is more than ten years away."""

    spent_nusd: int
    span_s: int
    per_day_nusd: int
    lasts_s: int | None
    ends_at_s: int | None


@dataclass(frozen=True, slots=True)
class CreditsPage:
    """Nano-USD. `free_nusd` is the balance without what open requests hold. `refused` says why no credit may be added here."""

    balance_nusd: int
    held_nusd: int
    free_nusd: int
    used_nusd: int
    granted_nusd: int
    runway: Runway
    low_balance_nusd: int | None
    topup: TopUpRule | None
    refused: str | None
    transactions: tuple[work.Transaction, ...]
    older: int | None
    newest: bool


def show(visit: Visit) -> Page:
    """How the credit stands."""
    engine, organization_id = visit.house.engine, visit.organization_id
    with reading(engine) as connection:
        stands = credit.standing(connection, organization_id)
        current = pace(connection, organization_id, visit.now_s)
    free_nusd = stands.balance_nusd - stands.held_nusd
    lasts_s = current.lasts_s(free_nusd)
    far = lasts_s is None or lasts_s > LASTS_DAYS_MAX * 86_400
    settings = read_settings(engine, organization_id)
    before = whole(visit, "before", 1, ID_MAX) if visit.query.get("before") else None
    found = work.transactions_before(engine, organization_id, before, ROWS_MAX + 1)
    context = CreditsPage(
        balance_nusd=stands.balance_nusd,
        held_nusd=stands.held_nusd,
        free_nusd=free_nusd,
        used_nusd=stands.used_nusd,
        granted_nusd=stands.granted_nusd,
        runway=Runway(
            spent_nusd=current.spent_nusd,
            span_s=current.span_s,
            per_day_nusd=current.per_day_nusd,
            lasts_s=lasts_s,
            ends_at_s=None if far or lasts_s is None else int(visit.now_s) + lasts_s,
        ),
        low_balance_nusd=settings.low_balance_nusd,
        topup=settings.topup,
        refused=_refused(visit),
        transactions=_named(visit, found[:ROWS_MAX]),
        older=found[ROWS_MAX - 1].id if len(found) > ROWS_MAX else None,
        newest=before is None,
    )
    return Page("credits.html", context)


def grant(visit: Visit) -> Moved:
    """Add credit. Raises BadRequest, Forbidden."""
    _check(visit)
    movement = Movement(Moves.GRANT, _amount(visit, "amount"), visit.form.get("note"), visit.actor)
    with suppress(DoneAlready):  # a second click: it is told as the first one is
        work.give_credits(visit.house.engine, visit.organization_id, movement, visit.now_s, form_of(visit))
    return Moved("/credits", said="credit-added")


def adjust(visit: Visit) -> Moved:
    """Put the credit right, upwards or downwards. Raises BadRequest, Forbidden."""
    _check(visit)
    amount_nusd = _amount(visit, "adjustment")
    if visit.form.get("direction") == "down":
        amount_nusd = -amount_nusd
    with suppress(DoneAlready):
        work.adjust_credits(
            visit.house.engine, visit.organization_id, amount_nusd, visit.form.get("reason"), visit.actor, visit.now_s,
            form_of(visit),
        )  # fmt: skip
    return Moved("/credits", said="credit-adjusted")


def refund(visit: Visit) -> Moved:
    """Give back what a request was charged. Raises BadRequest, Forbidden."""
    _check(visit)
    amount_nusd = _amount(visit, "refund") if visit.form.get("refund") else None
    try:
        with suppress(DoneAlready):
            work.refund_credits(
                visit.house.engine, visit.organization_id, visit.form.get("generation_id"), amount_nusd,
                visit.form.get("refund_note"), visit.actor, visit.now_s, form_of(visit),
            )  # fmt: skip
    except NotFound as unknown:
        raise BadRequest(
            "There is no request of that id here. The logs name it, and so does X-Generation-Id."
        ) from unknown
    return Moved("/credits", said="credit-refunded")


def _amount(visit: Visit, name: str) -> int:
    text = visit.form.get(name).lstrip("$ ")
    if not text:
        raise BadRequest("Say how many dollars.")
    return nusd_from_usd(text)


def _check(visit: Visit) -> None:
    work.check_may_move(visit.house.engine, visit.organization_id, api_grants=visit.house.api_grants)


def _refused(visit: Visit) -> str | None:
    try:
        _check(visit)
    except Forbidden as refused:
        return f"{refused.message} To add some, {refused.remedy}."
    return None


def _named(visit: Visit, found: list[work.Transaction]) -> tuple[work.Transaction, ...]:
    """The lines, with names instead of ids."""
    names = names_of(visit.house.engine, visit.organization_id, (one.author for one in found))
    return tuple(replace(one, author=who(one.author, names)) for one in found)


ROUTES = (
    get("/credits", show, ADMIN),
    post("/credits/grants", grant, ADMIN, again=show),
    post("/credits/adjustments", adjust, ADMIN, again=show),
    post("/credits/refunds", refund, ADMIN, again=show),
)
