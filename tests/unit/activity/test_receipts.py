"""Lists of receipts: newest first, whole pages, nothing twice, nobody else's."""

from __future__ import annotations

import base64
from random import Random

import pytest
import sqlalchemy as sa
from tests.unit.activity.crowd import MODELS, NOW_S, ORG, OTHER, Did, settle, someone
from tests.unit.console.planted import receipt

from modelgates_server.activity.generation import Attempt, rows
from modelgates_server.activity.receipts import Receipts, Wanted, failure, receipts
from modelgates_server.clock import ManualClock
from modelgates_server.errors import BadRequest


def page(engine: sa.Engine, limit: int = 100, cursor: str | None = None, **wanted: object) -> Receipts:
    return receipts(engine, ORG, Wanted(**wanted), limit, cursor, ManualClock(NOW_S))


def ids(found: Receipts) -> list[str]:
    return [row["id"] for row in found.rows]


def test_pages_make_the_whole_list(either_engine: sa.Engine) -> None:
    """Following the cursor gives every receipt once, newest first, also when many are of the same millisecond and new ones come."""
    crowd = [Did(ago_ms=number // 7, organization_id=(ORG, OTHER)[number % 3 == 0]) for number in range(100)]
    made = settle(either_engine, crowd)
    mine = sorted((id_ for id_, did in zip(made, crowd, strict=True) if did.organization_id == ORG), reverse=True)
    first = page(either_engine, 7)
    settle(either_engine, [Did(ago_ms=-3_600_000)])
    seen, found = ids(first), first
    while found.next_cursor is not None:
        found = page(either_engine, 7, found.next_cursor)
        seen += ids(found)

    assert seen == mine


def test_every_filter_narrows(either_engine: sa.Engine) -> None:
    """Each field fits exactly; wildcards and SQL are only text."""
    crowd = [someone(Random(number)) for number in range(300)]
    made = settle(either_engine, crowd)
    mine = {id_: did for id_, did in zip(made, crowd, strict=True) if did.organization_id == ORG}
    for name, value, of in (
        ("key_hash", f"{ORG}-key-2", lambda did: did.key_hash),
        ("member_id", f"{ORG}-member-1", lambda did: did.member_id),
        ("workspace_id", f"{ORG}-workspace-0", lambda did: did.workspace_id),
        ("model", MODELS[1], lambda did: did.model),
        ("provider", "bedrock", lambda did: did.provider),
        ("outcome", "broken", lambda did: did.outcome),
        ("session_id", "s-1", lambda did: did.more["session_id"]),
    ):
        assert set(ids(page(either_engine, 300, **{name: value}))) == {
            id_ for id_, did in mine.items() if of(did) == value
        }
        for hostile in ("%", "_" * len(value), "x' OR '1'='1", '"; DROP TABLE generations; --', "*"):
            assert ids(page(either_engine, **{name: hostile})) == []
    half = NOW_S * 1000 - 10 * 86_400_000
    late, early = page(either_engine, 300, since_ms=half), page(either_engine, 300, until_ms=half)
    assert len(late.rows) + len(early.rows) == len(mine)
    assert min(row["created_at_ms"] for row in late.rows) >= half > max(row["created_at_ms"] for row in early.rows)


def test_nobody_sees_another_organisation(either_engine: sa.Engine) -> None:
    """No foreign id and no foreign cursor shows a foreign receipt."""
    settle(either_engine, [Did(organization_id=OTHER, key=1, ago_ms=number) for number in range(5)])
    theirs = receipts(either_engine, OTHER, Wanted(), 2, None, ManualClock(NOW_S))

    assert len(theirs.rows) == 2
    assert page(either_engine, key_hash=f"{OTHER}-key-1").rows == []
    assert page(either_engine, cursor=theirs.next_cursor).rows == []


@pytest.mark.parametrize(
    "cursor", ["", "x", "%%%", "é", "a" * 100_000, *(base64.urlsafe_b64encode(text).decode() for text in (
        b"1", b"1:", b":a", b"-1:a", b"1:a b", b"1:a'", b"1" * 30 + b":a", b"\xff\xfe", "\u0661:a".encode(),
    ))],
)  # fmt: skip
def test_cursors_that_nobody_gave_are_refused(engine: sa.Engine, cursor: str) -> None:
    """Anything but a cursor of a page is a bad request."""
    with pytest.raises(BadRequest, match="cursor"):
        page(engine, cursor=cursor)


def test_a_failure_is_told_without_the_providers_words() -> None:
    """The last fault, and those before it, by class and status: what a provider wrote may quote the prompt."""
    tries = (
        Attempt("anthropic", "m", 529, "overloaded", 1, detail="your prompt was: SECRET"),
        Attempt("bedrock", "m", 0, "unreachable", 1),
    )
    row = rows(receipt(outcome="failed", provider=None, attempts=tries))[0][1]
    told = failure(row)

    assert told is not None
    assert (told["message"], told["provider_name"], told["status"], told["raw"]) == (
        "No provider answered: unreachable", "bedrock", None, None,
    )  # fmt: skip
    assert told["previous_errors"] == [
        {
            "provider": "anthropic", "provider_name": "anthropic", "status": 529, "code": 529, "message": "overloaded",
            "raw": None,
        }
    ]  # fmt: skip
    assert "SECRET" not in str(told)
    assert failure(rows(receipt())[0][1]) is None
    assert failure(rows(receipt(outcome="lost", attempts=()))[0][1])["previous_errors"] == []
