"""The provider's side of the bill: Anthropic's usage and cost report over the truth log, with prices of its own.

``GET /v1/organizations/usage_report/messages`` and ``…/cost_report``, as platform.claude.com documents them under "Usage and Cost
API": buckets of a day in UTC, at most 31 a page, amounts as decimal strings in cents.
"""

from __future__ import annotations

import base64
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl

import msgspec

from modelgates_server.simulator import wire
from modelgates_server.simulator.client import GoneError
from modelgates_server.simulator.request import Refused, invalid
from modelgates_server.simulator.truth import key_digest

if TYPE_CHECKING:
    from modelgates_server.simulator.call import Scope
    from modelgates_server.simulator.client import Client
    from modelgates_server.simulator.truth import Entry

PREFIX: Final = "/v1/organizations/"
USAGE: Final = "/v1/organizations/usage_report/messages"
COST: Final = "/v1/organizations/cost_report"
ADMIN_KEY: Final = "sk-ant-admin"
FAST_BETA: Final = "fast-mode-2026-02-01"
DAYS_USUAL, DAYS_MAX = 7, 31

USAGE_GROUPS: Final = frozenset({"model", "service_tier", "context_window", "inference_geo", "speed", "workspace_id"})
COST_GROUPS: Final = frozenset({"description", "workspace_id"})

PRICES: Final = (
    ("claude-fable-5-2", "8", "40", "0.20"),
    ("claude-mythos-5-2", "8", "40", "0.20"),
    ("claude-fable-5-1", "10", "50", "0.25"),
    ("claude-mythos-5-1", "10", "50", "0.25"),
    ("claude-fable-5", "10", "50", "1"),
    ("claude-mythos", "10", "50", "1"),
    ("claude-opus-5-5", "4", "20", "0.20"),
    ("claude-opus", "5", "25", "0.50"),
    ("claude-sonnet-5-5", "2", "10", "0.10"),
    ("claude-sonnet-5", "2", "10", "0.20"),
    ("claude-sonnet-4", "3", "15", "0.30"),
    ("claude-haiku-4", "1", "5", "0.10"),
)
"""USD per million tokens of input, output and cache reads, by the beginning of the id; cache writes are 1.25 and 2 times input.

Haiku 5.5 is dearer beyond 100,000 tokens of input: `_rates` knows.
"""

SEARCH_CENTS: Final = Decimal(1)
DATED: Final = {
    "claude-opus-4-5": "claude-opus-4-5-20251101",
    "claude-haiku-4-5": "claude-haiku-4-5-20251001",
    "claude-sonnet-4-5": "claude-sonnet-4-5-20250929",
}
"""Reports name snapshots, whatever the request called them."""

TOKEN_TYPES: Final = (
    "uncached_input_tokens",
    "output_tokens",
    "cache_read_input_tokens",
    "cache_creation.ephemeral_5m_input_tokens",
    "cache_creation.ephemeral_1h_input_tokens",
)


class Billed(msgspec.Struct, frozen=True):
    """What one request is charged for: `tokens` in the order of `TOKEN_TYPES`."""

    day: str
    group: dict[str, Any]
    tokens: tuple[int, ...]
    searches: int
    input_tokens: int


class Reports:
    """One organisation's reports over a truth log.

    `admin_keys`: who may read them; None takes any that begins as admin keys do. `keys`: the keys of the organisation, None all.
    `workspaces`: the workspace of a key; the others are in the default one, which has no id. `lag_s`: how old a request must be.
    `surcharge_percent`: how much dearer tokens are than their price.
    `script` holds faults for the next calls, one each: ``{"status": 429, "retry_after": 0}``, ``{"body": "…"}`` or ``{"cut": true}``.
    `asked` lists the targets of all calls.
    """

    def __init__(self, log: list[Entry]) -> None:
        self._log = log
        self.admin_keys: set[str] | None = None
        self.keys: set[str] | None = None
        self.workspaces: dict[str, str] = {}
        self.lag_s = 0.0
        self.surcharge_percent = 0
        self.script: deque[dict[str, Any]] = deque()
        self.asked: list[str] = []

    async def serve(self, client: Client, scope: Scope) -> None:
        """Answer one request below `PREFIX`."""
        with suppress(GoneError):
            await self._serve(client, scope)

    async def _serve(self, client: Client, scope: Scope) -> None:
        query = parse_qsl(scope["query_string"].decode(), keep_blank_values=True)
        self.asked.append(f"{scope['path']}?{scope['query_string'].decode()}")
        fault = self.script.popleft() if self.script else {}
        if fault.get("cut"):
            await client.start(200, [(b"content-type", b"application/json"), (b"content-length", b"1000")])
            await client.write(b'{"data": [')
            await client.cut(reset=False)
            return
        status, headers = int(fault.get("status", 200)), []
        if "retry_after" in fault:
            headers.append((b"retry-after", str(fault["retry_after"]).encode()))
        try:
            body = fault["body"].encode() if "body" in fault else self._answer(scope, query) if status == 200 else b""
        except Refused as refused:
            status, body = refused.status, wire.error_json(refused.error_type, refused.message, "")
        if status != 200 and not body:
            body = wire.error_json("rate_limit_error" if status == 429 else "api_error", "Simulated fault", "")
        length = (b"content-length", b"%d" % len(body))
        await client.start(status, [(b"content-type", b"application/json"), length, *headers])
        await client.write(body, more=False)

    def billed(self) -> Iterator[Billed]:
        """Every request that the organisation is charged for, as often as it was made."""
        digests = None if self.keys is None else {key_digest(key.encode()) for key in self.keys}
        spaces = {key_digest(key.encode()): space for key, space in self.workspaces.items()}
        until_s = time.time() - self.lag_s
        for entry in self._log:
            key = entry.headers.get(entry.key_header, "")
            usage = _charged(entry)
            if usage is None or entry.started_s > until_s or (digests is not None and key not in digests):
                continue
            yield _billed(entry, usage, spaces.get(key))

    def _answer(self, scope: Scope, query: list[tuple[str, str]]) -> bytes:
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        key = headers.get("x-api-key", "")
        if not (key in self.admin_keys if self.admin_keys is not None else key.startswith(ADMIN_KEY)):
            raise Refused(401, "authentication_error", "invalid x-api-key")
        if scope["method"] != "GET" or scope["path"] not in (USAGE, COST):
            raise Refused(404, "not_found_error", "Not found")
        if not headers.get("anthropic-version"):
            raise invalid("anthropic-version: header is required")
        usage = scope["path"] == USAGE
        groups = {value for name, value in query if name == "group_by[]"}
        if wrong := groups - (USAGE_GROUPS if usage else COST_GROUPS):
            raise invalid(f"group_by: {min(wrong)}: not one of the available options")
        if "speed" in groups and FAST_BETA not in headers.get("anthropic-beta", ""):
            raise invalid(f"group_by: speed requires the {FAST_BETA} beta")
        days, following = _page(dict(query))
        spaces = {value for name, value in query if name == "workspace_ids[]"}
        rows = [row for row in self.billed() if not spaces or row.group["workspace_id"] in spaces]
        dearer = Decimal(100 + self.surcharge_percent) / 100
        make = _usage_results if usage else partial(_cost_results, dearer=dearer)
        data = [
            {
                "starting_at": f"{day}T00:00:00Z",
                "ending_at": f"{day + timedelta(days=1)}T00:00:00Z",
                "results": make([row for row in rows if row.day == day.isoformat()], groups),
            }
            for day in days
        ]
        return msgspec.json.encode({"data": data, "has_more": following is not None, "next_page": following})


def _page(query: dict[str, str]) -> tuple[list[date], str | None]:
    """The days of one page, and the token of the next."""
    if "starting_at" not in query:
        raise invalid("starting_at: Field required")
    limit = query.get("limit", str(DAYS_USUAL))
    if not limit.isdigit() or not 1 <= int(limit) <= DAYS_MAX:
        raise invalid(f"limit: must be from 1 to {DAYS_MAX}")
    if query.get("bucket_width", "1d") != "1d":
        raise invalid("bucket_width: this stand-in has days only")
    try:
        first, end = (datetime.fromisoformat(query.get(name, _now())) for name in ("starting_at", "ending_at"))
        if "page" in query:
            first = datetime.fromisoformat(base64.urlsafe_b64decode(query["page"].removeprefix("page_")).decode())
    except ValueError as error:
        raise invalid(f"a time or the page cannot be read: {error}") from error
    day = first.astimezone(UTC).date()
    days: list[date] = []
    while day < end.astimezone(UTC).date() and len(days) < int(limit):
        days.append(day)
        day += timedelta(days=1)
    if day >= end.astimezone(UTC).date():
        return days, None
    return days, "page_" + base64.urlsafe_b64encode(f"{day}T00:00:00+00:00".encode()).decode()


def _now() -> str:
    return datetime.now(UTC).isoformat()


def _charged(entry: Entry) -> dict[str, Any] | None:
    """The usage that an entry is charged for: all of an answer, or its input and what was generated until it ended early.

    A refusal without output costs nothing, nor does what never became an answer.
    """
    usage = entry.usage
    if not usage or (entry.stop_reason == "refusal" and not usage["output_tokens"]):
        return None
    return usage if entry.outcome == "completed" else {**usage, "output_tokens": entry.output_tokens_sent}


def _billed(entry: Entry, usage: dict[str, Any], workspace: str | None) -> Billed:
    writes = usage["cache_creation"]
    tokens = (
        usage["input_tokens"],
        usage["output_tokens"],
        usage["cache_read_input_tokens"],
        writes["ephemeral_5m_input_tokens"],
        writes["ephemeral_1h_input_tokens"],
    )
    whole_input = sum(tokens) - tokens[1]
    group = {
        "model": DATED.get(entry.model, entry.model),
        "service_tier": usage["service_tier"],
        "context_window": "0-200k" if whole_input <= 200_000 else "200k-1M",
        "inference_geo": usage["inference_geo"],
        "speed": usage["speed"],
        "workspace_id": workspace,
    }
    searches = usage.get("server_tool_use", {}).get("web_search_requests", 0)
    return Billed(datetime.fromtimestamp(entry.started_s, UTC).date().isoformat(), group, tokens, searches, whole_input)


def _grouped(rows: Iterable[Billed], groups: Iterable[str]) -> dict[tuple[Any, ...], list[Billed]]:
    found: dict[tuple[Any, ...], list[Billed]] = {}
    names = sorted(groups)
    for row in rows:
        found.setdefault(tuple(row.group[name] for name in names), []).append(row)
    return found


def _usage_results(rows: list[Billed], groups: set[str]) -> list[dict[str, Any]]:
    names = sorted(groups)
    results = []
    for values, together in _grouped(rows, groups).items():
        fresh, output, read, write_5m, write_1h = (
            sum(column) for column in zip(*(row.tokens for row in together), strict=True)
        )
        results.append({
            **dict.fromkeys(USAGE_GROUPS),
            **dict(zip(names, values, strict=True)),
            "api_key_id": None,
            "uncached_input_tokens": fresh,
            "output_tokens": output,
            "cache_read_input_tokens": read,
            "cache_creation": {"ephemeral_5m_input_tokens": write_5m, "ephemeral_1h_input_tokens": write_1h},
            "server_tool_use": {"web_search_requests": sum(row.searches for row in together)},
        })  # fmt: skip
    return results


def _cost_results(rows: list[Billed], groups: set[str], dearer: Decimal) -> list[dict[str, Any]]:
    sums: dict[tuple[Any, ...], Decimal] = {}
    for row in rows:
        space = row.group["workspace_id"] if "workspace_id" in groups else None
        for place, cents in enumerate(_cents(row)):
            told = (*(row.group[name] for name in _TOLD), TOKEN_TYPES[place], "tokens", space)
            sums[told] = sums.get(told, Decimal(0)) + cents * dearer
        if row.searches:
            told = (None,) * (len(_TOLD) + 1) + ("web_search", space)
            sums[told] = sums.get(told, Decimal(0)) + SEARCH_CENTS * row.searches
    if "description" not in groups:
        plain: dict[tuple[Any, ...], Decimal] = {}
        for told, cents in sums.items():
            key = (None,) * (len(told) - 1) + told[-1:]
            plain[key] = plain.get(key, Decimal(0)) + cents
        sums = plain
    names = (*_TOLD, "token_type", "cost_type", "workspace_id")
    return [
        {
            **dict(zip(names, told, strict=True)),
            "amount": format(cents, "f"),
            "currency": "USD",
            "description": f"{told[0]} Usage - {told[-3]}" if told[0] else None,
        }
        for told, cents in sums.items()
        if cents
    ]


_TOLD: Final = ("model", "service_tier", "context_window", "inference_geo")


def _cents(row: Billed) -> Iterator[Decimal]:
    """What each kind of token costs."""
    fresh, output, read = _rates(row.group["model"], row.input_tokens)
    rates = (fresh, output, read, fresh * Decimal("1.25"), fresh * 2)
    factor = Decimal(2 if row.group["speed"] == "fast" else 1)
    if row.group["inference_geo"] == "us":
        factor *= Decimal("1.1")
    for count, rate in zip(row.tokens, rates, strict=True):
        yield count * rate * factor / 10_000


def _rates(model: str, input_tokens: int) -> tuple[Decimal, Decimal, Decimal]:
    if model.startswith("claude-haiku-5-5"):
        texts = ("0.10", "0.50", "0.01") if input_tokens <= 100_000 else ("0.50", "2.50", "0.05")
        return Decimal(texts[0]), Decimal(texts[1]), Decimal(texts[2])
    for start, fresh, output, read in PRICES:
        if model.startswith(start):
            return Decimal(fresh), Decimal(output), Decimal(read)
    return Decimal(5), Decimal(25), Decimal("0.50")
