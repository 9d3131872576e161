"""The receipt of one request, and the rows that keep it. They commit in the settlement's own transaction."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Protocol

import msgspec

from modelgates_server.dialects.values import Usage
from modelgates_server.privacy import redacted, visible
from modelgates_server.storage import schema
from modelgates_server.storage.hot import Row, Statement, accumulate, insert

HOUR_MS = 3_600_000
DAY_MS = 86_400_000

SUMS: Final = (
    "requests",
    "failures",
    "input_tokens",
    "output_tokens",
    "thinking_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "cost_nusd",
    "byok_cost_nusd",
)
"""What roll-ups add up."""

SAYS_NOTHING: Final = frozenset({"stale", "too_large", "conflict", "capability", "portability", "context", "client"})
"""Classes of faults that `routing.verdict` holds against no provider: such an attempt tells nothing about its health."""

LIMITED: Final = frozenset({"rate_limit", "ramp", "quota"})
"""Classes of faults of a provider that is up and asks for patience."""

UNSTORED: Final = "The details of this receipt could not be stored"
"""Begins the detail of the last attempt in a receipt that the database took only in its plain form."""

OUTCOMES: Final = frozenset({"completed", "failed", "cancelled", "broken"})

_COUNTS_MAX: Final = 10**12
_REASON_CHARACTERS_MAX: Final = 300

_ADD_GENERATION = insert(schema.generations)
_ADD_TO_HOUR = accumulate(schema.activity_hours, SUMS)
_ADD_TO_DAY = accumulate(schema.activity_days, (*SUMS, "cache_discount_nusd"))
_ADD_TO_PROVIDER = accumulate(schema.provider_hours, ("attempts", "answered", "limited", "answer_ms"))


class Origin(msgspec.Struct, frozen=True):
    """Who asked what, known when the request is admitted; it also goes into the hold, for the case that nobody settles it."""

    id: str
    organization_id: str
    workspace_id: str
    member_id: str | None
    key_hash: str
    created_at_ms: int
    requested_model: str
    model: str
    streamed: bool
    api_type: str = "messages"
    session_id: str | None = None
    external_user: str | None = None
    app: str | None = None
    user_agent: str | None = None


class Attempt(msgspec.Struct, frozen=True):
    """One try at one endpoint. `fault` is its class, or None when it answered; `model` is the provider's name, `slug` ours.

    `own` is the credential of the organisation that it was made with; empty for the operator's.
    """

    provider: str
    model: str
    status: int
    fault: str | None
    ms: int
    request_id: str | None = None
    detail: str = ""
    slug: str = ""
    own: str = ""


class Cost(msgspec.Struct, frozen=True):
    """What it cost, in nano-USD: to the budgets, to us, and what caching saved; with the lines of the bill.

    `uncertain_nusd` is what attempts of unknown fate may have cost at most; the books keep it on an account of its own.
    `byok_nusd` is what the organisation's own account at the provider is asked, at list price: no credit is used for it.
    """

    charged_nusd: int = 0
    upstream_nusd: int = 0
    cache_discount_nusd: int = 0
    held_nusd: int = 0
    price_version: str = ""
    parts: tuple[dict[str, Any], ...] = ()
    uncertain_nusd: int = 0
    byok_nusd: int = 0


NO_USAGE = Usage()
NO_COST = Cost()


class Generation(msgspec.Struct, frozen=True):
    """The whole story of one request."""

    origin: Origin
    outcome: str  # completed | failed | cancelled | broken | lost
    usage: Usage = NO_USAGE
    cost: Cost = NO_COST
    provider: str | None = None
    upstream_model: str | None = None
    upstream_id: str | None = None
    upstream_request_id: str | None = None
    finish_reason: str | None = None
    latency_ms: int | None = None
    generation_ms: int | None = None
    plan: tuple[dict[str, Any], ...] | list[dict[str, Any]] = ()
    attempts: tuple[Attempt, ...] = ()
    conversation: str | None = None
    inputs: bytes | None = None


def rows(generation: Generation) -> list[tuple[Statement | str, Row]]:
    """The statements that record a generation: its receipt, its share of the hour and of the day, and what providers did."""
    share = _share(generation)  # each statement takes the columns of its own table
    return [
        (_ADD_GENERATION, _receipt(generation)),
        (_ADD_TO_HOUR, share),
        (_ADD_TO_DAY, share),
        *((_ADD_TO_PROVIDER, did) for did in _providers(generation)),
    ]


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _receipt(generation: Generation) -> Row:
    origin, usage, cost = generation.origin, generation.usage, generation.cost
    return {
        "id": origin.id,
        "organization_id": origin.organization_id,
        "workspace_id": origin.workspace_id,
        "member_id": origin.member_id,
        "key_hash": origin.key_hash,
        "created_at_ms": origin.created_at_ms,
        "requested_model": origin.requested_model,
        "model": origin.model,
        "provider": generation.provider,
        "upstream_model": generation.upstream_model,
        "upstream_id": generation.upstream_id,
        "upstream_request_id": generation.upstream_request_id,
        "session_id": origin.session_id,
        "external_user": origin.external_user,
        "app": origin.app,
        "user_agent": origin.user_agent,
        "api_type": origin.api_type,
        "streamed": int(origin.streamed),
        "outcome": generation.outcome,
        "finish_reason": generation.finish_reason,
        "estimated": int(usage.estimated),
        "latency_ms": generation.latency_ms,
        "generation_ms": generation.generation_ms,
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "thinking_tokens": usage.thinking_tokens,
        "cache_read_tokens": usage.cache_read_tokens,
        "cache_write_5m_tokens": usage.cache_write_5m_tokens,
        "cache_write_1h_tokens": usage.cache_write_1h_tokens,
        "web_searches": usage.web_searches,
        "service_tier": usage.service_tier,
        "speed": usage.speed,
        "cost_nusd": cost.charged_nusd,
        "upstream_cost_nusd": cost.upstream_nusd,
        "cache_discount_nusd": cost.cache_discount_nusd,
        "held_nusd": cost.held_nusd,
        "price_version": cost.price_version,
        "parts": _json(cost.parts),
        "plan": _json(generation.plan),
        "attempts": _json(generation.attempts),
        "conversation": generation.conversation,
        "inputs": None if generation.inputs is None else generation.inputs.decode(),
        "byok_cost_nusd": cost.byok_nusd,
    }


def _share(generation: Generation) -> Row:
    origin, usage = generation.origin, generation.usage
    return {
        "hour_s": origin.created_at_ms // HOUR_MS * 3_600,
        "day_s": origin.created_at_ms // DAY_MS * 86_400,
        "organization_id": origin.organization_id,
        "key_hash": origin.key_hash,
        "model": origin.model,
        "provider": generation.provider or "",
        "app": origin.app or "",
        "workspace_id": origin.workspace_id,
        "member_id": origin.member_id,
        "requests": 1,
        "failures": int(generation.outcome in {"failed", "broken"}),
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "thinking_tokens": usage.thinking_tokens,
        "cache_read_tokens": usage.cache_read_tokens,
        "cache_write_tokens": usage.cache_write_5m_tokens + usage.cache_write_1h_tokens,
        "cost_nusd": generation.cost.charged_nusd,
        "byok_cost_nusd": generation.cost.byok_nusd,
        "cache_discount_nusd": generation.cost.cache_discount_nusd,
    }


def _providers(generation: Generation) -> Iterator[Row]:
    """What every attempt says about its provider. An answer that broke off later is none."""
    origin = generation.origin
    for attempt in generation.attempts:
        if attempt.fault in SAYS_NOTHING:
            continue
        answered = attempt.fault is None and generation.outcome != "broken"
        yield {
            "organization_id": origin.organization_id,
            "provider": attempt.provider,
            "hour_s": origin.created_at_ms // HOUR_MS * 3_600,
            "attempts": 1,
            "answered": int(answered),
            "limited": int(attempt.fault in LIMITED),
            "answer_ms": attempt.ms if answered else 0,
        }


def context(origin: Origin, provider: str, price_version: str, own_nusd: int | None = None) -> str:
    """What a hold carries about its request, as JSON. `own_nusd` is what the input alone costs on an own key that is asked first."""
    known: dict[str, Any] = {"origin": origin, "provider": provider, "price_version": price_version}
    return _json(known if own_nusd is None else known | {"byok": own_nusd})


class Charged(Protocol):
    """What a lost request is charged, in nano-USD of credit, or what an own key is asked for it."""

    @property
    def charged_nusd(self) -> int: ...
    @property
    def byok_nusd(self) -> int: ...


def lost(hold: Row, bill: Charged) -> list[tuple[Statement | str, Row]]:
    """The receipt of a request whose process died: an estimate, marked as one."""
    known = msgspec.json.decode(hold["context"])
    generation = Generation(
        origin=Origin(**known["origin"]),
        outcome="lost",
        usage=Usage(estimated=True),
        cost=Cost(
            bill.charged_nusd,
            bill.charged_nusd,
            held_nusd=hold["amount_nusd"],
            price_version=known["price_version"],
            byok_nusd=bill.byok_nusd,
        ),
        provider=known["provider"],
    )
    return rows(generation)


class Costed(Charged, Protocol):
    """The same with what the operator bears."""

    @property
    def operator_nusd(self) -> int: ...
    @property
    def uncertain(self) -> Sequence[tuple[str, int]]: ...


def plain(hold: Row, bill: Costed, refused: Sequence[tuple[Any, Row]], why: str) -> list[tuple[Statement | str, Row]]:
    """The receipt of a request whose own receipt, among the rows `refused`, the database did not take: exact in money.

    It is made from the stored hold, the bill, and of the refused one only counts and words that are the gateway's own. The last attempt
    says why.
    """
    known = msgspec.json.decode(hold["context"])
    origin: dict[str, Any] = {name: _clean(value) for name, value in known["origin"].items()}
    told = next((row for statement, row in refused if statement is _ADD_GENERATION), {})
    outcome = told.get("outcome")
    charged_nusd = min(bill.charged_nusd, hold["amount_nusd"])
    generation = Generation(
        origin=Origin(**origin),
        outcome=outcome if outcome in OUTCOMES else "completed",
        usage=_plain_usage(told),
        cost=Cost(
            charged_nusd,
            bill.charged_nusd + bill.operator_nusd,
            _count(told, "cache_discount_nusd"),
            hold["amount_nusd"],
            known["price_version"],
            uncertain_nusd=sum(amount_nusd for _, amount_nusd in bill.uncertain),
            byok_nusd=bill.byok_nusd,
        ),
        provider=told.get("provider", known["provider"]),
        attempts=_plain_attempts(told, f"{UNSTORED} ({visible(redacted(why), _REASON_CHARACTERS_MAX)})"),
    )
    return rows(generation)


def _plain_usage(told: Mapping[str, Any]) -> Usage:
    names = (
        "input_tokens", "output_tokens", "thinking_tokens", "cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens",
        "web_searches",
    )  # fmt: skip
    counts: dict[str, Any] = {name: _count(told, name) for name in names}
    return Usage(**counts, estimated=told.get("estimated") == 1)


def _clean(value: object) -> object:
    return visible(value, 256) if isinstance(value, str) else value


def _count(told: Mapping[str, Any], name: str) -> int:
    """A count that any database takes; zero for what is none."""
    value = told.get(name)
    return value if isinstance(value, int) and abs(value) <= _COUNTS_MAX else 0


def _plain_attempts(told: Mapping[str, Any], note: str) -> tuple[Attempt, ...]:
    """The attempts without what providers said, and what there is to be said at the end of the last one."""
    try:
        made = msgspec.json.decode(told["attempts"], type=tuple[Attempt, ...])
    except (KeyError, TypeError, msgspec.MsgspecError):
        made = ()
    clean = [msgspec.structs.replace(one, request_id=None, detail="", ms=_count({"ms": one.ms}, "ms")) for one in made]
    if clean:
        clean[-1] = msgspec.structs.replace(clean[-1], detail=note)
    return tuple(clean)
