"""Models: what each costs, holds and can do, who serves it, and what the pickers of Claude Desktop and Claude Code will show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from modelgates_server.accounts.values import Caller
from modelgates_server.catalogue.models import Model, Rates
from modelgates_server.console.key_forms import Option
from modelgates_server.console.pickers import Shown, caller_of, shown, spent
from modelgates_server.console.routes import get
from modelgates_server.console.visits import Page, Visit
from modelgates_server.errors import BadRequest
from modelgates_server.limits import MeterRef
from modelgates_server.management.key_lists import KeysWanted, find_entry, slice_keys

KEYS_MAX: Final = 100
TOKENS: Final = 1_000_000
PUSD_PER_NUSD: Final = 1_000

ABILITIES: Final = {
    "thinking_adaptive": "thinks as much as it needs",
    "thinking_enabled": "thinks within a budget",
    "structured_outputs": "answers in a given form",
    "programmatic_tools": "calls tools from code",
    "compaction": "shortens long conversations itself",
    "inference_geo": "can be kept in one region",
}
"""Capabilities of the catalogue that people choose by, in their words."""


@dataclass(frozen=True, slots=True)
class Prices:
    """Nano-USD for a million tokens of each kind."""

    input_nusd: int
    output_nusd: int
    cache_read_nusd: int
    cache_write_5m_nusd: int
    cache_write_1h_nusd: int


@dataclass(frozen=True, slots=True)
class Tier:
    """Prices of requests whose whole input has at most so many tokens; None has no bound."""

    up_to_input_tokens: int | None
    prices: Prices


@dataclass(frozen=True, slots=True)
class Served:
    """Who serves a model, at which price: thousandths of the list price."""

    provider: str
    kind: str
    region: str
    price_permille: int
    keeps_nothing: bool


@dataclass(frozen=True, slots=True)
class ShownModel:
    """A model. Times in Unix seconds. `pickers` says what the apps show of it for the chosen key."""

    id: str
    slug: str
    name: str
    family: str | None
    description: str
    lifecycle: str
    retires_s: int | None
    context_tokens: int
    max_output_tokens: int
    inputs: tuple[str, ...]
    efforts: tuple[str, ...]
    fast: bool
    abilities: tuple[str, ...]
    tiers: tuple[Tier, ...]
    providers: tuple[Served, ...]
    pickers: Shown
    aliases: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ModelsPage:
    """Every model that the catalogue knows; `key` is the hash of the key that the pickers are told for, empty for nobody's."""

    keys: tuple[Option, ...]
    key: str
    unpaid: str
    shown: int
    models: tuple[ShownModel, ...]


def show(visit: Visit) -> Page:
    """The list, as one of the visitor's keys sees it; an administrator may choose anybody's. Raises NotFound."""
    house = visit.house
    wanted = KeysWanted(member_id=visit.only_member_id, state="active")
    found = slice_keys(house.engine, visit.organization_id, wanted, None, KEYS_MAX, visit.now_s)
    rows = [entry.row for entry in found.entries]
    key_hash = visit.query.get("key")
    if key_hash:
        row = find_entry(house.engine, visit.organization_id, key_hash, visit.only_member_id).row
        rows = rows if any(one.hash == row.hash for one in rows) else [row, *rows]
    elif not visit.query.has("key"):
        key_hash = next((row.hash for row in rows if row.member_id == visit.member.id), "")
    caller = _caller(visit, key_hash)
    unpaid = None if caller is None else spent(house, caller, visit.now_s)
    models = tuple(_line(visit, model, caller, unpaid) for model in house.catalogue.models.values())
    context = ModelsPage(
        keys=tuple(Option(row.hash, f"{row.name} ({row.label})") for row in rows),
        key=key_hash if caller is not None else "",
        unpaid="" if unpaid is None else next(model.pickers.why for model in models if model.providers),
        shown=sum(model.pickers.desktop for model in models),
        models=models,
    )
    return Page("models.html", context)


def _caller(visit: Visit, key_hash: str) -> Caller | None:
    """What the key may do; None without one, and for a key that may do nothing any more."""
    try:
        return caller_of(visit, key_hash) if key_hash else None
    except BadRequest:
        return None


def _line(visit: Visit, model: Model, caller: Caller | None, unpaid: MeterRef | None) -> ShownModel:
    house, now_s = visit.house, visit.now_s
    family = model.family
    newest = family is not None and house.catalogue.names.newest.get(family) is model
    return ShownModel(
        id=model.id,
        slug=model.slug,
        name=model.name,
        family=family,
        description=model.description,
        lifecycle=model.lifecycle,
        retires_s=model.retires_s,
        context_tokens=model.context_tokens,
        max_output_tokens=model.max_output_tokens,
        inputs=model.input_modalities,
        efforts=model.efforts,
        fast=model.fast,
        abilities=tuple(words for name, words in ABILITIES.items() if name in model.capabilities),
        tiers=tuple(Tier(tier.up_to_input_tokens, _prices(tier.rates)) for tier in model.price(now_s).tiers),
        providers=tuple(
            Served(
                provider=endpoint.provider,
                kind=endpoint.traits.name or endpoint.kind,
                region=endpoint.region,
                price_permille=endpoint.multiplier_ppm // 1000,
                keeps_nothing=endpoint.zdr,
            )
            for endpoint in house.endpoints.get(model.slug, ())
        ),
        pickers=shown(house, model, caller, unpaid),
        aliases=(f"~anthropic/claude-{family}-latest",) if newest else (),
    )


def _prices(rates: Rates) -> Prices:
    """A million tokens at pico-USD per token, in nano-USD."""
    per_million = [rate * TOKENS // PUSD_PER_NUSD for rate in rates]
    by_name = dict(zip(Rates._fields, per_million, strict=True))
    return Prices(
        **{
            f"{name}_nusd": by_name[name]
            for name in ("input", "output", "cache_read", "cache_write_5m", "cache_write_1h")
        }
    )


ROUTES = (get("/models", show),)
