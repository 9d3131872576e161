"""Analytics over the wire: what can be asked, answers, refusals, and nobody else's rows."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from tests.unit.activity.crowd import MODELS, ORG, OTHER, Did
from tests.walk.managed import Managed, ago

from modelgates_server.api import faults
from modelgates_server.errors import TookTooLong

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def ask(managed: Managed, organization_id: str = ORG, **question: Any) -> Any:
    told = await managed.post("/analytics/query", {"metrics": ["request_count"], **question}, organization_id)
    assert told.status == 200, told.body
    return json.loads(told.body, parse_float=Decimal)["data"]


async def test_meta_names_only_what_can_be_asked(managed: Managed) -> None:
    """Every metric and dimension that is listed is answered; what is not measured is not listed."""
    meta = (await managed.get("/analytics/meta")).json["data"]
    metrics, dimensions = ([one["name"] for one in meta[kind]] for kind in ("metrics", "dimensions"))
    assert {"request_count", "total_usage", "p99_latency", "cache_hit_rate"} <= set(metrics)
    assert not {"response_cached_count", "guardrail_invoked_rate", "byok_fees", "usage_data"} & set(metrics)
    for dimension in dimensions:
        assert (await ask(managed, metrics=metrics, dimensions=[dimension]))["warnings"] == []
    assert [one["name"] for one in meta["granularities"]] == ["minute", "hour", "day", "week", "month"]
    assert {one["name"]: one["value_type"] for one in meta["operators"]}["in"] == "array"


async def test_an_answer_has_exact_amounts_and_its_metadata(managed: Managed) -> None:
    """Money with every digit, counts as numbers, the time under the name of its granularity."""
    managed.settle(Did(ago_ms=ago(3), key=1, model="exact/model", cost_nusd=123_456_789, byok_nusd=1))
    one = {"field": "model", "operator": "eq", "value": "exact/model"}
    answered = await ask(
        managed,
        metrics=["total_usage", "request_count", "usage_file"],
        filters=[one],
        granularity="day",
        dimensions=["user"],
    )
    (row,) = answered["data"]

    assert (row["total_usage"], row["request_count"], row["usage_file"]) == (Decimal("0.123456790"), 1, None)
    assert (row["user"], row["user_id"], row["user_email"]) == ("Member 1", f"{ORG}-member-1", f"1@{ORG}.example")
    assert len(row["date__day"]) == len("2026-11-26")
    assert {"row_count": 1, "truncated": False}.items() <= answered["metadata"].items()
    assert "usage_file" in answered["warnings"][0]


async def test_a_question_may_be_written_in_several_ways(managed: Managed) -> None:
    """The time by the name of its column, truth as JSON's own, null for what is left out."""
    for days in (1, 2):
        managed.settle(Did(ago_ms=ago(days), key=1, model="ways/model"))
    one = {"field": "model", "operator": "eq", "value": "ways/model"}
    for name in ("date", "date__day", "created_at__day"):
        order = {"field": name, "direction": "asc"}
        asked = await ask(managed, metrics=["request_count"], filters=[one], granularity="day", order_by=order)
        days_told = [row["date__day"] for row in asked["data"]]
        assert (len(days_told), days_told) == (2, sorted(days_told))
    found = {
        value: await ask(managed, metrics=["request_count"], filters=[one, {**one, "field": "streamed", "value": value}],
                         dimensions=["streamed"], limit=None, order_by=None)
        for value in (True, False)
    }  # fmt: skip
    assert sum(len(asked["data"]) for asked in found.values()) == 1
    nothing = await ask(managed, metrics=["request_count"], dimensions=None, filters=None, limit=None)
    assert nothing["data"][0]["request_count"] >= 2


async def test_times_may_be_written_in_several_ways(managed: Managed) -> None:
    """With fractions, with a zone, as a day; a time without a zone is refused, as is an end before its start."""
    for start, end in (
        ("2026-01-01T00:00:00Z", "2026-01-02T00:00:00.123Z"),
        ("2026-01-01T01:00:00+01:00", "2026-01-01T00:00:01+00:00"),
        ("2026-01-01", "2026-01-02"),
    ):
        assert (await ask(managed, time_range={"start": start, "end": end}))["data"] == [{"request_count": 0}]
    for start, end in (
        ("2026-01-01T00:00:00", "2026-01-02"),
        ("2026-01-02", "2026-01-01"),
        ("2024-01-01", "2026-01-01"),
    ):
        body = {"metrics": ["request_count"], "time_range": {"start": start, "end": end}}
        assert (await managed.post("/analytics/query", body)).status == 400


EVIL = "x') UNION SELECT hash FROM api_keys --"
HOSTILE: dict[str, Any] = {
    "metric": {"metrics": [EVIL]},
    "no metric": {"metrics": []},
    "many metrics": {"metrics": ["request_count"] * 31},
    "twice": {"metrics": ["request_count", "request_count"]},
    "dimension": {"dimensions": [EVIL]},
    "three dimensions": {"dimensions": ["model", "provider", "user"]},
    "granularity": {"granularity": "day'; DROP TABLE generations; --"},
    "order": {"order_by": {"field": "(SELECT 1)", "direction": "asc"}},
    "direction": {"order_by": {"field": "request_count", "direction": "asc; --"}},
    "unasked order": {"order_by": {"field": "total_usage"}},
    "limit": {"limit": 10_001},
    "no rows": {"limit": 0},
    "offset in a limit": {"limit": "1 OFFSET 1000000"},
    "group limit": {"group_limit": -1},
    "truth as limit": {"limit": True},
    "filter field": {"filters": [{"field": "organization_id", "operator": "eq", "value": OTHER}]},
    "filter column": {"filters": [{"field": "generations.plan", "operator": "eq", "value": "x"}]},
    "operator": {"filters": [{"field": "model", "operator": "LIKE", "value": "%"}]},
    "list for one": {"filters": [{"field": "model", "operator": "eq", "value": ["a", "b"]}]},
    "empty list": {"filters": [{"field": "model", "operator": "in", "value": []}]},
    "object": {"filters": [{"field": "model", "operator": "eq", "value": {"$ne": None}}]},
    "null": {"filters": [{"field": "model", "operator": "eq", "value": None}]},
    "many filters": {"filters": [{"field": "model", "operator": "eq", "value": "a"}] * 21},
    "many values": {"filters": [{"field": "model", "operator": "in", "value": ["a"] * 1_001}]},
    "long value": {"filters": [{"field": "model", "operator": "eq", "value": "a" * 1_001}]},
    "unset": {"filters": [{"field": "model", "operator": "in", "value": ["a"], "include_unset": True}]},
    "unset for one": {"filters": [{"field": "user", "operator": "eq", "value": "a", "include_unset": True}]},
    "half a range": {"time_range": {"start": "2026-01-01"}},
    "classifier": {"classifier_filters": {"classifier_id": "x", "filters": []}},
    "detail for long": {
        "metrics": ["p50_latency"], "time_range": {"start": "2026-01-01", "end": "2026-03-01"}
    },
    "no object": [1],
    "NUL": {"filters": [{"field": "model", "operator": "eq", "value": "\0"}]},
    "half a character": b'{"metrics": ["request_count"], "filters": [{"field": "model", "operator": "eq", "value": "\\ud800"}]}',
    "deep": b'{"metrics":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "not a number": b'{"metrics": ["request_count"], "limit": NaN}',
}  # fmt: skip


@pytest.mark.parametrize("kind", list(HOSTILE))
async def test_what_makes_no_sense_is_refused(managed: Managed, kind: str) -> None:
    """400 in the envelope, whatever was tried; never a 500, and what is kept stays."""
    sent = HOSTILE[kind]
    body = {"metrics": ["request_count"], **sent} if isinstance(sent, dict) else sent
    managed.settle(Did(ago_ms=ago(1)))
    kept = managed.gateway.rows("SELECT COUNT(*) AS n FROM generations")
    told = await managed.post("/analytics/query", body, key=managed.new_key())

    assert (told.status, told.error["code"]) == (400, 400), told.body
    assert managed.gateway.rows("SELECT COUNT(*) AS n FROM generations") == kept


async def test_nobody_sees_another_organisation(managed: Managed) -> None:
    """No dimension and no filter brings a foreign row, id or name; wildcards and SQL in values are only text."""
    managed.settle(
        Did(ago_ms=ago(1), organization_id=OTHER, key=3, model="theirs/analytics", more={"session_id": "theirs"})
    )
    assert "theirs/analytics" in str(await ask(managed, OTHER, dimensions=["model", "api_key_id"]))
    fresh = managed.new_key()
    for field, value in (
        ("api_key_id", f"{OTHER}-key-3"), ("user", f"{OTHER}-member-1"), ("workspace", f"{OTHER}-workspace-1"),
        ("model", "theirs/analytics"), ("session_id", "theirs"), ("model", "%"), ("model", EVIL), ("user", "' OR ''='"),
    ):  # fmt: skip
        for operator in ("eq", "in", "gte"):
            one = {"field": field, "operator": operator, "value": [value] if operator == "in" else value}
            body = {
                "metrics": ["request_count", "total_usage"],
                "filters": [one],
                "dimensions": ["model", "api_key_id"],
            }
            told = await managed.post("/analytics/query", body, key=fresh)
            rows = told.json["data"]["data"]
            assert told.status == 200
            assert f"{OTHER}-" not in str(rows)
            assert "theirs" not in str(rows)


async def test_a_key_may_ask_64_times_a_minute(managed: Managed) -> None:
    """Then 429 with the seconds to wait; another key is not concerned."""
    key = managed.new_key()
    body = {
        "metrics": ["request_count"],
        "dimensions": ["model"],
        "filters": [{"field": "model", "operator": "eq", "value": MODELS[0]}],
    }
    told = [await managed.post("/analytics/query", body, key=key) for _ in range(65)]

    assert [one.status for one in told] == [200] * 64 + [429]
    assert 1 <= int(told[-1].headers["retry-after"]) <= 60
    assert (told[-1].headers["x-ratelimit-limit"], told[-1].headers["x-ratelimit-remaining"]) == ("64", "0")
    assert (await managed.post("/analytics/query", body, key=managed.new_key())).status == 200


async def test_a_question_that_takes_too_long_is_told_so() -> None:
    """408 in the envelope, with what to do."""
    told = faults.render(TookTooLong("This took too long.", remedy="ask for less"))

    assert told.status_code == 408
    assert json.loads(bytes(told.body))["error"] == {
        "code": 408, "message": "This took too long.", "metadata": {"remedy": "ask for less"},
    }  # fmt: skip
