"""What somebody asks Activity for, read from the fields of the address, and the addresses of what they may ask next."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, TypeVar
from urllib.parse import urlencode

from modelgates_server.activity.series_slice import BACK_MAX, By, Metric, Period, Slice
from modelgates_server.console.visits import Visit, whole
from modelgates_server.errors import BadRequest

E = TypeVar("E", bound=StrEnum)

UNSET: Final = "~none"
"""How an address calls the groups without a value; an empty field means that nothing is filtered."""

ALL: Final = "none"
"""How an address says that nothing is grouped."""

VALUE_MAX: Final = 512

PERIODS: Final = {
    Period.HOUR: "1 hour",
    Period.DAY: "24 hours",
    Period.WEEK: "7 days",
    Period.MONTH: "30 days",
    Period.YEAR: "12 months",
}
METRICS: Final = {Metric.SPEND: "Spend", Metric.TOKENS: "Tokens", Metric.REQUESTS: "Requests"}
GROUPS: Final = {
    By.MODEL: "Model",
    By.PROVIDER: "Provider",
    By.KEY: "Key",
    By.MEMBER: "Member",
    By.WORKSPACE: "Workspace",
    By.APP: "App",
}

_NEXT: Final = {
    By.MODEL: (By.MEMBER, By.KEY, By.PROVIDER),
    By.PROVIDER: (By.MODEL, By.KEY),
    By.KEY: (By.MODEL, By.APP, By.PROVIDER),
    By.MEMBER: (By.KEY, By.MODEL, By.PROVIDER),
    By.WORKSPACE: (By.MEMBER, By.KEY, By.MODEL),
    By.APP: (By.MODEL, By.MEMBER, By.KEY),
}
"""What somebody wants to know of a group: its own parts, in this order."""


def slice_of(visit: Visit) -> Slice:
    """Read what is asked for, confined to what the visitor may see. Raises BadRequest."""
    query = visit.query
    grouped = query.get("by") or By.MODEL.value
    return Slice(
        period=_one_of(visit, "period", Period, Period.MONTH),
        back=whole(visit, "back", 0, BACK_MAX, default=0),
        group=None if grouped == ALL else _one_of(visit, "by", By, By.MODEL),
        metric=_one_of(visit, "show", Metric, Metric.SPEND),
        filters={by: _value(visit, by) for by in By if query.get(by)},
        only_member_id=visit.only_member_id,
    )


def drilled(visit: Visit, wanted: Slice, group_id: str) -> str:
    """This page's address with a group as a filter, grouped by what comes next."""
    if wanted.group is None:
        return ""
    closed = {*wanted.filters, wanted.group, *([] if visit.is_admin else [By.MEMBER])}
    following = next((by for by in _NEXT[wanted.group] if by not in closed), None)
    changes = {wanted.group.value: group_id or UNSET, "by": ALL if following is None else following.value}
    return visit.with_query(said=None, **changes)


def logs_path(filters: Mapping[By, str], since_ms: int, until_ms: int) -> str:
    """The log with the same filters; empty when it has none such: the log knows no filter for what is missing."""
    if not all(filters.values()):
        return ""
    pairs = [(by.value, value) for by, value in filters.items()]
    return f"/logs?{urlencode([*pairs, ('from', since_ms), ('to', until_ms)])}"


def same_query(visit: Visit, path: str) -> str:
    """Another page with the same query."""
    pairs = [(name, value) for name, value in visit.query.pairs() if name != "said" and value]
    return f"{path}?{urlencode(pairs)}" if pairs else path


def _value(visit: Visit, by: By) -> str:
    text = visit.query.get(by)
    if len(text) > VALUE_MAX:
        raise BadRequest(f"{by} may have at most {VALUE_MAX} characters")
    return "" if text == UNSET else text


def _one_of(visit: Visit, name: str, kind: type[E], default: E) -> E:
    text = visit.query.get(name)
    if not text:
        return default
    try:
        return kind(text)
    except ValueError:
        known = ", ".join(member.value for member in kind)
        raise BadRequest(f"{name}: {text[:40]!r} is none of {known}") from None
