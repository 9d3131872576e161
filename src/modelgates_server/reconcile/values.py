"""The nouns of reconciliation: what a provider reports, what we booked, and a line that compares them. Values only.

A day is text such as ``2026-11-25``, in UTC. A model is the catalogue's id when the catalogue knows the name, else the name itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Final, Protocol

from msgspec import Struct

from modelgates_server.dialects.values import Usage
from modelgates_server.errors import BadRequest

DAY_S: Final = 86_400
DAY_MS: Final = DAY_S * 1000

SETTLED_AFTER_S: Final = DAY_S
"""A provider's report may lag: Anthropic's is usually five minutes behind, at times longer. A day counts when it is a day old."""

WEB_SEARCH: Final = "web_search"
"""Fees are reported for all models together, so they have a line of their own."""


class Counted(Struct, frozen=True):
    """Tokens of one kind of request on one day, as the provider counted them.

    `window` bounds the input of each of these requests: more than the first number of tokens, at most the second; None when it was
    not said. `usage` also holds the tier, the speed and the region that they were served in.
    """

    day: str
    model: str
    usage: Usage
    window: tuple[int, int] | None = None


class Invoiced(Struct, frozen=True):
    """Money that the provider asks for on one day. `kind` is ``tokens`` or what else is charged, then without a model."""

    day: str
    kind: str
    model: str | None
    nusd: int


class Reported(Struct, frozen=True):
    """A whole report: everything that the provider says about some days. `days` are those that it has."""

    days: frozenset[str]
    counted: tuple[Counted, ...]
    invoiced: tuple[Invoiced, ...]


class UsageReport(Protocol):
    """Where a provider tells what it counted and charges. An adapter for each kind of provider that has such a report."""

    async def fetch(self, days: Sequence[str]) -> Reported:
        """What is reported about `days`, which follow each other. Raises ReportFailed: all of it or nothing."""
        ...


class Tokens(Struct, frozen=True):
    """Counts by kind; `cache_write` is of both lifetimes."""

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0

    def __add__(self, other: Tokens) -> Tokens:
        return Tokens(
            self.input + other.input,
            self.output + other.output,
            self.cache_read + other.cache_read,
            self.cache_write + other.cache_write,
        )


class Booked(Struct, frozen=True):
    """What our receipts say about one model on one day, without what customers pay at accounts of their own. Nano-USD.

    `estimated_nusd` is how much of `nusd` stands on receipts that are estimates; `lost_nusd` is what the requests that died with
    their process may have cost beyond that. `late_nusd` is how much ended on the next day, where the provider may count it.
    """

    day: str
    model: str
    requests: int = 0
    nusd: int = 0
    estimated_nusd: int = 0
    lost_nusd: int = 0
    late_nusd: int = 0
    tokens: Tokens = Tokens()

    def __add__(self, other: Booked) -> Booked:
        return Booked(
            self.day,
            self.model,
            self.requests + other.requests,
            self.nusd + other.nusd,
            self.estimated_nusd + other.estimated_nusd,
            self.lost_nusd + other.lost_nusd,
            self.late_nusd + other.late_nusd,
            self.tokens + other.tokens,
        )


class Doubt(Struct, frozen=True):
    """An attempt of unknown fate: it cost nothing, or up to `most_nusd`. `provider` is a slug.

    `found_nusd` is what an earlier report proved that it cost; then it is no doubt any more and `most_nusd` is 0.
    """

    generation_id: str
    organization_id: str
    provider: str
    day: str
    model: str
    most_nusd: int
    found_nusd: int = 0


class Cleared(Struct, frozen=True):
    """What a report proved about an attempt of unknown fate: it cost `billed_nusd`, and the rest of `most_nusd` nothing."""

    doubt: Doubt
    billed_nusd: int


class Line(Struct, frozen=True):
    """One model, or one kind of fee, on one day: our books beside the report. Nano-USD.

    `counted_nusd` is the reported usage at our catalogue's price of that day, None when that cannot be told. `theirs_nusd` is what
    the provider asks. `unexplained_nusd` is the part of the difference that neither estimates, nor uncertain attempts, nor the turn
    of the day account for. `state` is ok, drift, or open: the report may still grow. `because` says what kind of difference it
    is. `cleared` is what the report proves about attempts of unknown fate; `ours_nusd` has it already.
    """

    day: str
    model: str
    requests: int
    ours_nusd: int
    theirs_nusd: int
    counted_nusd: int | None
    estimated_nusd: int
    uncertain_nusd: int
    unexplained_nusd: int
    state: str
    because: str = ""
    ours_tokens: Tokens = Tokens()
    theirs_tokens: Tokens = Tokens()
    cleared: tuple[Cleared, ...] = ()

    @property
    def difference_nusd(self) -> int:
        """How much more the provider asks than we booked."""
        return self.theirs_nusd - self.ours_nusd


def day_of(unix_s: float) -> str:
    """The UTC day of a time in Unix seconds."""
    return datetime.fromtimestamp(unix_s, UTC).date().isoformat()


def start_s(day: str) -> int:
    """When a day begins, in Unix seconds. Raises BadRequest when it is no day."""
    try:
        found = date.fromisoformat(day)
    except ValueError as error:
        raise BadRequest(f"{day!r} is not a day; write it like 2026-11-25") from error
    if found.isoformat() != day:
        raise BadRequest(f"{day!r} is not a day; write it like 2026-11-25")
    return int(datetime(found.year, found.month, found.day, tzinfo=UTC).timestamp())


def days_from(first: str, last: str) -> Iterator[str]:
    """Every day from `first` to `last`, both included."""
    at, end = date.fromisoformat(first), date.fromisoformat(last)
    while at <= end:
        yield at.isoformat()
        at += timedelta(days=1)


def day_before(day: str) -> str:
    """The day before."""
    return (date.fromisoformat(day) - timedelta(days=1)).isoformat()
