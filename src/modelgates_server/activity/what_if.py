"""What a change would have refused: requests that really happened, seen under limits and lists that did not exist then. Pure.

It can only tell about stricter rules: a request that was refused left no receipt. What is asked of a budget is what a request cost in
the end; the gate itself asks for room for the most that it may cost, so it would have refused a little earlier.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from modelgates_server.limits import Scope, Window

Whose = tuple[str | None, str]
"""A member (None: nobody) and a key."""


@dataclass(frozen=True, slots=True)
class Allowance:
    """A budget that each of some owners has for itself: nano-USD in a window.

    `owners` are ids of what `scope` says, None for everybody; `workspace_id` leaves out what was done elsewhere, `memberless` what
    members did. With `include_byok` what own provider accounts were asked counts too.
    """

    scope: Scope
    window: Window
    limit_nusd: int
    owners: tuple[str, ...] | None = None
    include_byok: bool = False
    workspace_id: str | None = None
    memberless: bool = False


@dataclass(frozen=True, slots=True)
class Paid:
    """A request as a budget sees it."""

    at_ms: int
    whose: Whose
    nusd: int


@dataclass(slots=True)
class Count:
    """Requests and what they cost."""

    requests: int = 0
    nusd: int = 0

    def add(self, requests: int, nusd: int) -> None:
        self.requests += requests
        self.nusd += nusd


@dataclass(slots=True)
class Refusals:
    """What would have been refused: whose requests, and when the first one.

    `exact` is False where there was too much to replay, and what came after a budget was used up was counted as refused altogether.
    `looked_from_ms` is since when it was looked.
    """

    looked_from_ms: int
    by_whose: dict[Whose, Count] = field(default_factory=lambda: defaultdict(Count))
    first_ms: int | None = None
    exact: bool = True

    @property
    def requests(self) -> int:
        return sum(count.requests for count in self.by_whose.values())

    @property
    def nusd(self) -> int:
        return sum(count.nusd for count in self.by_whose.values())

    def add(self, whose: Whose, requests: int, nusd: int, at_ms: int) -> None:
        """Count requests, the first of them at `at_ms`. What lies before the time that is looked at counts nothing."""
        if requests <= 0 or at_ms < self.looked_from_ms:
            return
        self.by_whose[whose].add(requests, nusd)
        self.first_ms = at_ms if self.first_ms is None else min(self.first_ms, at_ms)

    def merge(self, other: Refusals) -> None:
        """Count what another rule would have refused as well; the two must be about different requests."""
        for whose, count in other.by_whose.items():
            self.by_whose[whose].add(count.requests, count.nusd)
        firsts = [first for first in (self.first_ms, other.first_ms) if first is not None]
        self.first_ms = min(firsts, default=None)
        self.exact = self.exact and other.exact
        self.looked_from_ms = max(self.looked_from_ms, other.looked_from_ms)


def replay(rows: Iterable[Paid], limit_nusd: int, spent_nusd: int, refusals: Refusals) -> int:
    """Let one owner's requests of one window, in order of time, ask a budget again; gives what is spent at the end.

    A request that does not fit is refused and costs nothing, so a smaller one after it may still fit.
    """
    for row in rows:
        if spent_nusd + row.nusd > limit_nusd:
            refusals.add(row.whose, 1, row.nusd, row.at_ms)
        else:
            spent_nusd += row.nusd
    return spent_nusd


# Lists.


@dataclass(frozen=True, slots=True)
class Used:
    """What somebody did with a model through a provider (empty: none answered), and when first (to the day)."""

    whose: Whose
    model: str
    provider: str
    requests: int
    nusd: int
    first_ms: int


@dataclass(frozen=True, slots=True)
class Lists:
    """Which models and providers are permitted: None allows all. `barred` are pairs of model and provider on top of that."""

    allowed_models: frozenset[str] | None = None
    ignored_models: frozenset[str] = frozenset()
    allowed_providers: frozenset[str] | None = None
    ignored_providers: frozenset[str] = frozenset()
    barred: frozenset[tuple[str, str]] = frozenset()

    def admits_model(self, model: str) -> bool:
        return (self.allowed_models is None or model in self.allowed_models) and model not in self.ignored_models

    def admits_provider(self, model: str, provider: str) -> bool:
        listed = self.allowed_providers is None or provider in self.allowed_providers
        return listed and provider not in self.ignored_providers and (model, provider) not in self.barred


@dataclass(frozen=True, slots=True)
class Barred:
    """What lists would have changed: refused because of the model, refused because no permitted provider is left, or moved to another."""

    by_model: Refusals
    by_provider: Refusals
    moved: Refusals


def barred(rows: Iterable[Used], lists: Lists, serving: Mapping[str, Collection[str]], looked_from_ms: int) -> Barred:
    """See what was done under other lists. `serving` are the providers that could serve each model."""
    found = Barred(Refusals(looked_from_ms), Refusals(looked_from_ms), Refusals(looked_from_ms))
    for row in rows:
        if not lists.admits_model(row.model):
            where = found.by_model
        elif not row.provider or lists.admits_provider(row.model, row.provider):
            continue
        elif any(lists.admits_provider(row.model, other) for other in serving.get(row.model, ())):
            where = found.moved
        else:
            where = found.by_provider
        where.add(row.whose, row.requests, row.nusd, row.first_ms)
    return found


# Words.


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody whose requests would have been refused: a member, or a key that is nobody's."""

    id: str
    name: str
    is_key: bool
    requests: int
    nusd: int


def people(refusals: Refusals, members: Mapping[str, str], keys: Mapping[str, str]) -> tuple[Person, ...]:
    """Whose requests they were, those with the most first. `members` and `keys` are names by id and hash."""
    counts: dict[tuple[str, bool], Count] = defaultdict(Count)
    for (member_id, key_hash), count in refusals.by_whose.items():
        counts[(key_hash, True) if member_id is None else (member_id, False)].add(count.requests, count.nusd)
    found = (
        Person(
            id_,
            keys.get(id_, "a removed key") if is_key else members.get(id_, "somebody"),
            is_key,
            count.requests,
            count.nusd,
        )
        for (id_, is_key), count in counts.items()
    )
    return tuple(sorted(found, key=lambda one: (-one.requests, one.name, one.id)))
