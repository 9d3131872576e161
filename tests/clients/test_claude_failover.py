"""The real Claude Code in a tool loop while its first provider fails: it cannot tell, whoever takes over."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from tests.clients.house import ClaudeCode
from tests.support.gateway import Gateway, open_gateway
from tests.support.process import Ran

# Google's library warns its own users about generic files of credentials.
pytestmark = [pytest.mark.clients, pytest.mark.slow, pytest.mark.filterwarnings("ignore::Warning:google")]

FAILING: dict[str, dict[str, Any]] = {
    "overloaded between turns": {"status": 529},
    "an error event before content": {"error_at_event": 1},
    "cut within the stream, before content": {"cut_after_event": 1},
    "a wrong key": {"status": 401},
}


async def tool_loop(gateway: Gateway, folder: Path) -> Ran:
    """A headless run with one tool call: two turns of one session."""
    claude = ClaudeCode(folder, f"{gateway.url}/api")
    note = claude.folder / "note.txt"
    note.write_text("the kingfisher sleeps\n")
    prompt = f"Please [[tool:Read {json.dumps({'file_path': str(note)})}]]"
    words = ("--allowedTools", "Read", "--output-format", "json")
    token = {"ANTHROPIC_AUTH_TOKEN": gateway.key, "ANTHROPIC_API_KEY": ""}
    return await asyncio.to_thread(claude.ask, prompt, *words, **token)


def served(gateway: Gateway) -> list[tuple[str, str, list[tuple[str, str | None]]]]:
    """Outcome, provider and attempts of each request, oldest first."""
    rows = gateway.rows("SELECT * FROM generations ORDER BY created_at_ms, id")
    tries = [[(one["provider"], one["fault"]) for one in json.loads(row["attempts"])] for row in rows]
    return [(row["outcome"], row["provider"], tried) for row, tried in zip(rows, tries, strict=True)]


@pytest.mark.parametrize("kind", ["anthropic", "bedrock-invoke", "vertex"])
@pytest.mark.parametrize("how", FAILING)
async def test_the_session_ends_well_when_the_first_provider_fails_between_turns(
    tmp_path: Path, kind: str, how: str
) -> None:
    """The second turn is answered by the second provider, whatever its wire; Claude Code sees the answer and no error."""
    async with open_gateway(tmp_path / "g", simulators={"anthropic": "anthropic", "second": kind}) as gateway:
        gateway.simulator.script.extend([{}, FAILING[how]])
        ran = await tool_loop(gateway, tmp_path)
        first, second = served(gateway)

    assert ran.code == 0, ran.err
    assert (ran.json["is_error"], ran.json["num_turns"]) == (False, 2)
    assert "the kingfisher sleeps" in ran.json["result"]
    assert (first[:2], second[:2]) == (("completed", "anthropic"), ("completed", "second"))
    assert [provider for provider, _ in second[2]] == ["anthropic", "second"]
    assert ran.err == ""


@pytest.mark.parametrize("kind", ["bedrock-invoke", "vertex"])
async def test_claude_code_works_when_the_first_provider_is_out_from_the_start(tmp_path: Path, kind: str) -> None:
    """Tools, thinking, caching marks and betas as Claude Code sends them are all taken by another cloud."""
    async with open_gateway(tmp_path / "g", simulators={"anthropic": "anthropic", "second": kind}) as gateway:
        gateway.simulator.script.extend([{"status": 529}] * 9)
        ran = await tool_loop(gateway, tmp_path)
        story = served(gateway)

    assert ran.code == 0, ran.err
    assert "the kingfisher sleeps" in ran.json["result"]
    assert {outcome for outcome, _, _ in story} == {"completed"}
    assert {provider for _, provider, _ in story} == {"second"}
