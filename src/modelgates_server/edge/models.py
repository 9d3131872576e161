"""`GET /v1/models` and `/v1/models/{id}`: what the caller's key can really use, in the form its client reads."""

from __future__ import annotations

from urllib.parse import parse_qsl, unquote

import msgspec

from modelgates_server.accounts.values import Caller
from modelgates_server.catalogue import listing
from modelgates_server.catalogue.models import Model
from modelgates_server.edge.context import Context
from modelgates_server.edge.exchange import Request
from modelgates_server.edge.identify import identify
from modelgates_server.errors import UnknownModel
from modelgates_server.ledger.standings import standings
from modelgates_server.limits import MONEY, Unit
from modelgates_server.storage.reader import Reader

_CLAUDE_AGENTS = ("claude", "anthropic")


async def list_models(context: Context, request: Request) -> None:
    """The models that the key may use. A key that cannot pay sees none: its picker tells the story at once (product page)."""
    caller = await identify(request, context.directory)
    models = usable(context, caller) if await can_pay(context.reader, caller, context.clock.now_s()) else []
    query = dict(parse_qsl(request.query.decode("latin-1")))
    page = listing.page(
        models, query, anthropic_form=anthropic_form(request), catalogue=context.catalogue, when_s=context.clock.now_s()
    )
    await request.respond(200, msgspec.json.encode(page))


async def one_model(context: Context, request: Request, name: str) -> None:
    """One model, by any spelling that resolves."""
    caller = await identify(request, context.directory)
    resolved = context.catalogue.resolve(unquote(name))
    if resolved.model not in usable(context, caller):
        raise UnknownModel(f"model: {unquote(name)}")
    entry = listing.entry(
        resolved.model,
        anthropic_form=anthropic_form(request),
        catalogue=context.catalogue,
        when_s=context.clock.now_s(),
    )
    await request.respond(200, msgspec.json.encode(entry))


async def count_models(context: Context, request: Request) -> None:
    """How many models the list has (product-surface 2.3)."""
    caller = await identify(request, context.directory)
    await request.respond(200, msgspec.json.encode({"data": {"count": len(usable(context, caller))}}))


async def wrapped_model(context: Context, request: Request, name: str) -> None:
    """One model in an envelope, as ``/v1/model/{author}/{slug}`` gives it (product-surface 2.3)."""
    caller = await identify(request, context.directory)
    model = context.catalogue.resolve(unquote(name)).model
    if model not in usable(context, caller):
        raise UnknownModel(f"model: {unquote(name)}")
    entry = listing.entry(model, anthropic_form=False, catalogue=context.catalogue, when_s=context.clock.now_s())
    await request.respond(200, msgspec.json.encode({"data": entry}))


def anthropic_form(request: Request) -> bool:
    """Whether the client wants bare hyphen ids (design section 6): it says so by a header or by its name."""
    if b"anthropic-version" in request.headers or b"x-api-key" in request.headers:
        return True
    agent = (request.header(b"user-agent") or "").lower()
    return any(word in agent for word in _CLAUDE_AGENTS)


def usable(context: Context, caller: Caller) -> list[Model]:
    """The models that the caller's policy allows and some provider serves."""
    return [
        model
        for slug, model in context.catalogue.models.items()
        if context.relay.endpoints.get(slug) and caller.may_use(slug)
    ]


async def can_pay(reader: Reader, caller: Caller, now_s: float) -> bool:
    """Whether every budget of the caller, and the credit, has something left. Own provider keys need no credit."""
    units = {Unit.SPEND} if caller.credentials else MONEY
    refs = [ref for ref in caller.meters if ref.unit in units and (ref.limit is not None or ref.limit_from_row)]
    for ref, meter in (await standings(reader, refs, now_s)).items():
        limit = (meter["limit"] or 0) if ref.limit_from_row else ref.limit
        if limit is not None and meter["posted"] >= limit:
            return False
    return True
