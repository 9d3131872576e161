"""Who has used how much of which limit: meters of the running windows beside the limits in the policy's rows.

The rows, not the meters, say what the limit is: a soft budget stands only there, and a limit that was lowered under what is used
admits nothing, so no request would ever write it into the meter. Every limit is one look-up of its meter by primary key.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from modelgates_server.alerts.outbox import Alert, Kind, Outbox, Severity
from modelgates_server.alerts.words import PERIODS, budget_sentence, named
from modelgates_server.limits import LIMIT_RESETS, Scope, Window
from modelgates_server.storage import schema
from modelgates_server.storage.engine import reading, transaction

WARNING_PERCENT: Final = 80
FULL_PERCENT: Final = 100
TOLD_TOGETHER: Final = 50
"""Alerts of one transaction: after the thresholds were changed there may be thousands, and the ledger writes meanwhile."""

_METERS, _KEYS, _GUARDRAILS = schema.meters.c, schema.api_keys.c, schema.guardrails.c
_WINDOWS: Final = (Window.DAY, Window.WEEK, Window.MONTH)
_NAMED: Final = {
    Scope.ORGANIZATION: schema.organizations,
    Scope.WORKSPACE: schema.workspaces,
    Scope.MEMBER: schema.members,
}


@dataclass(frozen=True, slots=True)
class Use:
    """How much of a limit is used in its running window, and the highest threshold (percent) that this has passed.

    `guardrail` is the name of the one that sets the limit, empty for others.
    """

    organization_id: str
    meter_id: str
    scope: Scope
    scope_id: str
    window: Window
    limit_nusd: int
    used_nusd: int
    resets_at_s: int | None
    hard: bool
    guardrail: str
    threshold: int

    def dedupe(self, threshold: int) -> str:
        """Name the fact. The meter's id holds the start of its window; a limit that was changed is a new fact."""
        return f"{self.meter_id}:{self.limit_nusd}:{threshold}"


def watch_budgets(engine: sa.Engine, outbox: Outbox, thresholds: Mapping[str, Sequence[int]], now_s: float) -> int:
    """Tell each organisation which limits have passed one of its thresholds (percent); count the new alerts.

    `thresholds` is by organisation. A jump over several tells the highest only. Any number of processes may run this: the
    alerts' own key makes each fact one. Reads only, unless there is something to tell. Raises StoreUnavailable.
    """
    alike: dict[tuple[int, ...], list[str]] = {}
    for organization_id, levels in thresholds.items():
        alike.setdefault(tuple(sorted(set(levels))), []).append(organization_id)
    told = 0
    for levels, organization_ids in alike.items():
        if levels:
            told += _watch(engine, outbox, levels, organization_ids if len(alike) > 1 else None, now_s)
    return told


def _watch(
    engine: sa.Engine, outbox: Outbox, levels: tuple[int, ...], organization_ids: Sequence[str] | None, now_s: float
) -> int:
    """The same for organisations (None: all) with the same thresholds."""
    with reading(engine) as connection:
        found = [
            use for query in limits_beside_meters(now_s) for use in _uses(connection, query, levels, organization_ids)
        ]
    found.sort(
        key=lambda use: (use.meter_id, use.limit_nusd)
    )  # all processes write in one order: none waits for another in a ring
    posted = 0
    for start in range(0, len(found), TOLD_TOGETHER):
        with reading(engine) as connection:
            fresh = _untold(connection, found[start : start + TOLD_TOGETHER], levels)
            alerts = [(use, _alert(connection, use)) for use in fresh]
        if alerts:
            with transaction(engine) as connection:
                still = set(_untold(connection, [use for use, _ in alerts], levels))
                posted += sum(outbox.post(connection, alert, now_s) for use, alert in alerts if use in still)
    return posted


def _untold(connection: sa.Connection, uses: Sequence[Use], levels: Sequence[int]) -> list[Use]:
    """Leave out what was told: this threshold by another process, or a higher one before a correction."""
    known = schema.alerts.c
    names = {use: [use.dedupe(level) for level in levels if level >= use.threshold] for use in uses}
    every = [name for mine in names.values() for name in mine]
    owners = sorted({use.organization_id for use in uses})
    query = sa.select(known.organization_id, known.dedupe).where(known.organization_id.in_(owners))
    told = {(row.organization_id, row.dedupe) for row in connection.execute(query.where(known.dedupe.in_(every)))}
    return [use for use in uses if told.isdisjoint((use.organization_id, name) for name in names[use])]


# The limits, each beside its meter.


def limits_beside_meters(now_s: float) -> Iterator[sa.Select[Any]]:
    """Every kind of limit, as a query for the meters that carry it."""
    live = (_KEYS.deleted_at_s.is_(None), _KEYS.limit_nusd > 0)
    reset = sa.case({word: str(window) for word, window in LIMIT_RESETS.items()}, value=_KEYS.limit_reset, else_="life")
    yield _beside(
        sa.literal(str(Scope.KEY)), _KEYS.hash, reset, _KEYS.include_byok_in_limit, _KEYS.limit_nusd, now_s,
        mode=sa.literal("hard"), guardrail=sa.literal(""),
    ).where(*live)  # fmt: skip
    budgets = schema.budgets.c
    yield _beside(
        budgets.scope, budgets.scope_id, budgets.window, budgets.include_byok, budgets.limit_nusd, now_s,
        mode=budgets.mode, guardrail=sa.literal(""),
    ).where(budgets.limit_nusd > 0)  # fmt: skip
    assigned, mine = schema.guardrail_keys.c, schema.guardrail_members.c
    yield _of_guardrail(Scope.KEY, assigned.key_hash, now_s).where(assigned.guardrail_id == _GUARDRAILS.id)
    yield _of_guardrail(Scope.MEMBER, mine.member_id, now_s).where(mine.guardrail_id == _GUARDRAILS.id)
    here = (_GUARDRAILS.is_default == 1, _KEYS.workspace_id == _GUARDRAILS.workspace_id, _KEYS.deleted_at_s.is_(None))
    yield _of_guardrail(Scope.KEY, _KEYS.hash, now_s).where(*here)
    seat = _KEYS.workspace_id + "/" + _KEYS.member_id
    yield _of_guardrail(Scope.SEAT, seat, now_s).where(*here, _KEYS.member_id.is_not(None)).distinct()


def _of_guardrail(scope: Scope, scope_id: Any, now_s: float) -> sa.Select[Any]:
    reset = sa.case({word: str(window) for word, window in LIMIT_RESETS.items()}, value=_GUARDRAILS.reset_interval)
    return _beside(
        sa.literal(str(scope)), scope_id, reset, _GUARDRAILS.include_byok, _GUARDRAILS.limit_nusd, now_s,
        mode=_GUARDRAILS.mode, guardrail=_GUARDRAILS.name,
    ).where(_GUARDRAILS.limit_nusd > 0, _GUARDRAILS.reset_interval.is_not(None))  # fmt: skip


def _beside(  # noqa: PLR0913 - the columns of a limit
    scope: Any, scope_id: Any, window: Any, byok: Any, limit: Any, now_s: float, *, mode: Any, guardrail: Any
) -> sa.Select[Any]:
    """Put a limit beside the meter of its running window, whose id is made as `MeterRef.row_id` makes it."""
    running = {str(of): f"{of}:{of.bounds_s(now_s)[0]}" for of in _WINDOWS}
    place = sa.case(running, value=window, else_="life")
    unit = sa.case((byok == 1, "spend"), else_="nusd")
    return sa.select(
        _METERS.organization_id, _METERS.id, scope.label("scope"), scope_id.label("scope_id"), window.label("span"),
        limit.label("limit_nusd"), _METERS.posted, _METERS.ends_at_s, mode.label("mode"), guardrail.label("guardrail"),
    ).where(_METERS.id == scope + ":" + scope_id + ":" + unit + ":" + place)  # fmt: skip


def _uses(
    connection: sa.Connection, query: sa.Select[Any], levels: tuple[int, ...], organization_ids: Sequence[str] | None
) -> Iterator[Use]:
    """Read the limits that passed a threshold and were not told so. What was told is left out by the database: it is the most."""
    limit, told = query.selected_columns["limit_nusd"], schema.alerts.c
    passed = sa.case(*((_METERS.posted * 100 >= limit * level, level) for level in reversed(levels)))
    name = _METERS.id + ":" + sa.cast(limit, sa.Text) + ":" + sa.cast(passed, sa.Text)
    same = (told.organization_id == _METERS.organization_id, told.dedupe == name)
    query = query.add_columns(passed.label("threshold")).where(
        _METERS.posted * 100 >= limit * levels[0], ~sa.exists().where(*same)
    )
    if organization_ids is not None:
        query = query.where(_METERS.organization_id.in_(organization_ids))
    for row in connection.execute(query):
        yield Use(
            row.organization_id, row.id, Scope(row.scope), row.scope_id, Window(row.span), row.limit_nusd, row.posted,
            row.ends_at_s, row.mode == "hard", row.guardrail, row.threshold,
        )  # fmt: skip


# The words.


def _alert(connection: sa.Connection, use: Use) -> Alert:
    what = f"its {PERIODS[use.window]} {'limit' if use.scope is Scope.KEY and not use.guardrail else 'budget'}"
    if use.guardrail:
        what += f", set by {named('the guardrail', use.guardrail)}"
    details = {
        "scope": str(use.scope),
        "scope_id": use.scope_id,
        "window": str(use.window),
        "threshold_percent": use.threshold,
        "limit_nusd": use.limit_nusd,
        "used_nusd": use.used_nusd,
        "resets_at_s": use.resets_at_s,
        "mode": "hard" if use.hard else "soft",
        "guardrail": use.guardrail or None,
    }
    who = _who(connection, use)
    sentence = budget_sentence(who, what, use.used_nusd, use.limit_nusd, use.resets_at_s, hard=use.hard)
    return Alert(use.organization_id, use.dedupe(use.threshold), Kind.BUDGET, _severity(use), sentence, details)


def _severity(use: Use) -> Severity:
    if use.threshold < WARNING_PERCENT:
        return Severity.INFO
    return Severity.CRITICAL if use.threshold >= FULL_PERCENT and use.hard else Severity.WARNING


def _who(connection: sa.Connection, use: Use) -> str:
    """Whose meter it is, by name; by its id when it is gone meanwhile."""
    if use.scope is Scope.KEY:
        row = connection.execute(sa.select(_KEYS.name, _KEYS.label).where(_KEYS.hash == use.scope_id)).one_or_none()
        return named("The key", use.scope_id[:12]) if row is None else f"{named('The key', row.name)} ({row.label})"
    if use.scope is Scope.APP:
        return named("The app", use.scope_id.partition("/")[2])
    if use.scope is Scope.SEAT:
        workspace_id, _, member_id = use.scope_id.partition("/")
        place = named("the workspace", _name(connection, Scope.WORKSPACE, workspace_id))
        return f"{named('The member', _name(connection, Scope.MEMBER, member_id))} in {place}"
    return named(f"The {use.scope}", _name(connection, use.scope, use.scope_id))


def _name(connection: sa.Connection, scope: Scope, scope_id: str) -> str:
    table = _NAMED[scope].c
    return str(connection.execute(sa.select(table.name).where(table.id == scope_id)).scalar_one_or_none() or scope_id)
