"""The docs as one ASGI application: pages, their Markdown, a search, and the MCP server. They need no sign-in and no store.

``/docs`` the table of contents · ``/docs/{page}`` a page · ``/docs/{page}.md`` its Markdown · ``/docs/search?q=`` ·
``/docs/llms.txt`` what there is, for AI clients · ``/docs/_mcp/server`` (`gate.py`)
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from markupsafe import Markup
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from modelgates_server.docsite import rendering
from modelgates_server.docsite.gate import PATH as MCP_PATH
from modelgates_server.docsite.gate import Gate
from modelgates_server.docsite.house import DocsHouse
from modelgates_server.docsite.index import QUERY_CHARACTERS_MAX
from modelgates_server.docsite.library import IMAGE_TYPES, ROOT

MARKDOWN: Final = "text/markdown; charset=utf-8"
PLAIN: Final = "text/plain; charset=utf-8"

INTRODUCTION: Final = "A gateway of your own between Claude clients and those who serve Claude: no outage, no overrun, no mystery, no leak."
LISTED_LEVELS: Final = (2, 3)
"""Headings that stand in a page's own table of contents."""


class Docs:
    """The pages. Every method that answers is for a thread."""

    def __init__(self, house: DocsHouse) -> None:
        self._house = house
        self._library = house.library

    def contents(self, request: Request) -> Response:
        """The table of contents."""
        return self._page("contents.html", introduction=INTRODUCTION, mcp=self._address(request) + MCP_PATH)

    def show(self, request: Request) -> Response:
        """One page, by its name; as Markdown for who asks for that and not for HTML."""
        page = self._library.pages.get(request.path_params["page"])
        if page is None:
            return self.missing(request)
        accepted = request.headers.get("accept", "")
        if "text/markdown" in accepted and "text/html" not in accepted:
            return self.source(request)
        before, after = self._library.neighbours(page.name)
        listed = [heading for heading in page.document.headings if heading.level in LISTED_LEVELS]
        body = Markup(page.document.html)  # noqa: S704 - rendered from our own documents, with raw HTML switched off
        response = self._page("page.html", page=page, body=body, listed=listed, before=before, after=after)
        response.headers["vary"] = "Accept"
        return response

    def source(self, request: Request) -> Response:
        """A page's Markdown."""
        page = self._library.pages.get(request.path_params["page"])
        if page is None:
            return rendering.text(
                f"There is no such page. {self._address(request)}{ROOT}/llms.txt lists all of them.\n", PLAIN, 404
            )
        return rendering.text(page.source, MARKDOWN)

    def search(self, request: Request) -> Response:
        """What answers a search, the best first."""
        query = request.query_params.get("q", "")[:QUERY_CHARACTERS_MAX].strip()
        return self._page("search.html", query=query, hits=self._library.search(query))

    def for_machines(self, request: Request) -> Response:
        """What there is, with addresses of the Markdown (llmstxt.org)."""
        address = self._address(request)
        parts = ["# ModelGates", f"> {INTRODUCTION}", f"An MCP server with a search: {address}{MCP_PATH}"]
        for chapter in self._library.chapters:
            lines = [f"- [{page.title}]({address}{page.path}.md): {page.summary}" for page in chapter.pages]
            parts.append("\n".join((f"## {chapter.title}", "", *lines)))
        return rendering.text("\n\n".join(parts) + "\n", PLAIN)

    def image(self, request: Request) -> Response:
        """An image of the documents, by its name in a fixed table."""
        path = self._library.images.get(request.path_params["name"])
        if path is None:
            return rendering.text("There is no such image.\n", PLAIN, 404)
        return Response(path.read_bytes(), 200, rendering.SAFE | rendering.FRESH, media_type=IMAGE_TYPES[path.suffix])

    def stylesheet(self, request: Request) -> Response:
        """The docs' own stylesheet."""
        if request.path_params["name"] != rendering.STYLESHEET_NAME:
            return rendering.text("There is no such file.\n", PLAIN, 404)
        return Response(rendering.stylesheet(), 200, rendering.SAFE | rendering.KEPT, media_type="text/css")

    def missing(self, _request: Request) -> Response:
        """What stands where no page is."""
        return self._page("missing.html", status=404)

    def _address(self, request: Request) -> str:
        return self._house.told(request.headers.get("host", ""))

    def _page(self, template: str, status: int = 200, **values: object) -> Response:
        settings = {
            "chapters": self._library.chapters,
            "stylesheet": self._house.stylesheet,
            "with_console": self._house.with_console,
            "query": "",
            "page": None,
        }
        return rendering.page(template, status, **(settings | values))


PAGES: Final[dict[str, Callable[[Docs, Request], Response]]] = {
    ROOT: Docs.contents,
    f"{ROOT}/search": Docs.search,
    f"{ROOT}/llms.txt": Docs.for_machines,
    f"{ROOT}/_assets/{{name}}": Docs.stylesheet,
    f"{ROOT}/images/{{name}}": Docs.image,
    f"{ROOT}/{{page}}.md": Docs.source,
    f"{ROOT}/{{page}}": Docs.show,
}
"""By path; the edge has taken a final slash away."""


def build_docs(house: DocsHouse) -> Starlette:
    """Make the application. It answers everything at and below `/docs`."""
    docs = Docs(house)

    async def nowhere(request: Request, _error: Exception) -> Response:
        return await run_in_threadpool(docs.missing, request)

    async def not_so(_request: Request, _error: Exception) -> Response:
        response = rendering.text("Pages can only be read: use GET.\n", PLAIN, 405)
        response.headers["allow"] = "GET, HEAD"
        return response

    async def failed(_request: Request, _error: Exception) -> Response:  # the edge logs it
        return rendering.text("Something went wrong inside the gateway. Its log says what.\n", PLAIN, 500)

    routes = [Route(path, partial(page, docs), methods=["GET"]) for path, page in PAGES.items()]
    app = Starlette(
        routes=[Route(MCP_PATH, Gate(house)), *routes],
        exception_handlers={404: nowhere, 405: not_so, Exception: failed},
    )
    app.router.redirect_slashes = False
    return app


def owned() -> frozenset[str]:
    """The first words of all paths."""
    return frozenset({ROOT.strip("/")})
