"""Another provider takes over, invisibly, until the first content (design decisions 1 and 3, reliability 3.1)."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from tests.support.gateway import Gateway, ask, open_gateway

pytestmark = pytest.mark.asyncio(loop_scope="session")

FAILING: dict[str, tuple[dict[str, Any], str]] = {
    "500": ({"status": 500}, "upstream"),
    "502": ({"status": 502}, "upstream"),
    "503": ({"status": 503}, "upstream"),
    "529": ({"status": 529}, "overloaded"),
    "429": ({"status": 429, "retry_after": 7}, "rate_limit"),
    "401": ({"status": 401}, "misconfigured"),
    "403": ({"status": 403}, "misconfigured"),
    "402": ({"status": 402}, "account"),
    "404": ({"status": 404, "message": "model: claude-opus-4-8"}, "absent"),
    "413": ({"status": 413}, "too_large"),
    "redirect": ({"redirect": "/v1/models"}, "broken"),
    "web page": ({"html_200": True}, "broken"),
    "nothing": ({"empty_200": True}, "broken"),
    "error event first": ({"error_at_event": 0}, "overloaded"),
    "error event before content": ({"error_at_event": 2}, "overloaded"),
    "cut before content": ({"cut_after_event": 1}, "reset"),
    "reset before headers": ({"cut_at_byte": 0, "reset": True}, "reset"),
    "never begins": ({"delay_s": 300}, "timeout"),
    "account limit": (
        {"status": 400, "message": "You have reached your specified API usage limits."},
        "account",
    ),
}


def fresh() -> str:
    """The opening of a conversation that nobody holds."""
    return f"hello {uuid4()}"


def attempts(row: dict[str, Any]) -> list[tuple[str, str | None]]:
    return [(attempt["provider"], attempt["fault"]) for attempt in json.loads(row["attempts"])]


@pytest.mark.parametrize("name", FAILING)
@pytest.mark.parametrize("stream", [True, False])
async def test_the_second_provider_answers_and_nobody_notices(
    pair: Gateway, hurried_pair: Gateway, name: str, stream: bool
) -> None:
    """Whatever the first one does before content, the client gets one clean answer and pays for that one alone."""
    if not stream and "event" in name:
        return  # events exist in streams only
    control, fault = FAILING[name]
    pair = hurried_pair if fault == "timeout" else pair
    pair.simulators[0].script.append(control)

    told = await pair.send(ask(fresh(), stream=stream))

    row, second = pair.generation(told.id), pair.simulators[1].log[-1]
    assert told.status == 200
    assert attempts(row) == [("anthropic", fault), ("backup-1", None)]
    assert (row["provider"], row["upstream_id"]) == ("backup-1", second.message_id)
    assert row["output_tokens"] == second.usage["output_tokens"]
    if stream:
        assert (told.names.count("message_start"), told.names[-1]) == (1, "message_stop")
    else:
        assert told.json["id"] == told.id


async def test_the_clients_own_mistake_is_told_at_once(pair: Gateway) -> None:
    """A 400 is the client's: nobody else is asked, and the words are the provider's."""
    before = len(pair.simulators[1].log)
    pair.simulators[0].script.append({"status": 400, "message": "messages: nope"})

    told = await pair.send(ask(fresh()))

    assert (told.status, told.error["message"]) == (400, "messages: nope")
    assert len(pair.simulators[1].log) == before


async def test_nothing_is_tried_again_after_content(pair: Gateway) -> None:
    """Once content has been sent the second provider is not asked: the stream ends with an error event (S-9)."""
    before = len(pair.simulators[1].log)
    pair.simulators[0].script.append({"cut_after_event": 5})

    told = await pair.send(ask(fresh(), stream=True))

    assert (told.names.count("message_start"), told.names[-1]) == (1, "error")
    assert len(pair.simulators[1].log) == before


BOTH: list[tuple[dict[str, Any], dict[str, Any], int, str]] = [
    ({"status": 429, "retry_after": 30}, {"status": 429, "retry_after": 7}, 429, "rate_limit_error"),
    ({"status": 529}, {"status": 429, "retry_after": 7}, 429, "rate_limit_error"),
    ({"status": 500}, {"status": 529}, 529, "overloaded_error"),
    ({"status": 503}, {"status": 401}, 503, "api_error"),
    ({"status": 500}, {"status": 500}, 502, "api_error"),
    ({"status": 401}, {"status": 403}, 503, "api_error"),
    ({"status": 402}, {"status": 402}, 503, "api_error"),
    ({"cut_at_byte": 0}, {"html_200": True}, 502, "api_error"),
    ({"delay_s": 300}, {"delay_s": 300}, 504, "timeout_error"),
    ({"status": 404, "message": "model: x"}, {"status": 401}, 404, "not_found_error"),
]  # fmt: skip


@pytest.mark.parametrize(("first", "second", "status", "error_type"), BOTH)
async def test_when_all_fail_the_most_useful_fault_is_told(
    pair: Gateway, hurried_pair: Gateway, first: dict[str, Any], second: dict[str, Any], status: int, error_type: str
) -> None:
    """One status for all attempts, never the provider's own 401, 402 or 403; nothing is charged, both attempts are kept."""
    pair = hurried_pair if status == 504 else pair
    pair.simulators[0].script.append(first)
    pair.simulators[1].script.extend([second] * 2)  # the last one is asked once more

    told = await pair.send(ask(fresh()))
    pair.simulators[1].script.clear()

    row = await pair.receipt(told.id)
    assert (told.status, told.error["type"]) == (status, error_type)
    assert told.headers.get("retry-after") == {429: "7", 529: "2"}.get(status)
    assert list(dict(attempts(row))) == ["anthropic", "backup-1"]
    assert (row["outcome"], row["cost_nusd"]) == ("failed", 0)
    await pair.quiet()


async def test_an_unknown_fate_is_tried_once_more_and_not_twice(tmp_path: Path) -> None:
    """Three providers that may have accepted the request: only two are asked (R1)."""
    async with open_gateway(tmp_path / "g", simulators=3) as trio:
        for simulator in trio.simulators:
            simulator.script.append({"cut_at_byte": 0})
        told = await trio.send(ask())

    assert told.status == 502
    assert [len(simulator.log) for simulator in trio.simulators] == [1, 1, 0]


async def test_known_refusals_go_on_to_the_last_provider(tmp_path: Path) -> None:
    """Refusals that cannot have been accepted are passed along as far as there are providers (R0)."""
    async with open_gateway(tmp_path / "g", simulators=4) as four:
        for simulator, status in zip(four.simulators, (529, 429, 401), strict=False):
            simulator.script.append({"status": status})
        told = await four.send(ask())

    assert told.status == 200
    assert [len(simulator.log) for simulator in four.simulators] == [1, 1, 1, 1]


async def test_a_dead_provider_is_passed_over(tmp_path: Path) -> None:
    """A provider whose port is closed: the next one answers; without a next one it is a 503."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    dead = f'base_url = "http://127.0.0.1:{port}"'
    toml = f'[[providers]]\nslug = "dead"\nkind = "anthropic"\n{dead}\napi_key = "env:UPSTREAM_KEY"\n'
    async with open_gateway(tmp_path / "g", toml=toml, routing={"order": ["dead", "anthropic"]}) as gateway:
        told = await gateway.send(ask())
        row = gateway.generation(told.id)
    async with open_gateway(tmp_path / "h", toml=toml, simulators=0) as lonely:
        refused = await lonely.send(ask())

    assert (told.status, attempts(row)) == (200, [("dead", "unreachable"), ("anthropic", None)])
    assert (refused.status, refused.error["type"]) == (503, "api_error")


class Terse:
    """A provider that answers the first request of each connection and closes when it gets a second one."""

    def __init__(self) -> None:
        self.heads: list[bytes] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for number in range(2):
            head = await reader.readuntil(b"\r\n\r\n")
            self.heads.append(head)
            await reader.readexactly(int(re.search(rb"(?i)content-length: (\d+)", head)[1]))  # type: ignore[index]
            if number == 0:
                size = b"content-length: %d\r\n\r\n" % len(MESSAGE)
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n" + size + MESSAGE)
        writer.close()


MESSAGE = json.dumps({
    "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-opus-4-8", "stop_reason": "end_turn",
    "content": [{"type": "text", "text": "hi"}], "usage": {"input_tokens": 9, "output_tokens": 1},
}).encode()  # fmt: skip


async def test_a_connection_that_went_stale_is_renewed_in_silence(tmp_path: Path) -> None:
    """A provider that closes a kept connection instead of answering is asked again on a fresh one, at once."""
    terse = Terse()
    server = await asyncio.start_server(terse, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/base"
    toml = f'[[providers]]\nslug = "far"\nkind = "anthropic"\nbase_url = "{url}"\napi_key = "env:UPSTREAM_KEY"\n'
    async with open_gateway(tmp_path / "g", toml=toml, simulators=0) as gateway:
        first = await gateway.send(ask(), path="/v1/messages?beta=true&other=1")
        second = await gateway.send(ask(), path="/v1/messages?other=1")
        row = gateway.generation(second.id)
    server.close()

    assert (first.status, second.status) == (200, 200)
    assert attempts(row) == [("far", "stale"), ("far", None)]
    targets = [head.split(b" ")[1] for head in terse.heads]
    assert targets == [b"/base/v1/messages?beta=true", b"/base/v1/messages", b"/base/v1/messages"]
