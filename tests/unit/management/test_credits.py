"""Prepaid credit: given, adjusted, given back, moved; the meter's limit and the entries always agree."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa
from tests.unit.accounts.house import House
from tests.unit.management.estate import Estate

from modelgates_server import management
from modelgates_server.errors import BadRequest, ModelGatesError, NotFound
from modelgates_server.ledger.credit import Movement, Moves, credit_meter
from modelgates_server.management import OrganizationSettings, TopUpRule
from modelgates_server.management.audit import AuditFilter, list_audit
from modelgates_server.storage import schema
from modelgates_server.storage.engine import reading, transaction
from modelgates_server.storage.maintenance import check

USD = 10**9


def hold(estate: Estate, held_nusd: int) -> None:
    """As open requests would."""
    meter = schema.meters.c.id == credit_meter(estate.org).row_id(0)
    with transaction(estate.engine) as connection:
        connection.execute(sa.update(schema.meters).where(meter).values(held=held_nusd))


def transfer(estate: Estate, amount_nusd: int) -> management.Moved:
    receiver = estate.foreign.organization.id
    return management.transfer_credits(estate.engine, estate.org, receiver, amount_nusd, "n", "op", estate.now_s)


def balances(estate: Estate) -> list[int]:
    ids = (estate.org, estate.foreign.organization.id)
    return [management.credit_standing(estate.engine, one).balance_nusd // USD for one in ids]


def test_a_grant_raises_the_credit_and_is_noted(house: House) -> None:
    """The standing rises at once, and the books agree."""
    now_s = house.clock.now_s()
    after = management.grant_credits(house.engine, house.made.organization_id, 5 * USD, "thanks", "ann", now_s)
    assert after.granted_nusd == 105 * USD
    assert check(house.database) == []


@pytest.mark.parametrize("amount_nusd", [0, -1, 10**15 + 1])
def test_a_grant_that_is_none_is_refused_and_leaves_nothing(estate: Estate, amount_nusd: int) -> None:
    """Neither money nor an audit row."""
    before = estate.noted()
    with pytest.raises(BadRequest):
        management.grant_credits(estate.engine, estate.org, amount_nusd, "", "ann", estate.now_s)
    assert (estate.noted(), balances(estate)) == (before, [100, 50])


def test_every_kind_makes_one_entry_and_one_note(either: Estate) -> None:
    """Grant, top-up, adjustment down and transfer: each is listed, noted in each log that it touches, and part of the sum."""
    engine, org, now_s = either.engine, either.org, either.now_s
    before = len(either.noted())
    for kind in (Moves.GRANT, Moves.TOPUP):
        management.give_credits(engine, org, Movement(kind, 10 * USD, "n", "ann"), now_s)
    management.adjust_credits(engine, org, -5 * USD, "typed twice", "ann", now_s)
    transfer(either, 15 * USD)
    listed = management.list_transactions(engine, org, 0, 4).rows
    assert [(row.kind, row.amount_nusd // USD) for row in listed] == [
        ("transfer", -15), ("adjustment", -5), ("topup", 10), ("grant", 10),
    ]  # fmt: skip
    named = ["grant", "topup", "adjustment", "transfer", "transfer"]
    assert either.noted()[before:] == [f"credits.{kind}" for kind in named]
    assert balances(either) == [100, 65]
    assert check(either.house.database) == []


def test_what_open_requests_hold_is_not_transferred(either: Estate) -> None:
    """A transfer takes free credit only; an adjustment may take what is held, because that admits nothing new."""
    hold(either, 60 * USD)
    with pytest.raises(BadRequest, match="not that much left"):
        transfer(either, 40 * USD + 1)
    assert balances(either) == [100, 50]
    transfer(either, 40 * USD)
    management.adjust_credits(either.engine, either.org, -30 * USD, "taken back", "ann", either.now_s)
    assert balances(either) == [30, 90]


def test_both_organisations_read_of_a_transfer(either: Estate) -> None:
    """One row in the log of each, which names the other one; neither sees the other's row."""
    transfer(either, 15 * USD)
    ours, theirs = either.org, either.foreign.organization.id
    for organization_id, other in ((ours, {"to": theirs}), (theirs, {"from": ours})):
        (row,) = list_audit(either.engine, organization_id, AuditFilter("credits.transfer"), 0, 9).rows
        assert json.loads(row.details) == {"amount_nusd": 15 * USD, "note": "n"} | other
        assert (row.actor, row.target) == ("op", organization_id)


@pytest.mark.parametrize("amount_nusd", [0, -1, 10**15 + 1])
def test_a_transfer_goes_one_way(estate: Estate, amount_nusd: int) -> None:
    """Nobody takes from others by sending less than nothing, and nobody gives to itself or to nobody."""
    with pytest.raises(BadRequest):
        transfer(estate, amount_nusd)
    for receiver, refusal in ((estate.org, BadRequest), ("org-none", NotFound)):
        with pytest.raises(refusal):
            management.transfer_credits(estate.engine, estate.org, receiver, USD, "n", "op", estate.now_s)
    assert balances(estate) == [100, 50]


def test_transfers_in_both_directions_at_once_lose_nothing(either: Estate) -> None:
    """They lock both meters in one order; whatever happens, the sum stays and nobody falls below zero."""
    ids = [either.org, either.foreign.organization.id]

    def move(number: int) -> None:
        giver, receiver = ids if number % 2 else ids[::-1]
        management.transfer_credits(either.engine, giver, receiver, 20 * USD, "n", "op", either.now_s)

    def tried(number: int) -> bool:
        try:
            move(number)
        except BadRequest:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(tried, range(40)))
    after = balances(either)
    assert (any(done), sum(after), min(after) >= 0) == (True, 150, True)
    assert check(either.house.database) == []


async def test_parallel_refunds_give_back_no_more_than_was_charged(estate: Estate) -> None:
    """Of many refunds of the whole charge at the same time, one succeeds."""
    secret, _ = estate.key()
    await estate.spend(secret, 7)

    def refund(_: int) -> bool:
        try:
            management.refund_credits(estate.engine, estate.org, "gen-1", None, "sorry", "ann", estate.now_s)
        except ModelGatesError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(refund, range(16))) == 1
    assert management.credit_standing(estate.engine, estate.org).balance_nusd == 100 * USD
    assert check(estate.house.database) == []


async def test_a_refund_leaves_the_receipt_as_it_was(estate: Estate) -> None:
    """What was used stays used; the credit grows instead, and a foreign receipt does not exist."""
    secret, _ = estate.key()
    await estate.spend(secret, 7)
    moved = management.refund_credits(estate.engine, estate.org, "gen-1", 2 * USD, "half", "ann", estate.now_s)
    assert (moved.transaction.generation_id, moved.standing.used_nusd) == ("gen-1", 7 * USD)
    with pytest.raises(BadRequest, match="5 USD can be refunded"):
        management.refund_credits(estate.engine, estate.org, "gen-1", 6 * USD, "more", "ann", estate.now_s)
    foreign = estate.foreign.organization.id
    with pytest.raises(NotFound):
        management.refund_credits(estate.engine, foreign, "gen-1", None, "theirs", "ann", estate.now_s)


def test_settings_are_as_they_come_until_they_are_changed(either: Estate) -> None:
    """Each change leaves the rest; null and nothing at all are different."""
    engine, org, now_s = either.engine, either.org, either.now_s
    assert management.read_settings(engine, org) == OrganizationSettings(10 * USD, None, None)
    rule = TopUpRule(enabled=True, threshold_nusd=5 * USD, amount_nusd=20 * USD)
    management.update_settings(engine, org, "ann", now_s, topup=rule)
    management.update_settings(engine, org, "ann", now_s, thresholds=(90, 10, 90), low_balance_nusd=None)
    assert management.read_settings(engine, org) == OrganizationSettings(None, (10, 90), rule)
    management.update_settings(engine, org, "ann", now_s, thresholds=None, topup=None)
    assert management.read_settings(engine, org) == OrganizationSettings(None, None, None)
    with reading(engine) as connection:
        stored = connection.execute(sa.select(schema.organizations.c.settings).where(schema.organizations.c.id == org))
        assert "thresholds" not in stored.scalar_one()


@pytest.mark.parametrize(
    "changes",
    [
        {"low_balance_nusd": 0},
        {"thresholds": (0,)},
        {"thresholds": (101,)},
        {"thresholds": tuple(range(1, 12))},
        {"topup": TopUpRule(enabled=True, threshold_nusd=-1, amount_nusd=1)},
        {"topup": TopUpRule(enabled=True, threshold_nusd=1, amount_nusd=0)},
        {"topup": TopUpRule(enabled=True, threshold_nusd=1, amount_nusd=5, monthly_max_nusd=4)},
    ],
)
def test_settings_that_make_no_sense_are_refused(estate: Estate, changes: dict[str, object]) -> None:
    """And leave no trace."""
    before = estate.noted()
    with pytest.raises(BadRequest):
        management.update_settings(estate.engine, estate.org, "ann", estate.now_s, **changes)
    assert estate.noted() == before
    assert management.read_settings(estate.engine, estate.org) == OrganizationSettings()
