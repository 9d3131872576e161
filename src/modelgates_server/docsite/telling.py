"""A receipt's story as an AI client reads it, in Markdown. Pure.

What providers said is left out: it may speak of the operator's account.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from modelgates_server.activity.story import Facts, PlanLine, Story
from modelgates_server.money import dollars, picodollars


def told(story: Story) -> str:
    """The whole story."""
    row = story.row
    at = datetime.fromtimestamp(row["created_at_ms"] / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    sections = (
        ("Request", _facts(story.request(at))),
        ("Plan", _listed(map(_planned, story.plan_lines())) or "None was made."),
        ("What happened", _attempts(story)),
        ("Decided on", _facts(story.decided_on()) or "Not recorded."),
        ("Tokens", _facts(story.tokens()) or "None."),
        (f"Bill (prices of {row['price_version'] or 'no price list'})", _bill(story)),
    )
    head = f"# {row['id']}: {row['outcome']}, {dollars(row['cost_nusd'], places=9)}\n\n{story.outcome()}"
    return "\n\n".join((head, *(f"## {title}\n\n{text}" for title, text in sections)))


def _planned(line: PlanLine) -> str:
    who = f"{line.provider} ({line.model})" if line.model else line.provider
    if line.place is None:
        return f"{who}: {line.became}: {line.why}"
    return f"{line.place}. {who}: {line.why} → {line.became}"


def _attempts(story: Story) -> str:
    lines = story.attempt_lines()
    if not lines:
        return "Nothing was sent to a provider."
    return "\n".join(f"{line.number}. {line.said}" for line in lines)


def _bill(story: Story) -> str:
    lines = [f"{line.name}: {line.quantity:,} for {picodollars(line.pusd)}" for line in story.bill()]
    charged = f"charged, rounded up to nano-USD: {dollars(story.row['cost_nusd'], places=9)}"
    return "\n".join((_listed((*lines, charged)), "", *story.bill_notes()))


def _facts(facts: Facts) -> str:
    return _listed(f"{name}: {value}" for name, value in facts)


def _listed(lines: Iterable[str]) -> str:
    return "\n".join(f"- {' '.join(line.split())}" for line in lines)
