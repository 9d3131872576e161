"""The management API as one ASGI application, made of routers. `edge/server.py` sends it what lies under its paths."""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter, FastAPI, Security
from fastapi.security import APIKeyHeader, HTTPBearer
from starlette.routing import Route, compile_path

from modelgates_server import __version__
from modelgates_server.api import (
    activity,
    alerts,
    analytics,
    audit,
    byok,
    faults,
    generations,
    guardrails,
    keys,
    members,
    workspaces,
)
from modelgates_server.api import credits as credits_routes
from modelgates_server.api.house import House
from modelgates_server.api.once import PARAMETER
from modelgates_server.api.routes import ManagedRoute
from modelgates_server.api.shapes import FaultAnswer

PREFIX: Final = "/api/v1"
OPENAPI_PATH: Final = "/api/openapi.json"

ROUTERS: Final[tuple[APIRouter, ...]] = (
    keys.router,
    credits_routes.router,
    activity.router,
    analytics.router,
    generations.router,
    audit.router,
    byok.router,
    alerts.router,
    members.router,
    workspaces.router,
    guardrails.router,
)
"""Every group of routes. One that is missing here does not exist."""

_BEARER: Final = HTTPBearer(auto_error=False, scheme_name="bearer", description="A management key (sk-mg-mgmt-v1-…).")
_HEADER: Final = APIKeyHeader(name="x-api-key", auto_error=False, scheme_name="x-api-key", description="The same key.")
_FAULTS: Final[dict[int | str, dict[str, Any]]] = {
    "4XX": {"model": FaultAnswer, "description": "Refused; `error.code` is the status."},
    "5XX": {"model": FaultAnswer, "description": "Failed; nothing was changed unless told otherwise."},
}


class ManagementApi(FastAPI):
    """The application; its OpenAPI file says of every create that it can be repeated safely."""

    def openapi(self) -> dict[str, Any]:
        """Describe it, once."""
        if self.openapi_schema is None:
            for operations in super().openapi()["paths"].values():
                if "post" in operations:
                    operations["post"].setdefault("parameters", []).append(PARAMETER)
        return super().openapi()


def build_api(house: House) -> FastAPI:
    """Make the application."""
    app = ManagementApi(
        title="ModelGates management API",
        version=__version__,
        openapi_url=OPENAPI_PATH,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        dependencies=[Security(_BEARER), Security(_HEADER)],
        responses=_FAULTS,
    )
    app.state.house = house
    app.state.methods = _methods()
    faults.install(app)
    for router in ROUTERS:
        _check_managed(router)
        app.include_router(router, prefix=PREFIX)
    return app


def _check_managed(router: APIRouter) -> None:
    """A route of another kind would ask nobody for a key."""
    if open_to_all := [route for route in router.routes if not isinstance(route, ManagedRoute)]:
        raise AssertionError(f"{open_to_all} are not for management keys only: make the router with new_router")


def _methods() -> tuple[faults.Methods, ...]:
    """Which methods there are at which paths, for refusals of the others."""
    return tuple(
        faults.Methods(compile_path(PREFIX + route.path)[0], frozenset(route.methods or ()))
        for router in ROUTERS
        for route in router.routes
        if isinstance(route, Route)
    )


def owned() -> frozenset[str]:
    """Give the first words of all paths below the prefix: ``keys``, ``credits`` and so on."""
    return frozenset(getattr(route, "path", "/").split("/")[1] for router in ROUTERS for route in router.routes)
