"""The real anthropic SDK when another cloud takes over: what it gives to its application is the same, field by field."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Final

import pytest
from tests.clients.test_sdk import run
from tests.support.gateway import Gateway, open_gateway

# Google's library warns its own users about generic files of credentials.
pytestmark = [pytest.mark.clients, pytest.mark.slow, pytest.mark.filterwarnings("ignore::Warning:google")]

CALLS: Final = ("whole_messages", "whole_streams")

OWN: Final = frozenset({"id", "usage"})
"""What differs from one answer to the next, whoever gives it."""

FAILING: Final[dict[str, dict[str, Any]]] = {
    "overloaded": {"status": 529},
    "cut before content": {"cut_after_event": 1, "reset": True},
}


def without_its_own(told: Any) -> Any:
    """The same without ids and usage, at any depth."""
    if isinstance(told, dict):
        return {name: without_its_own(value) for name, value in told.items() if name not in OWN}
    return [without_its_own(value) for value in told] if isinstance(told, list) else told


async def ask_all(gateway: Gateway, generation: int) -> dict[str, Any]:
    """What the calls of the SDK gave; an error fails the test."""
    base_url = f"{gateway.url}/api"
    told = (await asyncio.to_thread(run, generation, [base_url], {"good": gateway.key}, *CALLS))[base_url]
    assert [call for call in CALLS if "gave" not in told[call]] == [], told
    return {call: told[call]["gave"] for call in CALLS}


@pytest.mark.parametrize("generation", [1, 2], ids=["sdk1", "sdk2"])
@pytest.mark.parametrize("how", FAILING)
@pytest.mark.parametrize("kind", ["bedrock-invoke", "vertex"])
async def test_the_sdk_cannot_tell_who_answered(tmp_path: Path, kind: str, how: str, generation: int) -> None:
    """Messages and events of text and of a tool call equal Anthropic's own, in every field but ids and usage."""
    async with open_gateway(tmp_path / "g", simulators={"anthropic": "anthropic", "second": kind}) as gateway:
        usual = await ask_all(gateway, generation)
        gateway.forget()
        gateway.simulator.script.extend([FAILING[how]] * 100)
        told = await ask_all(gateway, generation)
        served = [
            row["provider"] for row in gateway.rows("SELECT provider FROM generations ORDER BY created_at_ms, id")
        ]

    assert served == ["anthropic"] * 4 + ["second"] * 4
    assert without_its_own(told) == without_its_own(usual)
