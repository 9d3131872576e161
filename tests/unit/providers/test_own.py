"""Adapters with an organisation's own key: what they are built from, how long they live, and what they never say."""

from __future__ import annotations

import gc
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
from tests.unit.providers.provider_samples import endpoint, outgoing, setup

from modelgates_server.errors import SealBroken
from modelgates_server.outbound.http import Outbound
from modelgates_server.providers.base import Fault
from modelgates_server.providers.kinds import build_provider
from modelgates_server.providers.own import OwnProviders
from modelgates_server.simulator import Simulator, serve

KEY = "own-key-of-no-known-form-0123"


@dataclass(eq=False)
class Ref:
    """What callers carry; here the secret is not sealed."""

    base_url: str
    provider: str = "anthropic"
    id: str = "byok-1"
    text: str = KEY


class Desk(NamedTuple):
    providers: OwnProviders
    outbound: Outbound
    simulator: Simulator
    url: str


def unsealed(ref: Any) -> str:
    if not ref.text:
        raise SealBroken
    return ref.text


@asynccontextmanager
async def desk(word: str = "anthropic", **settings: str) -> AsyncIterator[Desk]:
    """A configured provider with a key of the operator's, at a simulator."""
    simulator = Simulator(wire=word, keep_bodies=True)
    served, outbound = await serve(simulator, "127.0.0.1", 0), Outbound(connect_s=2)
    setups = {word: setup(word, served.url, api_key="operators-key", settings=settings)}
    try:
        yield Desk(OwnProviders(setups, outbound, unsealed), outbound, simulator, served.url)
    finally:
        await outbound.close()
        await served.stop()


async def ask(made: Any, word: str = "anthropic") -> None:
    (await made.open(endpoint(word), outgoing(endpoint(word)))).close()


async def test_the_operators_workspace_is_left_out() -> None:
    """It names a part of the operator's account; another account does not have it."""
    async with desk(workspace_id="wrkspc_operator") as at:
        await ask(at.providers.find(Ref(at.url)))
        headers = at.simulator.log[-1].headers

    assert "anthropic-workspace-id" not in headers


async def test_what_a_kind_cannot_do_without_stays() -> None:
    """Claude Platform on AWS wants a workspace with every call: an own key is one of that workspace."""
    async with desk("claude-on-aws", workspace_id="wrkspc_1", region="us-east-1") as at:
        await ask(at.providers.find(Ref(at.url, "claude-on-aws")), "claude-on-aws")
        headers = at.simulator.log[-1].headers

    assert headers["anthropic-workspace-id"] == "wrkspc_1"


@pytest.mark.parametrize(
    ("ref", "said"),
    [
        (Ref("https://api.example.com"), "stored for another address"),
        (Ref("", provider="gone"), "stored for another address"),
        (Ref("here", text=""), "cannot be opened"),
    ],
)
async def test_a_key_that_cannot_be_used_is_a_fault(ref: Ref, said: str) -> None:
    """Before anything is sent; the detail names the credential and what to do."""
    async with desk() as at:
        ref.base_url = at.url if ref.base_url == "here" else ref.base_url
        with pytest.raises(Fault) as raised:
            at.providers.find(ref)

    assert (raised.value.signal, said in raised.value.detail, ref.id in raised.value.detail) == (
        "credential",
        True,
        True,
    )
    assert at.simulator.log == []


async def test_an_adapter_lives_as_long_as_its_reference() -> None:
    """It is made once, and gone, with the open key, when callers carry the reference no more."""
    async with desk() as at:
        ref = Ref(at.url)
        made = at.providers.find(ref)
        assert at.providers.find(ref) is made
        seen = weakref.ref(made)
        del made, ref
        gc.collect()

    assert seen() is None


@pytest.mark.parametrize("status", [400, 401, 403, 429, 500])
async def test_a_provider_that_repeats_the_key_is_not_repeated(status: int) -> None:
    """Errors are shown to clients and stored in receipts."""
    async with desk() as at:
        at.simulator.script.append({"status": status, "message": f"bad key {KEY}, yes {KEY}"})
        made = build_provider(setup("anthropic", at.url, api_key=KEY), at.outbound)
        with pytest.raises(Fault) as raised:
            await ask(made)

    assert b"bad key [hidden], yes [hidden]" in raised.value.body
