"""`GET /activity` and its CSV over the wire: shapes, exact sums, refusals, and nobody else's rows."""

from __future__ import annotations

import csv
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from io import StringIO

import pytest
import sqlalchemy as sa
from tests.unit.activity.crowd import MODELS, ORG, OTHER, Did
from tests.walk.managed import Managed, ago

from modelgates_server.accounts.values import KeyClass
from modelgates_server.storage import schema
from modelgates_server.storage.engine import transaction

pytestmark = pytest.mark.asyncio(loop_scope="session")

FIELDS = {
    "date", "model", "model_permaslug", "endpoint_id", "provider_name", "usage", "byok_usage_inference", "requests",
    "prompt_tokens", "completion_tokens", "reasoning_tokens", "cached_tokens",
}  # fmt: skip


def day(days: int) -> str:
    return (datetime.now(UTC) - timedelta(days=days)).strftime("%Y-%m-%d")


async def test_rows_have_the_documented_shape_and_exact_sums(managed: Managed) -> None:
    """One row for a day, model and provider; amounts are numbers with every digit; the running day is missing."""
    crowd = [Did(ago_ms=ago(2), cost_nusd=cost, byok_nusd=7, model=MODELS[0]) for cost in (1, 333_333_333)]
    managed.settle(*crowd, Did(ago_ms=ago(0), cost_nusd=5))
    told = await managed.get("/activity", date=day(2))
    (row,) = json.loads(told.body, parse_float=Decimal)["data"]
    today = await managed.get("/activity")

    assert set(row) == FIELDS
    assert (row["usage"], row["byok_usage_inference"], row["requests"]) == (
        Decimal("0.333333334"),
        Decimal("0.000000014"),
        2,
    )
    assert (row["date"], row["model"], row["provider_name"]) == (day(2), MODELS[0], "anthropic")
    assert day(0) not in {row["date"] for row in today.json["data"]}


async def test_rows_can_be_split_by_workspace(managed: Managed) -> None:
    """Each row then names its workspace; any other grouping is refused."""
    managed.settle(Did(ago_ms=ago(4), key=0), Did(ago_ms=ago(4), key=1))
    told = await managed.get("/activity", date=day(4), group_by="workspace")
    other = await managed.get("/activity", group_by="model")

    assert [row["workspace_id"] for row in told.json["data"]] == [f"{ORG}-workspace-0", f"{ORG}-workspace-1"]
    assert (other.status, other.error["code"]) == (400, 400)


async def test_a_workspace_is_named_by_its_slug_too(managed: Managed) -> None:
    """As everywhere else in the API."""
    managed.settle(Did(ago_ms=ago(5), key=1))
    listed = (await managed.get("/workspaces")).json["data"]
    slug = next(place["slug"] for place in listed if place["id"] == f"{ORG}-workspace-1")
    for path, day_ in (("/activity", {"date": day(5)}), ("/activity/export.csv", {"from_": day(5), "to": day(5)})):
        by_id = await managed.get(path, workspace_id=f"{ORG}-workspace-1", **day_)
        by_slug = await managed.get(path, workspace_id=slug, **day_)
        assert (by_slug.status, by_slug.body) == (200, by_id.body)


@pytest.mark.parametrize("date", ["", "2020-01-01", "2999-01-01", "26-11-2026", "today", "' OR 1=1 --", "1" * 1_000])
async def test_other_days_are_refused(managed: Managed, date: str) -> None:
    """A day that is none, too old or not over: 400, with a sentence that says what would do."""
    told = await managed.get("/activity", date=date)

    assert told.status == 400
    assert "date" in told.error["message"]


async def test_only_management_keys_may_ask(managed: Managed) -> None:
    """Without a key 401, with an inference key 403."""
    inference = managed.new_key(key_class=KeyClass.INFERENCE)
    for path in ("/activity", "/activity/export.csv"):
        assert (await managed.get(path, key="sk-mg-mgmt-v1-nobody")).status == 401
        assert (await managed.get(path, key=inference)).status == 403


async def test_nobody_sees_another_organisation(managed: Managed) -> None:
    """A foreign key or member is without rows, a foreign workspace 404, in rows and in the export."""
    managed.settle(Did(ago_ms=ago(6), organization_id=OTHER, key=3, model="theirs/secret"))
    assert "theirs/secret" in (await managed.get("/activity", OTHER)).body.decode()
    for path in ("/activity", "/activity/export.csv"):
        for query in ({}, {"api_key_hash": f"{OTHER}-key-3"}, {"user_id": f"{OTHER}-member-1"}, {"user_id": "%"}):
            told = await managed.get(path, **query)
            assert told.status == 200
            assert OTHER not in told.body.decode()
            assert "theirs" not in told.body.decode()
        for workspace in (f"{OTHER}-workspace-1", "nowhere", "%"):
            assert (await managed.get(path, workspace_id=workspace)).status == 404


async def test_an_export_is_a_table_that_computes_nothing(managed: Managed) -> None:
    """CSV with a name for the file; a key that is called like a formula is text."""
    with managed.gateway.engine() as (engine, _), transaction(engine) as connection:
        named = sa.update(schema.api_keys).where(schema.api_keys.c.hash == f"{ORG}-key-2")
        connection.execute(named.values(name='=cmd|"/C calc"!A1,x'))
    managed.settle(Did(ago_ms=ago(8), key=2, cost_nusd=1_250_000_000))
    told = await managed.get("/activity/export.csv", from_=day(8), to=day(8))
    (row,) = csv.DictReader(StringIO(told.body.decode(), newline=""))

    assert told.headers["content-type"].startswith("text/csv; charset=utf-8")
    assert told.headers["content-disposition"] == f'attachment; filename="activity-{day(8)}-{day(8)}.csv"'
    assert row["api_key_name"] == '\'=cmd|"/C calc"!A1,x'
    assert (row["date"], row["usage_usd"], row["workspace_name"]) == (day(8), "1.25", "Place 0")
    assert (await managed.get("/activity/export.csv", from_=day(1), to=day(2))).status == 400
