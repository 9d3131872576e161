"""A client leaves, and its provider bills the whole answer all the same (design decision 5): it is read to its end and charged exactly.

Where the provider stops when it is let go, it is let go at once: that is in `test_client_gone.py`, and here beside its counterpart.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio
from tests.support.gateway import Gateway, ask, open_gateway, until

from modelgates_server.simulator import Entry

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    # Google warns its own users about generic files of credentials.
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning"),
]

BILLS_FULL: Final = ("bedrock", "bedrock-invoke", "vertex")
STOPS: Final = ("anthropic", "claude-on-aws", "foundry")
OVERRIDDEN: Final = "anthropic-compatible"
"""Its operator says, in a file of his own, that it bills the whole answer."""

KINDS: Final = (*BILLS_FULL, *STOPS, OVERRIDDEN)

PHASES: Final[dict[str, tuple[dict[str, Any], bool, bytes]]] = {
    "stream, before headers": ({"delay_s": 0.2, "tokens": 9}, True, b""),
    "stream, before content": ({"first_event_delay_s": 0.2, "tokens": 9}, True, b""),
    "stream, in the middle": ({"event_delay_s": 0.02, "tokens": 20}, True, b"content_block_delta"),
    "JSON": ({"delay_s": 0.2, "tokens": 9}, False, b""),
}
"""What the provider does, whether it streams, and what the client waits for before it leaves."""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def clouds(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    """One provider of each kind, called as its kind; a request names the one it is for."""
    folder = tmp_path_factory.mktemp("costs")
    (folder / "kinds.json").write_text(
        json.dumps({"version": "ours", "kinds": {OVERRIDDEN: {"cancel": "bills_full"}}, "features": []})
    )
    toml = f'[catalogue]\nproviders = "{folder / "kinds.json"}"'
    async with open_gateway(folder / "g", simulators={f"my-{kind}": kind for kind in KINDS}, toml=toml) as gateway:
        for kind in KINDS:  # the first request of a kind may fetch a token
            assert (await gateway.send(ask(provider={"only": [f"my-{kind}"]}))).status == 200
        yield gateway
        await gateway.quiet()
        assert (gateway.problems(), gateway.overspent()) == ([], [])


async def leave(gateway: Gateway, kind: str, phase: str) -> tuple[Entry, dict[str, Any]]:
    """Ask one provider, leave, and wait for the receipt: what the provider says, and what was booked."""
    control, stream, wanted = PHASES[phase]
    simulator = gateway.simulators[KINDS.index(kind)]
    simulator.script.append(control)
    before = len(simulator.log)
    body = ask(stream=stream, provider={"only": [f"my-{kind}"]})

    async def client() -> None:
        async with gateway.http.post(gateway.messages_url, json=body, headers=gateway.headers()) as response:
            seen = b""
            while wanted not in seen or not wanted:
                seen += await response.content.readany()

    task = asyncio.get_running_loop().create_task(client())
    await until(lambda: len(simulator.log) > before and simulator.log[-1].body, "nothing was asked")
    if not wanted:
        await until(lambda: gateway.rows("SELECT id FROM holds"), "nothing is held")
        task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    await gateway.settled()
    await gateway.quiet()
    (row,) = gateway.rows("SELECT * FROM generations ORDER BY created_at_ms DESC, id DESC LIMIT 1")
    return simulator.log[-1], row


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("kind", [*BILLS_FULL, OVERRIDDEN])
async def test_what_is_billed_in_full_is_read_to_its_end(clouds: Gateway, kind: str, phase: str) -> None:
    """The provider is not cut off, and what it generated is charged to the token, as cancelled and not as an estimate."""
    entry, row = await leave(clouds, kind, phase)

    tokens = (entry.usage["input_tokens"], entry.usage["output_tokens"])
    cost = 5_000 * tokens[0] + 25_000 * tokens[1]
    assert entry.outcome == "completed"
    assert (row["outcome"], row["estimated"], row["provider"]) == ("cancelled", 0, f"my-{kind}")
    assert (row["input_tokens"], row["output_tokens"], row["upstream_id"]) == (*tokens, entry.message_id)
    assert (row["cost_nusd"], clouds.entries(row["id"])) == (cost, {"charge": cost})
    assert [(a["provider"], a["fault"]) for a in json.loads(row["attempts"])] == [(f"my-{kind}", None)]


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("kind", STOPS)
async def test_what_stops_is_let_go(clouds: Gateway, kind: str, phase: str) -> None:
    """The provider sees its client leave long before it is done, and what came until then is charged as an estimate."""
    entry, row = await leave(clouds, kind, phase)

    assert entry.outcome == "cancelled"
    assert (row["outcome"], row["estimated"]) == ("cancelled", 1)
    assert 0 < row["cost_nusd"] <= row["held_nusd"]


BROKEN: Final[dict[str, tuple[dict[str, Any], set[str]]]] = {
    "refused": ({"delay_s": 0.2, "status": 503}, set()),
    "its fate unknown": ({"delay_s": 0.2, "cut_at_byte": 0}, {"uncertain"}),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_what_fails_after_the_client_left_is_not_charged(tmp_path: Path, name: str) -> None:
    """Nobody is asked in its place; an attempt of unknown fate stays on the operator's account like any other."""
    control, booked = BROKEN[name]
    async with open_gateway(tmp_path / "g", simulators={"first": "bedrock", "second": "anthropic"}) as gateway:
        simulator = gateway.simulators[0]
        simulator.script.append(control)
        wishes = {"order": ["first", "second"]}
        task = asyncio.get_running_loop().create_task(gateway.send(ask(provider=wishes)))
        await until(lambda: simulator.log and simulator.log[-1].body, "nothing was asked")
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await gateway.settled()
        (row,) = gateway.rows("SELECT * FROM generations")
        entries, others = gateway.entries(row["id"]), len(gateway.simulators[1].log)

    assert (row["cost_nusd"], others) == (0, 0)
    assert set(entries) == booked
