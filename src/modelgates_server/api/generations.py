"""Generations: lists of receipts, what was stored of one, and feedback (product-surface 2.7). The edge answers `/generation`."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec
from fastapi import Query
from pydantic import Field

from modelgates_server.activity.receipts import Wanted, failure, receipt, receipts
from modelgates_server.activity.reports import generation_data
from modelgates_server.api.answers import Answer, answer
from modelgates_server.api.faults import fault
from modelgates_server.api.named import model_named, workspace_named
from modelgates_server.api.routes import Housed, Managing, new_router
from modelgates_server.api.shapes import PAGE_ROWS_MAX, Body, Shown, UsdShown
from modelgates_server.api.times import instant_ms
from modelgates_server.errors import BadRequest, NotFound
from modelgates_server.management.contents import read_content
from modelgates_server.management.feedback import COMMENT_CHARACTERS_MAX, Feedback, give_feedback

router = new_router("generations")

PAGE_ROWS: Final = 50

NOT_STORED_REMEDY: Final = "an admin can opt a workspace in to storing prompts and answers, from then on"

Text = Annotated[str | None, Query(max_length=300)]
Time = Annotated[str | None, Query(max_length=40, description="A time or a day, in UTC.")]


Outcome = Literal["completed", "failed", "cancelled", "broken", "lost"]


class GenerationRow(Shown):
    """A receipt, with the fields of `GET /generation`; besides, whose key it was."""

    id: str
    created_at: str
    model: str
    provider_name: str | None
    outcome: Outcome
    total_cost: UsdShown
    api_key_hash: str
    user_id: str | None


class GenerationList(Shown):
    """A page, newest first. `next_cursor` is null on the last one."""

    data: list[GenerationRow]
    next_cursor: str | None


class SendFeedback(Body):
    """What is said about a generation."""

    generation_id: Annotated[str, Field(min_length=1, max_length=200)]
    category: Literal["latency", "incoherence", "incorrect_response", "formatting", "billing", "api_error", "other"]
    comment: Annotated[str, Field(max_length=COMMENT_CHARACTERS_MAX)] | None = None


class Done(Shown):
    """It is done."""

    success: Literal[True]


class DoneAnswer(Shown):
    """It is done."""

    data: Done


class Asked(Shown):
    """What the client sent, as far as it is kept: besides `messages` what the model was shown and how it was told to answer.

    What is nested too deeply to be shown so stands in `prompt`, as it came.
    """

    messages: list[Any] | None = None
    prompt: str | None = None


class Answered(Shown):
    """What the client was given: text and thinking, and all blocks in `content`; null when nothing reached it."""

    completion: str | None
    reasoning: str | None
    content: list[dict[str, Any]] | None
    stop_reason: str | None


class Content(Shown):
    """What was asked and answered. `input_cut` and `output_cut` say that something was too long to be kept whole."""

    input: Asked
    output: Answered
    error: dict[str, Any] | None
    input_cut: bool
    output_cut: bool


class ContentAnswer(Shown):
    """What was stored of a generation."""

    data: Content


@router.get("/generations", response_model=GenerationList)
def list_generations(  # noqa: PLR0913 - the filters
    house: Housed,
    manager: Managing,
    api_key_hash: Text = None,
    user_id: Text = None,
    workspace_id: Annotated[str | None, Query(max_length=300, description="Its id or slug.")] = None,
    model: Annotated[str | None, Query(max_length=300, description="In any spelling.")] = None,
    provider: Text = None,
    outcome: Outcome | None = None,
    session_id: Text = None,
    since: Annotated[str | None, Query(alias="from", max_length=40, description="Not before this time or day.")] = None,
    until: Annotated[str | None, Query(alias="to", max_length=40, description="Before this time or day.")] = None,
    limit: Annotated[int, Query(ge=1, le=PAGE_ROWS_MAX, description="How many rows to give.")] = PAGE_ROWS,
    cursor: Annotated[str | None, Query(max_length=300, description="`next_cursor` of the page before.")] = None,
) -> Answer:
    """List receipts, newest first. Pages neither repeat nor miss one, whatever comes in between."""
    wanted = Wanted(
        key_hash=api_key_hash,
        member_id=user_id,
        workspace_id=workspace_named(house, manager, workspace_id),
        model=model_named(house, model),
        provider=provider,
        outcome=outcome,
        session_id=session_id,
        since_ms=None if since is None else instant_ms(since, "from"),
        until_ms=None if until is None else instant_ms(until, "to"),
    )
    if wanted.since_ms is not None and wanted.until_ms is not None and wanted.since_ms > wanted.until_ms:
        raise BadRequest("from: must not be after to")
    found = receipts(house.engine, manager.organization_id, wanted, limit, cursor, house.clock)
    return answer({"data": [_shown(row) for row in found.rows], "next_cursor": found.next_cursor})


@router.get("/generation/content", response_model=ContentAnswer)
def show_content(
    house: Housed,
    manager: Managing,
    id: Annotated[str, Query(min_length=1, max_length=200)],  # noqa: A002 - its name
) -> Answer:
    """Give what was stored of a request and its answer, where its workspace opted in; who reads it is in the audit log.

    Else 404 with the reason; of a failed request both say what went wrong.
    """
    row = receipt(house.engine, manager.organization_id, id)
    if row is None:
        raise NotFound(f"Generation {id[:100]} not found")
    try:
        found = read_content(
            house.engine, house.pepper, manager.organization_id, id, manager.actor, house.clock.now_s()
        )
    except NotFound as error:
        told = {"generation_id": row["id"], "stored": False, "error": failure(row), "remedy": NOT_STORED_REMEDY}
        return fault(404, error.message, told)
    answered = found.answer or {}
    output = {
        "completion": found.completion,
        "reasoning": found.reasoning,
        "content": answered.get("content"),
        "stop_reason": answered.get("stop_reason"),
    }
    cut = {"input_cut": found.request_cut, "output_cut": found.answer_cut}
    asked = found.request if {"messages", "prompt"} & found.request.keys() else {**found.request, "messages": []}
    sides = {"input": _as_it_is(asked), "output": _as_it_is(output)}
    return answer({"data": {**sides, "error": failure(row), **cut}})


@router.post("/generation/feedback", response_model=DoneAnswer)
def send_feedback(house: Housed, manager: Managing, body: SendFeedback) -> Answer:
    """Keep what is said about a generation, beside its receipt."""
    said = Feedback(body.generation_id, body.category, body.comment)
    give_feedback(house.engine, manager.organization_id, said, manager.actor, house.clock.now_s())
    return answer({"data": {"success": True}})


def _as_it_is(side: dict[str, Any]) -> msgspec.Raw:
    """What people wrote, in which no member is an amount of ours."""
    return msgspec.Raw(msgspec.json.encode(side))


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    return generation_data(row) | {"api_key_hash": row["key_hash"], "user_id": row["member_id"]}
