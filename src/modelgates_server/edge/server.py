"""The ASGI application for programs: one table of routes, one way in, one way out for errors.

No middleware and no redirects (client-protocol E-9). Paths are matched exactly, after the prefixes that users really write:
``/api``, ``/anthropic``, ``/api/anthropic`` and a doubled ``/v1/v1`` (E-7, E-8), with or without a final slash.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Final

import msgspec

from modelgates_server.clock import Ids
from modelgates_server.edge import account, health, messages, models, providers
from modelgates_server.edge.context import Context
from modelgates_server.edge.exchange import ClientGone, Receive, Request, Scope, Send
from modelgates_server.edge.faults import render, with_code
from modelgates_server.edge.mount import Mounted
from modelgates_server.errors import Draining, ModelGatesError, NotFound

log = logging.getLogger(__name__)

Handler = Callable[[Context, Request], Awaitable[None]]

PREFIXES: Final = ("", "/api", "/anthropic", "/api/anthropic")


@dataclass(frozen=True, slots=True)
class Route:
    """Handlers by method. An `inference` route's request id is the id of its generation."""

    methods: Mapping[str, Handler]
    inference: bool = False


async def _not_built(_context: Context, request: Request) -> None:
    """Not built yet: 501 in the OpenAI envelope. Nobody's retry loop is told to go on."""
    body = {
        "error": {
            "code": 501,
            "message": f"{request.path} is not built yet; use /api/v1/messages",
            "type": "not_implemented",
        }
    }
    await request.respond(
        501, msgspec.json.encode(body), ((b"content-type", b"application/json"), (b"x-should-retry", b"false"))
    )


async def _hello(_context: Context, request: Request) -> None:
    """Claude Code's start-up probes need a quick answer and no credential (E-6)."""
    await request.respond(200, b'{"status":"ok"}')


ROUTES: Final[dict[str, Route]] = {
    "/v1/messages": Route({"POST": messages.messages}, inference=True),
    "/v1/messages/count_tokens": Route({"POST": messages.count_tokens}),
    "/v1/models": Route({"GET": models.list_models, "HEAD": models.list_models}),
    "/v1/models/user": Route({"GET": models.list_models}),
    "/v1/models/count": Route({"GET": models.count_models}),
    "/v1/providers": Route({"GET": providers.list_providers}),
    "/v1/endpoints/zdr": Route({"GET": providers.zero_retention}),
    "/v1/key": Route({"GET": account.key}),
    "/v1/auth/key": Route({"GET": account.key}),
    "/v1/generation": Route({"GET": account.generation}),
    "/v1/chat/completions": Route({"POST": _not_built}),
    "/v1/responses": Route({"POST": _not_built}),
    "/hello": Route({"HEAD": _hello, "GET": _hello}),
}
"""By the path behind the prefix."""

HEALTH_ROUTES: Final[dict[str, Route]] = {
    "/livez": Route({"GET": health.live, "HEAD": health.live}),
    "/healthz": Route({"GET": health.live, "HEAD": health.live}),
    "/readyz": Route({"GET": health.ready, "HEAD": health.ready}),
}
METRICS_ROUTES: Final[dict[str, Route]] = {"/metrics": Route({"GET": health.metrics})}
ROOT_ROUTES: Final[dict[str, Route]] = {**HEALTH_ROUTES, **METRICS_ROUTES}

MODEL_PATH: Final = "/v1/models/"
WRAPPED_MODEL_PATH: Final = "/v1/model/"


class Plane(Enum):
    """Which of the routes are at an address: all, those of clients, or those beside management."""

    WHOLE = "whole"
    CLIENTS = "clients"
    ADMIN = "admin"


class Server:
    """The application at one address. The first of `mounts` that knows a path answers where no route does.

    Where nobody does, `pages` tells so to whoever asks for a page: people mistype addresses too. A path of another `plane` is none
    here: it is in no table, so no request is asked twice.
    """

    def __init__(
        self,
        context: Context,
        mounts: Sequence[Mounted] = (),
        pages: Mounted | None = None,
        plane: Plane = Plane.WHOLE,
    ) -> None:
        self._context = context
        self._mounts = tuple(mounts)
        self._pages = pages
        self._ids = Ids(context.clock)
        self._prefixes = () if plane is Plane.ADMIN else PREFIXES
        self._routes = _spellings(self._prefixes) | HEALTH_ROUTES | ({} if plane is Plane.CLIENTS else METRICS_ROUTES)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        context = self._context
        route = self._routes.get(scope["path"]) or self._model_route(scope["path"])
        mounted = self._mounted(scope) if route is None else None
        inference = route is not None and route.inference
        request_id = self._ids.new("gen" if inference else "req")
        request = Request(scope, receive, send, request_id, inference=inference)
        context.metrics.open_requests += 1
        try:
            if mounted is not None:
                mount, path = mounted
                await mount.answer(request, path, scope, receive, send)
            else:
                await self._dispatch(route, request)
        except ClientGone:
            pass
        except ModelGatesError as error:
            await self._fail(request, error)
        except Exception as error:
            log.exception("request_failed", extra={"request": request.id})
            await self._fail(request, error)
        finally:
            context.metrics.open_requests -= 1

    async def _dispatch(self, route: Route | None, request: Request) -> None:
        if route is None:
            raise NotFound(f"There is nothing at {request.method} {request.path[:200]}. The base URL ends in /api.")
        handler = route.methods.get(request.method)
        if handler is None:
            allowed = ", ".join(sorted(route.methods))
            body = render(NotFound(f"{request.method} is not available here; use {allowed}"), request.id).body
            headers = ((b"content-type", b"application/json"), (b"allow", allowed.encode()))
            await request.respond(405, body.replace(b"not_found_error", b"invalid_request_error"), headers)
            return
        if self._context.draining and route.inference:
            raise Draining
        await handler(self._context, request)

    async def _fail(self, request: Request, error: BaseException) -> None:
        if request.started:
            return
        rendered = render(error, request.id)
        body = rendered.body if request.inference else with_code(rendered)
        await request.respond(rendered.status, body, rendered.headers)

    def _mounted(self, scope: Scope) -> tuple[Mounted, str] | None:
        for mount in self._mounts:
            known = mount.path(scope["path"])
            if known is not None:
                return mount, known
        return None if self._pages is None or not _looks(scope) else (self._pages, scope["path"])

    def _model_route(self, path: str) -> Route | None:
        for prefix in self._prefixes:
            for stem, route in ((MODEL_PATH, self._of_model), (WRAPPED_MODEL_PATH, _wrapped)):
                for base in (prefix + stem, prefix + "/v1" + stem):
                    if path.startswith(base) and len(path) > len(base):
                        return route(path[len(base) :].removesuffix("/"))
        return None

    def _of_model(self, name: str) -> Route:
        """A model, or with ``/endpoints`` behind it its endpoints; ids may contain slashes, and a real id wins."""
        model, _, last = name.rpartition("/")
        if last == "endpoints" and model and self._context.catalogue.names.find(name) is None:
            return Route({"GET": partial(providers.model_endpoints, name=model)})
        return Route({"GET": partial(models.one_model, name=name)})


def _looks(scope: Scope) -> bool:
    """Whether a browser asks for a page. Programs never say so."""
    return scope["method"] in {"GET", "HEAD"} and any(
        name == b"accept" and b"text/html" in value for name, value in scope["headers"]
    )


def _wrapped(name: str) -> Route:
    return Route({"GET": partial(models.wrapped_model, name=name)})


def _spellings(prefixes: Sequence[str]) -> dict[str, Route]:
    """Every accepted spelling of every path, so that dispatch is one look-up."""
    spelled: dict[str, Route] = {}
    for path, route in ROUTES.items():
        for prefix in prefixes:
            for spelling in (prefix + path, prefix + "/v1" + path if path.startswith("/v1/") else prefix + path):
                spelled[spelling] = spelled[spelling + "/"] = route
    return spelled
