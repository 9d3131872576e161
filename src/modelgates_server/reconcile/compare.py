"""Our books beside a report, decided purely: what differs, what accounts for it, and what a report proves.

What may account for a difference, and how far. A receipt that is an estimate may be wrong by all of itself; a request that died
with its process may have cost what was held for it; an attempt of unknown fate costs nothing or up to its bound; a request
that ran past midnight may be counted on the next day; each receipt is rounded up to a nano-USD.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from msgspec import Struct, structs

from modelgates_server.catalogue import price
from modelgates_server.catalogue.load import Catalogue
from modelgates_server.catalogue.models import Endpoint, Rates
from modelgates_server.dialects.values import Usage
from modelgates_server.money import PUSD_PER_NUSD
from modelgates_server.reconcile.values import (
    DAY_S,
    SETTLED_AFTER_S,
    WEB_SEARCH,
    Booked,
    Cleared,
    Counted,
    Doubt,
    Line,
    Reported,
    Tokens,
    day_before,
    start_s,
)

DRIFT_PER_MILLE: Final = 1
"""More than a thousandth of the larger side unexplained is drift, and an alert."""

ESTIMATE_PERCENT: Final = 1
"""How exact estimates are held to be where a report is to prove something (reliability R23)."""

UNSAID_REGION: Final = "not_available"


class Pricing(Struct, frozen=True):
    """The catalogue as one provider's customer sees it: `endpoints` by model id."""

    catalogue: Catalogue
    endpoints: Mapping[str, Endpoint]

    @property
    def search_pusd(self) -> int:
        """The fee of one web search."""
        return self.catalogue.modifiers.web_search_pusd

    def name(self, told: str) -> str:
        """The model's id for any name of it; a name that nobody knows is itself."""
        for endpoint in self.endpoints.values():
            if endpoint.upstream_model == told:
                return endpoint.model.id
        found = self.catalogue.names.find(told)
        return found.model.id if found is not None else told

    def tokens_nusd(self, counted: Counted) -> int | None:
        """What counted tokens cost by the catalogue on their day; None when it does not know the model, or not which tier."""
        endpoint = self.endpoints.get(self.name(counted.model))
        if endpoint is None:
            return None
        rates = _rates(endpoint, counted)
        if len(rates) != 1:
            return None
        geo = counted.usage.inference_geo
        usage = structs.replace(counted.usage, inference_geo=None if geo == UNSAID_REGION else geo)
        return price.charge_together(usage, rates.pop(), endpoint)


def compare(
    days: Sequence[str],
    booked: Mapping[tuple[str, str], Booked],
    doubts: Iterable[Doubt],
    reported: Reported,
    pricing: Pricing,
    now_s: float,
) -> list[Line]:
    """A line for each day and model that either side knows, in the order of days and names.

    `booked` also has the day before the first, whose last requests may be counted on the first. What a line proves about
    attempts of unknown fate is already counted in it, and stands in its `cleared`.
    """
    theirs = _theirs(reported, pricing)
    open_doubts: dict[tuple[str, str], list[Doubt]] = {}
    for doubt in doubts:
        open_doubts.setdefault((doubt.day, doubt.model), []).append(doubt)
    keys = sorted({key for key in (*booked, *theirs, *open_doubts) if key[0] in days})
    return [
        _Sides(
            booked.get((day, model)) or Booked(day, model),
            before.late_nusd if (before := booked.get((day_before(day), model))) else 0,
            theirs.get((day, model)) or _Theirs(),
            in_report=day in reported.days,
            settled=now_s >= start_s(day) + DAY_S + SETTLED_AFTER_S,
        ).line(open_doubts.get((day, model), []))
        for day, model in keys
    ]


class _Theirs(Struct):
    """What a report says about one model on one day, while it is added up. `unpriced`: the catalogue cannot say what it costs."""

    nusd: int = 0
    counted_nusd: int = 0
    unpriced: bool = False
    lines: int = 0
    tokens: Tokens = Tokens()


def _theirs(reported: Reported, pricing: Pricing) -> dict[tuple[str, str], _Theirs]:
    found: dict[tuple[str, str], _Theirs] = {}
    for counted in reported.counted:
        usage = counted.usage
        side = found.setdefault((counted.day, pricing.name(counted.model)), _Theirs())
        side.tokens += _tokens(usage)
        counted_nusd = pricing.tokens_nusd(counted)
        side.unpriced |= counted_nusd is None
        side.counted_nusd += counted_nusd or 0
        if usage.service_tier == "priority":
            side.nusd += counted_nusd or 0  # paid for by commitment: the costs do not have it
        if usage.web_searches:
            fees = found.setdefault((counted.day, WEB_SEARCH), _Theirs())
            fees.counted_nusd += usage.web_searches * pricing.search_pusd // PUSD_PER_NUSD
    for cost in reported.invoiced:
        side = found.setdefault((cost.day, pricing.name(cost.model) if cost.model else cost.kind), _Theirs())
        side.nusd += cost.nusd
        side.lines += 1
    return found


class _Sides(Struct, frozen=True):
    """Both sides of one line. `settled`: the report of this day will not grow any more."""

    ours: Booked
    late_before_nusd: int
    theirs: _Theirs
    in_report: bool
    settled: bool

    def line(self, doubts: Sequence[Doubt]) -> Line:
        """Judge the difference, after what it proves."""
        cleared = self._proven(doubts)
        billed_nusd = {(proof.doubt.generation_id, proof.doubt.provider): proof.billed_nusd for proof in cleared}
        left = [_after(doubt, billed_nusd.get((doubt.generation_id, doubt.provider))) for doubt in doubts]
        return structs.replace(self._judged(left), cleared=tuple(cleared))

    def _proven(self, doubts: Sequence[Doubt]) -> list[Cleared]:
        """What a settled day proves about its attempts of unknown fate; nothing when it leaves room for another reading."""
        pending = [doubt for doubt in doubts if doubt.most_nusd > 0]
        if not pending or not self.settled or not self.in_report:
            return []
        found_nusd = sum(doubt.found_nusd for doubt in doubts)
        billed_nusd = self._billed(sum(doubt.most_nusd for doubt in pending), found_nusd)
        if billed_nusd is None:
            return []
        shares = []
        for doubt in pending:
            share_nusd = min(billed_nusd, doubt.most_nusd)
            billed_nusd -= share_nusd
            shares.append(Cleared(doubt, share_nusd))
        return shares

    def _billed(self, most_nusd: int, found_nusd: int) -> int | None:
        """What attempts that cost at most `most_nusd` together were charged; None when that is not proven.

        Proven is: nothing, when the report is what we booked; all, when it is that and their bounds; and where no estimate and no
        midnight blurs it, exactly the difference (the oldest attempts are then taken to be the ones). A provider may count what
        runs past midnight by its beginning or by its end: the report must fit one of them.
        """
        ours = self.ours
        slack_nusd = self._rounding_nusd + ours.estimated_nusd * ESTIMATE_PERCENT // 100
        over_nusd = self.theirs.nusd - ours.nusd - found_nusd
        for more_nusd in (over_nusd, over_nusd + ours.late_nusd - self.late_before_nusd):
            none, every = abs(more_nusd) <= slack_nusd, abs(more_nusd - most_nusd) <= slack_nusd
            if none != every:
                return most_nusd if every else 0
        blurred = ours.estimated_nusd or ours.lost_nusd or ours.late_nusd or self.late_before_nusd
        return over_nusd if not blurred and 0 < over_nusd < most_nusd else None

    @property
    def _rounding_nusd(self) -> int:
        return self.ours.requests + self.theirs.lines

    def _judged(self, doubts: Sequence[Doubt]) -> Line:
        ours, theirs = self.ours, self.theirs
        line = Line(
            day=ours.day,
            model=ours.model,
            requests=ours.requests,
            ours_nusd=ours.nusd + sum(doubt.found_nusd for doubt in doubts),
            theirs_nusd=theirs.nusd,
            counted_nusd=None if theirs.unpriced else theirs.counted_nusd,
            estimated_nusd=ours.estimated_nusd,
            uncertain_nusd=sum(doubt.most_nusd for doubt in doubts),
            unexplained_nusd=0,
            state="ok",
            ours_tokens=ours.tokens,
            theirs_tokens=theirs.tokens,
        )
        reasons = self._reasons(line)
        unexplained_nusd = max(0, abs(line.difference_nusd) - sum(reasons.values()))
        line = structs.replace(line, unexplained_nusd=unexplained_nusd)
        if not self.settled:
            return structs.replace(line, state="open", because="the report of this day may still grow")
        if unexplained_nusd * 1000 > DRIFT_PER_MILLE * max(line.ours_nusd, line.theirs_nusd):
            because = _because(line, sum(reasons.values())) if self.in_report else "the report has nothing for this day"
            return structs.replace(line, state="drift", because=because)
        named = [reason for reason, nusd in reasons.items() if nusd and line.difference_nusd]
        return structs.replace(line, because=", ".join(named))

    def _reasons(self, line: Line) -> dict[str, int]:
        """What may account for the difference, in its direction, and for how much of it."""
        ours = self.ours
        reasons = {"estimates": ours.estimated_nusd, "rounding": self._rounding_nusd}
        if line.difference_nusd < 0:
            return reasons | {"requests past midnight": ours.late_nusd}
        return reasons | {
            "requests past midnight": self.late_before_nusd,
            "lost requests": ours.lost_nusd,
            "uncertain attempts": line.uncertain_nusd,
        }


def _after(doubt: Doubt, billed_nusd: int | None) -> Doubt:
    if billed_nusd is None:
        return doubt
    return structs.replace(doubt, most_nusd=0, found_nusd=doubt.found_nusd + billed_nusd)


def _because(line: Line, allowed_nusd: int) -> str:
    """What kind of difference it is: the first thing to know when looking for its cause."""
    if not line.ours_nusd:
        return "we booked nothing: another key uses this account, or receipts are missing"
    if not line.theirs_nusd:
        return "the provider asks for nothing"
    if line.counted_nusd is None:
        return "the amounts differ, and the catalogue does not know the price"
    if abs(line.counted_nusd - line.ours_nusd) <= allowed_nusd:
        return "the tokens agree, the price does not"
    if abs(line.counted_nusd - line.theirs_nusd) <= allowed_nusd:
        return "the tokens differ"
    return "tokens and price differ"


def _rates(endpoint: Endpoint, counted: Counted) -> set[Rates]:
    """The rates that requests of a window of input can have had."""
    more_than, at_most = counted.window or (0, endpoint.model.context_tokens)
    found, lower = set(), 0
    for tier in endpoint.model.price(start_s(counted.day)).tiers:
        upper = tier.up_to_input_tokens
        if lower < at_most and (upper is None or upper > more_than):
            found.add(tier.rates)
        lower = upper or 0
    return found


def _tokens(usage: Usage) -> Tokens:
    return Tokens(
        usage.input_tokens,
        usage.output_tokens,
        usage.cache_read_tokens,
        usage.cache_write_5m_tokens + usage.cache_write_1h_tokens,
    )
