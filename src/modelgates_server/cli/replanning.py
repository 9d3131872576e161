"""`replay`: recorded decisions, decided again under another configuration. It reads only, and works while a server runs.

What cannot be decided again: requests that were refused left no receipt; measured speeds are not recorded; of who was out, not until
when. A conversation that would have begun elsewhere is taken to have stayed there, as stickiness would have made it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import msgspec

from modelgates_server.activity import words
from modelgates_server.catalogue import price
from modelgates_server.catalogue.load import Catalogue, bundled, load_catalogue
from modelgates_server.cli.frame import Options, Report
from modelgates_server.cli.local import configured, existing, translated
from modelgates_server.cli.output import COLUMNS, clean, dollars, indented, moment, rfc3339, table, usd_number
from modelgates_server.clock import SystemClock
from modelgates_server.config.endpoints import endpoints_of
from modelgates_server.dialects.values import Usage
from modelgates_server.routing.fit import Fitter
from modelgates_server.routing.inputs import Inputs, question_of, read_inputs
from modelgates_server.routing.plan import Plan, make_plan
from modelgates_server.routing.stick import STICK_S
from modelgates_server.storage.reader import Lookups

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from modelgates_server.catalogue.models import Endpoint
    from modelgates_server.config import Config
    from modelgates_server.storage.hot import Row

BUDGET: Final = "budget"
"""The code of what a budget took out of a plan."""

PAGE: Final = 2_000
"""Receipts read at a time: a few megabytes."""

_ORGANIZATIONS: Final = "SELECT id FROM organizations ORDER BY id"
_PAGE: Final = """
    SELECT id, created_at_ms, conversation, provider, model, outcome, plan, inputs, upstream_cost_nusd, speed, service_tier,
           input_tokens, output_tokens, thinking_tokens, cache_read_tokens, cache_write_5m_tokens, cache_write_1h_tokens,
           web_searches
    FROM generations
    WHERE organization_id = :organization_id AND (created_at_ms, id) > (:after_ms, :after_id)
    ORDER BY created_at_ms, id LIMIT :page
"""
_SPEEDS: Final = ("latency", "throughput")


@dataclass(slots=True)
class Move:
    """Requests that would have gone from one provider to another, and what they cost and would cost, in nano-USD."""

    requests: int = 0
    cost_nusd: int = 0
    then_nusd: int = 0


@dataclass(slots=True)
class Tally:
    """What a replay comes to. `fallbacks` counts requests whose first provider stays but not those behind it."""

    requests: int = 0
    unrecorded: int = 0
    same: int = 0
    fallbacks: int = 0
    by_speed: int = 0
    moves: dict[tuple[str, str], Move] = field(default_factory=dict)
    nobody: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    examples: list[dict[str, Any]] = field(default_factory=list)

    @property
    def moved(self) -> int:
        return sum(move.requests for move in self.moves.values())


@dataclass(slots=True)
class Replanner:
    """The other configuration, and where conversations would be now: by their name, the provider and when it last answered."""

    catalogue: Catalogue
    endpoints: Mapping[str, tuple[Endpoint, ...]]
    fitter: Fitter
    order: tuple[str, ...]
    held: dict[str, tuple[str, float]] = field(default_factory=dict)

    def plan(self, row: Row, inputs: Inputs, dear: Collection[tuple[str, str]] = ()) -> Plan:
        """Decide again. `dear` are providers and models that the budget could not pay then.

        A plan without endpoints may also mean that none of the models is known any more.
        """
        when_s = row["created_at_ms"] / 1000
        held = self.held.get(row["conversation"] or "")
        if held is not None and when_s - held[1] <= STICK_S:
            inputs = msgspec.structs.replace(inputs, sticky=held[0])
        models = [self.endpoints[slug] for slug in dict.fromkeys(inputs.models) if slug in self.endpoints]
        plan = make_plan(question_of(inputs, models, self.fitter, self.order, when_s))
        return plan.without(
            (step for step in plan.endpoints if (step.provider, step.model.slug) in dear), "too dear then"
        )

    def stays(self, row: Row, provider: str | None) -> None:
        """Remember that the conversation would be with another provider than it was; with None that it is where it was."""
        if row["conversation"] is None:
            return
        if provider is None:
            self.held.pop(row["conversation"], None)
        else:
            self.held[row["conversation"]] = (provider, row["created_at_ms"] / 1000)

    def cost_nusd(self, row: Row, inputs: Inputs, endpoint: Endpoint) -> int:
        """What the recorded usage would cost at an endpoint. The place of inference is not recorded: the wish for one counts."""
        usage = Usage(
            input_tokens=row["input_tokens"],
            output_tokens=row["output_tokens"],
            thinking_tokens=row["thinking_tokens"],
            cache_read_tokens=row["cache_read_tokens"],
            cache_write_5m_tokens=row["cache_write_5m_tokens"],
            cache_write_1h_tokens=row["cache_write_1h_tokens"],
            web_searches=row["web_searches"],
            service_tier=row["service_tier"],
            speed=row["speed"],
            inference_geo="us" if "inference_geo" in inputs.features else None,
        )
        return price.charge(usage, endpoint, self.catalogue, row["created_at_ms"] / 1000).nusd


def replay(options: Options, since_s: float, limit: int) -> Report:
    """Plan the requests of the last `since_s` seconds again. Raises ConfigError, StoreError."""
    config = configured(options)
    from_s = SystemClock().now_s() - since_s
    with translated():
        reader = Lookups(existing(config))
        try:
            tally = _replayed(_replanner(config), _recorded(reader, from_s), limit)
        finally:
            reader.close()
    return Report(_as_data(tally, from_s, config), _as_text(tally, from_s, config))


def _replanner(config: Config) -> Replanner:
    path = config.catalogue.models
    catalogue = load_catalogue(bundled(), path.read_bytes() if path else None)
    endpoints = endpoints_of(catalogue, config.providers)
    return Replanner(catalogue, endpoints, Fitter(config.kinds), tuple(config.routing.order))


def _recorded(reader: Lookups, from_s: float) -> Iterator[Row]:
    """Receipts in the order in which they were made, a page at a time."""
    for organization in reader.all(_ORGANIZATIONS):
        after = {"after_ms": int(from_s * 1000), "after_id": ""}
        while rows := reader.all(_PAGE, {"organization_id": organization["id"], "page": PAGE, **after}):
            yield from rows
            after = {"after_ms": rows[-1]["created_at_ms"], "after_id": rows[-1]["id"]}


def _replayed(replanner: Replanner, rows: Iterator[Row], limit: int) -> Tally:
    tally = Tally()
    for row in rows:
        recorded = msgspec.json.decode(row["plan"])
        if (
            row["inputs"] is None
            or not any(entry["place"] for entry in recorded)
            or any("own" in entry for entry in recorded)
        ):
            tally.unrecorded += 1
            continue
        _count(tally, replanner, row, recorded, limit)
    return tally


def _count(tally: Tally, replanner: Replanner, row: Row, recorded: list[dict[str, Any]], limit: int) -> None:
    before = [entry for entry in recorded if entry["place"]]
    dear = {(entry["provider"], entry["model"]) for entry in recorded if entry.get("code") == BUDGET}
    inputs = read_inputs(row["inputs"])
    plan = replanner.plan(row, inputs, dear)
    steps = plan.steps
    tally.requests += 1
    tally.by_speed += _by_speed(inputs)
    was = min(before, key=lambda entry: entry["place"])
    example = {"id": row["id"], "from": was["provider"], "model": was["model"]}
    if not steps:
        reasons = [f"{entry.endpoint.provider}: {entry.reason}" for entry in plan.considered]
        reasons = list(dict.fromkeys(reasons)) or [f"nobody serves {' or '.join(inputs.models)} there"]
        tally.nobody += 1
        tally.reasons["; ".join(reasons)] += 1
        _example(tally, limit, example | {"to": None, "reason": "; ".join(reasons)})
        return
    first = steps[0].endpoint
    if (first.provider, first.model.slug) == (was["provider"], was["model"]):
        replanner.stays(row, None)
        same = [(step.endpoint.provider, step.endpoint.model.slug) for step in steps] == [
            (entry["provider"], entry["model"]) for entry in before
        ]
        tally.same += same
        tally.fallbacks += not same
        return
    replanner.stays(row, first.provider)
    to = first.provider if first.model.slug == was["model"] else f"{first.provider} ({first.model.id})"
    move = tally.moves.setdefault((was["provider"], to), Move())
    move.requests += 1
    if row["outcome"] != "failed":
        move.cost_nusd += row["upstream_cost_nusd"]
        move.then_nusd += replanner.cost_nusd(row, inputs, first)
    _example(tally, limit, example | {"to": to, "reason": steps[0].reason})


def _by_speed(inputs: Inputs) -> bool:
    sorts = [said.get("sort") for said in (inputs.policy, inputs.wishes)]
    return any((sort.get("by") if isinstance(sort, dict) else sort) in _SPEEDS for sort in sorts)


def _example(tally: Tally, limit: int, example: dict[str, Any]) -> None:
    if len(tally.examples) < limit:
        tally.examples.append(example)


def _as_data(tally: Tally, from_s: float, config: Config) -> dict[str, Any]:
    return {
        "since": rfc3339(from_s),
        "config": str(config.source) if config.source else None,
        "requests": tally.requests,
        "not_recorded": tally.unrecorded,
        "same": tally.same,
        "other_fallbacks": tally.fallbacks,
        "elsewhere": tally.moved,
        "no_endpoint": tally.nobody,
        "by_measured_speed": tally.by_speed,
        "moves": [
            {
                "from": was,
                "to": to,
                "requests": move.requests,
                "cost": usd_number(move.cost_nusd),
                "cost_then": usd_number(move.then_nusd),
                "difference": usd_number(move.then_nusd - move.cost_nusd),
            }
            for (was, to), move in _sorted(tally)
        ],
        "no_endpoint_reasons": [{"reason": why, "requests": count} for why, count in tally.reasons.most_common()],
        "examples": tally.examples,
    }


def _sorted(tally: Tally) -> list[tuple[tuple[str, str], Move]]:
    return sorted(tally.moves.items(), key=lambda item: (-item[1].requests, item[0]))


def _as_text(tally: Tally, from_s: float, config: Config) -> str:
    whose = f"under {clean(config.source.name)}" if config.source else "under the configuration of the environment"
    parts = [f"Since {moment(from_s)}, {whose}:\n" + _summary(tally)]
    if tally.moves:
        parts.append("Would have gone elsewhere first\n" + indented(_moves(tally)))
    if tally.reasons:
        reasons = [(f"{count:,}", why) for why, count in tally.reasons.most_common()]
        parts.append(
            "Would have had no provider\n"
            + indented(table(("requests", "why"), reasons, right=(0,), width=COLUMNS - 2))
        )
    if tally.examples:
        rows = [
            (one["id"], f"{one['from']} → {one['to'] or 'nobody'}", words.reason(one["reason"]))
            for one in tally.examples
        ]
        parts.append("For example\n" + indented(table(("id", "from → to", "why there"), rows, width=COLUMNS - 2)))
    if tally.by_speed:
        parts.append(
            f"{tally.by_speed:,} of them rank by measured speed, which is not recorded: their order may differ."
        )
    return "\n\n".join(parts)


def _summary(tally: Tally) -> str:
    rows = [
        (f"{tally.requests:,}", "requests planned again"),
        (f"{tally.same:,}", "as they were"),
        (f"{tally.fallbacks:,}", "to the same provider, with other fallbacks behind it"),
        (f"{tally.moved:,}", "elsewhere first"),
        (f"{tally.nobody:,}", "to nobody: they would have been refused"),
    ]
    if tally.unrecorded:
        rows.append(
            (
                f"{tally.unrecorded:,}",
                "left out: own provider keys took part, or their receipts do not say what was decided on",
            )
        )
    width = max(len(count) for count, _ in rows)
    return "\n".join(f"  {count.rjust(width)}  {what}" for count, what in rows)


def _moves(tally: Tally) -> str:
    rows = []
    for (was, to), move in _sorted(tally):
        more = move.then_nusd - move.cost_nusd
        sign = "+" if more > 0 else ""
        costs = (dollars(move.cost_nusd), dollars(move.then_nusd), f"{sign}{dollars(more)}")
        rows.append((was, to, f"{move.requests:,}", *costs))
    return table(("from", "to", "requests", "cost", "then", "difference"), rows, right=(2, 3, 4, 5))
