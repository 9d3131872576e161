"""Edits change what they say and leave every other byte alone."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.dialects.wire_samples import MESSAGE, ask, end, start

from modelgates_server.dialects.anthropic import (
    GATEWAY_EXTRAS,
    GATEWAY_EXTRAS_BUT_FALLBACKS,
    EventSplitter,
    add_member,
    delta_event,
    extend_event,
    message_body,
    read_ask,
    start_event,
    write_ask,
)
from modelgates_server.dialects.scan import scan_object
from modelgates_server.dialects.values import Ask, BadAnswer, BadEvent, Event, Shape


def only(raw: bytes) -> Event:
    (event,) = EventSplitter().feed(raw)
    return event


def raw_ask(body: bytes) -> Ask:
    return Ask(body=body, spans=scan_object(body), model="m", shape=Shape(len(body)))


def test_without_a_change_the_same_bytes_object_goes_upstream() -> None:
    """Same model, same limit, no extras: not even a copy is made."""
    read = read_ask(ask())
    assert write_ask(read, model=read.model, max_tokens=read.max_tokens, drop=GATEWAY_EXTRAS) is read.body


def test_model_and_max_tokens_are_replaced_in_place() -> None:
    """The rest of the body, with its odd spacing and escapes, is byte for byte what the client sent."""
    body = b'{ "model" : "a\\u0062", "x":[ 1 ],\n"max_tokens":5 , "messages":[{"role":"user","content":"\xc3\xa9"}] }'
    read = read_ask(body)
    assert read.model == "ab"
    wanted = body.replace(b'"a\\u0062"', b'"q\\"z"').replace(b":5 ,", b":4096 ,")
    assert write_ask(read, model='q"z', max_tokens=4096) == wanted


def test_a_dropped_field_is_not_also_replaced() -> None:
    """Dropping the model (its place is the URL on some upstreams) wins over renaming it."""
    body = b'{"model":"m","max_tokens":5,"messages":[0]}'
    assert write_ask(read_ask(body), model="n", drop=frozenset({"model"})) == b'{"max_tokens":5,"messages":[0]}'


def test_the_beta_keeps_fallbacks_in_the_body() -> None:
    """The gateway's own fields go, `fallbacks` goes only when it is the gateway's."""
    body = ask(provider={}, fallbacks=[], trace=1)
    read = read_ask(body)
    assert write_ask(read, drop=GATEWAY_EXTRAS) == ask()
    assert write_ask(read, drop=GATEWAY_EXTRAS_BUT_FALLBACKS) == ask(fallbacks=[])


@given(st.lists(st.sampled_from("abcdefgh"), unique=True), st.frozensets(st.sampled_from("abcdefgh")), st.data())
def test_members_are_removed_from_any_place(keys: list[str], drop: frozenset[str], data: st.DataObject) -> None:
    """What is left is JSON, holds the kept members as they were, and is the original minus some bytes."""
    spaces = st.text(" \t\r\n", max_size=2)
    values = {key: data.draw(st.sampled_from(['"x,\\"y:"', "[1, 2]", '{"z": ","}', "null"])) for key in keys}
    members = [f'{data.draw(spaces)}"{key}"{data.draw(spaces)}:{data.draw(spaces)}{values[key]}' for key in keys]
    body = f" {{{','.join(member + data.draw(spaces) for member in members)} }} ".encode()
    written = write_ask(raw_ask(body), drop=drop)
    kept = scan_object(written)
    assert {key: written[slice(*span)].decode() for key, span in kept.items()} == {
        key: value for key, value in values.items() if key not in drop
    }
    assert list(kept) == [key for key in keys if key not in drop]
    left = iter(body)
    assert all(byte in left for byte in written)


def test_a_member_is_set_or_added() -> None:
    """An existing member is replaced in place, a new one follows the last, an empty object gets its first."""
    assert add_member(b' {"a": 1 , "b":2 } ', "a", b"[3]") == b' {"a": [3] , "b":2 } '
    assert add_member(b' {"a": 1 } ', 'c"', b"{}") == b' {"a": 1,"c\\"":{} } '
    assert add_member(b" { } ", "a", b"1") == b' {"a":1 } '


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
def test_the_start_event_gets_our_id_and_our_model_name(line_end: bytes) -> None:
    """Only `message.id` and, when asked for, `message.model` differ."""
    raw = start().replace(b"\n", line_end)
    assert start_event(only(raw), "gen-1") == raw.replace(b"msg_01AbC", b"gen-1")
    renamed = raw.replace(b"msg_01AbC", b"gen-1").replace(b"claude-opus-5-5", b"claude-x")
    assert start_event(only(raw), "gen-1", "claude-x") == renamed


def test_the_delta_event_gets_the_exact_cost() -> None:
    """The cost is the text that was given, as a number; a cost from below is replaced; nothing else changes."""
    raw = end({"output_tokens": 5})
    assert delta_event(only(raw), "0.000000001") == raw.replace(b": 5}", b': 5,"cost":0.000000001}')
    priced = end({"cost": 9.5, "output_tokens": 5})
    assert delta_event(only(priced), "0.25") == priced.replace(b"9.5", b"0.25")


@pytest.mark.parametrize("usage", [None, "lots", 5, {}])
def test_the_cost_finds_a_place_without_usage(usage: object) -> None:
    """Where usage is missing or no object, one is made for the cost."""
    data = json.loads(only(delta_event(only(end(usage)), "1.5")).data)
    assert data["usage"] == {"cost": 1.5}
    assert data["delta"]["stop_reason"] == "tool_use"


def test_a_payload_of_several_lines_is_edited_as_one() -> None:
    """Lines of data are joined before the edit, and what comes out is one event again."""
    raw = b'event: message_start\ndata: {"type":"message_start",\ndata: "message":{"id":"a"}}\n\n'
    assert json.loads(only(start_event(only(raw), "gen-1")).data)["message"] == {"id": "gen-1"}


def test_the_last_event_can_carry_a_report() -> None:
    """A member can be added to an event, which stays one event."""
    raw = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
    assert extend_event(only(raw), "x", b'{"y":1}') == raw.replace(b'p"}', b'p","x":{"y":1}}')


@pytest.mark.parametrize("data", [b"{", b"[]", b'{"type":"message_start"}', b'{"message":5}', b"nope"])
def test_an_unreadable_start_is_a_bad_event(data: bytes) -> None:
    """Upstream nonsense is the upstream's fault, never a bad request of the client."""
    with pytest.raises(BadEvent):
        start_event(only(b"event: message_start\ndata: " + data + b"\n\n"), "gen-1")


def test_a_json_answer_gets_id_cost_and_model() -> None:
    """Three members change, every other byte stays."""
    body = json.dumps(MESSAGE, indent=1, ensure_ascii=False).encode()
    written = message_body(body, "gen-1", "0.5", "claude-x")
    wanted = body.replace(b"msg_01AbC", b"gen-1").replace(b"claude-opus-5-5", b"claude-x")
    assert written == wanted.replace(b'tokens": 34', b'tokens": 34,"cost":0.5')
    assert msgspec.json.decode(written)["usage"]["cost"] == 0.5
    with pytest.raises(BadAnswer):
        message_body(b"<html>", "gen-1", "0.5")


KEYS = "abcdefgh"
VALUES = st.sampled_from(['"x,\\"y:"', "[1, 2]", '{"z": ","}', "null", "1.50", '"\\u00e9"'])


@given(
    st.dictionaries(st.sampled_from(KEYS), VALUES),
    st.frozensets(st.sampled_from(KEYS)),
    st.dictionaries(st.sampled_from(KEYS), VALUES),
    st.data(),
)
def test_members_are_set_and_removed_together(
    values: dict[str, str], drop: frozenset[str], put: dict[str, str], data: st.DataObject
) -> None:
    """The result is the dictionary's: what is set wins over what is dropped, new ones come last, all else is byte for byte."""
    order = data.draw(st.permutations([*values, "messages"]))
    values["messages"] = "[ 0 ]"
    spaces = st.text(" \t\r\n", max_size=2)
    members = [f'{data.draw(spaces)}"{key}"{data.draw(spaces)}:{data.draw(spaces)}{values[key]}' for key in order]
    body = f" {{{','.join(member + data.draw(spaces) for member in members)} }} ".encode()
    written = write_ask(raw_ask(body), drop=drop, put={key: value.encode() for key, value in put.items()})

    wanted = {key: values[key] for key in order if key not in drop or key in put} | put
    spans = scan_object(written)
    assert {key: written[slice(*span)].decode() for key, span in spans.items()} == wanted
    assert list(spans) == list(wanted)
    assert list(json.loads(written)) == list(wanted)


def test_new_members_follow_what_is_left() -> None:
    """Also when the model and the limit change, and the last members go."""
    body = b'{"model":"m","max_tokens":5,"messages":[0] , "user":"u","trace": 1 }'
    read = read_ask(body)
    put = {"anthropic_version": b'"v"', "thinking": b"{}"}
    written = write_ask(read, model="n", max_tokens=4, drop=GATEWAY_EXTRAS, put=put)
    assert written == b'{"model":"n","max_tokens":4,"messages":[0],"anthropic_version":"v","thinking":{} }'
    assert write_ask(read, put={}) is body
