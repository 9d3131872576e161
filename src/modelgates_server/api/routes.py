"""What every route of the management API has in common.

The key is checked before anything is read, the body is read strictly, and a create with an `Idempotency-Key` happens once.
A router is made by `new_router(tag)`. Endpoints are plain functions: FastAPI runs them in its thread pool.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool

from modelgates_server.api import caller
from modelgates_server.api.bodies import read_body, read_json
from modelgates_server.api.caller import Manager
from modelgates_server.api.house import House
from modelgates_server.api.once import asked_for, once
from modelgates_server.errors import BadRequest, NotFound

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class ExactRequest(Request):
    """A request whose body was read already: fractions are Decimals, duplicates were refused."""

    def __init__(self, request: Request, body: bytes, value: Any) -> None:
        super().__init__(request.scope, request.receive)
        self._body = body
        self._exact = value

    async def json(self) -> Any:
        """Give the body's value."""
        return self._exact


class ManagedRoute(APIRoute):
    """A route for management keys only."""

    def get_route_handler(self) -> Handler:
        """Wrap the endpoint."""
        handle = super().get_route_handler()

        async def managed(request: Request) -> Response:
            house: House = request.app.state.house
            request.state.manager = await run_in_threadpool(caller.identify, house, request.scope["headers"])
            _check_address(request)
            body = await read_body(request)
            value = read_json(body) if body else None
            exact, key = ExactRequest(request, body, value), asked_for(request)
            return await handle(exact) if key is None else await once(key, exact, body, handle)

        return managed


def new_router(tag: str) -> APIRouter:
    """Make a router for a group of routes; their paths are relative to /api/v1."""
    return APIRouter(tags=[tag], route_class=ManagedRoute)


async def _manager(request: Request) -> Manager:
    manager: Manager = request.state.manager
    return manager


async def _house(request: Request) -> House:
    house: House = request.app.state.house
    return house


Managing = Annotated[Manager, Depends(_manager)]
"""The type of an endpoint's parameter that is given who asks."""

Housed = Annotated[House, Depends(_house)]
"""The type of an endpoint's parameter that is given the application's parts."""


def _check_address(request: Request) -> None:
    """PostgreSQL keeps no NUL, so no id has one."""
    if "\0" in request.url.path or "\0" in request.scope["path"]:
        raise NotFound
    if any("\0" in name or "\0" in value for name, value in request.query_params.multi_items()):
        raise BadRequest("The query holds a NUL character")
