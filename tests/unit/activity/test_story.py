"""A receipt in sentences: the lines that terminal, console and MCP server lay out each in their own way."""

from __future__ import annotations

from typing import Any

import msgspec
from tests.unit.console.planted import receipt

from modelgates_server.activity.generation import rows
from modelgates_server.activity.story import AttemptLine, BillLine, PlanLine, Story
from modelgates_server.storage.hot import Row

OPUS = "anthropic/claude-opus-4.8"


def row_of(**changes: Any) -> Row:
    """A receipt's row as `finding.py` gives it."""
    _, row = next(iter(rows(receipt(**changes))))
    names = {"key_name": "laptop", "key_label": "sk-mg-v1-...wxyz", "workspace_name": None, "member_name": "Ana"}
    decoded = {
        name: msgspec.json.decode(row[name]) if row[name] else None for name in ("parts", "plan", "attempts", "inputs")
    }
    return dict(row) | names | decoded


def test_the_plan_has_a_line_for_each_endpoint() -> None:
    """Its place, why it stands there, and what became of it."""
    assert Story(row_of()).plan_lines() == (
        PlanLine(None, "bedrock", OPUS, "cooling down for 12 s", "left out"),
        PlanLine(1, "anthropic", OPUS, "the maker of the model comes first", "attempt 1: was overloaded"),
        PlanLine(2, "backup", OPUS, "number 2 in the routing order", "attempt 2: answered"),
    )


def test_attempts_keep_apart_what_is_told_and_what_the_provider_said() -> None:
    """The sentence is for everybody, the detail for the operator."""
    first, second = Story(row_of()).attempt_lines()

    assert first == AttemptLine(
        1, "anthropic", "claude-opus-4-8", "overloaded", 529, 98,
        "anthropic (claude-opus-4-8) was overloaded. HTTP 529 after 98 ms.", "It said", "Overloaded", "req_010",
    )  # fmt: skip
    assert second.said == "backup (claude-opus-4-8) answered, with its first content after 812 ms."
    assert (second.fault, second.detail) == (None, "")


def test_the_bill_has_its_lines_and_its_notes() -> None:
    """Exact amounts, and what was held."""
    story = Story(row_of())

    assert story.bill()[0] == BillLine("input", 1_000, 5_000_000_000)
    assert story.bill_notes() == ("$0.500000000 was held while it ran; what was not used went back.",)
    assert ("output", "287") in story.tokens()


def test_the_request_names_who_and_where() -> None:
    """Key, member, model, provider and times."""
    facts = dict(Story(row_of()).request("just now"))

    assert facts["key"] == "laptop (sk-mg-v1-...wxyz)"
    assert facts["workspace"] == "wks-default, member Ana"
    assert facts["served"] == f"{OPUS} by backup as claude-opus-4-8"
    assert facts["took"] == "812 ms to the first content, 4,321 ms in all"
    assert facts["at"] == "just now"


def test_what_was_not_recorded_is_no_fact() -> None:
    """A receipt of an older version has no inputs."""
    assert Story(row_of()).decided_on() == ()
