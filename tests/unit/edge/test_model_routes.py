"""Routes that scripts of the OpenRouter world expect beside `/v1/models`, and where they read an error's status."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.support.gateway import Gateway, ask, open_gateway

BEARER = "Bearer {key}"


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    async with open_gateway(tmp_path / "g") as running:
        yield running


async def fetch(gateway: Gateway, path: str, key: str | None = None) -> tuple[int, dict]:
    headers = {"authorization": BEARER.format(key=key or gateway.key)}
    told = await gateway.request("GET", path, headers)
    return told.status, told.json


async def test_models_are_counted(gateway: Gateway) -> None:
    """As many as are listed; `/models/user` is the same list (product-surface 2.3)."""
    _, listed = await fetch(gateway, "/api/v1/models")
    _, counted = await fetch(gateway, "/api/v1/models/count")
    _, users = await fetch(gateway, "/api/v1/models/user")
    assert counted == {"data": {"count": listed["total_count"]}}
    assert users["data"] == listed["data"]


@pytest.mark.parametrize("name", ["anthropic/claude-opus-4.8", "anthropic/claude-opus-4-8", "claude-opus-4.8:nitro"])
async def test_one_model_comes_in_an_envelope(gateway: Gateway, name: str) -> None:
    """By any spelling, in the form of slugs, below `/model`."""
    status, told = await fetch(gateway, f"/api/v1/model/{name}")
    assert (status, told["data"]["id"]) == (200, "anthropic/claude-opus-4.8")


async def test_a_model_that_a_key_may_not_use_is_unknown(gateway: Gateway) -> None:
    """Neither found nor counted."""
    key = gateway.new_key(allowed_models=("anthropic/claude-haiku-4.5",))
    status, told = await fetch(gateway, "/api/v1/model/anthropic/claude-opus-4.8", key)
    assert (status, told["error"]["code"]) == (404, 404)
    assert (await fetch(gateway, "/api/v1/models/count", key))[1] == {"data": {"count": 1}}


@pytest.mark.parametrize(
    ("path", "status"), [("/api/v1/key", 401), ("/api/v1/models/count", 401), ("/api/v1/nowhere", 404)]
)
async def test_errors_carry_their_status(gateway: Gateway, path: str, status: int) -> None:
    """In `error.code`, beside the type that Claude clients read."""
    ended, told = await fetch(gateway, path, "sk-mg-v1-nobody")
    assert (ended, told["error"]["code"]) == (status, status)
    assert told["error"]["type"] in {"authentication_error", "not_found_error"}


async def test_messages_keep_their_own_envelope(gateway: Gateway) -> None:
    """What Claude clients ask is answered in Anthropic's words only."""
    told = await gateway.send(ask(model="nobody"))
    assert (told.status, set(told.error)) == (404, {"type", "message"})
