"""What analytics can measure and break down by: the allow-list of every column, and where its value stands.

Two tables know what happened: `activity_hours` (roll-ups, small, exact to the hour) and `generations` (each request). A measure or
a dimension names its column in each of them; one that the roll-ups lack can only be read from the generations.

Names are those of product-surface 2.7. `meta` shows what is measured; some further names are accepted, because scripts ask for
them, and are nothing here: 0 for counts, null for the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

import sqlalchemy as sa

from modelgates_server.storage import schema

Column = sa.ColumnElement[Any]

_HOURS = schema.activity_hours.c
_EACH = schema.generations.c

CONTEXT_BUCKETS: Final = ((1_000, "1K"), (10_000, "10K"), (100_000, "100K"), (1_000_000, "1M"))
"""Upper bounds of the prompt's tokens, and how the buckets are called; what is larger is "1M+"."""


class Kind(Enum):
    """How a metric comes from its measures."""

    SUM = "sum"
    COMPONENT = "component"  # a sum that is null where nothing was used (product-surface 2.7)
    RATIO = "ratio"
    AVERAGE = "average"
    QUANTILE = "quantile"
    ABSENT = "absent"  # we have no data for it


@dataclass(frozen=True, slots=True)
class Measure:
    """A number that each row has. `hours` is None when the roll-ups do not keep it; null rows do not count in averages."""

    each: Column
    hours: Column | None = None


@dataclass(frozen=True, slots=True)
class Metric:
    """A number that people ask for. `of` and `per` name measures; `quantile` is in percent; `scale` divides what was kept."""

    name: str
    label: str
    display_format: str  # number | currency | percent | latency | throughput
    kind: Kind
    of: tuple[str, ...] = ()
    per: tuple[str, ...] = ()
    quantile: int = 0
    scale: int = 1

    @property
    def is_rate(self) -> bool:
        """Whether values of several rows must not be added."""
        return self.kind in {Kind.RATIO, Kind.AVERAGE, Kind.QUANTILE} or self.name.endswith("_rate")

    @property
    def is_money(self) -> bool:
        return self.display_format == "currency"

    @property
    def measures(self) -> tuple[str, ...]:
        return self.of + self.per


@dataclass(frozen=True, slots=True)
class Dimension:
    """Something to break down and filter by: text, null where a row has none and `optional` says so."""

    name: str
    label: str
    each: Column
    hours: Column | None = None
    optional: bool = False


def _any_of(condition: Column) -> Column:
    return sa.case((condition, 1), else_=0)


def _bucket(tokens: Column) -> Column:
    return sa.case(*((tokens <= most, name) for most, name in CONTEXT_BUCKETS), else_="1M+")


def _or_null(column: Column) -> Column:
    """Columns of the roll-ups that are part of their key write nothing as empty text."""
    return sa.func.nullif(column, "")


_PROMPT = _EACH.input_tokens + _EACH.cache_read_tokens + _EACH.cache_write_5m_tokens + _EACH.cache_write_1h_tokens
_SPEED = sa.case(
    ((_EACH.output_tokens > 0) & (_EACH.generation_ms > 0), _EACH.output_tokens * 1_000_000 // _EACH.generation_ms)
)
"""Tokens in a thousand seconds: a whole number, the same in every database."""

MEASURES: Final[dict[str, Measure]] = {
    "requests": Measure(sa.literal_column("1"), _HOURS.requests),
    "failures": Measure(_any_of(_EACH.outcome.in_(("failed", "broken"))), _HOURS.failures),
    "byok_requests": Measure(_any_of(_EACH.byok_cost_nusd > 0)),
    "input": Measure(_EACH.input_tokens, _HOURS.input_tokens),
    "output": Measure(_EACH.output_tokens, _HOURS.output_tokens),
    "thinking": Measure(_EACH.thinking_tokens, _HOURS.thinking_tokens),
    "cache_read": Measure(_EACH.cache_read_tokens, _HOURS.cache_read_tokens),
    "cache_write": Measure(_EACH.cache_write_5m_tokens + _EACH.cache_write_1h_tokens, _HOURS.cache_write_tokens),
    "cost": Measure(_EACH.cost_nusd, _HOURS.cost_nusd),
    "byok_cost": Measure(_EACH.byok_cost_nusd, _HOURS.byok_cost_nusd),
    "upstream_cost": Measure(_EACH.upstream_cost_nusd),
    "cache_discount": Measure(_EACH.cache_discount_nusd),
    "latency": Measure(_EACH.latency_ms),
    "throughput": Measure(_SPEED),
}

_QUANTILES: Final = (50, 90, 95, 99)


def _timed(name: str, label: str, scale: int) -> Iterator[Metric]:
    yield Metric(f"avg_{name}", f"Average {label}", name, Kind.AVERAGE, (name,), scale=scale)
    for percent in _QUANTILES:
        yield Metric(
            f"p{percent}_{name}", f"{label.capitalize()} p{percent}", name, Kind.QUANTILE, (name,), (), percent, scale
        )


def _sum(name: str, label: str, *of: str, money: bool = False) -> Metric:
    return Metric(name, label, "currency" if money else "number", Kind.SUM, of)


def _share(name: str, label: str, of: tuple[str, ...], per: tuple[str, ...]) -> Metric:
    return Metric(name, label, "percent", Kind.RATIO, of, per)


def _absent(name: str, display_format: str) -> Metric:
    return Metric(name, name, display_format, Kind.ABSENT)


_TOKENS_IN: Final = ("input", "cache_read", "cache_write")

METRICS: Final[dict[str, Metric]] = {
    metric.name: metric
    for metric in (
        _sum("request_count", "Requests", "requests"),
        _sum("failure_count", "Failed requests", "failures"),
        _share("failure_rate", "Share of failed requests", ("failures",), ("requests",)),
        _sum("byok_request_count", "Requests on own provider keys", "byok_requests"),
        _sum("tokens_total", "Tokens", *_TOKENS_IN, "output"),
        _sum("tokens_prompt", "Prompt tokens", *_TOKENS_IN),
        _sum("tokens_completion", "Completion tokens", "output"),
        _sum("reasoning_tokens", "Reasoning tokens", "thinking"),
        _sum("cached_tokens", "Tokens read from caches", "cache_read"),
        _share("cache_hit_rate", "Share of prompt tokens read from caches", ("cache_read",), _TOKENS_IN),
        _sum("total_usage", "Spend: credits and own provider keys", "cost", "byok_cost", money=True),
        _sum("credits_usage", "Spend: credits", "cost", money=True),
        _sum("byok_usage", "Spend: own provider keys, at list price", "byok_cost", money=True),
        Metric("usage_upstream", "What providers ask", "currency", Kind.COMPONENT, ("upstream_cost",)),
        Metric("usage_cache", "Saved by caches", "currency", Kind.COMPONENT, ("cache_discount",)),
        *_timed("latency", "time to the first content", 1),
        *_timed("throughput", "completion tokens per second", 1_000),
        _absent("byok_fees", "currency"),
        _absent("usage_data", "currency"),
        _absent("usage_web", "currency"),
        _absent("usage_file", "currency"),
        _absent("usage_web_fetch", "currency"),
        _absent("guardrail_invoked_count", "number"),
        _absent("guardrail_invoked_rate", "percent"),
        _absent("response_cached_count", "number"),
        _absent("response_cached_rate", "percent"),
    )
}

DIMENSIONS: Final[dict[str, Dimension]] = {
    dimension.name: dimension
    for dimension in (
        Dimension("model", "Model", _EACH.model, _HOURS.model),
        Dimension("provider", "Provider", _or_null(_EACH.provider), _or_null(_HOURS.provider), optional=True),
        Dimension("api_key_id", "API key", _EACH.key_hash, _HOURS.key_hash),
        Dimension("user", "Member", _EACH.member_id, _HOURS.member_id, optional=True),
        Dimension("workspace", "Workspace", _EACH.workspace_id, _HOURS.workspace_id),
        Dimension("app", "App", _EACH.app, optional=True),
        Dimension("origin", "Origin", _EACH.app, optional=True),
        Dimension("external_user", "User named by the client", _EACH.external_user, optional=True),
        Dimension("session_id", "Session", _EACH.session_id, optional=True),
        Dimension("generation_id", "Generation", _EACH.id),
        Dimension("finish_reason", "Finish reason", _EACH.finish_reason, optional=True),
        Dimension("outcome", "Outcome", _EACH.outcome),
        Dimension("streamed", "Streamed", sa.case((_EACH.streamed == 1, "true"), else_="false")),
        Dimension("context_length_bucket", "Length of the prompt", _bucket(_PROMPT)),
    )
}

OPERATORS: Final[dict[str, Callable[[Column, Any], Column]]] = {
    "eq": lambda column, value: column == value,
    "neq": lambda column, value: column != value,
    "in": lambda column, values: column.in_(values),
    "not_in": lambda column, values: column.not_in(values),
    "gt": lambda column, value: column > value,
    "gte": lambda column, value: column >= value,
    "lt": lambda column, value: column < value,
    "lte": lambda column, value: column <= value,
}
LISTS: Final = frozenset({"in", "not_in"})
"""Operators that take several values."""

GRANULARITIES: Final = ("minute", "hour", "day", "week", "month")


def meta() -> dict[str, Any]:
    """Describe what can be asked, as ``GET /analytics/meta`` does: nothing that is not measured."""
    return {
        "metrics": [
            {
                "name": metric.name,
                "display_label": metric.label,
                "display_format": metric.display_format,
                "is_rate": metric.is_rate,
            }
            for metric in METRICS.values()
            if metric.kind is not Kind.ABSENT
        ],
        "dimensions": [{"name": one.name, "display_label": one.label} for one in DIMENSIONS.values()],
        "operators": [{"name": name, "value_type": "array" if name in LISTS else "scalar"} for name in OPERATORS],
        "granularities": [{"name": name, "display_label": name.capitalize()} for name in GRANULARITIES],
    }
