"""Clients that leave (client-protocol S-15, design decision 5, reliability rows 36 to 40)."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
from tests.support.direct import Leaving
from tests.support.gateway import Gateway, ask, open_gateway, until

from modelgates_server.edge.context import EdgeSettings
from modelgates_server.simulator import Entry

pytestmark = pytest.mark.asyncio(loop_scope="session")

CLOSE_S_MAX = 0.25
"""How long the provider may go on after the client left."""

PHASES: dict[str, tuple[dict[str, Any], bool, str]] = {
    "stream, before headers": ({"delay_s": 300}, True, ""),
    "stream, before the first event": ({"first_event_delay_s": 300}, True, ""),
    "stream, before content": ({"stall_after_event": 2}, True, ""),
    "stream, in the middle": ({"stall_after_event": 8}, True, "content_block_delta"),
    "stream, paced": ({"event_delay_s": 0.02, "tokens": 200}, True, "content_block_delta"),
    "JSON, before headers": ({"delay_s": 300}, False, ""),
    "JSON, in the middle": ({"stall_after_event": 3}, False, ""),
}
"""What the provider does, whether it streams, and what the client waits for before it leaves."""


async def leave(gateway: Gateway, simulate: dict[str, Any], stream: bool, wanted: str) -> tuple[Entry, float]:
    """Make a request, leave it in its phase, and give the provider's view and the seconds until it saw that."""
    before = len(gateway.simulator.log)
    headers = gateway.headers(simulate=simulate)

    async def client() -> None:
        async with gateway.http.post(gateway.messages_url, json=ask(stream=stream), headers=headers) as response:
            seen = b""
            while wanted.encode() not in seen or not wanted:
                seen += await response.content.readany()

    task = asyncio.get_running_loop().create_task(client())
    await until(lambda: len(gateway.simulator.log) > before and gateway.simulator.log[-1].body, "nothing was asked")
    if wanted:
        await task
    else:
        await asyncio.sleep(0.02)  # let it settle into its phase
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    left_s = time.time()
    entry = gateway.simulator.log[-1]
    await until(lambda: entry.cancel_seen_s is not None, "the provider was not let go")
    return entry, entry.started_s + (entry.cancel_seen_s or 0) - left_s


@pytest.mark.parametrize("phase", PHASES)
async def test_the_provider_is_let_go_at_once_and_nothing_is_left(gateway: Gateway, phase: str) -> None:
    """In every phase the upstream is closed within 250 ms, the hold is settled and no task remains."""
    entry, seconds = await leave(gateway, *PHASES[phase])

    assert seconds < CLOSE_S_MAX
    assert entry.outcome == "cancelled"
    await gateway.quiet()


@pytest.mark.parametrize("phase", PHASES)
async def test_what_was_produced_is_charged_as_an_estimate(gateway: Gateway, phase: str) -> None:
    """A client that leaves pays reported input and delivered output, at most the hold, marked as estimated."""
    entry, _ = await leave(gateway, *PHASES[phase])
    await gateway.quiet()

    (row,) = gateway.rows("SELECT * FROM generations ORDER BY created_at_ms DESC, id DESC LIMIT 1")
    assert (row["outcome"], row["estimated"]) == ("cancelled", 1)
    assert 0 < row["cost_nusd"] <= row["held_nusd"]
    assert row["upstream_cost_nusd"] == row["cost_nusd"]
    assert abs(row["output_tokens"] - entry.output_tokens_sent) <= (3 if "paced" in phase else 1)
    assert row["input_tokens"] > 0


async def test_a_count_that_nobody_waits_for_is_dropped(gateway: Gateway) -> None:
    """A client that leaves a token count takes its upstream request with it."""
    headers = gateway.headers(simulate={"delay_s": 300})
    url = f"{gateway.url}/api/v1/messages/count_tokens"
    task = asyncio.get_running_loop().create_task(gateway.http.post(url, json=ask(), headers=headers))
    before = len(gateway.simulator.side_log)
    await until(lambda: len(gateway.simulator.side_log) > before, "nothing was asked")

    task.cancel()

    await until(lambda: gateway.simulator.side_log[-1].outcome == "cancelled", "the provider was not let go")
    await gateway.quiet()


async def test_a_client_that_leaves_while_it_waits_for_money_leaves_nothing(gateway: Gateway) -> None:
    """Waiting for an open hold can be left like any other wait."""
    key = gateway.new_key(limit_nusd=7_000_000)
    slow = asyncio.get_running_loop().create_task(gateway.send(ask(), key=key, simulate={"delay_s": 0.4}))
    await until(lambda: gateway.rows("SELECT id FROM holds"), "nothing is held")
    with suppress(TimeoutError):
        async with asyncio.timeout(0.1):
            await gateway.send(ask(), key=key)
            raise AssertionError("the second request should have waited")

    assert (await slow).status == 200
    await gateway.quiet()
    assert gateway.overspent() == []


@pytest.mark.parametrize("simulate", [{"tokens": 120_000}, {"big_event_bytes": 12_000_000, "stall_after_event": 4}])
async def test_a_client_that_takes_nothing_is_cut_off(tmp_path: Path, simulate: dict[str, Any]) -> None:
    """A client that stays but does not read for a while is treated like one that left; its connection is cut (row 41)."""
    async with open_gateway(tmp_path / "gateway") as gateway:
        gateway.application.context.settings = EdgeSettings(first_ping_s=0.2, ping_s=0.2, stuck_s=0.8)
        parts = urlsplit(gateway.url)
        with socket.create_connection((parts.hostname, parts.port)) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.setblocking(False)
            body = json.dumps(ask(stream=True, max_tokens=128_000)).encode()
            told = gateway.headers(simulate=simulate, content_length=str(len(body)))
            head = "".join(f"{name}: {value}\r\n" for name, value in told.items())
            client.sendall(f"POST /v1/messages HTTP/1.1\r\nhost: x\r\n{head}\r\n".encode() + body)
            await until(lambda: gateway.application.relay.live, "the stream does not run")
            await asyncio.sleep(0.3)  # a pause is no reason
            assert gateway.application.relay.live, "the buffers took the whole answer, or the client was cut off early"

            await until(lambda: not gateway.connections, "the connection is still open")
        await gateway.quiet()


MOMENTS = ["early", "late"]
"""Early: while the k-th wait is still open. Late: when its result is there but has not been looked at."""

WORK: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "stream": ({"stream": True}, {"event_delay_s": 0.002, "tokens": 3}),
    "JSON": ({}, {}),
}


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("form", WORK)
async def test_a_client_may_leave_at_every_await(tmp_path: Path, form: str, moment: str) -> None:
    """Wherever the leaving strikes: nothing held, nothing live, no task, no open upstream connection."""
    fields, simulate = WORK[form]
    async with open_gateway(tmp_path / "gateway") as gateway:
        for number in range(1, 100):
            leaving = gateway.between.act = Leaving(number, late=moment == "late")
            with suppress(aiohttp.ClientError):
                await gateway.send(ask(max_tokens=20) | fields, simulate=simulate)
            await gateway.quiet(f"left at await {number}")
            if not leaving.reached:
                break

        assert number > 5
        provider: Any = gateway.application.relay.speakers.shared["anthropic"]
        assert not [connection for connection in provider._outbound._open if connection._exchange is not None]
        assert gateway.overspent() == []
