"""The docs' MCP server used by the real Claude Code, and by the official SDK's client against `serve`."""

from __future__ import annotations

import json
from typing import Any

import pytest
from mcp import Client
from tests.clients.house import ClaudeCode, House
from tests.clients.tap import Tap
from tests.support.process import Ran

pytestmark = [pytest.mark.clients, pytest.mark.slow]

PATH = "/docs/_mcp/server"


def added(claude: ClaudeCode, url: str, key: str | None = None) -> Ran:
    """Run what the docs say: `claude mcp add …`."""
    header = ("--header", f"Authorization: Bearer {key}") if key else ()
    return claude.run("mcp", "add", "--transport", "http", "modelgates", url, *header)


def called(claude: ClaudeCode, token: dict[str, str], tool: str, arguments: dict[str, Any]) -> str:
    """One headless run in which the model calls a tool of ours; what Claude Code sent back as its result."""
    name = f"mcp__modelgates__{tool}"
    prompt = f"Please [[tool:{name} {json.dumps(arguments)}]]"
    all_on_offer = {"ENABLE_TOOL_SEARCH": "false"}  # the simulator calls by name only what it was offered
    words = ("--allowedTools", name, "--output-format", "stream-json", "--verbose")
    ran = claude.ask(prompt, *words, **token, **all_on_offer)
    assert ran.code == 0, ran.err
    events = [json.loads(line) for line in ran.out.splitlines() if line.startswith("{")]
    results = [
        part
        for event in events
        if event["type"] == "user"
        for part in event["message"]["content"]
        if part["type"] == "tool_result"
    ]
    (result,) = results
    content = result["content"]
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def test_claude_code_connects(house: House, tap: Tap, claude: ClaudeCode) -> None:
    """`claude mcp add` as documented, then `claude mcp list` says that it is connected."""
    assert added(claude, tap.url + PATH).code == 0
    listed = claude.run("mcp", "list")

    assert "modelgates" in listed.out, listed.err
    assert "Connected" in listed.out
    assert f"POST {PATH}" in tap.requests


def test_claude_code_reads_the_docs(claude: ClaudeCode, tap: Tap, token: dict[str, str]) -> None:
    """In the middle of a conversation: the model searches, Claude Code asks the server, the answer goes back to the model."""
    added(claude, tap.url + PATH)
    told = called(claude, token, "search_docs", {"query": "what happens when a provider is down"})

    assert "(page routing#" in told


def test_claude_code_explains_its_own_request(
    house: House, claude: ClaudeCode, tap: Tap, token: dict[str, str]
) -> None:
    """With the user's key in the header: where the last request went and what it cost."""
    added(claude, tap.url + PATH, house.keys["good"])
    claude.ask("hello", **token)
    (receipt,) = house.newest(1)
    told = called(claude, token, "explain_generation", {"id": receipt["id"]})

    assert told.startswith(f"# {receipt['id']}: completed")
    assert "answered" in told


@pytest.mark.parametrize("era", ["legacy", "auto"])
async def test_the_official_client_is_served(house: House, era: str) -> None:
    """By a process of its own, over HTTP, without a session that another process would not know."""
    async with Client(house.server.url + PATH, mode=era) as client:
        tools = await client.list_tools()
        told = await client.call_tool("list_models", {})

    assert "search_docs" in {tool.name for tool in tools.tools}
    assert told.is_error is True
