"""Where a request went and why, and why not elsewhere: a receipt's plan, attempts, inputs and bill in words. Pure.

The terminal, the console and the MCP server tell the same story, each in its own layout; `finding.py` reads what it is told from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from modelgates_server.activity import words
from modelgates_server.activity.generation import UNSTORED
from modelgates_server.money import dollars
from modelgates_server.routing.verdict import VERDICTS, FaultClass
from modelgates_server.storage.hot import Row

OUTCOMES: Final = {
    "completed": "The whole answer was delivered.",
    "failed": "No provider gave an answer.",
    "cancelled": "The client left before the end.",
    "broken": "The provider's stream broke after the answer had begun, so it could not be tried elsewhere.",
    "lost": "The serving process died while the request was open; it was settled afterwards.",
}

_TOKENS: Final = (
    ("input", "input_tokens"),
    ("output", "output_tokens"),
    ("of it thinking", "thinking_tokens"),
    ("cache read", "cache_read_tokens"),
    ("cache write, 5 minutes", "cache_write_5m_tokens"),
    ("cache write, 1 hour", "cache_write_1h_tokens"),
    ("web searches", "web_searches"),
)

Facts = tuple[tuple[str, str], ...]
"""Names and what to say of them."""


@dataclass(frozen=True, slots=True)
class PlanLine:
    """One endpoint that was considered. `place` is None for one that was left out; `became` says what came of it."""

    place: int | None
    provider: str
    model: str
    why: str
    became: str


@dataclass(frozen=True, slots=True)
class AttemptLine:
    """One try of one endpoint. `said` is the sentence about it.

    `detail` is what the provider said, what the gateway saw, or how the request was mended, as `detail_kind` says: for the operator's
    eyes, it may speak of the operator's account.
    """

    number: int
    provider: str
    model: str
    fault: str | None
    status: int
    ms: int
    said: str
    detail_kind: str
    detail: str
    request_id: str | None


@dataclass(frozen=True, slots=True)
class BillLine:
    """One line of the bill: how many of what, and what they cost in pico-USD."""

    name: str
    quantity: int
    pusd: int


@dataclass(frozen=True, slots=True)
class Story:
    """A receipt with its JSON columns as data, and what stands around it.

    `earlier` is the conversation's receipt before it. `uncertain` has what attempts of unknown fate may cost at most, by provider,
    in nano-USD. `features` are words for the ids of features.
    """

    row: Row
    earlier: Row | None = None
    uncertain: Mapping[str, int] = field(default_factory=dict)
    features: Mapping[str, str] = field(default_factory=dict)

    @property
    def plan(self) -> list[dict[str, Any]]:
        return self.row["plan"]  # type: ignore[no-any-return]

    @property
    def attempts(self) -> list[dict[str, Any]]:
        return self.row["attempts"]  # type: ignore[no-any-return]

    @property
    def inputs(self) -> dict[str, Any]:
        return self.row["inputs"] or {}

    @property
    def several_models(self) -> bool:
        return len({entry.get("model") for entry in self.plan}) > 1

    # What it was.

    def outcome(self) -> str:
        """How it ended, as a sentence."""
        return OUTCOMES.get(self.row["outcome"], f"Outcome: {self.row['outcome']}.")

    def request(self, at: str) -> Facts:
        """Who asked for what, where it went and how long it took. `at` is the receipt's time, as its reader writes times."""
        row = self.row
        who = f"{row['key_name'] or 'a removed key'} ({row['key_label'] or row['key_hash'][:8]})"
        member = f", member {row['member_name']}" if row["member_name"] else ""
        timings = ", ".join(
            f"{row[column]:,} ms {meaning}"
            for column, meaning in (("latency_ms", "to the first content"), ("generation_ms", "in all"))
            if row[column] is not None
        )
        return (
            ("key", who),
            ("workspace", f"{row['workspace_name'] or row['workspace_id']}{member}"),
            ("at", at),
            ("asked for", f"{row['requested_model']}{', streamed' if row['streamed'] else ''}"),
            ("served", self.served()),
            ("why there", self.why()),
            ("took", timings or "no content came"),
            ("ended with", row["finish_reason"] or "-"),
            ("session", row["session_id"] or "-"),
            ("client", row["app"] or row["user_agent"] or "-"),
            ("provider's id", row["upstream_request_id"] or row["upstream_id"] or "-"),
        )

    # Why there.

    def why(self) -> str:
        """The reason for the provider that answered, and what it took to get there."""
        failed = sum(1 for attempt in self.attempts if attempt["fault"])
        attempts = f"{failed} attempt{'s' if failed > 1 else ''}"
        if self.row["outcome"] == "failed":
            return f"nowhere: {attempts} failed" if failed else "nowhere: no attempt was made"
        reason = next((_reason(entry) for entry in self.plan if self._served(entry)), "-")
        return f"{reason}; after {attempts.replace('attempt', 'failed attempt')}" if failed else reason

    def sticking(self) -> str:
        """What the conversation had to do with it."""
        if self.row["conversation"] is None:
            return "there was no choice of provider"
        holder, provider = self.inputs.get("sticky"), self.row["provider"]
        after = f" (before it: {self.earlier['id']} by {self.earlier['provider']})" if self.earlier else ""
        if holder is None:
            return f"new here: nobody held it{after}"
        if holder == provider:
            return f"stayed with {holder}, which holds it{after}"
        return f"was held by {holder}" + (f", moved to {provider}{after}" if provider else after)

    def served(self) -> str:
        """The model and who gave it."""
        row = self.row
        if not row["provider"] or row["outcome"] == "failed":
            return f"{row['model']}, by nobody"
        named = f" as {row['upstream_model']}" if row["upstream_model"] else ""
        named += ", with the organization's own key" if row.get("byok_cost_nusd") else ""
        return f"{row['model']} by {row['provider']}{named}"

    # Why not elsewhere.

    def plan_lines(self) -> tuple[PlanLine, ...]:
        """Every endpoint that was considered: its place, why, and what became of it."""
        return tuple(
            PlanLine(
                entry["place"] or None,
                entry["provider"],
                entry.get("model") or "",
                _reason(entry) if entry["place"] else str(entry["reason"]),
                self.became(entry),
            )
            for entry in self.plan
        )

    def became(self, entry: Mapping[str, Any]) -> str:
        """What became of one line of the plan."""
        mine = [
            (number, attempt)
            for number, attempt in enumerate(self.attempts, 1)
            if attempt["provider"] == entry["provider"]
            and attempt.get("slug") in {None, "", entry.get("model")}
            and (attempt.get("own") or None) == entry.get("own")
        ]
        if not entry["place"]:
            return "left out"
        if mine:
            return "; ".join(f"attempt {number}: {_short(attempt['fault'])}" for number, attempt in mine)
        if why := entry.get("skipped"):
            still = str(entry["reason"]).startswith(words.LAST_RESORT)
            return (
                "still out when its turn came" if still else f"passed over while the request ran: {words.why_out(why)}"
            )
        return self._not_asked(entry["place"])

    def _not_asked(self, place: int) -> str:
        faults = [attempt["fault"] for attempt in self.attempts]
        if not faults:
            return "not asked: the request ended before"
        if faults[-1] is None:
            served = next((entry["place"] for entry in self.plan if self._served(entry)), None)
            return "not needed" if served is None or place > served else "passed over while the request ran"
        verdicts = [VERDICTS[FaultClass(fault)] for fault in faults if fault in set(FaultClass)]
        if any(verdict.fail_over != "yes" for verdict in verdicts):
            return "not asked: what was wrong there would be wrong here"
        if sum(verdict.unknown for verdict in verdicts) > 1:
            return "not asked: after two attempts of unknown fate no third is risked"
        return "not asked: no further attempt was allowed"

    def _served(self, entry: Mapping[str, Any]) -> bool:
        answered = [attempt.get("own") or None for attempt in self.attempts if not attempt["fault"]]
        return (
            bool(entry["place"])
            and (entry["provider"], entry["model"]) == (self.row["provider"], self.row["model"])
            and (not answered or entry.get("own") == answered[-1])
        )

    # What happened.

    def attempt_lines(self) -> tuple[AttemptLine, ...]:
        """Every attempt, in order."""
        return tuple(
            AttemptLine(
                number,
                attempt["provider"],
                attempt["model"] or "",
                attempt["fault"],
                attempt["status"] or 0,
                attempt["ms"],
                self.said(attempt),
                self._whose(attempt),
                attempt.get("detail") or "",
                attempt.get("request_id") or None,
            )
            for number, attempt in enumerate(self.attempts, 1)
        )

    def said(self, attempt: Mapping[str, Any]) -> str:
        """One attempt as a sentence, without what the provider said."""
        who = f"{attempt['provider']} ({attempt['model']})" if attempt["model"] else attempt["provider"]
        who += " with the organization's own key" if attempt.get("own") else ""
        fault, took = attempt["fault"], f"after {attempt['ms']:,} ms"
        if fault is not None:
            answer = f"HTTP {attempt['status']}" if attempt["status"] else "No answer"
            return f"{who} {words.happened(fault)}. {answer} {took}."
        if attempt is self.attempts[-1] and self.row["outcome"] == "broken":
            return f"{who} began to answer {took}, then broke off."
        return f"{who} answered, {'with its first content' if self.row['streamed'] else 'whole'} {took}."

    def _whose(self, attempt: Mapping[str, Any]) -> str:
        """Whether a detail is what the provider said, what the gateway saw, or how the request was mended before."""
        if str(attempt.get("detail") or "").startswith(UNSTORED):
            return "Stored"
        if attempt["fault"] is None:
            return "Seen" if attempt is self.attempts[-1] and self.row["outcome"] == "broken" else "Mended"
        return "It said" if attempt["status"] >= 400 else "Seen"

    def uncertainties(self) -> tuple[str, ...]:
        """What providers may bill for attempts that nobody saw the end of, each as a sentence."""
        return tuple(
            f"{provider} may bill at most {dollars(most_nusd)} for what it may have done; no budget pays that."
            for provider, most_nusd in self.uncertain.items()
        )

    # What was decided on.

    def decided_on(self) -> Facts:
        """What the plan was decided on; nothing when it was not recorded."""
        inputs = self.inputs
        if not inputs:
            return ()
        most = inputs.get("max_tokens")
        size = f"{inputs.get('body_bytes', 0):,} bytes" + (f", max_tokens {most:,}" if most is not None else "")
        return (
            ("models", ", then ".join(inputs.get("models", ()))),
            ("uses", self._features(inputs.get("features", ())) or "plain messages"),
            ("betas", ", ".join(inputs.get("betas", ())) or "-"),
            ("size", size),
            ("preferences of key", words.preferences(inputs.get("policy", {})) or "none"),
            ("and of request", words.preferences(inputs.get("wishes", {})) or "none"),
            ("conversation", self.sticking()),
            ("out of service", self._out(inputs.get("out", {}))),
        )

    def _features(self, ids: Sequence[str]) -> str:
        return ", ".join(self.features.get(name, name) for name in ids if self.features.get(name) != "")

    def _out(self, out: Mapping[str, str]) -> str:
        told = []
        for who, why in out.items():
            provider, _, model = who.partition(" ")
            told.append(f"{provider}{f' for {model}' if self.several_models else ''}: {words.why_out(why)}")
        return "; ".join(told) or "nobody"

    # What it cost.

    def tokens(self) -> Facts:
        """How many tokens of which kind, without those of which there are none."""
        return tuple((name, f"{self.row[column]:,}") for name, column in _TOKENS if self.row[column])

    def bill(self) -> tuple[BillLine, ...]:
        """The lines whose sum, rounded up once, was charged; none for what is free."""
        return tuple(BillLine(part["name"], part["quantity"], part["pusd"]) for part in self.row["parts"])

    def bill_notes(self) -> tuple[str, ...]:
        """What is to be said about the bill besides its lines, in sentences."""
        row = self.row
        loss_nusd = row["upstream_cost_nusd"] - row["cost_nusd"]
        notes = [f"{dollars(row['held_nusd'], places=9)} was held while it ran; what was not used went back."]
        if row["byok_cost_nusd"] > 0:
            asked = dollars(row["byok_cost_nusd"], places=9)
            notes.append(f"The organization's own account at {row['provider']} is asked {asked}; that uses no credit.")
        if row["cache_discount_nusd"] > 0:
            notes.append(f"Caching saved {dollars(row['cache_discount_nusd'], places=9)}.")
        if loss_nusd > 0:
            asked = dollars(loss_nusd, places=9)
            notes.append(f"The provider asks {asked} more; the operator bears that, no budget does.")
        if row["estimated"]:
            notes.append("The charge is an estimate.")
        return tuple(notes)


def _reason(entry: Mapping[str, Any]) -> str:
    lost = f"; without {', '.join(entry['without'])} there" if entry.get("without") else ""
    return words.reason(entry["reason"]) + lost


def _short(fault: str | None) -> str:
    return words.happened(fault).partition(";")[0].partition(",")[0].partition(":")[0]
