"""Clients that keep a gateway busy with streams and whole answers, and remember what they saw completed."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from decimal import Decimal
from typing import Any

import aiohttp
from tests.support.process import Server

MODEL = "claude-opus-4-8"
INPUT_NUSD, OUTPUT_NUSD = 5_000, 25_000
"""The list price of a token of MODEL: 5 and 25 USD a million."""

PACED, HURRIED = 16, 8
"""Clients whose answers take their time, so that a kill cuts them; and such as make the server commit all the time."""


def list_price_nusd(usage: dict[str, Any]) -> int:
    """What a truth log's usage costs at list price; these requests use no cache and no tools."""
    return int(INPUT_NUSD * usage["input_tokens"] + OUTPUT_NUSD * usage["output_tokens"])


def headers(key: str, **simulate: Any) -> dict[str, str]:
    return {
        "x-api-key": key,
        "anthropic-version": "2023-06-01",
        "content-type": "application/json",
        "anthropic-simulate": json.dumps(simulate),
    }


def body(text: str, *, stream: bool) -> bytes:
    message = {"role": "user", "content": text}
    return json.dumps({"model": MODEL, "max_tokens": 400, "messages": [message], "stream": stream}).encode()


@asynccontextmanager
async def browser() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        yield session


class StoreAway(Exception):
    """503: the gateway cannot reach its database, and says so."""


class Load:
    """`completed` maps the id of each answer that arrived whole to the nano-USD that it said it cost."""

    def __init__(self, server: Server, key: str, seed: str) -> None:
        self.completed: dict[str, int] = {}
        self.refused = 0
        self._url = f"{server.base_url}/v1/messages"
        self._key = key
        self._seed = seed

    async def run(self) -> None:
        """Ask and ask again, until the gateway is gone."""
        async with browser() as session, asyncio.TaskGroup() as group:
            for seat in range(PACED + HURRIED):
                dice = random.Random(f"{self._seed}/{seat}")
                group.create_task(self._client(session, dice, hurried=seat >= PACED))

    async def _client(self, session: aiohttp.ClientSession, dice: random.Random, *, hurried: bool) -> None:
        with suppress(aiohttp.ClientError):
            while True:
                try:
                    id_, cost_nusd = await self._ask(session, dice, hurried=hurried)
                except StoreAway:
                    self.refused += 1
                    await asyncio.sleep(0.05)
                else:
                    self.completed[id_] = cost_nusd

    async def _ask(self, session: aiohttp.ClientSession, dice: random.Random, *, hurried: bool) -> tuple[str, int]:
        stream = dice.random() < 0.5
        pace = {"event_delay_s": 0.01} if stream else {"delay_s": dice.random() * 0.1}
        head = headers(self._key, tokens=dice.randint(1, 60), **({} if hurried else pace))
        async with session.post(self._url, headers=head, data=body(str(dice.random()), stream=stream)) as response:
            if response.status == 503:
                raise StoreAway
            assert response.status == 200, await response.text()
            answer = await response.read()
        return read_stream(answer) if stream else read_whole(json.loads(answer, parse_float=Decimal))


def read_whole(message: dict[str, Any]) -> tuple[str, int]:
    return message["id"], int(message["usage"]["cost"] * 10**9)


def read_stream(answer: bytes) -> tuple[str, int]:
    """The id and cost of a stream; raises ClientPayloadError for one that ended early."""
    events = read_events(answer)
    if not events or events[-1]["type"] != "message_stop":
        raise aiohttp.ClientPayloadError("the stream ended early")
    (first,) = [event for event in events if event["type"] == "message_start"]
    (last,) = [event for event in events if event["type"] == "message_delta"]
    return first["message"]["id"], int(last["usage"]["cost"] * 10**9)


def read_events(answer: bytes) -> list[dict[str, Any]]:
    """The data of each event; half an event at the end is left out."""
    frames = answer.split(b"\n\n")[:-1]
    return [json.loads(frame.split(b"data: ", 1)[1], parse_float=Decimal) for frame in frames]
