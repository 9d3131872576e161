"""What a key may know about itself, in Markdown: its models, its limits, its requests. Nothing of anybody else."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

import sqlalchemy as sa

from modelgates_server.accounts import keys
from modelgates_server.accounts.policy import Layer, Limit, credit_meter, limits
from modelgates_server.accounts.values import Caller, KeyClass
from modelgates_server.activity.finding import Seen, find_story, looking
from modelgates_server.catalogue.models import Model, Tier
from modelgates_server.docsite.gate import PATH
from modelgates_server.docsite.hosts import host_of
from modelgates_server.docsite.house import DocsHouse
from modelgates_server.docsite.telling import told
from modelgates_server.errors import NotFound, Unauthenticated, WrongKeyClass
from modelgates_server.ledger.standings import standings
from modelgates_server.limits import Unit
from modelgates_server.money import dollars
from modelgates_server.storage.engine import reading

Headers = Sequence[tuple[bytes, bytes]]

_LAYERS: Final = {
    Layer.DEFAULT_MEMBER: "your share in this workspace (its default guardrail)",
    Layer.DEFAULT_KEY: "this key (the workspace's default guardrail)",
    Layer.MEMBER: "you (your guardrail)",
    Layer.MEMBER_BUDGET: "you (your budget)",
    Layer.API_KEY: "this key (its guardrail)",
    Layer.WORKSPACE: "the workspace",
    Layer.APP: "the app",
    Layer.ORGANIZATION: "the organization",
    Layer.KEY_LIMIT: "this key (its limit)",
}
"""Whose spending a limit counts, as its holder reads it."""


async def caller_of(house: DocsHouse, headers: Headers) -> Caller:
    """Tell who asks. Raises Unauthenticated with how to give a key, WrongKeyClass, StoreUnavailable."""
    presented = keys.presented(headers)
    if not presented:
        raise Unauthenticated(
            "This tool answers about a ModelGates key's own models, requests and limits, and no key came with the request.",
            remedy="Give the MCP server the header 'Authorization: Bearer sk-mg-v1-…'. In Claude Code: claude mcp add --transport http"
            f' modelgates {house.told(host_of(headers))}{PATH} --header "Authorization: Bearer sk-mg-v1-…"',
        )
    caller = await house.directory.identify(presented)
    if caller.key_class is not KeyClass.INFERENCE:
        raise WrongKeyClass(
            "This is a management key; these tools answer about the key that makes requests.",
            remedy="Use an inference key (sk-mg-v1-…).",
        )
    return caller


async def models(house: DocsHouse, headers: Headers) -> str:
    """The models that the key may use and some provider serves, with context and prices."""
    caller = await caller_of(house, headers)
    now_s = house.clock.now_s()
    usable = [model for slug, model in house.catalogue.models.items() if house.served(slug) and caller.may_use(slug)]
    if not usable:
        return "This key may use no model that a provider of this gateway serves. Ask your administrator."
    rows = [row for model in usable for row in _model_rows(model, now_s)]
    head = (
        "Model", "Also called", "Context", "Longest answer", "Input $/M tokens", "Output", "Cache read", "Cache write 5 min", "1 h",
    )  # fmt: skip
    return (
        f"{_table(head, rows)}\n\nPrices are list prices in USD per million tokens (version {house.catalogue.version})."
    )


async def budget(house: DocsHouse, headers: Headers) -> str:
    """Every limit over the key: what is spent and held, what is left, when it resets."""
    caller = await caller_of(house, headers)
    now_s = house.clock.now_s()
    found = limits(await house.directory.policy(caller.key_hash))
    credit = credit_meter(caller.organization_id)
    stood = await standings(house.reader, [credit, *(limit.meter for limit in found)], now_s)
    rows = [_limit_row(limit, stood[limit.meter]["posted"], stood[limit.meter]["held"], now_s) for limit in found]
    head = ("Limit of", "Amount", "Spent", "Held by open requests", "Left", "Resets (UTC)", "Kind")
    parts = [f"Key: {caller.key_name}"]
    parts.append(_table(head, rows) if rows else "No limit stands over this key besides the organization's credit.")
    if stood[credit]["posted"] >= (stood[credit]["limit"] or 0):
        parts.append("The organization's credit is used up: requests are refused until an administrator adds some.")
    return "\n\n".join(parts)


async def explanation(house: DocsHouse, headers: Headers, generation_id: str) -> str:
    """The story of a request of the key's organization; for a member's key only of that member's. Raises NotFound."""
    caller = await caller_of(house, headers)
    seen = Seen(caller.organization_id, caller.member_id)
    return await asyncio.to_thread(_explained, house.engine, generation_id, seen)


def _explained(engine: sa.Engine, generation_id: str, seen: Seen) -> str:
    with reading(engine) as connection:
        story = find_story(looking(connection), generation_id, seen)
    if story is None:
        raise NotFound(
            f"There is no receipt {generation_id[:100]!r} that this key may see.",
            remedy="A request that is still open, or that a budget or rate refused, has none; and a member's key sees its member's"
            " requests only. The id is in the response header x-generation-id.",
        )
    return told(story)


def _model_rows(model: Model, now_s: float) -> Iterable[Sequence[str]]:
    names = (model.id, model.slug, f"{model.context_tokens:,}", f"{model.max_output_tokens:,}")
    tiers = model.price(now_s).tiers
    for number, tier in enumerate(tiers):
        above = "" if number == 0 else f"{model.id}, input above {tiers[number - 1].up_to_input_tokens:,} tokens"
        yield (*((above, "", "", "") if above else names), *_prices(tier))


def _prices(tier: Tier) -> tuple[str, ...]:
    rates = tier.rates
    every = (rates.input, rates.output, rates.cache_read, rates.cache_write_5m, rates.cache_write_1h)
    return tuple(format((Decimal(pusd) / 1_000_000).normalize(), "f") for pusd in every)


def _limit_row(limit: Limit, posted_nusd: int, held_nusd: int, now_s: float) -> Sequence[str]:
    meter = limit.meter
    ends_at_s = meter.window.bounds_s(now_s)[1]
    whose = _LAYERS[limit.layer]
    if limit.layer is Layer.APP:
        whose += f" {meter.scope_id.partition('/')[2]!r}, for its requests"
    kind = "soft: counts and warns, refuses nothing" if limit.soft else "hard"
    return (
        whose,
        dollars(limit.amount_nusd),
        dollars(posted_nusd),
        dollars(held_nusd),
        dollars(max(0, limit.amount_nusd - posted_nusd - held_nusd)),
        "never" if ends_at_s is None else datetime.fromtimestamp(ends_at_s, UTC).strftime("%Y-%m-%d %H:%M"),
        f"{kind}; counts own provider keys too" if meter.unit is Unit.SPEND else kind,
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; what would end a cell is written as a character."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in line) + " |" for line in lines
    )
