"""Use by day: the ledger's sums to the nano-dollar, completed days only, one's own only."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
import sqlalchemy as sa
from tests.support.store import open_bank
from tests.unit.activity.crowd import MODELS, NOW_S, ORG, OTHER, Did, settle, someone

from modelgates_server.activity.daily import DAY_S, EXPORT_HEAD, Which, completed, daily, days, export
from modelgates_server.activity.generation import rows
from modelgates_server.clock import ManualClock
from modelgates_server.errors import BadRequest, NotFound
from modelgates_server.ledger.values import Bill, Hold
from modelgates_server.storage import schema
from modelgates_server.storage.engine import open_engine, reading

DAY_MS = DAY_S * 1000
CLOCK = ManualClock(NOW_S)


def test_sums_are_those_of_the_receipts(either_engine: sa.Engine) -> None:
    """Over all rows, money and tokens are the receipts' own of the thirty days that are over, and rows come in order."""
    crowd = [someone(Random(number), 40) for number in range(500)]
    settle(either_engine, crowd)
    which = completed(NOW_S)
    mine = [did for did in crowd if did.organization_id == ORG and which.since_s <= did.at_ms / 1000 < which.until_s]
    found = daily(either_engine, ORG, which, CLOCK)

    assert sum(row["usage_nusd"] for row in found) == sum(did.cost_nusd for did in mine)
    assert sum(row["byok_usage_inference_nusd"] for row in found) == sum(did.byok_nusd for did in mine)
    assert sum(row["requests"] for row in found) == len(mine)
    assert sum(row["completion_tokens"] for row in found) == sum(did.tokens[1] for did in mine)
    assert [(row["date"], row["model"], row["provider_name"]) for row in found] == sorted(
        {(row["date"], row["model"], row["provider_name"]) for row in found}
    )


async def test_sums_are_those_of_the_ledger(tmp_path: Path) -> None:
    """What a day shows is what was charged to the credit, to the nano-dollar, whatever was refunded to holds."""
    async with open_bank(tmp_path / "bank.db") as bank:
        for number, cost in enumerate((1, 999_999_999, 123_456_789)):
            hold = await bank.ledger.hold(bank.request(2 * 10**9))
            assert isinstance(hold, Hold)
            did = Did(cost_nusd=cost, organization_id="org-test", ago_ms=-(int(bank.clock.now_s()) - NOW_S) * 1000)
            await bank.ledger.settle(hold, Bill(cost, provider="p"), rows(did.generation(number)))
    engine = open_engine(tmp_path / "bank.db")
    with reading(engine) as connection:
        entries = schema.entries.c
        charged = connection.execute(
            sa.select(sa.func.sum(entries.amount_nusd)).where(entries.kind == "charge")
        ).scalar()
    tomorrow = completed(bank.clock.now_s() + DAY_S)
    shown = daily(engine, "org-test", tomorrow, CLOCK)
    engine.dispose()

    assert [row["usage_nusd"] for row in shown] == [charged] == [1_123_456_789]


def test_the_running_day_is_left_out(engine: sa.Engine) -> None:
    """The last thirty completed days count: neither today nor the thirty-first day before it."""
    today_ms = NOW_S * 1000 % DAY_MS
    settle(
        engine,
        [Did(ago_ms=ago) for ago in (0, today_ms, today_ms + 1, today_ms + 30 * DAY_MS, today_ms + 30 * DAY_MS + 1)],
    )

    assert [row["date"] for row in daily(engine, ORG, completed(NOW_S), CLOCK)] == ["2026-12-16", "2027-01-14"]
    assert [row["date"] for row in daily(engine, ORG, completed(NOW_S, "2026-12-16"), CLOCK)] == ["2026-12-16"]


@pytest.mark.parametrize(
    "day",
    [
        "2027-01-15",
        "2026-12-15",
        "2027-02-30",
        "yesterday",
        "",
        "2027-1-14",
        "20270114",
        "2027-01-14T00:00:00Z",
        "\u0662\u0660\u0662\u0667-\u0660\u0661-\u0661\u0664",
    ],
)
def test_other_days_are_refused(day: str) -> None:
    """Today, older days, and what is no day at all."""
    with pytest.raises(BadRequest, match="date: "):
        completed(NOW_S, day)


def test_filters_narrow(engine: sa.Engine) -> None:
    """By key, member and workspace; grouped by workspace, each row says which."""
    settle(engine, [Did(ago_ms=DAY_MS, key=key) for key in range(4)])
    which = completed(NOW_S)

    def requests(**changes: str) -> int:
        return sum(row["requests"] for row in daily(engine, ORG, replace(which, **changes), CLOCK))

    assert requests() == 4
    assert requests(key_hash=f"{ORG}-key-2") == 1
    assert requests(member_id=f"{ORG}-member-1") == 2
    assert requests(workspace_id=f"{ORG}-workspace-0") == 2
    split = daily(engine, ORG, replace(which, by_workspace=True), CLOCK)
    assert [(row["workspace_id"], row["requests"]) for row in split] == [
        (f"{ORG}-workspace-0", 2), (f"{ORG}-workspace-1", 2)
    ]  # fmt: skip
    assert all("workspace_id" not in row for row in daily(engine, ORG, which, CLOCK))


def test_nobody_sees_another_organisation(either_engine: sa.Engine) -> None:
    """A foreign key or member fits no row; a foreign workspace is as unknown as one that does not exist."""
    settle(either_engine, [Did(ago_ms=DAY_MS, organization_id=OTHER, key=1)])
    which = completed(NOW_S)
    theirs = ({"key_hash": f"{OTHER}-key-1"}, {"member_id": f"{OTHER}-member-1"}, {}, {"by_workspace": True})

    for one in theirs:
        assert daily(either_engine, ORG, replace(which, **one), CLOCK) == []
    for foreign in (f"{OTHER}-workspace-1", "nowhere", "%", ""):
        with pytest.raises(NotFound), reading(either_engine) as connection:
            list(export(connection, ORG, replace(which, workspace_id=foreign)))
        with pytest.raises(NotFound):
            daily(either_engine, ORG, replace(which, workspace_id=foreign), CLOCK)


def test_an_export_names_everybody(either_engine: sa.Engine) -> None:
    """A row for each day, model, provider, key, member and workspace, with names, and amounts in USD."""
    settle(
        either_engine, [Did(ago_ms=DAY_MS, key=1, cost_nusd=1_500_000_000), Did(ago_ms=DAY_MS, key=0, provider=None)]
    )
    with reading(either_engine) as connection:
        nobodys, row = (
            dict(zip(EXPORT_HEAD, found, strict=True)) for found in export(connection, ORG, completed(NOW_S))
        )

    assert row["api_key_name"] == "key 1"
    assert (row["user_name"], row["user_email"], row["workspace_name"]) == ("Member 1", f"1@{ORG}.example", "Place 1")
    assert (row["date"], row["model"], row["usage_usd"], row["prompt_tokens"]) == ("2027-01-14", MODELS[0], "1.5", 136)
    assert (nobodys["user_id"], nobodys["user_name"], nobodys["provider"]) == (None, None, "")


def test_days_of_an_export_can_be_named() -> None:
    """Both ends are included; without them the thirty completed days, and never more than a year."""
    day_s = 1_799_971_200 - DAY_S
    assert days(NOW_S, "2027-01-14", "2027-01-14") == Which(day_s, day_s + DAY_S)
    assert days(NOW_S, None, None) == completed(NOW_S)
    for first, last in (("2027-01-15", "2027-01-14"), ("2025-01-01", "2027-01-14"), ("x", None), (None, "0001-01-01")):
        with pytest.raises(BadRequest):
            days(NOW_S, first, last)
