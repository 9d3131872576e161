"""Other clouds as second provider: the same answer as Anthropic's own, exact books, and whole bills for clients that leave."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from tests.support.gateway import Gateway, Told, ask, open_gateway, until

# Google's library warns its own users about generic files of credentials.
pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.filterwarnings("ignore::Warning:google")]

KINDS = ["claude-on-aws", "bedrock", "bedrock-invoke", "vertex", "foundry", "anthropic-compatible"]
BILL_FULL = ["bedrock", "bedrock-invoke", "vertex"]

RICH: dict[str, Any] = {
    "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
    "tools": [{"name": "look", "description": "Looks", "input_schema": {"type": "object", "properties": {}}}],
    "thinking": {"type": "adaptive"},
    "output_config": {"effort": "low"},
    "metadata": {"user_id": "somebody"},
}
BETAS = "claude-code-20250219,interleaved-thinking-2025-05-14,prompt-caching-scope-2026-01-05,never-seen-2031-01-01"


async def two(folder: Path, kind: str) -> Any:
    return open_gateway(folder / kind, simulators={"anthropic": "anthropic", "second": kind})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stream", [True, False])
async def test_another_cloud_answers_like_anthropic(tmp_path: Path, kind: str, stream: bool) -> None:
    """With thinking, tools, marks and betas: the blocks have Anthropic's form, the model its name, and the bill is the truth."""
    body = ask("hello [[say:seven brown foxes]]", stream=stream, **RICH)
    async with await two(tmp_path, kind) as gateway:
        usual = await gateway.send(body, anthropic_beta=BETAS)
        gateway.forget()
        gateway.simulator.script.append({"status": 529})
        told = await gateway.send(
            ask("hello [[say:seven brown foxes]] again", stream=stream, **RICH), anthropic_beta=BETAS
        )
        row, truth = gateway.generation(told.id), gateway.simulators[1].log[-1]

    assert (usual.status, told.status) == (200, 200), told.body
    assert [one["provider"] for one in json.loads(row["attempts"])] == ["anthropic", "second"]
    assert (row["upstream_id"], row["output_tokens"]) == (truth.message_id, truth.usage["output_tokens"])
    assert row["input_tokens"] == truth.usage["input_tokens"]
    assert "seven brown foxes" in _text(told)
    if stream and kind != "anthropic-compatible":  # which writes its frames in a way of its own
        assert [name for name in told.meaning if name != "content_block_delta"] == [
            name for name in usual.meaning if name != "content_block_delta"
        ]
        assert json.loads(told.events[0][1])["message"]["model"] == "claude-opus-4-8"
    elif not stream:
        assert (told.json["model"], told.json["id"]) == ("claude-opus-4-8", told.id)


def _text(told: Told) -> str:
    if told.body.startswith(b"{"):
        return "".join(block.get("text", "") for block in told.json["content"])
    lines = [line[5:] for line in told.body.splitlines() if line.startswith(b"data:") and b"{" in line]
    deltas = [json.loads(line).get("delta", {}) for line in lines]
    return "".join(delta.get("text", "") for delta in deltas)


@pytest.mark.parametrize("kind", BILL_FULL)
async def test_a_client_that_leaves_a_stream_pays_what_the_cloud_bills(tmp_path: Path, kind: str) -> None:
    """The answer is read to its end for nobody, and charged exactly (design decision 5)."""
    body = ask(stream=True, provider={"only": ["second"]})
    async with await two(tmp_path, kind) as gateway:
        gateway.simulators[1].script.append({"event_delay_s": 0.01, "tokens": 60})
        async with gateway.http.post(gateway.messages_url, json=body, headers=gateway.headers()) as response:
            await response.content.readany()
            generation_id = response.headers["x-generation-id"]
        row = await gateway.receipt(generation_id)
        await gateway.quiet()
        truth = gateway.simulators[1].log[-1]

    assert truth.outcome == "completed"
    assert (row["outcome"], row["estimated"], row["output_tokens"]) == ("cancelled", 0, truth.usage["output_tokens"])
    assert row["cost_nusd"] > 0


@pytest.mark.parametrize("kind", BILL_FULL)
async def test_a_client_that_leaves_before_the_answer_pays_what_the_cloud_bills(tmp_path: Path, kind: str) -> None:
    """A JSON call that is left while the cloud still writes is read to its end and charged exactly."""
    async with await two(tmp_path, kind) as gateway:
        gateway.simulators[1].script.append({"delay_s": 0.2, "tokens": 40})
        call = asyncio.get_running_loop().create_task(gateway.send(ask(provider={"only": ["second"]})))
        await until(lambda: gateway.simulators[1].log, "nothing was asked")
        call.cancel()
        await until(lambda: gateway.rows("SELECT id FROM generations"), "there is no receipt")
        await gateway.quiet()
        (row,) = gateway.rows("SELECT * FROM generations")
        truth = gateway.simulators[1].log[-1]

    assert (truth.outcome, row["outcome"]) == ("completed", "cancelled")
    assert (row["estimated"], row["output_tokens"]) == (0, truth.usage["output_tokens"])


async def test_what_a_cloud_cannot_do_is_not_sent_there(tmp_path: Path) -> None:
    """A web search goes to nobody but Anthropic; when Anthropic is out, the client gets Anthropic's fault, not a cloud's 400."""
    search = {"tools": [{"type": "web_search_20250305", "name": "web_search"}]}
    async with await two(tmp_path, "bedrock") as gateway:
        gateway.simulator.script.extend([{"status": 529}] * 2)
        told = await gateway.send(ask(**search))
        row = await gateway.receipt(told.id)

    assert (told.status, told.error["type"]) == (529, "overloaded_error")
    assert gateway.simulators[1].log == []
    assert any("cannot do web search" in line["reason"] for line in json.loads(row["plan"]))


async def test_a_refused_capability_is_learnt(tmp_path: Path) -> None:
    """A cloud that refuses a beta is asked again without it, and the next request does not send it there."""
    refused = {"status": 400, "message": "invalid beta flag: effort-2025-11-24"}
    wish = {"only": ["second"]}
    async with await two(tmp_path, "bedrock") as gateway:
        gateway.simulators[1].script.append(refused)
        first = await gateway.send(ask(provider=wish), anthropic_beta="effort-2025-11-24,claude-code-20250219")
        second = await gateway.send(ask(provider=wish), anthropic_beta="effort-2025-11-24,claude-code-20250219")
        seen = [entry.betas for entry in gateway.simulators[1].log]

    assert (first.status, second.status) == (200, 200)
    assert seen == [["effort-2025-11-24", "claude-code-20250219"], ["claude-code-20250219"], ["claude-code-20250219"]]


async def test_stale_thinking_is_healed_once(tmp_path: Path) -> None:
    """A provider that does not accept a thinking signature is asked once more without the thinking."""
    said = {"status": 400, "message": "messages.1.content.0: Invalid `signature` in `thinking` block"}
    turns = [
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm", "signature": "x"}, {"type": "text", "text": "a"}]},
        {"role": "user", "content": "and?"},
    ]  # fmt: skip
    async with open_gateway(tmp_path / "g") as gateway:
        gateway.simulator.script.append(said)
        told = await gateway.send(ask(messages=turns))
        row = gateway.generation(told.id)
        bodies = [json.loads(entry.body or b"") for entry in gateway.simulator.log]

    assert told.status == 200
    assert [len(body["messages"][1]["content"]) for body in bodies] == [2, 1]
    assert json.loads(row["attempts"])[1]["detail"] == "thinking of another place was dropped"


async def test_an_alternative_model_answers_what_the_first_cannot(tmp_path: Path) -> None:
    """`models` names another model: it is asked when the first one fails everywhere, and billed and reported as itself."""
    body = ask(models=["claude-haiku-4-5"])
    async with open_gateway(tmp_path / "g") as gateway:
        gateway.simulator.script.append({"status": 400, "message": "messages: nope"})
        told = await gateway.send(body)
        row = gateway.generation(told.id)

    assert (told.status, told.json["model"]) == (200, "claude-haiku-4-5")
    assert (row["model"], row["requested_model"]) == ("anthropic/claude-haiku-4.5", "claude-opus-4-8")


async def test_the_kinds_of_this_file_are_all_there_are(pair: Gateway) -> None:
    """A kind that is added later is added here too."""
    assert {*KINDS, "anthropic", "sandbox"} == set(pair.config.kinds.words)
