"""Anthropic's usage and cost report: ``GET /v1/organizations/usage_report/messages`` and ``…/cost_report``.

Source: platform.claude.com, "Usage and Cost API". Both need an admin key (``sk-ant-admin…``) and give buckets of a day in UTC, at
most 31 a page, and `next_page` while `has_more`. Usage is grouped by what its price depends on. Costs are decimal strings
in cents; those of tokens name their model, fees do not. The priority tier is in the usage, but not in the costs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, Final, Generic, TypeVar
from urllib.parse import quote, urlencode

import msgspec
from msgspec import Meta, Struct

from modelgates_server import __version__
from modelgates_server.dialects.values import Usage
from modelgates_server.errors import ReportFailed
from modelgates_server.money import NUSD_PER_USD
from modelgates_server.outbound.http import Outbound, OutboundError
from modelgates_server.reconcile.values import DAY_S, Counted, Invoiced, Reported, day_of, start_s

USAGE_PATH: Final = "/v1/organizations/usage_report/messages"
COST_PATH: Final = "/v1/organizations/cost_report"
DAYS_A_PAGE: Final = 31
PAGES_MAX: Final = 100
"""Eight years of days: more pages than this are a mistake, of theirs or of ours."""

PAGE_BYTES_MAX: Final = 16 << 20
PAGE_S: Final = 60.0
ATTEMPTS_MAX: Final = 5
RETRY_AFTER_MAX_S: Final = 120.0
FAST_BETA: Final = "fast-mode-2026-02-01"
"""Without it, usage cannot be grouped by speed; an organisation that has no fast mode may not name it."""

NUSD_PER_CENT: Final = NUSD_PER_USD // 100
AMOUNT_DIGITS_MAX: Final = 40
GROUPS: Final = ("model", "service_tier", "context_window", "inference_geo")
WINDOWS: Final = {"0-200k": (0, 200_000), "200k-1M": (200_000, 1_000_000)}

_Count = Annotated[int, Meta(ge=0)]
_Text = Annotated[str, Meta(max_length=500)]


class _Creation(Struct):
    ephemeral_1h_input_tokens: _Count
    ephemeral_5m_input_tokens: _Count


class _Tools(Struct):
    web_search_requests: _Count = 0


class _Used(Struct):
    uncached_input_tokens: _Count
    cache_creation: _Creation
    cache_read_input_tokens: _Count
    output_tokens: _Count
    server_tool_use: _Tools | None = None
    model: _Text | None = None
    service_tier: _Text | None = None
    context_window: _Text | None = None
    inference_geo: _Text | None = None
    speed: _Text | None = None


class _Cost(Struct):
    amount: Annotated[str, Meta(max_length=AMOUNT_DIGITS_MAX)]
    currency: _Text
    cost_type: _Text | None = None
    model: _Text | None = None
    workspace_id: _Text | None = None


_Row = TypeVar("_Row", _Used, _Cost)


class _Bucket(Struct, Generic[_Row]):
    starting_at: _Text
    ending_at: _Text
    results: list[_Row]


class _Page(Struct, Generic[_Row]):
    data: list[_Bucket[_Row]]
    has_more: bool
    next_page: _Text | None = None


class _Error(Struct):
    error: dict[str, Any]


@dataclass(frozen=True, slots=True)
class AnthropicReport:
    """The report of one Anthropic organisation, or of one workspace of it when `workspace_id` names one.

    `fast` says whether fast mode is in use. `pause` waits for some seconds: between attempts, or as long as a 429 says.
    """

    base_url: str
    admin_key: str
    outbound: Outbound
    workspace_id: str | None = None
    fast: bool = False
    pause: Callable[[float], Awaitable[object]] = asyncio.sleep

    async def fetch(self, days: Sequence[str]) -> Reported:
        """What is reported about `days`, which follow each other. Raises ReportFailed: all of it or nothing."""
        span = {"starting_at": f"{days[0]}T00:00:00Z", "ending_at": _midnight(start_s(days[-1]) + DAY_S)}
        usage = await self._buckets(USAGE_PATH, self._usage_query(span), _Page[_Used], days)
        costs = await self._buckets(COST_PATH, self._cost_query(span), _Page[_Cost], days)
        return Reported(
            days=frozenset(usage) & frozenset(costs),
            counted=tuple(_counted(day, row) for day, rows in usage.items() for row in rows),
            invoiced=tuple(_invoiced(day, row) for day, rows in costs.items() for row in rows if self._ours(row)),
        )

    def _usage_query(self, span: dict[str, str]) -> list[tuple[str, str]]:
        groups = [*GROUPS, "speed"] if self.fast else GROUPS
        ours = [("workspace_ids[]", self.workspace_id)] if self.workspace_id else []
        return [*span.items(), ("bucket_width", "1d"), *(("group_by[]", name) for name in groups), *ours]

    def _cost_query(self, span: dict[str, str]) -> list[tuple[str, str]]:
        """Costs cannot be asked for by workspace, only grouped."""
        groups = ["description", "workspace_id"] if self.workspace_id else ["description"]
        return [*span.items(), ("bucket_width", "1d"), *(("group_by[]", name) for name in groups)]

    def _ours(self, cost: _Cost) -> bool:
        return self.workspace_id is None or cost.workspace_id == self.workspace_id

    async def _buckets(
        self, path: str, query: list[tuple[str, str]], form: Any, days: Sequence[str]
    ) -> dict[str, list[Any]]:
        """The rows of every day, over all pages. A report that contradicts itself is refused."""
        found: dict[str, list[Any]] = {}
        page: str | None = None
        seen: set[str] = set()
        for _ in range(PAGES_MAX):
            more = [("limit", str(DAYS_A_PAGE)), *([("page", page)] if page else [])]
            answer = await self._page(f"{path}?{urlencode([*query, *more], quote_via=quote)}", form)
            for bucket in answer.data:
                day = _day(bucket, days)
                if day in found:
                    raise ReportFailed(f"{path}: the report has {day} twice")
                found[day] = bucket.results
            if not answer.has_more:
                return found
            page = answer.next_page
            if not page or page in seen:
                raise ReportFailed(f"{path}: the report says that there is more, but not where")
            seen.add(page)
        raise ReportFailed(f"{path}: the report has more than {PAGES_MAX} pages")

    async def _page(self, target: str, form: Any) -> Any:
        """One page, asked for again while the provider says "later"."""
        path = target.partition("?")[0]
        told, pause_s = "", 0.0
        for attempt in range(ATTEMPTS_MAX):
            if attempt:
                await self.pause(pause_s)
            pause_s = float(2**attempt)
            try:
                status, retry_after, body = await self._get(target)
            except (OutboundError, TimeoutError) as error:
                told = str(error) or f"no answer within {PAGE_S:g} s"
                continue
            if status == 200:
                try:
                    return msgspec.json.decode(body, type=form)
                except (msgspec.DecodeError, UnicodeDecodeError) as error:
                    raise ReportFailed(f"{path}: the report cannot be read: {error}") from error
            told = f"{status} {_message(body)}".strip()
            if status != 429 and status < 500:
                raise ReportFailed(f"{path}: {told}", remedy=_REMEDIES.get(status))
            pause_s = _seconds(retry_after, pause_s)
        raise ReportFailed(f"{path}: {told}, {ATTEMPTS_MAX} times", remedy="try again later")

    async def _get(self, target: str) -> tuple[int, str | None, bytes]:
        headers = [
            ("x-api-key", self.admin_key),
            ("anthropic-version", "2023-06-01"),
            ("accept", "application/json"),
            ("accept-encoding", "identity"),
            ("user-agent", f"modelgates-server/{__version__}"),
        ]
        if self.fast:
            headers.append(("anthropic-beta", FAST_BETA))
        async with asyncio.timeout(PAGE_S):
            reply = await self.outbound.request("GET", self.base_url + target, headers)
            try:
                return reply.status, reply.headers.get("retry-after"), await reply.read_all(PAGE_BYTES_MAX)
            finally:
                reply.close()


_NEEDS_ADMIN: Final = (
    "give an admin key (sk-ant-admin…) of that organisation as admin_key; only its admins can make one"
)
_REMEDIES: Final = {
    401: _NEEDS_ADMIN,
    403: _NEEDS_ADMIN,
    404: "the address does not have this report: leave admin_key out for this provider",
}


def _midnight(unix_s: int) -> str:
    return f"{day_of(unix_s)}T00:00:00Z"


def _day(bucket: _Bucket[Any], days: Sequence[str]) -> str:
    """The day of a bucket, which must be exactly one of those that were asked for."""
    day = bucket.starting_at[:10]
    whole = bucket.starting_at[10:] in _MIDNIGHTS and bucket.ending_at[10:] in _MIDNIGHTS
    if day not in days or not whole or bucket.ending_at[:10] != day_of(start_s(day) + DAY_S):
        raise ReportFailed(
            f"the report has a bucket from {bucket.starting_at} to {bucket.ending_at}, which was not asked for"
        )
    return day


_MIDNIGHTS: Final = frozenset({"T00:00:00Z", "T00:00:00+00:00", "T00:00:00.000Z", "T00:00:00.000000Z"})


def _counted(day: str, row: _Used) -> Counted:
    if row.model is None:
        raise ReportFailed(f"{USAGE_PATH}: the report of {day} has usage without a model")
    usage = Usage(
        input_tokens=row.uncached_input_tokens,
        output_tokens=row.output_tokens,
        cache_read_tokens=row.cache_read_input_tokens,
        cache_write_5m_tokens=row.cache_creation.ephemeral_5m_input_tokens,
        cache_write_1h_tokens=row.cache_creation.ephemeral_1h_input_tokens,
        web_searches=row.server_tool_use.web_search_requests if row.server_tool_use else 0,
        service_tier=row.service_tier,
        speed=row.speed,
        inference_geo=row.inference_geo,
    )
    return Counted(day, row.model, usage, WINDOWS.get(row.context_window or ""))


def _invoiced(day: str, row: _Cost) -> Invoiced:
    if row.currency != "USD":
        raise ReportFailed(f"{COST_PATH}: the report of {day} has an amount in {row.currency[:10]!r}, not in USD")
    kind = row.cost_type or "tokens"
    if kind == "tokens" and row.model is None:
        raise ReportFailed(f"{COST_PATH}: the report of {day} has a cost of tokens without a model")
    return Invoiced(day, kind, row.model if kind == "tokens" else None, _nusd(row.amount))


def _nusd(cents: str) -> int:
    """A decimal string in cents as nano-USD, rounded to the nearest."""
    try:
        amount = Decimal(cents) * NUSD_PER_CENT
        if amount.is_finite() and abs(amount) < 2**63:
            return int(amount.to_integral_value())
    except InvalidOperation:
        pass
    raise ReportFailed(f"{COST_PATH}: {cents!r} is not an amount in cents")


def _message(body: bytes) -> str:
    try:
        told = msgspec.json.decode(body, type=_Error).error.get("message")
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""
    return told[:300] if isinstance(told, str) else ""


def _seconds(retry_after: str | None, otherwise_s: float) -> float:
    try:
        asked_s = float(retry_after or "")
    except ValueError:
        return otherwise_s
    return min(asked_s, RETRY_AFTER_MAX_S) if asked_s >= 0 else otherwise_s
