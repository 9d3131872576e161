"""`explain`: why there, and why not there."""

from __future__ import annotations

import sqlite3
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from tests.unit.cli.planted import HAIKU, OPUS, Line, plant

from modelgates_server.activity import words
from modelgates_server.activity.generation import Attempt
from modelgates_server.routing.verdict import VERDICTS, FaultClass

if TYPE_CHECKING:
    from tests.unit.cli.terminal import Terminal

THREE = (Line("anthropic", 1), Line("cloud", 2), Line("backup", 3))


def tried(provider: str, fault: str | None = None, status: int = 0, detail: str = "", slug: str = OPUS) -> Attempt:
    return Attempt(provider, "claude-opus-4-8", 200 if fault is None else status, fault, 98, "req_1", detail, slug)


def text(home: Terminal, generation_id: str) -> str:
    """The story as it is read, its line breaks gone."""
    ran = home.run("explain", generation_id)
    assert ran.code == 0, ran.err
    assert max(map(len, ran.out.splitlines())) <= 100
    return " ".join(ran.out.split())


def test_every_fault_has_its_sentence() -> None:
    """No class of fault is left without words, and none that takes a provider out is left without a reason."""
    assert set(words.HAPPENED) == set(FaultClass)
    for kind, verdict in VERDICTS.items():
        if verdict.counts or verdict.cool_s or verdict.hinted:
            assert words.why_out(f"3 failures in a row ({kind})") != f"3 failures in a row ({kind})"


def test_each_attempt_is_a_sentence(home: Terminal) -> None:
    """What happened, the status, the time, what the provider said and how the request was mended."""
    attempts = (
        tried("anthropic", "rate_limit", 429, "Slow down."),
        tried("cloud", "timeout", detail="no answer within 120 s"),
        tried("backup", detail="asked again without effort"),
    )
    told = text(home, plant(home, *THREE, inputs={}, attempts=attempts))

    assert "1. anthropic (claude-opus-4-8) was at its rate limit. HTTP 429 after 98 ms. It said: Slow down." in told
    assert "whether it worked on it is not known. No answer after 98 ms. Seen: no answer within 120 s." in told
    assert "3. backup (claude-opus-4-8) answered, with its first content after 98 ms. Mended: asked again" in told


def test_each_line_of_the_plan_says_what_became_of_it(home: Terminal) -> None:
    """Asked and failed, passed over while the request ran, answered, not needed, or left out."""
    plan = [
        Line("anthropic", 1).data | {"without": ["effort"]},
        Line("cloud", 2).data | {"skipped": "5 failures in a row (reset)"},
        Line("backup", 3).data,
        Line("spare", 4).data,
        Line("acme", None, reason="it cannot do web search").data,
    ]
    told = text(home, plant(home, plan=tuple(plan), attempts=(tried("anthropic", "overloaded", 529), tried("backup"))))

    for line in (
        "because; without effort there → attempt 1: was overloaded",
        "because → passed over while the request ran: 5 failures in a row (it broke connections)",
        "because → attempt 2: answered",
        "because → not needed",
        "- acme left out: it cannot do web search",
    ):
        assert line in told


def test_who_was_not_asked_has_a_reason(home: Terminal) -> None:
    """After the client's own mistake, after two unknown fates, and when no attempt was left."""
    nobody = {"outcome": "failed", "provider": None}
    mistake = plant(home, *THREE, attempts=(tried("anthropic", "client", 400),), **nobody)
    unknown = plant(home, *THREE, attempts=(tried("anthropic", "reset"), tried("cloud", "timeout")), **nobody)
    spent = plant(home, *THREE, attempts=(tried("anthropic", "overloaded", 529),), **nobody)

    assert "not asked: what was wrong there would be wrong here" in text(home, mistake)
    assert "not asked: after two attempts of unknown fate no third is risked" in text(home, unknown)
    assert "not asked: no further attempt was allowed" in text(home, spent)
    assert "why there nowhere: 1 attempt failed" in text(home, spent)


def test_what_was_decided_on_is_told(home: Terminal) -> None:
    """Models, what the request uses, preferences of both sides and who was out; what every request is searched for is no news."""
    inputs = {
        "models": [OPUS, HAIKU], "features": ["web_search", "attribution", "cache_scope"], "betas": ["a-2025-01-01"],
        "body_bytes": 12_345, "max_tokens": 4_096, "policy": {"order": ["backup", "cloud"]}, "wishes": {"zdr": True},
        "out": {f"anthropic {OPUS}": "rate_limit"},
    }  # fmt: skip
    told = text(home, plant(home, Line("backup", 1), Line("anthropic", 2, HAIKU), inputs=inputs))

    for line in (
        f"models {OPUS}, then {HAIKU} uses web search betas a-2025-01-01 size 12,345 bytes, max_tokens 4,096",
        "preferences of key first backup then cloud and of request only those with zero data retention",
        f"out of service anthropic for {OPUS}: its rate limit",
    ):
        assert line in told


def test_a_conversation_has_its_story(home: Terminal) -> None:
    """Where it was held, where it went, and the receipt before this one."""
    one = {"attempts": (tried("backup"),), "conversation": "c"}
    first = plant(home, Line("backup", 1), inputs={}, ago_s=300, **one)
    stayed = plant(home, Line("backup", 1), inputs={"sticky": "backup"}, ago_s=200, **one)
    moved = plant(home, Line("backup", 1), inputs={"sticky": "anthropic"}, ago_s=100, **one)

    assert "conversation new here: nobody held it out of service" in text(home, first)
    assert f"stayed with backup, which holds it (before it: {first} by backup)" in text(home, stayed)
    assert f"was held by anthropic, moved to backup (before it: {stayed} by backup)" in text(home, moved)
    assert "there was no choice of provider" in text(home, plant(home, inputs={}))


def test_money_of_unknown_fate_is_named(home: Terminal) -> None:
    """What a provider may bill for an attempt that nobody saw the end of, from the books."""
    id_ = plant(home, *THREE, attempts=(tried("anthropic", "timeout"), tried("backup")))
    connection = sqlite3.connect(home.folder / "modelgates-data" / "modelgates.db", isolation_level=None)
    connection.execute(
        "INSERT INTO entries (organization_id, created_at_s, kind, debit, credit, amount_nusd, generation_id)"
        " VALUES ('o', 1, 'uncertain', 'operator:uncertain', 'provider:anthropic', 250000000, ?)",
        (id_,),
    )
    connection.close()

    assert "anthropic may bill at most $0.25 for what it may have done; no budget pays that." in text(home, id_)
    assert home.json("explain", id_).data["uncertain"] == [{"provider": "anthropic", "at_most": Decimal("0.25")}]


def test_programs_get_all_of_it(home: Terminal) -> None:
    """The JSON form has the inputs as data, the sentences, what became of each line, and the conversation."""
    inputs = {"features": ["web_search"], "sticky": "backup"}
    id_ = plant(
        home, *THREE, inputs=inputs, conversation="c", attempts=(tried("anthropic", "quota", 429), tried("backup"))
    )
    data: dict[str, Any] = home.json("explain", id_).data

    assert data["inputs"] == {"models": [OPUS], "body_bytes": 2_000} | inputs
    assert [line["became"] for line in data["plan"]] == [
        "attempt 1: had no quota left", "passed over while the request ran", "attempt 2: answered",
    ]  # fmt: skip
    assert data["attempts"][0]["said"] == "anthropic (claude-opus-4-8) had no quota left. HTTP 429 after 98 ms."
    assert (data["conversation"], data["earlier_in_conversation"]) == ("c", None)
    assert data["why"] == "because; after 1 failed attempt"
    assert data["sticking"] == "stayed with backup, which holds it"
