"""Where a request went and why, and why not elsewhere: a receipt's plan, attempts and inputs in words. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from modelgates_server.cli import words
from modelgates_server.cli.output import COLUMNS, dollars, facts, table
from modelgates_server.routing.verdict import VERDICTS, FaultClass

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from modelgates_server.storage.hot import Row

WIDTH = COLUMNS - 2
"""Sections are moved to the right by two."""


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

    # Why there.

    def why(self) -> str:
        """The reason for the provider that answered, and what it took to get there."""
        failed = sum(1 for attempt in self.attempts if attempt["fault"])
        attempts = f"{failed} attempt{'s' if failed > 1 else ''}"
        if self.row["outcome"] == "failed":
            return f"nowhere: {attempts} failed" if failed else "nowhere: no attempt was made"
        reason = next((self._reason(entry) for entry in self.plan if self._served(entry)), "-")
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

    # Why not elsewhere.

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

    def served(self) -> str:
        """The model and who gave it."""
        row = self.row
        if not row["provider"] or row["outcome"] == "failed":
            return f"{row['model']}, by nobody"
        named = f" as {row['upstream_model']}" if row["upstream_model"] else ""
        named += ", with the organization's own key" if row.get("byok_cost_nusd") else ""
        return f"{row['model']} by {row['provider']}{named}"

    def _served(self, entry: Mapping[str, Any]) -> bool:
        answered = [attempt.get("own") or None for attempt in self.attempts if not attempt["fault"]]
        return (
            bool(entry["place"])
            and (entry["provider"], entry["model"]) == (self.row["provider"], self.row["model"])
            and (not answered or entry.get("own") == answered[-1])
        )

    def plan_text(self) -> str:
        """Every endpoint that was considered: its place, why, and what became of it."""
        if not self.plan:
            return "none was made"
        rows = [
            (
                entry["place"] or "-",
                entry["provider"],
                *((entry.get("model") or "",) if self.several_models else ()),
                f"{self._reason(entry)} → {self.became(entry)}" if entry["place"] else f"left out: {entry['reason']}",
            )
            for entry in self.plan
        ]
        models = ("model",) if self.several_models else ()
        return table(("#", "provider", *models, "why → what became of it"), rows, right=(0,), width=WIDTH)

    @staticmethod
    def _reason(entry: Mapping[str, Any]) -> str:
        lost = f"; without {', '.join(entry['without'])} there" if entry.get("without") else ""
        return words.reason(entry["reason"]) + lost

    # What happened.

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
        if attempt["fault"] is None:
            return "Seen" if attempt is self.attempts[-1] and self.row["outcome"] == "broken" else "Mended"
        return "It said" if attempt["status"] >= 400 else "Seen"

    def attempts_text(self) -> str:
        """Each attempt in words, with what the provider said and its request id."""
        if not self.attempts:
            return "nothing was sent to a provider"
        rows = []
        for number, attempt in enumerate(self.attempts, 1):
            told = [self.said(attempt)]
            if detail := attempt.get("detail"):
                told.append(f"{self._whose(attempt)}: {detail.rstrip('.')}.")
            if attempt.get("request_id"):
                told.append(f"Its id: {attempt['request_id']}.")
            rows.append((f"{number}.", " ".join(told)))
        text = facts(rows, width=WIDTH)
        for provider, most_nusd in self.uncertain.items():
            text += (
                f"\n{provider} may bill at most {dollars(most_nusd)} for what it may have done; no budget pays that."
            )
        return text

    # What was decided on.

    def inputs_text(self) -> str:
        """What the plan was decided on."""
        inputs = self.inputs
        if not inputs:
            return "not recorded"
        most = inputs.get("max_tokens")
        size = f"{inputs.get('body_bytes', 0):,} bytes" + (f", max_tokens {most:,}" if most is not None else "")
        pairs = (
            ("models", ", then ".join(inputs.get("models", ()))),
            ("uses", self._features(inputs.get("features", ())) or "plain messages"),
            ("betas", ", ".join(inputs.get("betas", ())) or "-"),
            ("size", size),
            ("preferences of key", words.preferences(inputs.get("policy", {})) or "none"),
            ("and of request", words.preferences(inputs.get("wishes", {})) or "none"),
            ("conversation", self.sticking()),
            ("out of service", self._out(inputs.get("out", {}))),
        )
        return facts(pairs, width=WIDTH)

    def _features(self, ids: Sequence[str]) -> str:
        return ", ".join(self.features.get(name, name) for name in ids if self.features.get(name) != "")

    def _out(self, out: Mapping[str, str]) -> str:
        told = []
        for who, why in out.items():
            provider, _, model = who.partition(" ")
            told.append(f"{provider}{f' for {model}' if self.several_models else ''}: {words.why_out(why)}")
        return "; ".join(told) or "nobody"


def _short(fault: str | None) -> str:
    return words.happened(fault).partition(";")[0].partition(",")[0].partition(":")[0]
