"""One provider asked alone: the smallest question, through the gateway itself, so that it is limited, paid and booked like any other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

import aiohttp

from modelgates_server.clock import SystemClock
from modelgates_server.doctor.address import Address
from modelgates_server.doctor.visit import answer_of
from modelgates_server.money import NUSD_PER_USD

PATIENCE_S: Final = 45.0
"""A model's first word may take half a minute when a provider is in trouble; a pass lives for a minute."""

DETAIL_CHARACTERS_MAX: Final = 300


@dataclass(frozen=True, slots=True)
class Tried:
    """One attempt, as the gateway's report has it: `fault` is its class, empty when the provider answered."""

    provider: str
    status: int
    fault: str
    detail: str
    ms: int


@dataclass(frozen=True, slots=True)
class Probed:
    """What came of it. `sentence` is the refusal's, empty when the provider answered; `cost_nusd` is what was charged."""

    answered: bool
    sentence: str
    ms: int
    cost_nusd: int | None
    generation_id: str
    attempts: tuple[Tried, ...]


async def ask_provider(address: Address, key: str, model: str, only: str, ignore: Sequence[str]) -> Probed:
    """Ask a model for one token, of this provider and none of the ignored. For a process that visits its own socket."""
    clock = SystemClock()
    body = {
        "model": model,
        "max_tokens": 1,
        "messages": [{"role": "user", "content": "."}],
        "provider": {"only": [only], "ignore": list(ignore), "allow_fallbacks": False},
    }
    headers = {
        "authorization": f"Bearer {key}",
        "anthropic-version": "2023-06-01",
        "x-modelgates-metadata": "enabled",
        "user-agent": "modelgates-doctor",
    }
    connector = aiohttp.TCPConnector(ssl=False)
    timeout = aiohttp.ClientTimeout(total=PATIENCE_S)
    started_s = clock.monotonic_s()
    try:
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout) as http,
            http.post(f"{address.base}/v1/messages", json=body, headers=headers, allow_redirects=False) as response,
        ):
            answer = await answer_of(response)
    except (aiohttp.ClientError, TimeoutError) as error:
        ms = round((clock.monotonic_s() - started_s) * 1000)
        return Probed(False, f"the gateway itself gave no answer: {error or 'it took too long'}", ms, None, "", ())  # noqa: FBT003
    ms = round((clock.monotonic_s() - started_s) * 1000)
    cost = answer.data.get("usage", {}).get("cost") if answer.status == 200 else None
    return Probed(
        answered=answer.status == 200,
        sentence="" if answer.status == 200 else answer.complaint,
        ms=ms,
        cost_nusd=int(cost * NUSD_PER_USD) if isinstance(cost, int | Decimal) else None,
        generation_id=str(answer.headers.get("x-generation-id") or ""),
        attempts=tuple(map(_tried, answer.data.get("modelgates_metadata", {}).get("attempts", ()))),
    )


def _tried(said: dict[str, Any]) -> Tried:
    return Tried(
        provider=str(said.get("provider")),
        status=int(said.get("status") or 0),
        fault=str(said.get("fault") or ""),
        detail=str(said.get("detail") or "")[:DETAIL_CHARACTERS_MAX],
        ms=int(said.get("ms") or 0),
    )
