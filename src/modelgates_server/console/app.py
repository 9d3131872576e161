"""The console as one ASGI application: every page of every module, behind one gate. The edge sends it what lies under its paths."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterable, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final
from weakref import WeakValueDictionary

from starlette.applications import Starlette
from starlette.concurrency import iterate_in_threadpool, run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from modelgates_server import errors
from modelgates_server.accounts.networks import client_address
from modelgates_server.accounts.sessions import Member
from modelgates_server.console import gate
from modelgates_server.console.assets import PREFIX, assets
from modelgates_server.console.house import House
from modelgates_server.console.pages import PAGES, sign_in
from modelgates_server.console.rendering import SAFE, respond, wants_json
from modelgates_server.console.routes import PageRoute
from modelgates_server.console.visits import OPEN, Page, Visit
from modelgates_server.privacy import visible
from modelgates_server.statuses import status_of

log = logging.getLogger(__name__)

_HOST: Final = re.compile(r"(?:\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9.-]{1,253})(?::[0-9]{1,5})?")
AT_ONCE_MAX: Final = 4
"""So many pages of one person are made at the same time; others of theirs wait. There are forty threads and, on PostgreSQL, eight
connections, for everybody."""

_INTERNAL: Final = "Something went wrong inside the gateway. Its log says what."


@dataclass(frozen=True, slots=True)
class FailurePage:
    """Why there is no page: the HTTP status, a sentence, and what to do about it."""

    status: int
    message: str
    remedy: str | None = None


class Turns:
    """Who has how many pages made at the same time. Waiting takes no thread."""

    def __init__(self) -> None:
        self._by_member: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    @asynccontextmanager
    async def one(self, member: Member | None) -> AsyncIterator[None]:
        """A turn of a member. Strangers need none: what they may ask for is quick, or bounded by itself."""
        if member is None:
            yield
            return
        mine = self._by_member.setdefault(member.id, asyncio.Semaphore(AT_ONCE_MAX))
        async with mine:
            yield

    async def each(self, member: Member | None, pieces: AsyncIterable[Any]) -> AsyncIterator[Any]:
        """A turn for each piece of a file. Between two pieces it is given back: whoever reads slowly holds none."""
        coming = aiter(pieces)
        while True:
            async with self.one(member):
                piece = await anext(coming, None)
            if piece is None:
                return
            yield piece


@dataclass(frozen=True, slots=True)
class Place:
    """One path: its pages by method, and the parts they are given. Called as an ASGI application."""

    house: House
    turns: Turns
    pages: Mapping[str, PageRoute] = field(default_factory=dict)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        response = await self._answer(request)
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        as_json = wants_json(request.headers.get("accept", ""))
        visit = _stranger(self.house, request)
        method = "GET" if request.method == "HEAD" else request.method
        route = self.pages.get(method)
        if route is None:
            allowed = sorted(self.pages)
            refused = FailurePage(405, f"This page knows {' and '.join(allowed)} only.")
            response = await run_in_threadpool(_failure, refused, visit, as_json=as_json)
            response.headers["allow"] = ", ".join(allowed)
            return response
        try:
            query = await gate.read_query(request.scope["query_string"])
            visit = replace(visit, query=query, path={key: str(value) for key, value in request.path_params.items()})
            entrance = await run_in_threadpool(gate.enter, self.house, request.headers.get("cookie"))
            visit = replace(visit, visitor=entrance.member, session=entrance.session)
            if method == "POST":
                gate.check_sender(request, self.house.console_origin)
                limit = gate.FORM_BYTES_MAX if entrance.member else gate.STRANGER_BYTES_MAX
                visit = replace(visit, form=await gate.read_form(request, limit))
                gate.check_token(self.house, entrance.session, visit.form)
            gate.admit(visit.visitor, route.role)
            async with self.turns.one(visit.visitor):
                response = await run_in_threadpool(_show, route, visit, as_json=as_json)
        except Exception as error:  # noqa: BLE001 - the last resort is a page too
            return await run_in_threadpool(_failed, error, visit, as_json=as_json)
        if isinstance(response, StreamingResponse):  # nothing of a file is read for whoever asks for its headers only
            pieces = response.body_iterator if request.method != "HEAD" else iterate_in_threadpool(())
            response.body_iterator = self.turns.each(visit.visitor, pieces)
        return response


def build_console(house: House) -> Starlette:
    """Make the application."""
    by_path: dict[str, dict[str, PageRoute]] = {}
    for page in PAGES:
        by_path.setdefault(page.path, {})[page.method] = page
    turns = Turns()
    routes = [Route(path, Place(house, turns, pages)) for path, pages in _fixed_first(by_path)]
    unknown = {"GET": PageRoute("GET", "/", _nowhere, OPEN), "POST": PageRoute("POST", "/", _nowhere, OPEN)}
    nowhere = Place(house, turns, unknown)
    console = Starlette(routes=[Route(f"{PREFIX}{{name}}", _asset, methods=["GET"]), *routes])
    console.router.redirect_slashes = False
    console.router.default = nowhere
    return console


def owned() -> frozenset[str]:
    """The first words of all its paths; empty for the page at ``/``."""
    return frozenset(page.path.split("/")[1].partition(".")[0] for page in PAGES) | {PREFIX.strip("/")}


def _fixed_first(by_path: Mapping[str, dict[str, PageRoute]]) -> Sequence[tuple[str, dict[str, PageRoute]]]:
    """``/logs/sessions`` before ``/logs/{id}``."""
    return sorted(by_path.items(), key=lambda entry: ("{" in entry[0], entry[0]))


def _stranger(house: House, request: Request) -> Visit:
    query = request.scope["query_string"].decode("latin-1")
    url = request.scope["path"] + (f"?{query}" if query else "")
    scheme = "https" if house.local_url.startswith("https:") else "http"
    return Visit(
        house,
        url,
        request.method,
        address=client_address(
            request.client.host if request.client else "", request.headers.getlist("x-forwarded-for"), house.proxies
        ),
        asked=_origin(scheme, request.headers.get("host", "")),
        socket_url=_socket(scheme, request.scope.get("server")),
        cookies=request.headers.get("cookie", ""),
        site=request.headers.get("sec-fetch-site", ""),
        partial="hx-request" in request.headers,
    )


def _origin(scheme: str, host: str) -> str:
    """The origin that a Host header names; empty for what is no host."""
    return f"{scheme}://{host}" if _HOST.fullmatch(host) else ""


def _socket(scheme: str, server: tuple[str, int | None] | None) -> str:
    """Where this process's end of the connection is; empty when that is no address."""
    if server is None or server[1] is None:
        return ""
    return f"{scheme}://{f'[{server[0]}]' if ':' in server[0] else server[0]}:{server[1]}"


def _show(route: PageRoute, visit: Visit, *, as_json: bool) -> Response:
    """Run a page and write its answer; a form that is refused comes back with what was typed."""
    try:
        return respond(route.handler(visit), visit, as_json=as_json)
    except errors.BadRequest as refused:
        if route.again is None or as_json:
            raise
        said = visit.failed(_sentence(refused))
        answer = route.again(said)
        return respond(replace(answer, status=400) if isinstance(answer, Page) else answer, said, as_json=False)


def _failed(error: Exception, visit: Visit, *, as_json: bool) -> Response:
    if isinstance(error, errors.Unauthenticated) and not as_json:
        return respond(sign_in.required(visit), visit, as_json=False)
    status = status_of(error) if isinstance(error, errors.ModelGatesError) else 500
    if status == 500 or not isinstance(error, errors.ModelGatesError):
        log.error("page_failed", extra={"page": visible(visit.here, 200)}, exc_info=error)
        return _failure(FailurePage(500, _INTERNAL), visit, as_json=as_json)
    return _failure(FailurePage(status, _sentence(error), error.remedy), visit, as_json=as_json)


def _failure(page: FailurePage, visit: Visit, *, as_json: bool) -> Response:
    said = visit.failed(page.message)
    return respond(Page("failure.html", page, page.status), said, as_json=as_json)


def _sentence(error: errors.ModelGatesError) -> str:
    message = error.message[:1].upper() + error.message[1:]
    return message if message.endswith((".", "!", "?")) else f"{message}."


def _nowhere(_visit: Visit) -> Page:
    raise errors.NotFound("There is no such page.")


async def _asset(request: Request) -> Response:
    asset = assets().by_name.get(request.path_params["name"])
    if asset is None:
        return Response("There is no such file.\n", 404, SAFE, media_type="text/plain")
    headers: dict[str, Any] = {
        "cache-control": "public, max-age=31536000, immutable",
        "etag": f'"{asset.digest}"',
        "vary": "Accept-Encoding",
        "x-content-type-options": "nosniff",
    }
    if request.headers.get("if-none-match") == headers["etag"]:
        return Response(None, 304, headers)
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(asset.compressed, 200, headers | {"content-encoding": "gzip"}, media_type=asset.media_type)
    return Response(asset.body, 200, headers, media_type=asset.media_type)
