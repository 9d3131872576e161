"""Who serves what, as programs read it: every documented field, true figures, and nothing that is nobody's business."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from itertools import product
from pathlib import Path
from typing import Any

from tests.support.gateway import Gateway, ask, open_gateway

from modelgates_server.management import set_key_routing

PATH = "/api/v1/models/anthropic/claude-opus-4.8/endpoints"
BEDROCK = """
[[providers]]
slug = "cloud"
kind = "bedrock"
region = "us-east-1"
api_key = "env:UPSTREAM_KEY"
price_multiplier = "1.1"
max_output_tokens = 4096
models = { "claude-opus-4-8" = "arn:aws:bedrock:us-east-1:123456789012:inference-profile/opus" }
"""
ORDER = {"order": ["anthropic", "backup-1"]}
FIELDS = {
    "supports_tool_choice", "supports_diarization", "native_tools", "service_tier",
    "name", "model_id", "model_name", "context_length", "pricing", "provider_name", "tag", "quantization",
    "max_completion_tokens", "max_prompt_tokens", "supported_parameters", "status", "uptime_last_5m", "uptime_last_30m",
    "uptime_last_1d", "latency_last_30m", "throughput_last_30m", "supports_implicit_caching",
}  # fmt: skip


@asynccontextmanager
async def cloudy(folder: Path) -> AsyncIterator[Gateway]:
    """A gateway with Anthropic, a second one, and Bedrock at another price."""
    async with open_gateway(folder / "g", simulators=2, toml=BEDROCK, routing=ORDER) as gateway:
        yield gateway


async def told(gateway: Gateway, path: str = PATH, key: str | None = None) -> dict[str, Any]:
    answer = await gateway.request("GET", path, gateway.headers(key=key))
    assert answer.status == 200, answer.body
    return answer.json["data"]


async def test_a_models_endpoints_have_every_field(tmp_path: Path) -> None:
    """Product-surface 2.5, field by field; one endpoint per provider."""
    async with cloudy(tmp_path) as gateway:
        data = await told(gateway)

    assert set(data) == {"id", "name", "created", "description", "architecture", "endpoints"}
    assert [endpoint["tag"] for endpoint in data["endpoints"]] == ["cloud/us-east-1", "anthropic", "backup-1"]
    assert all(set(endpoint) == FIELDS for endpoint in data["endpoints"])
    assert data["endpoints"][0]["name"] == "Amazon Bedrock | anthropic/claude-4.8-opus-20260528"
    assert {endpoint["status"] for endpoint in data["endpoints"]} == {0}


async def test_each_endpoint_has_its_own_price_and_parameters(tmp_path: Path) -> None:
    """The multiplier is in the price to the last digit; what a kind cannot do is not offered; its output bound is told."""
    async with cloudy(tmp_path) as gateway:
        cloud, first, _ = (await told(gateway))["endpoints"]

    for name in ("prompt", "completion", "input_cache_read", "input_cache_write", "input_cache_write_1h"):
        assert Decimal(cloud["pricing"][name]) == Decimal(first["pricing"][name]) * Decimal("1.1")
        assert "E" not in cloud["pricing"][name]
    assert set(first["supported_parameters"]) - set(cloud["supported_parameters"]) == {
        "structured_outputs", "response_format",
    }  # fmt: skip
    assert (cloud["max_completion_tokens"], first["max_completion_tokens"]) == (4096, 128_000)


async def test_figures_follow_what_happens(tmp_path: Path) -> None:
    """An answer gives a latency; a failure that counts makes -1; an outage makes -2, and only there."""
    async with cloudy(tmp_path) as gateway:
        await gateway.send(ask(stream=True))
        answered = (await told(gateway))["endpoints"][1]
        statuses = []
        for number in range(5):
            gateway.simulator.script.append({"status": 500})
            await gateway.send(ask(f"{number}, which nobody holds"))
            statuses.append((await told(gateway))["endpoints"][1]["status"])
        out = (await told(gateway))["endpoints"]

    assert set(answered["latency_last_30m"]) == {"p50", "p75", "p90", "p99"}
    assert (answered["status"], *statuses) == (0, -1, -1, -1, -1, -2)
    assert [endpoint["status"] for endpoint in out] == [0, -2, 0]
    assert out[1]["uptime_last_5m"] < 100


async def test_every_spelling_leads_there(gateway: Gateway) -> None:
    """Under every prefix, by any name of the model, with and without a slash in it; the model itself stays where it was."""
    names = ("claude-opus-4-8", "anthropic/claude-opus-4-8", "anthropic%2Fclaude-opus-4.8", "opus")
    for prefix, name in product(("", "/api", "/anthropic", "/api/anthropic", "/api/v1"), names):
        assert (await told(gateway, f"{prefix}/v1/models/{name}/endpoints/"))["id"].startswith("anthropic/")
        model = await gateway.request("GET", f"{prefix}/v1/models/{name}", gateway.headers())
        assert (model.status, model.json["type"]) == (200, "model")


async def test_what_a_key_may_not_use_is_unknown(tmp_path: Path) -> None:
    """A forbidden model and one that does not exist get the same answer; the other models stay visible."""
    async with cloudy(tmp_path) as gateway:
        key = gateway.new_key("narrow", allowed_models=("anthropic/claude-haiku-4.5",))
        forbidden = await gateway.request("GET", PATH, gateway.headers(key=key))
        unknown = await gateway.request("GET", PATH.replace("opus-4.8", "opus-48"), gateway.headers(key=key))
        zdr = await told(gateway, "/api/v1/endpoints/zdr", key)
        await told(gateway, PATH.replace("opus-4.8", "haiku-4.5"), key)

    assert (forbidden.status, unknown.status) == (404, 404)
    assert forbidden.error["message"].replace("opus-4.8", "opus-48") == unknown.error["message"]
    assert [(row["tag"], row["model_id"]) for row in zdr] == [("cloud/us-east-1", "anthropic/claude-haiku-4.5")]


async def test_both_classes_of_key_read_and_nobody_else(tmp_path: Path) -> None:
    """Inference and management keys read all three; without a key there is a 401."""
    async with cloudy(tmp_path) as gateway:
        for path in (PATH, "/v1/providers", "/api/v1/endpoints/zdr"):
            await told(gateway, path)
            await told(gateway, path, gateway.initialised.management_key)
            assert (await gateway.request("GET", path)).status == 401


async def test_providers_are_told_without_secrets(tmp_path: Path) -> None:
    """Slug, name and the kind's public pages; no address, key, account or upstream name in any of the three."""
    async with cloudy(tmp_path) as gateway:
        rows = await told(gateway, "/api/v1/providers")
        paths = (PATH, "/api/v1/providers", "/api/v1/endpoints/zdr")
        bodies = [(await gateway.request("GET", path, gateway.headers())).body.decode() for path in paths]

    assert [row["slug"] for row in rows] == ["cloud", "anthropic", "backup-1"]
    assert set(rows[0]) == {
        "name", "slug", "privacy_policy_url", "terms_of_service_url", "status_page_url", "headquarters", "datacenters",
    }  # fmt: skip
    for secret in ("sk-upstream", "123456789012", "127.0.0.1", "bedrock-mantle", "arn:"):
        assert all(secret not in body for body in bodies)


async def test_numbers_tell_who_is_in_service(tmp_path: Path) -> None:
    """`/metrics` of a running gateway: attempts by result, the move, and 0 for a provider whose breaker opened."""
    async with open_gateway(tmp_path / "g", simulators=2) as gateway:
        for number in range(5):
            gateway.simulator.script.append({"status": 500})
            await gateway.send(ask(f"{number}, which nobody holds"))
        text = (await gateway.request("GET", "/metrics")).body.decode()

    attempts = 'modelgates_attempts_total{model="anthropic/claude-opus-4.8",provider='
    assert f'{attempts}"anthropic",result="upstream"}} 5.0' in text
    assert f'{attempts}"backup-1",result="answered"}} 5.0' in text
    assert 'modelgates_failovers_total{model="anthropic/claude-opus-4.8"} 5.0' in text
    assert 'modelgates_provider_in_service{provider="anthropic"} 0.0' in text
    assert 'modelgates_provider_in_service{provider="backup-1"} 1.0' in text


async def test_a_keys_order_is_said_in_one_change(tmp_path: Path) -> None:
    """A running gateway follows a key's preferences as soon as it has noticed the new policy; other keys go where they went."""
    async with open_gateway(tmp_path / "g", simulators=2) as gateway:
        secret, key_hash = gateway.new_key_row("picky")
        with gateway.engine() as (engine, now_s):
            set_key_routing(
                engine, gateway.initialised.organization_id, key_hash, '{"order":["backup-1"]}', "test", now_s
            )
        await gateway.application.context.directory.refresh()
        picky, plain = await gateway.send(ask("one"), key=secret), await gateway.send(ask("two"))
        providers = [gateway.generation(told.id)["provider"] for told in (picky, plain)]

    assert providers == ["backup-1", "anthropic"]
