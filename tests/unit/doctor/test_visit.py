"""The doctor at gateways that are ill: each illness has its colour and its remedy."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from tests.support.tls import Tls, certified

from modelgates_server.doctor.address import read_address
from modelgates_server.doctor.advice import CONSOLE, TERMINAL
from modelgates_server.doctor.checks import AS_THE_APPS
from modelgates_server.doctor.finding import GREEN, RED, YELLOW, Check
from modelgates_server.doctor.streams import blocks_of, disorder, error_in, last_cost
from modelgates_server.doctor.visit import Step, Visit, make_visit

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


def event(kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": kind, **fields}


def said(text: str) -> list[dict[str, Any]]:
    """The events of a whole message of text."""
    return [
        event("message_start", message={"id": "gen-1"}),
        event("content_block_start", index=0, content_block={"type": "text", "text": ""}),
        event("content_block_delta", index=0, delta={"type": "text_delta", "text": text}),
        event("content_block_stop", index=0),
        event("message_delta", delta={}, usage={"cost": 0.5}),
        event("message_stop"),
    ]


def called(fragments: list[str]) -> list[dict[str, Any]]:
    """The events of a tool call whose input comes in pieces."""
    start = event(
        "content_block_start", index=0, content_block={"type": "tool_use", "id": "toolu_1", "name": "x", "input": {}}
    )
    deltas = [
        event("content_block_delta", index=0, delta={"type": "input_json_delta", "partial_json": one})
        for one in fragments
    ]
    return [said("")[0], start, *deltas, event("content_block_stop", index=0), *said("")[4:]]


@asynccontextmanager
async def gateway(messages: Answer, models: list[str], tls: Tls | None = None) -> AsyncIterator[str]:
    """A gateway that is well but for what it says to messages and lists as models."""

    async def listed(_request: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": name} for name in models]})

    async def fine(_request: web.Request) -> web.Response:
        return web.json_response({"status": "ok", "input_tokens": 3, "data": {"total_cost": 0.5, "name": "k"}})

    app = web.Application()
    app.router.add_get("/api/v1/models", listed)
    app.router.add_post("/api/v1/messages", messages)
    app.router.add_route("*", "/{rest:.*}", fine)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls.server if tls else None)
    await site.start()
    try:
        yield f"http{'s' if tls else ''}://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def answering(events: list[dict[str, Any]], then: int = 200) -> Answer:
    """Streams the events where a stream is asked for; JSON is answered with a status."""

    async def answer(request: web.Request) -> web.StreamResponse:
        body = await request.json()
        if not body.get("stream"):
            status = 200 if body["max_tokens"] == 1 else then
            return web.json_response(
                {"error": {"message": "no tool results here"}} if status != 200 else {}, status=status
            )
        headers = {"content-type": "text/event-stream", "request-id": "gen-1", "x-generation-id": "gen-1"}
        text = "".join(f"event: {one['type']}\ndata: {json.dumps(one)}\n\n" for one in events)
        return web.Response(body=text.encode(), headers=headers)

    return answer


async def visited(messages: Answer, models: tuple[str, ...] = ("claude-haiku-4-5",)) -> dict[str, Check]:
    async with gateway(messages, list(models)) as url:
        checks = await make_visit(read_address(url), "sk-mg-v1-x", AS_THE_APPS, CONSOLE)
    return {check.name: check for check in checks}


async def test_a_model_that_calls_no_tool_is_yellow() -> None:
    """The stream is well; that the tool was not called is told, because the apps live on tools."""
    found = await visited(answering(said("hello")))
    assert (found["streamed answer"].status, found["tool use"].status) == (GREEN, YELLOW)


@pytest.mark.parametrize(
    ("fragments", "then", "status", "detail"),
    [
        (['{"name": ', '"Ada"}'], 200, GREEN, "called the tool"),
        ([], 200, GREEN, "called the tool"),
        (['{"name": "A'], 200, RED, "broken"),
        (['{"name": "Ada"}'], 400, RED, "no tool results here"),
    ],
)
async def test_a_tools_round_trip_is_judged(fragments: list[str], then: int, status: str, detail: str) -> None:
    """The input must be JSON when its pieces are joined, and the result must be taken."""
    found = await visited(answering(called(fragments), then))
    assert (found["tool use"].status, detail in found["tool use"].detail) == (status, True)


async def test_a_stream_that_is_cut_or_fails_is_red() -> None:
    """No end, another order and an error inside are each told."""
    for events, detail in (
        (said("hello")[:-1], "wrong order"),
        ([], "none"),
        ([*said("hello")[:3], event("error", error={"message": "overloaded today"})], "overloaded today"),
    ):
        found = await visited(answering(events))
        assert found["streamed answer"].status == RED
        assert detail in found["streamed answer"].detail


async def test_names_that_no_picker_keeps_are_counted() -> None:
    """The list tells how much of it each client shows; nothing at all is red."""
    found = await visited(answering(said("")), ("claude-opus-5-5", "sonnet-house-blend", "gpt-9"))
    assert found["model list"].detail == "3 models; Claude Desktop shows 2, Claude Code 1"
    hidden = await visited(answering(said("")), ("gpt-9",))
    assert (hidden["model list"].status, hidden["model list"].remedy) == (RED, CONSOLE["hidden"])


async def test_a_certificate_that_nobody_trusts_is_red(tmp_path: Path) -> None:
    """People's machines would refuse it. A process that visits its own socket by number need not look at it."""
    async with gateway(answering(said("")), ["claude-haiku-4-5"], certified(tmp_path, "gw.example.com")) as url:
        (only,) = await make_visit(read_address(url), "k", AS_THE_APPS, CONSOLE)
        unchecked = await make_visit(read_address(url), "k", AS_THE_APPS, CONSOLE, check_certificate=False)
    assert (only.status, "certificate is not trusted" in only.detail) == (RED, True)
    assert (unchecked[0].status, len(unchecked)) == (GREEN, len(AS_THE_APPS))


async def test_nothing_begins_after_the_time_is_over() -> None:
    """The steps that are left are told as not tried, so that a visit has an end."""

    async def well(_visit: Visit) -> tuple[str, str, str | None]:
        return GREEN, "fine", None

    steps = [Step(name, needs_key=False, act=well) for name in ("one", "two")]
    checks = await make_visit(read_address("http://127.0.0.1:1/api"), "k", steps, within_s=-1.0)
    assert [(check.name, check.status) for check in checks] == [("one", YELLOW), ("two", YELLOW)]


async def test_where_nobody_answers_one_line_is_enough() -> None:
    """The remedy is for the reader: a terminal has commands, a page has pages."""
    for advice in (TERMINAL, CONSOLE):
        (only,) = await make_visit(read_address("http://127.0.0.1:1/api"), "k", AS_THE_APPS, advice)
        assert (only.status, only.remedy) == (RED, advice["server"])


def test_both_readers_have_every_remedy() -> None:
    """No advice is there for one reader only."""
    assert TERMINAL.keys() == CONSOLE.keys()


def test_blocks_are_put_together_as_clients_do() -> None:
    """Text, thinking with its signature, and a tool's input; what is no JSON stays text."""
    events = [
        event("content_block_start", index=0, content_block={"type": "thinking", "thinking": "", "signature": ""}),
        event("content_block_delta", index=0, delta={"type": "thinking_delta", "thinking": "hm"}),
        event("content_block_delta", index=0, delta={"type": "signature_delta", "signature": "abc"}),
        event("content_block_start", index=1, content_block={"type": "tool_use", "id": "t", "input": {}}),
        event("content_block_delta", index=1, delta={"type": "input_json_delta", "partial_json": '{"a'}),
        event("content_block_delta", index=7, delta={"type": "text_delta", "text": "nowhere"}),
    ]
    thinking, tool = blocks_of(events)
    assert (thinking["thinking"], thinking["signature"], tool["input"]) == ("hm", "abc", '{"a')


def test_order_errors_and_costs_are_read() -> None:
    """A whole message is in order; pings do not count; the last usage has the cost."""
    events = [said("x")[0], event("ping"), *said("x")[1:]]
    assert disorder(events) is None
    assert error_in(events) is None
    assert str(last_cost(events)) == "0.5"
    assert last_cost([]) is None
