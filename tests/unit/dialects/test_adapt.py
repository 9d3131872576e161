"""Edits within a request's large members: what goes is named, what stays keeps its bytes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.dialects.wire_samples import ask

from modelgates_server.dialects.adapt import (
    bind_thinking,
    cut_member,
    edited_inside,
    opening,
    rewritten,
    without_thinking,
)
from modelgates_server.dialects.ask import read_ask
from modelgates_server.dialects.values import Ask

SCOPE = ("cache_control.scope",)
ATTRIBUTION = ("attribution",)


def read(**changes: Any) -> Ask:
    return read_ask(ask(**changes))


def value(request: Ask, name: str) -> Any:
    return json.loads(request.body[slice(*request.spans[name])])


# The scope of cache entries.


@pytest.mark.parametrize(
    ("mark", "left"),
    [
        ('{"type":"ephemeral","scope":"global"}', '{"type":"ephemeral"}'),
        ('{"scope":"global","type":"ephemeral"}', '{"type":"ephemeral"}'),
        ('{"type":"ephemeral","scope":"global","ttl":"1h"}', '{"type":"ephemeral","ttl":"1h"}'),
        ('{ "type": "ephemeral", "ttl": "1h", "scope": "global" }', '{ "type": "ephemeral", "ttl": "1h" }'),
        ('{\n "type" : "ephemeral" ,\n "scope" : "global"\n}', '{\n "type" : "ephemeral" \n}'),
        ('{ "scope" : "global" , "type":"ephemeral"}', '{ "type":"ephemeral"}'),
        ('{"type":"ephemeral","scope":"a\\"b,}"}', '{"type":"ephemeral"}'),
        ('{"type":"ephemeral","scope":null}', '{"type":"ephemeral"}'),
        ('{"type":"ephemeral","ttl":"5m"}', '{"type":"ephemeral","ttl":"5m"}'),
        ('{"type":"ephemeral","ttl":"scope"}', '{"type":"ephemeral","ttl":"scope"}'),
    ],
)
def test_the_scope_goes_in_every_spelling(mark: str, left: str) -> None:
    """In system, tools and messages; not one byte besides it and its comma."""
    template = (
        '{"model":"m","max_tokens":5,"system":[{"type":"text","text":"é","cache_control":MARK}],'
        '"tools":[{"name":"t","cache_control" : MARK}], "messages":[{"role":"user","content":[{"type":"text",'
        '"text":"\\"cache_control\\":{\\"scope\\":\\"x\\"}","cache_control":MARK}]}]}'
    )
    edited = edited_inside(read_ask(template.replace("MARK", mark).encode()), SCOPE)

    assert edited.body.decode() == template.replace("MARK", left)
    assert value(edited, "tools")[0]["name"] == "t"


@pytest.mark.parametrize("edits", [SCOPE, ATTRIBUTION, (*SCOPE, *ATTRIBUTION, "breakpoint"), ()])
def test_nothing_to_edit_is_the_same_request(edits: tuple[str, ...]) -> None:
    """The very same object, also when a tool has a member called scope."""
    request = read(tools=[{"name": "t", "input_schema": {"properties": {"scope": {"type": "string"}}}}])

    assert edited_inside(request, edits) is request


# A mark for the cache where the upstream has no automatic one.

MARK = {"type": "ephemeral", "ttl": "1h"}
TEXT, MARKED = {"type": "text", "text": "b"}, {"type": "text", "text": "b", "cache_control": MARK}


@pytest.mark.parametrize(
    ("content", "marked"),
    [
        ("b", [MARKED]),
        ([TEXT], [MARKED]),
        ([TEXT, TEXT], [TEXT, MARKED]),
        ([MARKED], [MARKED]),
        ([TEXT, {"type": "thinking", "thinking": ""}], [TEXT, {"type": "thinking", "thinking": ""}]),
        ([], []),
        ([5], [5]),
        (None, None),
    ],
)
def test_the_last_block_is_marked_for_the_cache(content: Any, marked: Any) -> None:
    """What the client asked of the whole request stands on its last block; one that has a mark, or cannot have one, stays."""
    turns = [{"role": "user", "content": "a"}, {"role": "user", "content": content, "x": 1}]
    edited = edited_inside(read(messages=turns, cache_control=MARK), ("breakpoint",))

    assert value(edited, "messages") == [turns[0], {"role": "user", "content": marked, "x": 1}]


@pytest.mark.parametrize(("marks", "added"), [(0, True), (3, True), (4, False)])
def test_there_is_room_for_four_marks(marks: int, *, added: bool) -> None:
    """A fifth would be refused."""
    request = read(system=[MARKED] * marks, cache_control=MARK)
    edited = edited_inside(request, ("breakpoint",))

    assert (value(edited, "messages")[0]["content"] != "Bonjour, ça va ? 😀") is added
    assert edited_inside(read(), ("breakpoint",)).body == ask()


# Claude Code's attribution.

BILLING = {"type": "text", "text": "x-anthropic-billing-header: cc_version=2.1.9; cch=1a2b3;"}
TERSE = {"type": "text", "text": "You are terse.", "cache_control": {"type": "ephemeral"}}


@pytest.mark.parametrize(
    ("system", "left"),
    [
        ([BILLING, TERSE], [TERSE]),
        ([BILLING, TERSE, BILLING], [TERSE, BILLING]),
        ([TERSE, BILLING], [TERSE, BILLING]),
        ("x-anthropic-billing-header: a string is the client's own", ...),
        ([{"type": "text", "text": "See x-anthropic-billing-header: 5"}], ...),
        ([{"type": "text", "text": ["x-anthropic-billing-header:"]}], ...),
        (["x-anthropic-billing-header:"], ...),
        ([], ...),
    ],
)
def test_the_attribution_block_goes(system: Any, left: Any) -> None:
    """Only as the first block, only as Claude Code writes it; the others keep their order."""
    edited = edited_inside(read(system=system), ATTRIBUTION)

    assert value(edited, "system") == (system if left is ... else left)
    assert value(edited, "messages") == json.loads(ask())["messages"]


def test_a_lone_attribution_block_takes_the_system_prompt_along() -> None:
    """An empty list would be refused."""
    edited = edited_inside(read(system=[BILLING]), (*SCOPE, *ATTRIBUTION))

    assert "system" not in edited.spans
    assert edited.body == ask(system=...)
    assert edited_inside(read(system=...), ATTRIBUTION).body == ask(system=...)


# One member of a small object.


@pytest.mark.parametrize(
    ("given", "left"),
    [
        (b'{"effort":"low","format":{"a":  1.50}}', b'{"format":{"a":  1.50}}'),
        (b'{"format":1,"effort":"low"}', b'{"format":1}'),
        (b'{"effort":"low"}', None),
        (b'{"format":1}', b'{"format":1}'),
        (b"{}", b"{}"),
        (b"null", b"null"),
        (b'"effort"', b'"effort"'),
        (b'["effort"]', b'["effort"]'),
    ],
)
def test_a_member_of_a_member_is_cut(given: bytes, left: bytes | None) -> None:
    """Other values keep their bytes; an object that would be empty is gone; what is no object stays."""
    assert cut_member(given, "effort") == left


# Thinking.

THOUGHT = {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"}
REDACTED = {"type": "redacted_thinking", "data": "eHg="}
CALL = {"type": "tool_use", "id": "t1", "name": "n", "input": {"type": "thinking"}}
USER = {"role": "user", "content": "Hi"}
RESULT = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": [THOUGHT]}]}


def said(*blocks: dict[str, Any]) -> dict[str, Any]:
    return {"role": "assistant", "content": list(blocks)}


@pytest.mark.parametrize(
    ("messages", "left"),
    [
        ([USER, said(THOUGHT, CALL), RESULT], [USER, said(CALL), RESULT]),
        ([USER, said(THOUGHT, REDACTED, CALL, THOUGHT), RESULT], [USER, said(CALL), RESULT]),
        ([USER, said(THOUGHT), USER, said(CALL)], [USER, USER, said(CALL)]),
        ([USER, said(REDACTED), {"role": "system", "content": "x"}], [USER, {"role": "system", "content": "x"}]),
        ([USER, said(THOUGHT, CALL), {"role": "system", "output_config": {}}], [USER, said(CALL), {"role": "system", "output_config": {}}]),
    ],
)  # fmt: skip
def test_thinking_is_taken_out(messages: list[Any], left: list[Any]) -> None:
    """Every block of the assistant's, and messages that had nothing else; what a user or a tool says is no thinking."""
    healed = without_thinking(read(messages=messages))

    assert healed is not None
    assert value(healed, "messages") == left
    assert value(healed, "system") == json.loads(ask())["system"]


@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": "), (" ,\n", " : ")])
@pytest.mark.parametrize(
    "messages",
    [
        [USER],
        [USER, said(CALL), RESULT],
        [USER, {"role": "assistant", "content": "thinking"}, USER],
        [said(THOUGHT)],
        [USER, {"role": "assistant", "content": [5]}],
        [5],
        [{"role": 5, "content": "x"}],
    ],
)
def test_without_thinking_there_is_nothing_to_heal(messages: list[Any], separators: tuple[str, str]) -> None:
    """However the client spaces its JSON; also when nothing would be left, or when it cannot be read."""
    body = json.dumps({"model": "m", "max_tokens": 5, "messages": messages}, separators=separators)

    assert without_thinking(read_ask(body.encode())) is None


def test_healing_keeps_bytes_and_prefixes() -> None:
    """What stays is byte for byte what the client sent, and a longer conversation is healed to a continuation of the shorter."""
    odd = '{ "role":"user", "content":"\\u00e9  é" }'
    thought = json.dumps(said(THOUGHT, CALL), indent=1)
    short, long = (
        f'{{"model":"m","max_tokens":5,"messages":[{",".join(turns)}]}}'
        for turns in ([odd, thought], [odd, thought, odd])
    )
    healed = [without_thinking(read_ask(body.encode())) for body in (short, long)]

    assert healed[0] is not None
    assert healed[1] is not None
    assert odd.encode() in healed[0].body
    assert healed[1].body.startswith(healed[0].body.removesuffix(b"]}"))


@pytest.mark.parametrize(
    ("thinking", "bound"),
    [
        ({"type": "adaptive"}, {"type": "adaptive", "block_binding": {"prefix_mismatch_behavior": "drop_block"}}),
        (
            {"type": "enabled", "budget_tokens": 1024},
            {"type": "enabled", "budget_tokens": 1024, "block_binding": {"prefix_mismatch_behavior": "drop_block"}},
        ),
    ],
)
def test_foreign_thinking_can_be_dropped_by_the_upstream(thinking: Any, bound: Any) -> None:
    """One member is added to what the client said; everything else keeps its bytes."""
    request = read(thinking=thinking)
    mended = bind_thinking(request)

    assert mended is not None
    assert value(mended, "thinking") == bound
    assert mended.body.replace(json.dumps(bound, separators=(",", ":")).encode(), b"") == request.body.replace(
        json.dumps(thinking).encode(), b""
    )


def test_the_clients_own_choice_stands() -> None:
    """Who says what happens to foreign thinking is not overruled; who says nothing about thinking gets nothing."""
    chosen = read(thinking={"type": "adaptive", "block_binding": {"prefix_mismatch_behavior": "error"}})

    assert bind_thinking(chosen) is chosen
    assert bind_thinking(read()) is None
    assert bind_thinking(read(thinking=None)) is None


# How a conversation begins.


@pytest.mark.parametrize("first", ["Hi", "é" * 3000, "x" * 70_000, '"}]{[' * 900])
def test_the_opening_stays_as_a_conversation_grows(first: str) -> None:
    """The same digest after one turn and after a megabyte, for short first messages and for long ones."""
    turns, digests = [{"role": "user", "content": first}], set()
    for size in (10, 1000, 5000, 60_000, 10_000, 900_000):
        digests.add(opening(read(messages=turns)))
        turns += [{"role": "assistant", "content": "y" * size}, {"role": "user", "content": "go on"}]

    assert len(digests | {opening(read(messages=turns))}) == 1


def test_the_opening_tells_conversations_apart() -> None:
    """By the system prompt and by the first message, not by model, tools or limits."""
    other = [{"role": "user", "content": "Salut"}]
    digests = [opening(read(**changes)) for changes in ({}, {"system": "x"}, {"system": ...}, {"messages": other})]

    assert len(set(digests)) == 4
    assert opening(read(max_tokens=7, tools=[{"name": "t"}], model="m")) == digests[0]


@pytest.mark.parametrize("messages", [[5], ["x"], [[]], [None]])
def test_any_opening_has_a_digest(messages: list[Any]) -> None:
    """What the upstream will refuse breaks nothing here."""
    assert len(opening(read(messages=messages))) == 24


@given(st.binary(max_size=6))
def test_a_rewritten_request_knows_its_spans(text: bytes) -> None:
    """The members are where the new body has them; the same body is the same request."""
    request = read()
    body = request.body.replace(b'"model"', b'"x": "%s", "model"' % text.hex().encode())
    changed = rewritten(request, body)

    assert value(changed, "messages") == value(request, "messages")
    assert rewritten(changed, body) is changed


@pytest.mark.parametrize(
    ("message", "left"),
    [
        ({"role": "system", "content": "x", "output_config": {"effort": "low"}}, {"role": "system", "content": "x"}),
        ({"role": "system", "content": [], "clear_at": "turn_end"}, None),
        ({"role": "system", "output_config": {"effort": "low"}}, None),
        ({"role": "user", "content": "x", "output_config": 1}, {"role": "user", "content": "x", "output_config": 1}),
        ({"role": "system", "content": '"output_config"'}, {"role": "system", "content": '"output_config"'}),
    ],
)
def test_controls_of_single_turns_are_taken_out(message: dict[str, Any], left: dict[str, Any] | None) -> None:
    """Claude Code's system messages carry them; a message that says nothing else goes, every other one keeps its bytes."""
    other = {"role": "user", "content": "hello"}
    body = {"model": "m", "max_tokens": 1, "messages": [other, message]}
    edited = json.loads(edited_inside(read_ask(json.dumps(body).encode()), ("turn_control",)).body)

    assert edited["messages"] == ([other] if left is None else [other, left])
