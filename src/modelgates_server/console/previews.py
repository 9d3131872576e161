"""What a change would have refused, told in sentences: for the forms of guardrails, budgets and rates."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

import sqlalchemy as sa

from modelgates_server.accounts.values import maker_of
from modelgates_server.activity.what_if import Allowance, Lists, Person, Refusals, Used, barred, people
from modelgates_server.activity.what_if_budgets import would_refuse
from modelgates_server.activity.what_if_others import used, would_pace
from modelgates_server.activity.what_if_whom import Whom, names
from modelgates_server.catalogue.models import Endpoint
from modelgates_server.console.visits import Visit
from modelgates_server.limits import LIMIT_RESETS, Scope, Window
from modelgates_server.management.budgets import Budget
from modelgates_server.management.guardrails import GuardrailRow, Rules
from modelgates_server.management.rates import Paced
from modelgates_server.management.spent import SOFT
from modelgates_server.money import dollars
from modelgates_server.storage.engine import reading
from modelgates_server.storage.patience import within

PATIENCE_S: Final = 20.0
PEOPLE_SHOWN: Final = 20

PER: Final = {Window.DAY: "a day", Window.WEEK: "a week", Window.MONTH: "a month", Window.LIFE: "in all"}

Endpoints = Mapping[str, Sequence[Endpoint]]
"""Each model's endpoints by its slug."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one rule would have done. `kind` is refused or moved. Nano-USD, times in Unix milliseconds.

    `people` are those with the most requests, `more` how many further ones there are.
    """

    kind: str
    sentence: str
    requests: int
    nusd: int
    first_ms: int | None
    looked_from_ms: int
    exact: bool
    people: tuple[Person, ...]
    more: int


@dataclass(frozen=True, slots=True)
class Whose:
    """Whose requests a guardrail is about: members, and keys of others; or every member; or everybody in a workspace."""

    members: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    workspace_id: str | None = None
    everybody: bool = False

    def allowances(self, window: Window, limit_nusd: int, *, include_byok: bool = False) -> list[Allowance]:
        """A budget for each of them. They are about different requests: a member's counts what all their keys do."""
        plain = Allowance(Scope.MEMBER, window, limit_nusd, include_byok=include_byok)
        if self.workspace_id is not None:
            seats = replace(plain, scope=Scope.SEAT, workspace_id=self.workspace_id)
            return [seats, replace(seats, scope=Scope.KEY, memberless=True)]
        if self.everybody:
            return [plain]
        return [replace(plain, owners=self.members), replace(plain, scope=Scope.KEY, owners=self.keys)]


def of_guardrail(row: GuardrailRow, members: Sequence[str], keys: Iterable[tuple[str, str | None]]) -> Whose:
    """Whose requests a guardrail is about: `keys` are pairs of a hash and its member. Without anybody, every member's."""
    if row.is_default:
        return Whose(workspace_id=row.workspace_id)
    chosen = set(members)
    others = tuple(key_hash for key_hash, member_id in keys if member_id not in chosen)
    return Whose(tuple(members), others, everybody=not members and not others)


@contextmanager
def look_back(visit: Visit, days: int) -> Iterator[Preview]:
    """A snapshot of the books to look back in. Raises TookTooLong."""
    with reading(visit.house.engine) as connection, within(connection, PATIENCE_S, visit.house.clock):
        whom = Whom.lately(visit.organization_id, days, visit.now_s)
        yield Preview(connection, whom, days, visit.house.endpoints)


class Preview:
    """Looks back over the receipts of the last days for one form."""

    def __init__(self, connection: sa.Connection, whom: Whom, days: int, endpoints: Endpoints) -> None:
        self._connection = connection
        self._whom = whom
        self._days = days
        self._endpoints = endpoints

    def budget(self, budget: Budget, named: str) -> Finding:
        """What a budget would have refused; `named` says whose it is."""
        limit_nusd, soft = budget.limit_nusd or 0, budget.mode == SOFT
        allowance = Allowance(budget.scope, budget.window, limit_nusd, (budget.scope_id,), bool(budget.include_byok))
        refusals = would_refuse(self._connection, self._whom, allowance)
        what = f"{'a hard budget of ' if soft else ''}{dollars(limit_nusd)} {PER[budget.window]} for {named}"
        return self._finding(refusals, what, soft=soft)

    def rates(self, paced: Paced, named: str) -> Finding:
        """What a rate of requests would have refused."""
        per_minute = paced.rates.requests_per_minute or 0
        owner = Allowance(paced.scope, Window.MINUTE, 0, (paced.scope_id,))
        refusals = would_pace(self._connection, self._whom, owner, per_minute)
        return self._finding(refusals, f"{_count(per_minute, 'request')} a minute for {named}")

    def rules(self, rules: Rules, whose: Whose) -> list[Finding]:
        """What a guardrail would have refused of some: by its budget, by its models, by its providers."""
        found = []
        if rules.limit_nusd is not None and rules.reset_interval is not None:
            window, soft = LIMIT_RESETS[rules.reset_interval], rules.mode == SOFT
            refusals = Refusals(self._whom.since_s * 1000)
            for allowance in whose.allowances(window, rules.limit_nusd, include_byok=rules.include_byok):
                refusals.merge(would_refuse(self._connection, self._whom, allowance))
            what = f"{'a hard' if soft else 'its'} budget of {dollars(rules.limit_nusd)} {PER[window]} for each"
            found.append(self._finding(refusals, what, soft=soft))
        by_models = rules.allowed_models is not None or rules.ignored_models is not None
        by_providers = rules.allowed_providers is not None or rules.ignored_providers is not None or _retention(rules)
        if by_models or by_providers:
            refused, nowhere, moved = self._lists(rules, whose)
            found += [refused] if by_models else []
            found += [nowhere, moved] if by_providers else []
        return found

    def _lists(self, rules: Rules, whose: Whose) -> tuple[Finding, Finding, Finding]:
        rows = used(self._connection, self._whom, whose.allowances(Window.LIFE, 0))
        allowed = None if rules.allowed_models is None else frozenset(rules.allowed_models)
        lists = Lists(
            allowed, frozenset(rules.ignored_models or ()), barred=_not_permitted(rules, rows, self._endpoints)
        )
        serving = {slug: {one.provider for one in found} for slug, found in self._endpoints.items()}
        by = barred(rows, lists, serving, self._whom.since_s * 1000)
        return (
            self._finding(by.by_model, "its list of models", daily=True),
            self._finding(by.by_provider, "its rules for providers", daily=True, tail=" No provider is left for them."),
            self._finding(by.moved, "its rules for providers", daily=True, kind="moved"),
        )

    def _finding(
        self,
        refusals: Refusals,
        what: str,
        *,
        soft: bool = False,
        daily: bool = False,
        kind: str = "refused",
        tail: str = "",
    ) -> Finding:
        known = names(self._connection, self._whom.organization_id, [refusals])
        found = people(refusals, known.members, known.keys)
        told = f"{self._since(refusals)} {what} would have {_told(refusals, found, kind, daily=daily)}"
        told += tail if refusals.requests else ""
        return Finding(
            kind=kind,
            sentence=told + (" As a soft one it refuses nothing and only warns." if soft else ""),
            requests=refusals.requests,
            nusd=refusals.nusd,
            first_ms=refusals.first_ms,
            looked_from_ms=refusals.looked_from_ms,
            exact=refusals.exact,
            people=found[:PEOPLE_SHOWN],
            more=max(0, len(found) - PEOPLE_SHOWN),
        )

    def _since(self, refusals: Refusals) -> str:
        if refusals.looked_from_ms > self._whom.since_s * 1000:
            return f"Since {_moment(refusals.looked_from_ms)} (before that there is too much to look through)"
        return "Today" if self._days == 1 else f"In the last {self._days} days"


def _told(refusals: Refusals, found: Sequence[Person], kind: str, *, daily: bool) -> str:
    """How it ends: ``refused 12 requests of 2 people, worth $3.40; the first one on …``."""
    if not refusals.requests or refusals.first_ms is None:
        return "sent nothing elsewhere." if kind == "moved" else "refused nothing."
    about = "" if refusals.exact else "about "
    first = _moment(refusals.first_ms)[: 10 if daily else None]
    whose = f"{about}{_count(refusals.requests, 'request')} of {_those(found)}"
    verb = f"sent {whose} to another provider" if kind == "moved" else f"refused {whose}"
    return f"{verb}, worth {about}{dollars(refusals.nusd)}; the first one on {first}."


def _those(found: Sequence[Person]) -> str:
    persons, keys = sum(not one.is_key for one in found), sum(one.is_key for one in found)
    told = [f"{persons:,} {'person' if persons == 1 else 'people'}"] if persons else []
    told += [f"{_count(keys, 'key')} of nobody"] if keys else []
    return " and ".join(told)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _moment(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _retention(rules: Rules) -> bool:
    """Whether some models are allowed only where nothing is kept."""
    return any(on for name, on in rules.settings.items() if name.startswith("enforce_zdr_"))


def _not_permitted(rules: Rules, rows: Iterable[Used], endpoints: Endpoints) -> frozenset[tuple[str, str]]:
    """Pairs of model and provider that the rules do not permit, as routing would read them (`routing.wishes`)."""
    models = {row.model for row in rows}
    pairs = {(row.model, row.provider) for row in rows if row.provider}
    pairs |= {(slug, one.provider) for slug in models for one in endpoints.get(slug, ())}
    return frozenset(pair for pair in pairs if not _permits(rules, *pair, endpoints))


def _permits(rules: Rules, model: str, provider: str, endpoints: Endpoints) -> bool:
    """Whether some endpoint of the provider may serve the model. One that is gone by now is told by its slug."""
    known: list[Endpoint | None] = [one for one in endpoints.get(model, ()) if one.provider == provider]
    nothing_kept = rules.settings.get(f"enforce_zdr_{maker_of(model)}", False)

    def named(one: Endpoint | None, slugs: Sequence[str]) -> bool:
        return provider in slugs if one is None else any(one.named_by(slug) for slug in slugs)

    return any(
        (rules.allowed_providers is None or named(one, rules.allowed_providers))
        and not named(one, rules.ignored_providers or ())
        and not (nothing_kept and (one is None or not one.zdr))
        for one in known or [None]
    )
