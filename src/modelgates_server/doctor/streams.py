"""An answer that streams: its events, whether they are whole and in order, and the message that they make."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from decimal import Decimal
from typing import Any

import aiohttp

from modelgates_server.doctor.visit import json_object

Event = dict[str, Any]

_TEXTS = {"text_delta": "text", "thinking_delta": "thinking", "signature_delta": "signature"}
"""Kinds of delta by the member of the block that they add to."""


async def read_events(content: aiohttp.StreamReader) -> AsyncIterator[Event]:
    """Give the JSON objects of a stream's data lines."""
    async for line in content:
        if line.startswith(b"data:"):
            yield json_object(line[5:])


def disorder(events: Sequence[Event]) -> str | None:
    """Say which events came in which order when that is not the order of a whole message; else None."""
    names = [str(event.get("type")) for event in events if event.get("type") != "ping"]
    order = [name for place, name in enumerate(names) if place == 0 or names[place - 1] != name]
    if order and order[0] == "message_start" and order[-2:] == ["message_delta", "message_stop"]:
        return None
    return " ".join(order) or "none"


def error_in(events: Sequence[Event]) -> str | None:
    """The sentence of an error that came in the stream."""
    error = next((event.get("error") for event in events if event.get("type") == "error"), None)
    return str(error.get("message")) if isinstance(error, dict) else None


def last_cost(events: Sequence[Event]) -> Decimal | None:
    """What the last usage says that the answer cost, in USD."""
    usages = [event["usage"] for event in events if event.get("type") == "message_delta" and "usage" in event]
    cost = usages[-1].get("cost") if usages else None
    return None if cost is None else Decimal(cost)


def blocks_of(events: Sequence[Event]) -> list[dict[str, Any]]:
    """Put the content blocks together again, as a client does before it sends them back.

    A tool's input that is no JSON object stays the text that came, so that it can be told.
    """
    blocks: dict[Any, dict[str, Any]] = {}
    inputs: dict[Any, str] = {}
    for event in events:
        index, delta = event.get("index"), event.get("delta")
        if event.get("type") == "content_block_start":
            blocks[index] = dict(event["content_block"])
        elif event.get("type") == "content_block_delta" and isinstance(delta, dict) and index in blocks:
            if (member := _TEXTS.get(str(delta.get("type")))) is not None:
                blocks[index][member] = blocks[index].get(member, "") + delta.get(member, "")
            elif delta.get("type") == "input_json_delta":
                inputs[index] = inputs.get(index, "") + delta.get("partial_json", "")
    for index, text in inputs.items():
        try:
            blocks[index]["input"] = json.loads(text or "{}")
        except ValueError:
            blocks[index]["input"] = text
    return list(blocks.values())
