"""The nouns of the catalogue. Prices are integers in pico-USD per token (`money.py`); dates are Unix seconds, UTC."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from modelgates_server.catalogue.kinds import LENIENT, Kind


class Rates(NamedTuple):
    """What one token of each kind costs, in pico-USD."""

    input: int
    output: int
    cache_write_5m: int
    cache_write_1h: int
    cache_read: int


@dataclass(frozen=True, slots=True)
class Tier:
    """Rates for requests whose whole input (fresh, read and written) is at most `up_to_input_tokens`; None has no bound."""

    up_to_input_tokens: int | None
    rates: Rates

    def covers(self, total_input_tokens: int) -> bool:
        return self.up_to_input_tokens is None or total_input_tokens <= self.up_to_input_tokens


@dataclass(frozen=True, slots=True)
class Price:
    """The tiers in force from `valid_from_s` on: the smallest bound first, the last one without a bound."""

    valid_from_s: int
    tiers: tuple[Tier, ...]

    def rates(self, total_input_tokens: int) -> Rates:
        """The rates for a request with that much input. The whole request is priced by one tier."""
        return next(tier.rates for tier in self.tiers if tier.covers(total_input_tokens))

    def dearest(self, total_input_tokens_max: int) -> Rates:
        """The dearest rate of each kind among the tiers that a request of at most that much input can reach."""
        reachable: list[Rates] = []
        for tier in self.tiers:
            reachable.append(tier.rates)
            if tier.covers(total_input_tokens_max):
                break
        return dearest(*reachable)


def dearest(*rates: Rates) -> Rates:
    """The largest rate of each kind."""
    return Rates(*map(max, zip(*rates, strict=True)))


@dataclass(frozen=True, slots=True)
class Model:
    """One model that can be served. `id` is Anthropic's bare id, `slug` the routing name; both are unique.

    `prices` are in the order of their dates. `family` is None for a model that belongs to no Claude line. `retires_s` is
    announced, `retires_not_before_s` only the vendor's earliest date. `capabilities` are the words of the data file:
    what a model accepts (`thinking_adaptive`), or no longer accepts (`sampling_removed`); see providers 4.
    """

    id: str
    slug: str
    canonical_slug: str
    aliases: tuple[str, ...]
    dated: tuple[str, ...]
    name: str
    family: str | None
    description: str
    created_s: int
    lifecycle: str  # active | deprecated
    retires_s: int | None
    retires_not_before_s: int | None
    context_tokens: int
    max_output_tokens: int
    fast: bool
    input_modalities: tuple[str, ...]
    capabilities: frozenset[str]
    efforts: tuple[str, ...]
    default_effort: str | None
    prices: tuple[Price, ...]

    @property
    def supports_1m(self) -> bool:
        """Whether the context window holds a million tokens."""
        return self.context_tokens >= 1_000_000

    def price(self, when_s: float) -> Price:
        """The price in force at a time; before the first date, the first: there is no time without a price."""
        in_force = self.prices[0]
        for price in self.prices:
            if price.valid_from_s <= when_s:
                in_force = price
        return in_force


@dataclass(frozen=True, slots=True)
class Modifiers:
    """Factors on token prices as (numerator, denominator), and the fee of one web search in pico-USD (providers 9)."""

    fast: tuple[int, int]
    us: tuple[int, int]
    batch: tuple[int, int]
    web_search_pusd: int


class Own(NamedTuple):
    """The credential of an organisation that an endpoint is asked with, instead of the operator's (BYOK).

    Those of lower `sort_order` come first; one that `is_fallback` comes after the operator's own account. `version` is another one
    when the key was replaced.
    """

    id: str
    is_fallback: bool = False
    sort_order: int = 0
    version: str = ""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One concrete way to serve a model.

    `kind` is the provider's kind by its word, `traits` all that is known about that kind. `multiplier_ppm` is the provider's price in
    millionths of the list price. `zdr`: the operator vouches that it keeps nothing; `collects`: it may keep or train on prompts.
    `max_output_tokens` is the most that is asked of it, for providers that reserve what could be written. `own` is None where the
    operator's account is asked.
    """

    provider: str
    kind: str
    model: Model
    upstream_model: str
    modifiers: Modifiers
    multiplier_ppm: int = 1_000_000
    region: str = ""
    zdr: bool = False
    collects: bool = False
    max_output_tokens: int | None = None
    traits: Kind = LENIENT
    own: Own | None = None

    @property
    def account(self) -> str:
        """Whose standing it has: that of the organisation's credential, or of the operator's account at the provider."""
        return self.provider if self.own is None else f"{self.own.id}/{self.own.version}"

    @property
    def place(self) -> str:
        """What tells it from every other one in a request's story."""
        return f"{self.provider if self.own is None else self.own.id} {self.model.slug}"

    @property
    def cancel(self) -> str:
        """What closing the connection does: `stops` ends generation and billing, `bills_full` does not."""
        return self.traits.cancel

    @property
    def tag(self) -> str:
        """The routing slug with its region, such as ``vertex/us-east5``."""
        return f"{self.provider}/{self.region}" if self.region else self.provider

    def named_by(self, slug: str) -> bool:
        """Whether a slug of the `provider` object means this endpoint: its provider's slug, kind or alias, with or without region."""
        base, _, region = slug.lower().partition("/")
        if region and region != self.region:
            return False
        return base in (self.provider, self.traits.word) or base in self.traits.aliases
