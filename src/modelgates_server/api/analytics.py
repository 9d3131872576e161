"""Analytics: what can be asked about use, and answers (product-surface 2.7)."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from modelgates_server.accounts.quotas import ANALYTICS
from modelgates_server.activity.analytics import ask
from modelgates_server.activity.measures import meta
from modelgates_server.activity.questions import (
    DATE,
    DIMENSIONS_MAX,
    FILTERS_MAX,
    LIMIT_DEFAULT,
    LIMIT_MAX,
    METRICS_MAX,
    VALUE_CHARACTERS_MAX,
    VALUES_MAX,
    Filter,
    Order,
    Question,
    usual_range_ms,
)
from modelgates_server.api.answers import Answer, answer
from modelgates_server.api.routes import Housed, Managing, new_router
from modelgates_server.api.shapes import Body, Moment, Shown
from modelgates_server.api.times import instant_ms
from modelgates_server.errors import BadRequest

router = new_router("analytics")

Name = Annotated[str, Field(max_length=100)]
Value = Annotated[str, Field(max_length=VALUE_CHARACTERS_MAX)] | bool | int | Decimal


class TimeRange(Body):
    """From `start` until before `end`: times in UTC with seconds."""

    start: Moment
    end: Moment


class QueryFilter(Body):
    """A condition on a dimension; all conditions must hold. `in` and `not_in` take a list."""

    field: Name
    operator: Name
    value: Value | Annotated[list[Value], Field(max_length=VALUES_MAX)]
    include_unset: bool = False


class OrderBy(Body):
    """A metric or dimension of the question, `request_count`, or with a granularity `date`."""

    field: Name
    direction: Literal["asc", "desc"] = "asc"


class AnalyticsQuery(Body):
    """A question. Without a time range it is about the last seven days."""

    metrics: Annotated[list[Name], Field(min_length=1, max_length=METRICS_MAX)]
    dimensions: Annotated[list[Name], Field(max_length=DIMENSIONS_MAX)] = Field(default_factory=list)
    filters: Annotated[list[QueryFilter], Field(max_length=FILTERS_MAX)] = Field(default_factory=list)
    granularity: Name | None = None
    time_range: TimeRange | None = None
    order_by: OrderBy | None = None
    limit: Annotated[int, Field(ge=1, le=LIMIT_MAX)] = LIMIT_DEFAULT
    group_limit: Annotated[int, Field(ge=1, le=LIMIT_MAX)] | None = None
    classifier_dimensions: dict[str, Any] | None = None
    classifier_filters: dict[str, Any] | None = None

    @model_validator(mode="before")
    @classmethod
    def _left_out(cls, sent: Any) -> Any:
        """Null is as good as left out."""
        return {name: value for name, value in sent.items() if value is not None} if isinstance(sent, dict) else sent


class MetricShown(Shown):
    """Something to measure. A rate must not be added up."""

    name: str
    display_label: str
    display_format: Literal["number", "currency", "percent", "latency", "throughput"]
    is_rate: bool


class NameShown(Shown):
    """Something to break down by, or how fine."""

    name: str
    display_label: str


class OperatorShown(Shown):
    """How to compare."""

    name: str
    value_type: Literal["scalar", "array"]


class Meta(Shown):
    """What can be asked."""

    metrics: list[MetricShown]
    dimensions: list[NameShown]
    operators: list[OperatorShown]
    granularities: list[NameShown]


class MetaAnswer(Shown):
    """What can be asked."""

    data: Meta


class QueryMetadata(Shown):
    """How it went. `truncated`: there were more rows than the limit."""

    row_count: int
    query_time_ms: int
    truncated: bool


class QueryResult(Shown):
    """Rows: metrics and dimensions under their names, the time as `date__<granularity>`; money in USD.

    Keys, members and workspaces are shown by name, with their ids in `api_key_hash`, `user_id` and `workspace_id`.
    """

    data: list[dict[str, Any]]
    metadata: QueryMetadata
    warnings: list[str]


class QueryAnswer(Shown):
    """An answer."""

    data: QueryResult


@router.get("/analytics/meta", response_model=MetaAnswer)
def show_meta(_manager: Managing) -> Answer:
    """Give the metrics, dimensions, operators and granularities that this gateway knows."""
    return answer({"data": meta()})


@router.post("/analytics/query", response_model=QueryAnswer)
def query(house: Housed, manager: Managing, body: AnalyticsQuery) -> Answer:
    """Answer a question about use. A key may ask 64 times a minute; what takes longer than 10 s is stopped."""
    question = _question(body, house.clock.now_s())
    with house.quotas.spend(ANALYTICS, manager.key_hash, house.clock.monotonic_s()):
        found = ask(house.engine, manager.organization_id, question, house.clock)
    metadata = {
        "row_count": len(found.rows),
        "query_time_ms": found.query_time_ms,
        "truncated": found.truncated,
    }
    return answer({"data": {"data": found.rows, "metadata": metadata, "warnings": found.warnings}})


def _question(body: AnalyticsQuery, now_s: float) -> Question:
    if body.classifier_dimensions is not None or body.classifier_filters is not None:
        raise BadRequest("classifier_dimensions, classifier_filters: this gateway has no classifiers")
    since_ms, until_ms = usual_range_ms(now_s)
    if body.time_range is not None:
        since_ms = instant_ms(body.time_range.start, "time_range.start")
        until_ms = instant_ms(body.time_range.end, "time_range.end")
    order, times = body.order_by, {f"{name}__{body.granularity}" for name in ("date", "created_at")}
    return Question(
        metrics=tuple(body.metrics),
        since_ms=since_ms,
        until_ms=until_ms,
        dimensions=tuple(body.dimensions),
        filters=tuple(map(_filter, body.filters)),
        granularity=body.granularity,
        order_by=None
        if order is None
        else Order(DATE if order.field in times else order.field, descending=order.direction == "desc"),
        limit=body.limit,
        group_limit=body.group_limit,
    )


def _filter(sent: QueryFilter) -> Filter:
    values = sent.value if isinstance(sent.value, list) else [sent.value]
    return Filter(sent.field, sent.operator, tuple(map(_text, values)), sent.include_unset)


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
