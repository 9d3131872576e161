"""What of a request and of an answer is kept: what the model saw and what the client was given, within bounds."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelgates_server.dialects.ask import read_ask
from modelgates_server.dialects.kept import ContentMeter, kept_message, kept_request
from modelgates_server.dialects.meter import UsageMeter
from modelgates_server.dialects.sse import EventSplitter

ROOM = 10_000
BLOCKS: list[dict[str, Any]] = [
    {"type": "thinking", "thinking": "let me see", "signature": "c2ln"},
    {"type": "text", "text": "Grüße \U0001f600\n", "citations": [{"cited_text": "a"}]},
    {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"where": "here"}},
    {"type": "server_tool_use", "id": "srv_1", "name": "web_search", "input": {}},
    {"type": "web_search_tool_result", "tool_use_id": "srv_1", "content": []},
]


def request(**fields: Any) -> bytes:
    body = {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]}
    return json.dumps(body | fields).encode()


def asked(body: bytes, room: int = ROOM) -> tuple[dict[str, Any], bool]:
    kept = kept_request(read_ask(body), room)
    return json.loads(kept.json), kept.cut


def events(blocks: list[dict[str, Any]]) -> bytes:
    """The blocks as a stream says them, one character a delta."""
    out = [("message_start", {"message": {"id": "msg_1", "model": "m", "usage": {"input_tokens": 1}}})]
    for index, block in enumerate(blocks):
        name = {"text": "text", "thinking": "thinking"}.get(block["type"])
        opening = {key: value for key, value in block.items() if key not in {"signature", "citations"}}
        pieces: list[dict[str, Any]] = []
        if name is not None:
            opening[name] = ""
            pieces = [{"type": f"{name}_delta", name: letter} for letter in block[name]]
        elif block["type"] == "tool_use":
            opening["input"] = {}
            pieces = [{"type": "input_json_delta", "partial_json": one} for one in json.dumps(block["input"])]
        pieces += [{"type": "citations_delta", "citation": one} for one in block.get("citations", [])]
        if "signature" in block:
            pieces.append({"type": "signature_delta", "signature": block["signature"]})
        out.append(("content_block_start", {"index": index, "content_block": opening}))
        out += [("content_block_delta", {"index": index, "delta": piece}) for piece in pieces]
        out.append(("content_block_stop", {"index": index}))
    out.append(("message_delta", {"delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}}))
    out.append(("message_stop", {}))
    return b"".join(
        b"event: %s\ndata: %s\n\n" % (name.encode(), json.dumps({"type": name, **data}).encode()) for name, data in out
    )


def watched(data: bytes, room: int = ROOM) -> ContentMeter:
    meter = ContentMeter(room)
    for event in EventSplitter().feed(data):
        meter.see(event)
    return meter


def test_of_a_request_stays_what_the_model_saw() -> None:
    """In the client's own values; not account ids, tokens for servers, the gateway's fields, or fields that nobody knows."""
    fields = {"system": "be kind", "tools": [{"name": "t"}], "temperature": 0.5, "thinking": {"type": "disabled"}}
    hidden = {"metadata": {"user_id": "u"}, "mcp_servers": [{"authorization_token": "t"}], "user": "u", "brand_new": 1}

    assert asked(request(**fields, **hidden)) == (json.loads(request(**fields)), False)


def test_of_a_long_request_the_newest_messages_stay() -> None:
    """As many as fit; then the tools, if they still do; and it says that something is missing."""
    messages = [{"role": "user", "content": f"{number} " + "x" * 400} for number in range(9)]
    kept, cut = asked(request(messages=messages, system="s" * 300, tools=[{"name": "t" * 2000}]), 1_500)

    assert cut
    assert [message["content"][0] for message in kept["messages"]] == ["6", "7", "8"]
    assert ("tools" in kept, kept["max_tokens"]) == (False, 5)


@pytest.mark.parametrize("content", ["é" * 9_000, [{"type": "image"}, {"type": "text", "text": "é" * 9_000}]])
def test_of_a_message_that_is_too_long_the_beginning_stays(content: Any) -> None:
    """Of its text, whichever way it is written."""
    kept, cut = asked(request(messages=[{"role": "user", "content": content}]), 2_000)
    (message,) = kept["messages"]

    assert (cut, message["role"], set(message["content"])) == (True, "user", {"é"})
    assert 0 < len(message["content"].encode()) <= 1_000


@pytest.mark.parametrize("messages", [b"[" * 500 + b"]" * 500, b'[1, null, {"content": [{"text": 5}]}]', b'["x"]'])
def test_messages_of_any_shape_are_kept_as_they_came_or_left_out(messages: bytes) -> None:
    """Nobody looked inside before; keeping it never fails."""
    ask = read_ask(b'{"model":"m","max_tokens":5,"messages":%s}' % messages)

    assert messages in kept_request(ask, ROOM).json
    assert messages not in kept_request(ask, len(messages) - 1).json


def test_a_streamed_answer_is_the_same_as_one_that_came_whole() -> None:
    """Texts, thinking, tool calls and citations, without signatures."""
    whole = kept_message(json.dumps({"type": "message", "content": BLOCKS, "stop_reason": "end_turn"}).encode(), ROOM)
    streamed = watched(events(BLOCKS)).kept(ROOM)

    assert json.loads(streamed.json) == json.loads(whole.json)
    assert json.loads(whole.json)["content"][0] == {"type": "thinking", "thinking": "let me see"}
    assert (streamed.cut, whole.cut) == (False, False)


def test_it_measures_like_every_other_meter() -> None:
    """Usage, stop reason and ids do not depend on whether content is kept."""
    plain, data = UsageMeter(), events(BLOCKS)
    for event in EventSplitter().feed(data):
        plain.see(event)
    keeping = watched(data)

    assert (keeping.usage, keeping.stop_reason, keeping.output_estimate) == (
        plain.usage,
        plain.stop_reason,
        plain.output_estimate,
    )


def test_an_answer_that_breaks_off_is_kept_as_far_as_it_came() -> None:
    """Half a tool call stands as the text that it was."""
    data = events(BLOCKS[2:3])
    found = json.loads(watched(data[: data.index(b'"h"')]).kept(ROOM).json)

    assert found["stop_reason"] is None
    assert found["content"][0]["partial_json"] == '{"w'


def test_nothing_is_kept_after_the_client_left() -> None:
    """What the provider says from then on was given to nobody."""
    meter, parts = ContentMeter(ROOM), EventSplitter().feed(events(BLOCKS[1:2]))
    for number, event in enumerate(parts):
        meter.keeping = number < 4
        meter.see(event)

    assert json.loads(meter.kept(ROOM).json)["content"][0]["text"] == "Gr"


@pytest.mark.parametrize("room", [0, 1, 40, 100])
def test_a_long_answer_is_cut_and_says_so(room: int) -> None:
    """Streamed or whole, never more than the room for it, but for the frame around it."""
    blocks = [{"type": "text", "text": "x" * 150}, {"type": "text", "text": "y"}]
    whole = kept_message(json.dumps({"type": "message", "content": blocks}).encode(), room)
    streamed = watched(events(blocks), room).kept(room)

    for kept in (whole, streamed):
        assert kept.cut
        assert json.loads(kept.json)["content"] in ([], [{"type": "text", "text": "x" * room}]) or kept is streamed
        assert len(kept.json) <= room + 80


@given(st.binary(max_size=200), st.integers(0, 30))
def test_no_event_stops_it(noise: bytes, at: int) -> None:
    """Deltas of no shape at all: the content may be cut, the meter counts on."""
    good = EventSplitter().feed(events(BLOCKS))
    strange = EventSplitter().feed(b"event: content_block_delta\ndata: " + noise.replace(b"\n", b" ") + b"\n\n")
    meter = ContentMeter(ROOM)
    for event in (*good[:at], *strange, *good[at:]):
        meter.see(event)

    assert meter.finished
    json.loads(meter.kept(ROOM).json)
