"""Values that no database takes, from clients and from providers: the answer arrives, at the exact price, and nothing is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.support.gateway import Gateway, Told, ask, open_gateway
from tests.support.raw import MESSAGE, Caller, raw
from tests.support.upstream import Upstream

pytestmark = pytest.mark.asyncio(loop_scope="session")

ODD = "a\0b\u202e\x1b[31m"
HALF = r"\ud800 half"


def message(caller_streams: bool, **changed: Any) -> bytes:
    """A whole answer with odd words around a plain usage."""
    usage = {
        "input_tokens": 9, "output_tokens": 2, "service_tier": ODD, "speed": "f\0", "inference_geo": "x" * 9_000,
        "cache_read_input_tokens": 2**70, "server_tool_use": {"web_search_requests": -(2**65)},
    }  # fmt: skip
    whole = MESSAGE | {"id": "msg\0" + "i" * 200, "stop_reason": "end\0turn", "usage": usage} | changed
    if not caller_streams:
        return json.dumps(whole).encode()
    events = [
        {"type": "message_start", "message": whole | {"content": [], "stop_reason": None}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hi"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": whole["stop_reason"]}, "usage": {"output_tokens": 2}},
        {"type": "message_stop"},
    ]
    return b"".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events)


async def odd_answer(caller: Caller) -> None:
    await caller.ask()
    body = message(caller.stream)
    await caller.begin("request-id: r\xff\x80\xed\xa0\x80" + "r" * 3_000, length=len(body))
    await caller.say(body)


async def odd_failure(caller: Caller) -> None:
    """An error that half of JSON's escapes stand in, with a name for the request that is no UTF-8."""
    await caller.ask()
    words = r'"overloaded \u0000 \u202e' + "w" * 20_000 + '"'
    body = f'{{"type":"error","error":{{"type":"overloaded_error","message":{words}}}}}'.encode()
    await caller.say(
        b"HTTP/1.1 529 Odd\r\ncontent-type: application/json\r\nrequest-id: \xff\xfe\xed\xa0\x80\r\nconnection: close\r\n"
        b"content-length: %d\r\n\r\n%s" % (len(body), body)
    )


async def odd_client(gateway: Gateway, *, stream: bool) -> Told:
    identity = json.dumps({"session_id": ODD, "device_id": "d" * 5_000})
    body = ask(stream=stream, user="ü\u200b" + "u" * 200, metadata={"user_id": identity})
    body["tools"] = [{"name": "t\0" + "n" * 300, "input_schema": {"type": "object"}}]
    headers = {
        "x-title": "t\xff" * 900,
        "user-agent": "agent\xfe\x85" * 90,
        "x-claude-code-session-id": "s\xa0\xad" * 100,
    }
    return await gateway.send(body, **headers)


@pytest.mark.parametrize("stream", [True, False])
async def test_odd_values_are_booked_like_others(store_url: str, tmp_path: Path, stream: bool) -> None:
    """One provider fails oddly, the next answers oddly: the receipt has the exact cost, and its words are clean."""
    async with raw(odd_failure) as failing, raw(odd_answer) as serving:
        upstreams = (Upstream("failing", failing.url), Upstream("serving", serving.url))
        async with open_gateway(
            tmp_path / "g",
            simulators=0,
            upstreams=upstreams,
            database_url=store_url,
            routing={"order": ["failing", "serving"]},
        ) as gateway:
            told = await odd_client(gateway, stream=stream)
            await gateway.settled()
            row, entries, problems = gateway.generation(told.id), gateway.entries(told.id), gateway.problems()
            refused = gateway.application.writer.refused

    attempts = json.loads(row["attempts"])
    assert (told.status, refused, problems) == (200, 0, [])
    assert [attempt["fault"] is None for attempt in attempts] == [False, True]
    assert (row["input_tokens"], row["output_tokens"], row["cost_nusd"]) == (9, 2, 95_000)
    assert entries == {"charge": 95_000}
    assert not attempts[-1]["detail"].startswith("The details")
    texts = [value for value in (*row.values(), *attempts[0].values(), *attempts[1].values()) if isinstance(value, str)]
    assert not any(sign in text for text in texts for sign in ("\0", "\x1b", "\u202e", "\ud800", "\\u0000"))
    assert max(len(attempt["request_id"] or "") for attempt in attempts) <= 256


async def test_half_characters_in_a_body_are_refused_by_name(gateway: Gateway) -> None:
    """JSON may escape half of a character; no provider takes it, and no database: 400 before anything is held."""
    body = json.dumps(ask(user="USER")).replace("USER", HALF).encode()
    told = await gateway.send(body)

    assert (told.status, told.error["type"]) == (400, "invalid_request_error")
