"""`GET /v1/models/{author}/{slug}/endpoints`, `/v1/providers` and `/v1/endpoints/zdr`: who serves what, and how it is doing.

Keys of both classes may read them (product-surface 2.5). An inference key sees the endpoints of the models that it may use.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final
from urllib.parse import unquote

import msgspec

from modelgates_server.accounts.values import Caller
from modelgates_server.catalogue import offers
from modelgates_server.catalogue.models import Endpoint
from modelgates_server.edge.context import Context
from modelgates_server.edge.exchange import Request
from modelgates_server.edge.identify import credentials
from modelgates_server.edge.models import usable
from modelgates_server.errors import UnknownModel

IN_SERVICE: Final = 0
DEGRADED: Final = -1
OUT_OF_SERVICE: Final = -2
"""`status`: 0 in service; -1 on trial after an outage, or its last answer was a failure; -2 out of service now. The other numbers
of product-surface 2.5 (-3, -5, -10) are not used."""


async def model_endpoints(context: Context, request: Request, name: str) -> None:
    """The endpoints of one model. A model that the key may not use is as unknown as one that does not exist."""
    caller = await context.directory.identify(credentials(request))
    found = context.catalogue.names.find(unquote(name))
    if found is None or found.model not in usable(context, caller):
        raise UnknownModel(
            f"model: {unquote(name)[:100]} is not known here. GET /v1/models lists what this key can use."
        )
    endpoints = context.relay.endpoints[found.model.slug]
    data = offers.model_data(found.model, _told(context, endpoints))
    await request.respond(200, msgspec.json.encode({"data": data}))


async def zero_retention(context: Context, request: Request) -> None:
    """Every endpoint whose operator vouches that it keeps nothing."""
    caller = await context.directory.identify(credentials(request))
    endpoints = [endpoint for endpoint in _usable(context, caller) if endpoint.zdr]
    await request.respond(200, msgspec.json.encode({"data": _told(context, endpoints)}))


async def list_providers(context: Context, request: Request) -> None:
    """The configured providers, in the order of the configuration."""
    await context.directory.identify(credentials(request))
    served = (endpoint for endpoints in context.relay.endpoints.values() for endpoint in endpoints)
    rows = {endpoint.provider: offers.provider_data(endpoint) for endpoint in served}
    await request.respond(200, msgspec.json.encode({"data": list(rows.values())}))


def _usable(context: Context, caller: Caller) -> Iterable[Endpoint]:
    for model in usable(context, caller):
        yield from context.relay.endpoints[model.slug]


def _told(context: Context, endpoints: Iterable[Endpoint]) -> list[dict[str, Any]]:
    when_s = context.clock.now_s()
    return [offers.endpoint_data(endpoint, _standing(context, endpoint), when_s) for endpoint in endpoints]


def _standing(context: Context, endpoint: Endpoint) -> offers.Standing:
    health, now_s = context.relay.router.health, context.clock.monotonic_s()
    provider, model = endpoint.provider, endpoint.model.slug
    if context.relay.router.condition(endpoint).state == "out":
        status = OUT_OF_SERVICE
    else:
        status = DEGRADED if health.doubtful(provider, model, now_s) else IN_SERVICE
    fitness = health.fitness(provider, model, now_s)
    return offers.Standing(status, health.uptime(provider, model, now_s), fitness.latency_ms, fitness.throughput)
