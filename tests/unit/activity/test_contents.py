"""Keeping a request: who is chosen, what the row holds, and that no trouble with it touches the receipt."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from modelgates_server.accounts.values import Keeping
from modelgates_server.activity.contents import KEEP, Content, Keeper, Record, unpacked
from modelgates_server.activity.generation import Origin
from modelgates_server.dialects.ask import read_ask
from modelgates_server.dialects.values import Ask
from modelgates_server.errors import BadRequest

RULE = Keeping("rule-1", 7 * 86_400, 1_000_000)
ORIGIN = Origin("gen-1", "org-1", "ws-1", "mem-1", "hash", 1_800_000_000_500, "m", "a/m", streamed=False)


def asked(**fields: Any) -> Ask:
    body = {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "CANARY"}]}
    return read_ask(json.dumps(body | fields).encode())


def open_seal(plain: bytes, organization_id: str, generation_id: str) -> tuple[str, str]:
    """Seals nothing, so that tests can look inside."""
    return f"{organization_id}.{generation_id}.{plain.hex()}", "7"


def begun(ask: Ask, rule: Keeping = RULE) -> Record:
    record = Keeper(open_seal).begin(rule, ask, "gen-1")
    assert record is not None
    return record


def row_of(record: Record) -> dict[str, Any]:
    ((statement, row),) = record.rows(ORIGIN)
    assert statement is KEEP
    return row


def test_the_row_says_whose_it_is_and_how_long_it_stays() -> None:
    """Sealed for the organisation's generation; its time counts from the request on."""
    row = row_of(begun(asked()))

    assert row["sealed"].startswith("org-1.gen-1.")
    assert (row["created_at_s"], row["expires_at_s"]) == (1_800_000_000, 1_800_000_000 + 7 * 86_400)
    assert (row["kek_id"], row["rule"], row["workspace_id"]) == ("7", "rule-1", "ws-1")


@pytest.mark.parametrize("answer", [None, b'{"type":"message","content":[{"type":"text","text":"yes"}]}'])
def test_what_was_packed_is_read_again(answer: bytes | None) -> None:
    """With an answer and without one."""
    record = begun(asked(system="be kind"))
    if answer is not None:
        record.begun(answer)
    found = unpacked(bytes.fromhex(row_of(record)["sealed"].rpartition(".")[2]))

    assert found.request["system"] == "be kind"
    assert found.completion == (None if answer is None else "yes")
    assert (found.answer is None, found.reasoning) == (answer is None, None)
    assert (found.request_cut, found.answer_cut) == (False, False)


def test_a_request_that_is_nested_too_deeply_to_be_read_again_is_shown_as_it_came() -> None:
    """It was taken where the stack was shallow; whoever reads it may stand deeper."""
    depth = next(depth for depth in range(990, 500, -1) if fits(depth))
    packed = bytes.fromhex(row_of(begun(nested(depth)))["sealed"].rpartition(".")[2])
    found = deeper(80, packed)

    assert found.request["prompt"].count("[") == depth


def nested(depth: int) -> Ask:
    return read_ask(b'{"model":"m","max_tokens":5,"messages":%s1%s}' % (b"[" * depth, b"]" * depth))


def fits(depth: int) -> bool:
    try:
        nested(depth)
    except BadRequest:
        return False
    return True


def deeper(frames: int, packed: bytes) -> Content:
    return deeper(frames - 1, packed) if frames else unpacked(packed)


def test_trouble_with_keeping_leaves_the_receipt_alone(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is kept, the log names the request and the kind of trouble, and no text of it."""

    def broken(plain: bytes, _organization_id: str, _generation_id: str) -> tuple[str, str]:
        raise ValueError(plain)

    record = Keeper(broken).begin(RULE, asked(), "gen-1")
    with caplog.at_level(logging.DEBUG):
        assert record is not None
        assert record.rows(ORIGIN) == []

    (told,) = caplog.records
    assert (told.message, told.reason, told.exc_info) == ("content_not_kept", "ValueError", None)  # type: ignore[attr-defined]


@pytest.mark.parametrize("ppm", [100, 250_000, 1_000_000])
def test_a_sample_takes_whole_conversations(ppm: int) -> None:
    """As many as it says, about; every request of one is treated alike."""
    keeper, rule = Keeper(open_seal), Keeping("rule-1", 1, ppm)
    chosen = [keeper.begin(rule, asked(session_id=f"s{number}"), "gen-1") is not None for number in range(2_000)]
    again = [keeper.begin(rule, asked(session_id=f"s{number}"), "gen-2") is not None for number in range(2_000)]

    assert chosen == again
    assert abs(sum(chosen) - 2_000 * ppm / 1_000_000) < 100
