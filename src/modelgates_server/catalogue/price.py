"""The only cost arithmetic in the system: bounds for holds, and charges. Integers throughout; rounded up once, at the end.

A cost is a sum in pico-USD times a fraction (fast mode, region, the provider's own multiplier); sum and fraction are kept
apart until the single rounding, so nothing is lost on the way. Rules: providers 9 and 10, design decisions 4 and 6.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

from modelgates_server.catalogue.load import Catalogue
from modelgates_server.catalogue.models import Endpoint, Model, Rates, dearest
from modelgates_server.dialects.values import Ask, Iteration, Shape, Usage
from modelgates_server.money import PUSD_PER_NUSD

MESSAGE_TOKENS: Final = 64
"""More than any role, separator or block frame of one message."""

TOOLS_TOKENS: Final = 1_200
"""More than the system prompt that any model adds when there are tools (286 to 675 measured by the vendor)."""

IMAGE_TOKENS: Final = 5_000
"""More than the largest image costs (4,784 on high-resolution models)."""

PPM: Final = 1_000_000

_UNBILLED_OUTCOMES: Final = frozenset({"failed", "broken"})
_UNBILLED_ENDS: Final = frozenset({None, "", "refusal"})


class Factor(NamedTuple):
    """A fraction that multiplies a whole cost."""

    numerator: int
    denominator: int

    def times(self, other: tuple[int, int]) -> Factor:
        """Both at once."""
        return Factor(self.numerator * other[0], self.denominator * other[1])

    def nusd(self, pusd: int, fees_pusd: int = 0) -> int:
        """`pusd` times the fraction plus `fees_pusd`, which no factor touches, in nano-USD, rounded up."""
        scaled = pusd * self.numerator + fees_pusd * self.denominator
        return -(-scaled // (self.denominator * PUSD_PER_NUSD))


class Part(NamedTuple):
    """One line of a bill: how many, and their cost in pico-USD with all factors (rounded down; the total is exact)."""

    name: str
    tokens: int
    pusd: int


@dataclass(frozen=True, slots=True)
class Charge:
    """What a request cost: nano-USD, the lines, the price it used, and what the cache saved (negative when it cost more)."""

    nusd: int
    parts: tuple[Part, ...]
    price_version: str
    cache_discount_nusd: int


def input_bound_tokens(shape: Shape, model: Model) -> int:
    """No request of this shape has more input tokens: a token covers at least a byte, and the window covers the rest."""
    if shape.unbounded:
        return model.context_tokens
    counted = shape.body_bytes + MESSAGE_TOKENS * shape.messages_max + IMAGE_TOKENS * shape.images_max
    return min(counted + TOOLS_TOKENS * shape.has_tools, model.context_tokens)


def ceiling_nusd(endpoint: Endpoint, ask: Ask, input_tokens: int, output_tokens: int, when_s: float) -> int:
    """The most that a request with at most that many tokens can cost at an endpoint, in nano-USD.

    Output beyond what the model can give is not counted.
    """
    rates = endpoint.model.price(when_s).dearest(input_tokens)
    output_tokens = min(output_tokens, endpoint.model.max_output_tokens)
    pusd = input_tokens * _dearest_input(rates, ask.shape) + output_tokens * rates.output
    return _asked_factor(endpoint, ask).nusd(pusd, ask.shape.web_searches_max * endpoint.modifiers.web_search_pusd)


def affordable_output_tokens(
    endpoint: Endpoint, ask: Ask, input_tokens: int, available_nusd: int, when_s: float
) -> int:
    """The most output tokens for which `ceiling_nusd` is at most `available_nusd`; -1 when not even the input fits."""
    if ceiling_nusd(endpoint, ask, input_tokens, 0, when_s) > available_nusd:
        return -1
    rates = endpoint.model.price(when_s).dearest(input_tokens)
    factor = _asked_factor(endpoint, ask)
    fees_pusd = ask.shape.web_searches_max * endpoint.modifiers.web_search_pusd
    spent = input_tokens * _dearest_input(rates, ask.shape) * factor.numerator + fees_pusd * factor.denominator
    left = available_nusd * PUSD_PER_NUSD * factor.denominator - spent
    each = rates.output * factor.numerator
    most = endpoint.model.max_output_tokens
    return min(most, left // each) if each else most


def input_cost_nusd(endpoint: Endpoint, input_tokens: int, when_s: float) -> int:
    """What that much fresh input costs by itself, in nano-USD."""
    rates = endpoint.model.price(when_s).rates(input_tokens)
    return Factor(endpoint.multiplier_ppm, PPM).nusd(input_tokens * rates.input)


def billable(usage: Usage, stop_reason: str | None, outcome: str) -> bool:
    """Whether the customer pays (product-surface 5.5): not for a failure, nor for a completion of nothing.

    A client that leaves pays for what was sent and generated until then, even if that is no output yet.
    """
    if outcome in _UNBILLED_OUTCOMES:
        return False
    if outcome == "completed" and usage.output_tokens == 0 and not usage.iterations:
        return stop_reason not in _UNBILLED_ENDS
    return True


def charge(usage: Usage, endpoint: Endpoint, catalogue: Catalogue, when_s: float) -> Charge:
    """What `usage` costs at an endpoint. With iterations, each is priced by its own model (providers 10).

    Raises ValueError for negative counts, which the meter never gives.
    """
    factor = _used_factor(endpoint, usage)
    tokens = [0] * len(Rates._fields)
    pusd = [0] * len(Rates._fields)
    saved_pusd = 0
    for entry in usage.iterations or (_whole(usage),):
        rates = _rates(entry, usage, endpoint, catalogue, when_s)
        for kind, count in enumerate(_counts(entry)):
            if count < 0:
                raise ValueError("token counts are never negative")
            tokens[kind] += count
            pusd[kind] += count * rates[kind]
        saved_pusd += entry.cache_read_tokens * (rates.input - rates.cache_read)
        saved_pusd += entry.cache_write_5m_tokens * (rates.input - rates.cache_write_5m)
        saved_pusd += entry.cache_write_1h_tokens * (rates.input - rates.cache_write_1h)
    if usage.web_searches < 0:
        raise ValueError("token counts are never negative")
    fees_pusd = usage.web_searches * endpoint.modifiers.web_search_pusd
    parts = [
        Part(name, tokens[kind], pusd[kind] * factor.numerator // factor.denominator)
        for name, kind in _BILL
        if tokens[kind]
    ]
    if usage.web_searches:
        parts.append(Part("web_search", usage.web_searches, fees_pusd))
    return Charge(factor.nusd(sum(pusd), fees_pusd), tuple(parts), catalogue.version, factor.nusd(saved_pusd))


def charge_together(usage: Usage, rates: Rates, endpoint: Endpoint) -> int:
    """What many requests cost together in tokens, in nano-USD: their summed `usage`, all at one tier's `rates`; no fees."""
    pusd = sum(count * rate for count, rate in zip(_counts(_whole(usage)), rates, strict=True))
    return _used_factor(endpoint, usage).nusd(pusd)


_BILL: Final = tuple((name, Rates._fields.index(name)) for name in (
    "input", "cache_read", "cache_write_5m", "cache_write_1h", "output"
))  # fmt: skip
"""The lines of a bill in the order in which people read them, and their places in `Rates`."""


def _counts(entry: Iteration) -> tuple[int, ...]:
    """The counts in the order of `Rates`."""
    return (
        entry.input_tokens,
        entry.output_tokens,
        entry.cache_write_5m_tokens,
        entry.cache_write_1h_tokens,
        entry.cache_read_tokens,
    )


def _whole(usage: Usage) -> Iteration:
    return Iteration(
        "message",
        None,
        usage.input_tokens,
        usage.output_tokens,
        usage.cache_read_tokens,
        usage.cache_write_5m_tokens,
        usage.cache_write_1h_tokens,
    )


def _rates(entry: Iteration, usage: Usage, endpoint: Endpoint, catalogue: Catalogue, when_s: float) -> Rates:
    """The rates of the model that really served (providers 10).

    A message under a name that we do not know is the endpoint's own model under the provider's name for it. An iteration
    that names a model which we do not know is priced as the dearest: never free, never too low.
    """
    total = entry.input_tokens + entry.cache_read_tokens + entry.cache_write_5m_tokens + entry.cache_write_1h_tokens
    name = entry.model or usage.served_model
    if name is None or name in {endpoint.model.id, endpoint.upstream_model}:
        return endpoint.model.price(when_s).rates(total)
    found = catalogue.names.find(name)
    if found is not None:
        return found.model.price(when_s).rates(total)
    if entry.model is None or entry.model == usage.served_model:
        return endpoint.model.price(when_s).rates(total)
    return dearest(*(model.price(when_s).rates(total) for model in catalogue.models.values()))


def _dearest_input(rates: Rates, shape: Shape) -> int:
    return max(rates.input, rates.cache_read, rates.cache_write_5m, rates.cache_write_1h if shape.cache_1h else 0)


def _asked_factor(endpoint: Endpoint, ask: Ask) -> Factor:
    """The dearest factor that the request could come to. Any wish for a region may end in the dear one."""
    factor = Factor(endpoint.multiplier_ppm, PPM)
    if ask.speed == "fast":
        factor = factor.times(endpoint.modifiers.fast)
    if ask.inference_geo is not None:
        factor = factor.times(endpoint.modifiers.us)
    return factor


def _used_factor(endpoint: Endpoint, usage: Usage) -> Factor:
    """The factor by what the provider reports, which may be less than what was asked."""
    factor = Factor(endpoint.multiplier_ppm, PPM)
    if usage.speed == "fast":
        factor = factor.times(endpoint.modifiers.fast)
    if usage.inference_geo == "us":
        factor = factor.times(endpoint.modifiers.us)
    if usage.service_tier == "batch":
        factor = factor.times(endpoint.modifiers.batch)
    return factor
