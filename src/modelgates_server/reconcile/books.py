"""What our own rows say: receipts by day and model, and the attempts of unknown fate that stand on ``operator:uncertain``.

What a customer's own account at the provider is asked for (BYOK) is not in the operator's report, and so not here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import sqlalchemy as sa

from modelgates_server.ledger.units import OPERATOR_LOSS, UNCERTAIN, provider
from modelgates_server.money import PUSD_PER_NUSD
from modelgates_server.reconcile.values import DAY_MS, DAY_S, WEB_SEARCH, Booked, Doubt, Tokens, day_of, start_s
from modelgates_server.storage import schema

Name = Callable[[str], str]
"""Gives a model's id for any name that a provider, or a receipt, has for it."""

UNCERTAIN_KIND: Final = "uncertain"
CLEARED_KIND: Final = "cleared"

_g = schema.generations.c
_DAY_MS = sa.literal_column(
    str(DAY_MS), sa.BigInteger
)  # no parameter: PostgreSQL would not see that two of them are equal


def booked(
    connection: sa.Connection, slugs: Sequence[str], days: Sequence[str], search_pusd: int, name: Name
) -> dict[tuple[str, str], Booked]:
    """Our receipts at the providers `slugs`, by day and model. Fees of web searches, at `search_pusd` each, have a line of their own."""
    sums: dict[tuple[str, str], Booked] = {}
    for row in connection.execute(_receipts(slugs, days, search_pusd // PUSD_PER_NUSD)):
        for entry in _of_row(row, name):
            key = (entry.day, entry.model)
            sums[key] = sums[key] + entry if key in sums else entry
    return sums


def doubts(connection: sa.Connection, slugs: Sequence[str], days: Sequence[str], name: Name) -> list[Doubt]:
    """The attempts of unknown fate at the providers `slugs`, oldest first, with what is still open and what was found."""
    accounts = {provider(slug): slug for slug in slugs}
    sums: dict[tuple[str, str], list[int]] = {}
    about: dict[str, Any] = {}
    for row in connection.execute(_entries(list(accounts), days)):
        slug = accounts.get(row.credit) or accounts[row.debit]
        most, found = sums.setdefault((row.generation_id, slug), [0, 0])
        if row.debit == UNCERTAIN:
            most += row.amount_nusd
        elif row.credit == UNCERTAIN:
            most -= row.amount_nusd
        else:
            found += row.amount_nusd
        sums[row.generation_id, slug] = [most, found]
        about[row.generation_id] = row
    return [
        Doubt(
            generation_id,
            about[generation_id].organization_id,
            slug,
            day_of(about[generation_id].created_at_ms // 1000),
            name(_model(about[generation_id], slug)),
            most,
            found,
        )
        for (generation_id, slug), (most, found) in sums.items()
    ]


def in_fast_mode(connection: sa.Connection, slugs: Sequence[str], days: Sequence[str]) -> bool:
    """Whether any of our receipts at these providers was served in fast mode."""
    query = sa.select(_g.id).where(_g.provider.in_(slugs), _g.speed == "fast", *_within(days)).limit(1)
    return connection.execute(query).first() is not None


def _within(days: Sequence[str]) -> list[sa.ColumnElement[bool]]:
    """Receipts of some days. Naming the organisations lets the index of their times be used."""
    everybody = sa.select(schema.organizations.c.id)
    first_ms, end_ms = start_s(days[0]) * 1000, start_s(days[-1]) * 1000 + DAY_MS
    return [_g.organization_id.in_(everybody), _g.created_at_ms >= first_ms, _g.created_at_ms < end_ms]


def _receipts(slugs: Sequence[str], days: Sequence[str], fee_nusd: int) -> sa.Select[Any]:
    asked = _g.upstream_cost_nusd
    fees = sa.case((asked >= _g.web_searches * fee_nusd, _g.web_searches * fee_nusd), else_=0)
    day, model = _g.created_at_ms // _DAY_MS, sa.func.coalesce(_g.upstream_model, _g.model)
    late = _g.created_at_ms % _DAY_MS + sa.func.coalesce(_g.generation_ms, 0) >= _DAY_MS
    estimated = _g.estimated == 1
    lost = sa.and_(_g.outcome == "lost", estimated, _g.held_nusd > asked)
    return (
        sa.select(
            day.label("day"),
            model.label("model"),
            sa.func.count().label("requests"),
            _sum(asked - fees).label("nusd"),
            _sum(fees).label("fees"),
            _sum(_g.web_searches).label("searches"),
            _sum(sa.case((estimated, asked - fees), else_=0)).label("estimated"),
            _sum(sa.case((estimated, fees), else_=0)).label("estimated_fees"),
            _sum(sa.case((lost, _g.held_nusd - asked), else_=0)).label("lost"),
            _sum(sa.case((late, asked - fees), else_=0)).label("late"),
            _sum(sa.case((late, fees), else_=0)).label("late_fees"),
            _charged(_g.input_tokens).label("input"),
            _charged(_g.output_tokens).label("output"),
            _charged(_g.cache_read_tokens).label("cache_read"),
            _charged(_g.cache_write_5m_tokens + _g.cache_write_1h_tokens).label("cache_write"),
        )
        .where(_g.provider.in_(slugs), _g.byok_cost_nusd == 0, *_within(days))
        .group_by(day, model)
    )


def _sum(what: Any) -> sa.ColumnElement[int]:
    return sa.cast(sa.func.coalesce(sa.func.sum(what), 0), sa.BigInteger)


def _charged(tokens: Any) -> sa.ColumnElement[int]:
    """The sum over receipts that cost something: what a provider does not charge for is not in its report."""
    return _sum(sa.case((_g.upstream_cost_nusd > 0, tokens), else_=0))


def _of_row(row: Any, name: Name) -> Iterable[Booked]:
    day = day_of(row.day * DAY_S)
    tokens = Tokens(row.input, row.output, row.cache_read, row.cache_write)
    yield Booked(day, name(row.model), row.requests, row.nusd, row.estimated, row.lost, row.late, tokens)
    if row.searches:
        yield Booked(day, WEB_SEARCH, row.searches, row.fees, row.estimated_fees, 0, row.late_fees)


def _entries(accounts: list[str], days: Sequence[str]) -> sa.Select[Any]:
    """What was booked as uncertain at some providers, what was taken back, and what became a loss."""
    entries = schema.entries.c
    return (
        sa.select(
            entries.generation_id,
            entries.debit,
            entries.credit,
            entries.amount_nusd,
            _g.organization_id,
            _g.created_at_ms,
            _g.model,
            _g.attempts,
        )
        .join(schema.generations, _g.id == entries.generation_id)
        .where(
            sa.or_(
                sa.and_(entries.kind == UNCERTAIN_KIND, entries.debit == UNCERTAIN, entries.credit.in_(accounts)),
                sa.and_(entries.kind == CLEARED_KIND, entries.credit == UNCERTAIN, entries.debit.in_(accounts)),
                sa.and_(entries.kind == CLEARED_KIND, entries.debit == OPERATOR_LOSS, entries.credit.in_(accounts)),
            ),
            *_within(days),
            sa.text(schema.FEW),
        )
        .order_by(entries.id)
    )


def _model(row: Any, slug: str) -> str:
    """Which model an attempt of unknown fate was for: the first that failed there without an answer, else that failed there."""
    here = [attempt for attempt in json.loads(row.attempts) if attempt["provider"] == slug and not attempt.get("own")]
    failed = [attempt for attempt in here if attempt["fault"]]
    silent = [attempt for attempt in failed if attempt["status"] == 0]
    return str(next((attempt["model"] for attempt in (*silent, *failed)), row.model))
