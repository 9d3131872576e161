"""The docs and their MCP server on a real port: for strangers, and for the official SDK's client in both generations of the protocol."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from tests.support.gateway import Gateway, ask, open_gateway

from modelgates_server.accounts.values import KeyClass

pytestmark = pytest.mark.asyncio(loop_scope="session")

PATH = "/docs/_mcp/server"
NAMES = {"search_docs", "read_docs", "list_docs", "list_models", "explain_generation", "own_budget"}
ERAS = ("legacy", "auto")


@asynccontextmanager
async def talking(gateway: Gateway, era: str = "auto", **headers: str) -> AsyncIterator[Client]:
    """The official client, connected."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with httpx2.AsyncClient(headers=named) as http:
        transport = streamable_http_client(gateway.url + PATH, http_client=http)
        async with Client(transport, mode=era) as client:
            yield client


async def said(client: Client, tool: str, **arguments: str) -> tuple[bool, str]:
    """Whether a tool refused, and its text."""
    result = await client.call_tool(tool, arguments)
    return bool(result.is_error), "".join(getattr(part, "text", "") for part in result.content)


async def test_strangers_read_the_docs(gateway: Gateway) -> None:
    """Without session and key; with the request's id like every answer."""
    for path in (
        "/docs",
        "/docs/",
        "/docs/budgets",
        "/docs/budgets/",
        "/docs/budgets.md",
        "/docs/search?q=backup",
        "/docs/llms.txt",
    ):
        told = await gateway.request("GET", path)

        assert told.status == 200, path
        assert told.headers["request-id"].startswith("req-")
        assert "set-cookie" not in told.headers


async def test_pages_name_the_consoles_stylesheet(gateway: Gateway) -> None:
    """With its digest, and it is there."""
    page = (await gateway.request("GET", "/docs")).body.decode()
    path = page.partition('rel="stylesheet" href="')[2].partition('"')[0]

    assert path.startswith("/assets/console.css?v=")
    assert (await gateway.request("GET", path)).status == 200


@pytest.mark.parametrize(
    "path",
    [
        "/docs/..%2f..%2fetc%2fpasswd",
        "/docs/%2e%2e/%2e%2e/etc/passwd",
        "/docs/images/%2e%2e%2fglossary.md",
        "/docs/%00",
    ],
)
async def test_no_path_leads_out(gateway: Gateway, path: str) -> None:
    """However it is written."""
    told = await gateway.request("GET", path)

    assert told.status == 404
    assert b"root:" not in told.body


@pytest.mark.parametrize("era", ERAS)
async def test_anybody_reads_the_docs_by_mcp(gateway: Gateway, era: str) -> None:
    """Search, read on where it was found, list; every page is a resource too."""
    async with talking(gateway, era) as client:
        tools = await client.list_tools()
        refused, hits = await said(client, "search_docs", query="how do I restore a backup?")
        page = hits.partition("(page ")[2].partition(")")[0]
        resources = (await client.list_resources()).resources
        read = await client.read_resource("modelgates://docs/budgets")

        assert {tool.name for tool in tools.tools} == NAMES
        assert all(tool.annotations and tool.annotations.read_only_hint for tool in tools.tools)
        assert (refused, page) == (False, "operations#backup-and-restore")
        assert (await said(client, "read_docs", page=page))[1].startswith("## Backup and restore")
        assert "- budgets: Budgets and credit." in (await said(client, "list_docs"))[1]
        assert "modelgates://docs/budgets" in {str(one.uri) for one in resources}
        assert read.contents[0].text.startswith("# Budgets and credit")  # type: ignore[union-attr]


@pytest.mark.parametrize("era", ERAS)
async def test_a_key_asks_about_itself_by_mcp(gateway: Gateway, era: str) -> None:
    """Its models, its limits, its request; by either header."""
    key, _ = gateway.new_key_row("mcp", limit_nusd=10**9, limit_reset="daily")
    sent = await gateway.send(ask(), key=key)
    await gateway.settled()
    cost = gateway.generation(sent.id)["cost_nusd"]

    for headers in ({"authorization": f"Bearer {key}"}, {"x_api_key": key}):
        async with talking(gateway, era, **headers) as client:
            _, models = await said(client, "list_models")
            _, budget = await said(client, "own_budget")
            refused, story = await said(client, "explain_generation", id=sent.id)

        assert "| claude-opus-4-8 | anthropic/claude-opus-4.8 | 1,000,000 |" in models
        assert f"| this key (its limit) | $1.00 | ${cost / 10**9:.9f}".rstrip("0") in budget
        assert refused is False
        assert story.startswith(f"# {sent.id}: completed")
        assert "anthropic (claude-opus-4-8) answered" in story


async def test_without_a_key_it_is_told_how_to_give_one(gateway: Gateway) -> None:
    """And a wrong one is told what is wrong; the docs stay open to both."""
    managing = gateway.new_key("managing", key_class=KeyClass.MANAGEMENT)
    for headers, sentence in (
        ({}, "claude mcp add --transport http"),
        ({"authorization": "Bearer sk-ant-api03-x"}, "not keys of a provider"),
        ({"authorization": f"Bearer {gateway.key[:-1]}_"}, "cut off or mistyped"),
        ({"x_api_key": managing}, "management key"),
    ):
        async with talking(gateway, **headers) as client:
            for tool, arguments in (("list_models", {}), ("own_budget", {}), ("explain_generation", {"id": "gen-1"})):
                refused, text = await said(client, tool, **arguments)

                assert refused is True
                assert sentence in text
            assert (await said(client, "list_docs"))[0] is False


async def test_what_cannot_be_is_a_tools_error(gateway: Gateway) -> None:
    """An unknown page, an unknown request, arguments that are missing: the model reads it and goes on."""
    async with talking(gateway, authorization=f"Bearer {gateway.key}") as client:
        for tool, arguments, sentence in (
            ("read_docs", {"page": "budgetz"}, "There are: budgets"),
            ("read_docs", {"page": "../../etc/passwd"}, "There is no page"),
            ("explain_generation", {"id": "gen-nobody"}, "no receipt 'gen-nobody'"),
            ("search_docs", {}, "query"),
        ):
            refused, text = await said(client, tool, **arguments)

            assert refused is True
            assert sentence in text


async def test_many_first_requests_wake_one_server(tmp_path: Path) -> None:
    """They come at once, each on its own connection; inference goes on meanwhile, and nothing is left at the end."""
    async with open_gateway(tmp_path / "gateway") as gateway:

        async def one(number: int) -> str:
            async with talking(gateway, ERAS[number % 2]) as client:
                return (await said(client, "list_docs"))[1]

        answers = await asyncio.gather(*(one(number) for number in range(12)), gateway.send(ask()))

        assert len(set(map(str, answers[:-1]))) == 1
        living = [task for task in gateway.application.tasks._tasks if task.get_name() == "upkeep docs mcp"]
        assert len(living) == 1
        await gateway.quiet()


async def test_pages_of_other_sites_are_refused(gateway: Gateway) -> None:
    """By their Origin, and by a Host that is none of ours."""
    body, kinds = b"{}", {"content-type": "application/json", "accept": "application/json, text/event-stream"}
    foreign = await gateway.request("POST", PATH, kinds | {"Origin": "https://evil.example"}, body)
    rebound = await gateway.request("POST", PATH, kinds | {"Host": "evil.example"}, body)
    large = await gateway.request("POST", PATH, kinds, b" " * 100_000)

    assert [foreign.status, rebound.status, large.status] == [403, 421, 413]
