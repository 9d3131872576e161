"""Streams, event by event (client-protocol section 6, design decisions 1 and 2, reliability rows 7 to 16)."""

from __future__ import annotations

import asyncio
import json
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest
from tests.support.direct import Direct
from tests.support.gateway import Gateway, ask, until

from modelgates_server.money import nusd_from_usd

pytestmark = pytest.mark.asyncio(loop_scope="session")

CLOSING = ["content_block_stop", "message_delta", "message_stop"]


def text_of(told_events: list[tuple[str, bytes]]) -> str:
    """The text that a client would show."""
    deltas = [json.loads(data)["delta"] for name, data in told_events if name == "content_block_delta"]
    return "".join(delta.get("text", "") for delta in deltas)


def cost_of(usage_json: bytes) -> int:
    """`usage.cost` in nano-USD, read as the exact decimal that was sent."""
    return nusd_from_usd(str(json.loads(usage_json, parse_float=Decimal, parse_int=Decimal)["usage"]["cost"]))


async def test_a_stream_is_the_providers_but_for_id_and_cost(gateway: Gateway) -> None:
    """Only message.id and usage.cost differ from what the provider sent, and the cost is the receipt's to the digit."""
    told = await gateway.send(ask("[[say:Hello there, world]]", stream=True))

    row = gateway.generation(told.id)
    started, ended = json.loads(dict(told.events)["message_start"]), told.events[-2][1]
    assert told.meaning == ["message_start", "content_block_start", *["content_block_delta"] * 5, *CLOSING]
    assert text_of(told.events) == "Hello there, world"
    assert started["message"]["id"] == told.id
    assert started["message"]["usage"]["input_tokens"] == gateway.simulator.log[-1].usage["input_tokens"]
    assert cost_of(ended) == row["cost_nusd"] > 0
    assert (row["outcome"], row["upstream_id"]) == ("completed", gateway.simulator.log[-1].message_id)


@pytest.mark.parametrize("stream", [True, False])
async def test_no_answer_is_finished_before_it_is_booked(gateway: Gateway, stream: bool) -> None:
    """When the client sees message_delta, or a JSON body's first byte, the receipt is committed and nothing is held."""
    async with gateway.http.post(gateway.messages_url, json=ask(stream=stream), headers=gateway.headers()) as response:
        seen = b""
        while not (b"event: message_delta" in seen if stream else seen):
            piece = await response.content.readany()
            assert piece, "the stream ended without message_delta"
            seen += piece
        row = gateway.generation(response.headers["x-generation-id"])
        held = gateway.rows("SELECT id FROM holds WHERE id = :id", id=row["id"])

    assert (row["outcome"], held) == ("completed", [])


async def test_pings_fill_the_gaps_and_split_no_event(gateway: Gateway) -> None:
    """A provider that is silent before message_start and between events is bridged by pings, the text stays whole."""
    pace = {"first_event_delay_s": 0.6, "event_delay_s": 0.25, "chunk_bytes": 50, "tokens": 9}

    told = await gateway.send(ask(stream=True), simulate=pace)

    first_content = told.names.index("content_block_start")
    assert told.names[0] == "ping"
    assert told.names[:first_content].count("ping") >= 3
    assert told.names[first_content:].count("ping") >= 3
    assert told.meaning == ["message_start", "content_block_start", *["content_block_delta"] * 9, *CLOSING]
    assert told.headers["content-type"].startswith("text/event-stream")


async def test_a_failure_after_an_early_ping_comes_in_the_stream(gateway: Gateway) -> None:
    """Once a ping went out the status is 200, so a total failure is an error event with the provider's own words."""
    told = await gateway.send(
        ask(stream=True), simulate={"delay_s": 0.25, "status": 529, "message": "Overloaded, sorry"}
    )

    error = json.loads(told.events[-1][1])
    assert told.status == 200
    assert (told.names[0], told.names[-1]) == ("ping", "error")
    assert error["error"] == {"type": "overloaded_error", "message": "Overloaded, sorry"}
    assert (await gateway.receipt(told.id))["cost_nusd"] == 0


async def test_a_json_call_is_never_opened_early(gateway: Gateway) -> None:
    """A JSON call has no pings: its status waits for the provider, also beyond the first ping."""
    told = await gateway.send(ask(), simulate={"delay_s": 0.25, "status": 529})

    assert (told.status, told.error["type"]) == (529, "overloaded_error")


async def test_pings_do_not_hide_a_dead_provider(hurried_pair: Gateway) -> None:
    """A provider that falls silent mid-stream ends in a timeout error after the idle limit, pings or not (S-7)."""
    told = await hurried_pair.send(ask(stream=True), simulate={"stall_after_event": 6})

    assert told.names.count("ping") >= 3
    assert told.names[-1] == "error"
    assert json.loads(told.events[-1][1])["error"]["type"] == "timeout_error"
    await until(lambda: hurried_pair.simulators[0].log[-1].outcome == "cancelled", "the provider was not let go")


async def test_a_provider_that_never_begins_is_given_up(hurried_pair: Gateway) -> None:
    """Without a first content within the limit a JSON call is a 504, and the connection is closed."""
    told = await hurried_pair.send(ask(), simulate={"delay_s": 300})

    assert (told.status, told.error["type"]) == (504, "timeout_error")
    await until(lambda: hurried_pair.simulators[0].log[-1].outcome == "cancelled", "the provider was not let go")
    assert (await hurried_pair.receipt(told.id))["cost_nusd"] == 0


ENDINGS: dict[str, dict[str, Any]] = {
    "cut": {"cut_after_event": 5},
    "reset": {"cut_after_event": 5, "reset": True},
    "clean end": {"end_after_event": 5},
    "no message_stop": {"no_message_stop": True},
    "cut after message_delta": {"tokens": 2, "cut_after_event": 7},
    "malformed message_delta": {"tokens": 2, "malformed_at_event": 6, "event_delay_s": 0.01},
    "half an event": {"cut_at_byte": 1500},
}


@pytest.mark.parametrize("name", ENDINGS)
async def test_a_stream_that_breaks_ends_with_an_error_event(gateway: Gateway, name: str) -> None:
    """Whatever breaks after the commit point: one error event with our id, never a clean end, and nobody pays."""
    told = await gateway.send(ask(stream=True, max_tokens=100), simulate={"tokens": 60, **ENDINGS[name]})

    error, row = json.loads(told.events[-1][1]), await gateway.receipt(told.id)
    assert told.status == 200
    assert told.names[-1] == "error"
    assert "message_stop" not in told.names
    assert "message_delta" not in told.names
    assert (error["type"], error["error"]["type"], error["request_id"]) == ("error", "api_error", told.id)
    assert (row["outcome"], row["cost_nusd"]) == ("broken", 0)
    assert row["upstream_cost_nusd"] > 0


@pytest.mark.parametrize("size_bytes", [0, 1, 60, 200, 520])
async def test_a_stream_that_breaks_before_content_is_a_status(gateway: Gateway, size_bytes: int) -> None:
    """Before the commit point a broken stream is a 502, as if it had never begun."""
    told = await gateway.send(ask(stream=True), simulate={"cut_at_byte": size_bytes})

    assert (told.status, told.error["type"]) == (502, "api_error")
    assert told.headers["content-type"] == "application/json"


@pytest.mark.parametrize("at", [0, 1, 2])
async def test_an_error_event_before_content_is_a_status(gateway: Gateway, at: int) -> None:
    """An error event after a 200 but before content becomes the status that it names (reliability row 8)."""
    told = await gateway.send(ask(stream=True), simulate={"error_at_event": at})

    assert (told.status, told.error["type"]) == (529, "overloaded_error")


async def test_an_error_event_in_the_middle_passes(gateway: Gateway) -> None:
    """After content the provider's error event goes to the client as it is, and nobody pays."""
    told = await gateway.send(ask(stream=True), simulate={"error_at_event": 6, "message": "Too busy"})

    assert told.names[-1] == "error"
    assert json.loads(told.events[-1][1])["error"] == {"type": "overloaded_error", "message": "Too busy"}
    assert (await gateway.receipt(told.id))["cost_nusd"] == 0


@pytest.mark.parametrize("at", [0, 1, 4, 6, 7])
async def test_unknown_events_pass(gateway: Gateway, at: int) -> None:
    """What a newer provider invents reaches the client, wherever it stands (S-13)."""
    told = await gateway.send(ask(stream=True), simulate={"tokens": 2, "unknown_event_at": at})

    assert told.names.count("content_weather") == 1
    assert told.names[-1] == "message_stop"
    assert gateway.generation(told.id)["outcome"] == "completed"


@pytest.mark.parametrize(
    "fault", [{"chunk_bytes": 1}, {"chunk_bytes": 7, "crlf": True}, {"crlf": True}, {"gzip": True}]
)
async def test_the_cut_of_the_network_has_no_influence(gateway: Gateway, fault: dict[str, Any]) -> None:
    """Byte by byte, with CRLF or compressed: the same events, the same text, the exact usage (S-5)."""
    body = ask("[[say:smörgåsbord 東京 😀]]", stream=True)

    plain, told = await gateway.send(body), await gateway.send(body, simulate=fault)

    assert told.meaning == plain.meaning
    assert text_of(told.events) == text_of(plain.events) == "smörgåsbord 東京 😀"
    assert gateway.generation(told.id)["output_tokens"] == gateway.generation(plain.id)["output_tokens"]


async def test_an_event_of_two_megabytes_passes(gateway: Gateway) -> None:
    """Large events (images, tool inputs) are passed on whole."""
    told = await gateway.send(ask(stream=True), simulate={"big_event_bytes": 2_000_000, "tokens": 3})

    assert len(text_of(told.events)) > 2_000_000
    assert told.names[-1] == "message_stop"


async def test_nothing_is_buffered(gateway: Gateway) -> None:
    """Each event is with the client long before the next one leaves the provider."""
    loop = asyncio.get_running_loop()
    headers = gateway.headers(simulate={"event_delay_s": 0.08, "tokens": 6})
    async with gateway.http.post(gateway.messages_url, json=ask(stream=True), headers=headers) as response:
        arrivals = []
        while piece := await response.content.readany():
            arrivals += [loop.time()] * piece.count(b"event: content_block_delta")

    assert len(arrivals) == 6
    assert all(later - earlier > 0.03 for earlier, later in pairwise(arrivals))


async def test_a_slow_reader_slows_the_provider(gateway: Gateway) -> None:
    """While the client takes nothing, the gateway keeps no more than its read-ahead of a 12 MB answer, and then all arrives."""
    headers, body = gateway.headers(simulate={"tokens": 120_000}), json.dumps(ask(stream=True, max_tokens=128_000))
    direct = Direct(gateway, body.encode(), headers=headers, patience=1)
    running = asyncio.get_running_loop().create_task(direct.run())
    await until(lambda: direct.stuck, "no content came")
    (answer,) = gateway.application.relay.live.values()
    arriving = answer._reply.reply._exchange
    await until(lambda: arriving._connection._paused, "the provider was not paused")

    kept_bytes = arriving._size
    direct.go.set()
    await running

    assert kept_bytes < 1024 * 1024
    assert direct.sent[-2]["body"].endswith(b'{"type":"message_stop"}\n\n')
