"""One request: what it was, where its time went, why it went where it did, what it cost, and what people say about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import msgspec

from modelgates_server.activity.contents import Content
from modelgates_server.activity.finding import Seen, find_story, looking
from modelgates_server.activity.logs_said import Said, said_about
from modelgates_server.activity.logs_usual import usual_before
from modelgates_server.activity.story import AttemptLine, PlanLine, Story
from modelgates_server.activity.timeline import Pace, Timeline, pace, timeline, tokens_per_s
from modelgates_server.console.routes import get, post
from modelgates_server.console.visits import ADMIN, Moved, Page, Visit
from modelgates_server.errors import NotFound
from modelgates_server.management.contents import has_content, read_content
from modelgates_server.management.describe import rfc3339
from modelgates_server.management.feedback import CATEGORIES, COMMENT_CHARACTERS_MAX, Feedback, give_feedback
from modelgates_server.storage.engine import reading

_JSON: Final = frozenset({"parts", "plan", "attempts", "inputs"})
_MILLION: Final = 1_000_000

FEEDBACK: Final = {
    "latency": "It was slow",
    "incoherence": "It made no sense",
    "incorrect_response": "It was wrong",
    "formatting": "Its form was wrong",
    "billing": "It cost too much",
    "api_error": "It failed",
    "other": "Something else",
}
"""The categories of feedback in words."""


@dataclass(frozen=True, slots=True)
class BillShown:
    """A line of the bill: how many of what, in pico-USD, and what a million of it costs in pico-USD (a whole number)."""

    name: str
    quantity: int
    pusd: int
    per_million_pusd: int


@dataclass(frozen=True, slots=True)
class Prompt:
    """What was kept of a request and its answer, for those who may read it. `request` and `answer` are JSON as text."""

    request: str
    request_cut: bool
    completion: str | None
    reasoning: str | None
    answer: str | None
    answer_cut: bool


@dataclass(frozen=True, slots=True)
class GenerationPage:
    """A request. Nano-USD; `created_at_ms` in Unix milliseconds.

    `facts`, `tokens` and `decided_on` are pairs of a name and what to say of it; `fields` are all columns of its receipt. `stored` says
    whether prompt and completion are kept, to those who may read them; `prompt` holds them once they were asked for.
    """

    id: str
    created_at_ms: int
    model: str
    provider: str | None
    outcome: str
    outcome_said: str
    session_id: str | None
    key_hash: str
    cost_nusd: int
    byok_cost_nusd: int
    latency_ms: int | None
    generation_ms: int | None
    tokens_per_s: int | None
    why: str
    facts: tuple[tuple[str, str], ...]
    timeline: Timeline
    pace: Pace
    plan: tuple[PlanLine, ...]
    attempts: tuple[AttemptLine, ...]
    uncertain: tuple[str, ...]
    decided_on: tuple[tuple[str, str], ...]
    tokens: tuple[tuple[str, str], ...]
    price_version: str
    bill: tuple[BillShown, ...]
    bill_pusd: int
    bill_notes: tuple[str, ...]
    fields: tuple[tuple[str, str], ...]
    feedback: tuple[Said, ...]
    categories: tuple[tuple[str, str], ...]
    comment_characters_max: int
    stored: bool
    prompt: Prompt | None = None


def show(visit: Visit) -> Page:
    """The request. Raises NotFound for one that there is not, or that is somebody else's."""
    return Page("generation.html", _context(visit))


def say(visit: Visit) -> Moved:
    """Keep what somebody says about it. Raises BadRequest, NotFound."""
    _story(visit)  # nobody talks about what they may not see
    said = Feedback(visit.path["id"], visit.form.get("category"), visit.form.get("comment") or None)
    give_feedback(visit.house.engine, visit.organization_id, said, visit.actor, visit.now_s)
    return Moved(f"/logs/{visit.path['id']}", said="feedback-given")


def read(visit: Visit) -> Page:
    """Show prompt and completion; the audit log says who looked. Raises NotFound when nothing is kept."""
    house = visit.house
    _story(visit)
    content = read_content(
        house.engine, house.secret, visit.organization_id, visit.path["id"], visit.actor, visit.now_s
    )
    return Page("generation.html", _context(visit, _prompt(content)))


def _story(visit: Visit) -> Story:
    with reading(visit.house.engine) as connection:
        return _found(visit, find_story(looking(connection), visit.path["id"], _seen(visit)))


def _seen(visit: Visit) -> Seen:
    return Seen(visit.organization_id, visit.only_member_id)


def _found(visit: Visit, story: Story | None) -> Story:
    if story is None:
        raise NotFound(
            f"There is no request {visit.path['id'][:100]!r} that you may see.",
            remedy="One that is still running has no receipt yet, and one that a budget, a rate or a list refused never gets one.",
        )
    return story


def _context(visit: Visit, prompt: Prompt | None = None) -> GenerationPage:
    house, organization_id = visit.house, visit.organization_id
    with reading(house.engine) as connection:
        story = _found(visit, find_story(looking(connection), visit.path["id"], _seen(visit)))
        row = story.row
        known = usual_before(connection, organization_id, row, visit.only_member_id)
        feedback = said_about(connection, organization_id, row["id"])
    at = rfc3339(row["created_at_ms"] / 1000)
    return GenerationPage(
        id=row["id"],
        created_at_ms=row["created_at_ms"],
        model=row["model"],
        provider=row["provider"],
        outcome=row["outcome"],
        outcome_said=story.outcome(),
        session_id=row["session_id"],
        key_hash=row["key_hash"],
        cost_nusd=row["cost_nusd"],
        byok_cost_nusd=row["byok_cost_nusd"],
        latency_ms=row["latency_ms"],
        generation_ms=row["generation_ms"],
        tokens_per_s=tokens_per_s(row),
        why=story.why(),
        facts=story.request(at),
        timeline=timeline(row),
        pace=pace(row, known),
        plan=story.plan_lines(),
        attempts=story.attempt_lines() if visit.is_admin else _without_details(story),
        uncertain=story.uncertainties(),
        decided_on=story.decided_on(),
        tokens=story.tokens(),
        price_version=row["price_version"],
        bill=tuple(_bill(line.name, line.quantity, line.pusd) for line in story.bill()),
        bill_pusd=sum(line.pusd for line in story.bill()),
        bill_notes=story.bill_notes(),
        fields=tuple((name, _field(value)) for name, value in row.items() if name not in _JSON),
        feedback=feedback,
        categories=tuple((name, FEEDBACK[name]) for name in CATEGORIES),
        comment_characters_max=COMMENT_CHARACTERS_MAX,
        stored=visit.is_admin and has_content(house.engine, organization_id, row["id"], visit.now_s),
        prompt=prompt,
    )


def _without_details(story: Story) -> tuple[AttemptLine, ...]:
    """Attempts without what providers said: that may speak of the operator's account."""
    return tuple(
        AttemptLine(
            line.number,
            line.provider,
            line.model,
            line.fault,
            line.status,
            line.ms,
            line.said,
            line.detail_kind,
            "",
            None,
        )
        for line in story.attempt_lines()
    )


def _bill(name: str, quantity: int, pusd: int) -> BillShown:
    return BillShown(name, quantity, pusd, pusd * _MILLION // quantity if quantity else 0)


def _field(value: Any) -> str:
    return "" if value is None else str(value)


def _prompt(content: Content) -> Prompt:
    return Prompt(
        request=_pretty(content.request),
        request_cut=content.request_cut,
        completion=content.completion,
        reasoning=content.reasoning,
        answer=None if content.answer is None else _pretty(content.answer),
        answer_cut=content.answer_cut,
    )


def _pretty(value: Any) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()


ROUTES = (
    get("/logs/{id}", show),
    post("/logs/{id}/feedback", say, again=show),
    post("/logs/{id}/content", read, ADMIN),
)
