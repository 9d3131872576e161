"""The MCP server itself: its tools and resources, made with the official SDK. `gate.py` imports this when somebody first asks."""

from __future__ import annotations

import functools
import logging
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Final

from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.resources import TextResource
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.server.transport_security import TransportSecuritySettings
from mcp.types import CallToolResult, TextContent, ToolAnnotations
from pydantic import Field
from starlette.concurrency import run_in_threadpool

from modelgates_server import __version__
from modelgates_server.docsite import account, reading
from modelgates_server.docsite.gate import PATH
from modelgates_server.docsite.hosts import host_of
from modelgates_server.docsite.house import DocsHouse
from modelgates_server.docsite.index import QUERY_CHARACTERS_MAX
from modelgates_server.errors import ModelGatesError

BODY_BYTES_MAX: Final = 64 * 1024
"""A question is short."""

INSTRUCTIONS: Final = (
    "ModelGates is the gateway that stands between you and the providers of Claude models. Use search_docs and read_docs for"
    " questions about it: set-up of Claude Desktop and Claude Code, budgets, routing and failover, errors, operations."
    " With the user's ModelGates key, list_models, explain_generation and own_budget answer about that key's own models, requests"
    " and limits."
)

Query = Annotated[
    str,
    Field(
        description="Words or a question, such as: retry after 429",
        json_schema_extra={"minLength": 1, "maxLength": QUERY_CHARACTERS_MAX},
    ),
]
PageName = Annotated[str, Field(description="A page's name as list_docs and search_docs give it, such as: budgets")]
SectionName = Annotated[
    str, Field(description="Only this section: its name behind the # of an address. Empty gives the whole page.")
]
GenerationId = Annotated[
    str,
    Field(description="The id gen-… of a request: the response header x-generation-id, and the id of the message"),
]
Tool = Callable[..., Awaitable[str]]


class Tools:
    """What an AI client can ask. Each answers in Markdown; what cannot be done is told as a tool's error, with the remedy."""

    def __init__(self, house: DocsHouse) -> None:
        self._house = house

    async def search_docs(self, query: Query, context: Context) -> str:
        """Search the documentation of ModelGates. Gives the best sections with excerpts and their addresses; read_docs gives their text."""
        return await run_in_threadpool(reading.found, self._house.library, query, _address(self._house, context))

    async def read_docs(self, page: PageName, section: SectionName = "") -> str:
        """Read one page of the documentation of ModelGates as Markdown, or one section of it."""
        return await run_in_threadpool(reading.page, self._house.library, page, section)

    async def list_docs(self) -> str:
        """List every page of the documentation of ModelGates with one line about each."""
        return await run_in_threadpool(reading.contents, self._house.library)

    async def list_models(self, context: Context) -> str:
        """List the models that the user's ModelGates key may use, with context windows and prices. Needs the key."""
        return await account.models(self._house, _headers(context))

    async def explain_generation(self, id: GenerationId, context: Context) -> str:  # noqa: A002 - the client's word
        """Explain one request: where it went and why, each attempt, tokens, and the bill. Needs the user's ModelGates key."""
        return await account.explanation(self._house, _headers(context), id)

    async def own_budget(self, context: Context) -> str:
        """Show every limit that the user's ModelGates key passes: spent, held, left, and when it resets. Needs the key."""
        return await account.budget(self._house, _headers(context))


def build_server(house: DocsHouse) -> MCPServer[Any]:
    """Make the server. Reads the documents: for a thread."""
    server: MCPServer[Any] = MCPServer(
        "modelgates",
        title="ModelGates",
        instructions=INSTRUCTIONS,
        website_url=f"{house.origin}/docs",
        version=__version__,
        log_level="WARNING",
        subscriptions=False,  # nothing changes while the process lives, and no stream is kept open
    )
    logging.getLogger("mcp").setLevel(logging.WARNING)  # it would write a line for every message
    tools = Tools(house)
    looks = ToolAnnotations(read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False)
    for tool in (
        tools.search_docs, tools.read_docs, tools.list_docs, tools.list_models, tools.explain_generation, tools.own_budget,
    ):  # fmt: skip
        server.add_tool(_told(tool), annotations=looks, structured_output=False)
    for page in house.library.pages.values():
        server.add_resource(
            TextResource(
                uri=f"modelgates://docs/{page.name}",
                name=page.name,
                title=page.title,
                description=page.summary or None,
                mime_type="text/markdown",
                text=page.source,
            )
        )
    return server


def session_manager(house: DocsHouse) -> StreamableHTTPSessionManager:
    """Make the server's HTTP side: one answer to each request, in JSON, nothing remembered between them.

    Host and Origin are checked by `gate.py`, which knows more forms of our own address than the SDK's list can hold.
    """
    server = build_server(house)
    server.streamable_http_app(
        streamable_http_path=PATH,
        json_response=True,
        stateless_http=True,
        max_request_body_size=BODY_BYTES_MAX,
        transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),
    )
    return server.session_manager


def _told(tool: Tool) -> Callable[..., Awaitable[str | CallToolResult]]:
    """A tool whose refusals are told in their own words; of anything else the client learns nothing."""

    @functools.wraps(tool)
    async def told(*args: Any, **kwargs: Any) -> str | CallToolResult:
        try:
            return await tool(*args, **kwargs)
        except ModelGatesError as refused:
            text = " ".join(filter(None, (refused.message, refused.remedy)))
            return CallToolResult(content=[TextContent(type="text", text=text)], is_error=True)

    return told


def _headers(context: Context) -> list[tuple[bytes, bytes]]:
    """The headers of the HTTP request that carries a call."""
    request = context.request_context.request
    return [] if request is None else request.scope["headers"]


def _address(house: DocsHouse, context: Context) -> str:
    """The address by which the client came, where it is one of ours."""
    return house.told(host_of(_headers(context)))
