"""Guardrails and their assignments (product-surface 2.8 and 5.3)."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from fastapi import Query
from pydantic import Field

from modelgates_server.api.answers import Answer, answer, page
from modelgates_server.api.house import House
from modelgates_server.api.limits import Mode
from modelgates_server.api.routes import Housed, Managing, new_router
from modelgates_server.api.shapes import Body, Deleted, Paged, Shown, Usd, UsdShown
from modelgates_server.errors import BadRequest
from modelgates_server.management import assignments, guardrails, workspaces
from modelgates_server.management.assignments import BATCH_MAX
from modelgates_server.management.guardrails import (
    DESCRIPTION_CHARACTERS_MAX,
    ENTRY_CHARACTERS_MAX,
    LIST_ENTRIES_MAX,
    NAME_CHARACTERS_MAX,
    SETTINGS,
    Rules,
    model_slugs,
)
from modelgates_server.management.shown import ZDR, assignment_data, guardrail_data

router = new_router("guardrails")

_SAME: Final = ("name", "description", "reset_interval", "mode", "allowed_providers", "ignored_providers")

Name = Annotated[str, Field(min_length=1, max_length=NAME_CHARACTERS_MAX)]
Description = Annotated[str, Field(max_length=DESCRIPTION_CHARACTERS_MAX)]
Reset = Literal["daily", "weekly", "monthly"]
Entry = Annotated[str, Field(min_length=1, max_length=ENTRY_CHARACTERS_MAX)]
Allowed = Annotated[list[Entry], Field(min_length=1, max_length=LIST_ENTRIES_MAX)]
Ignored = Annotated[list[Entry], Field(max_length=LIST_ENTRIES_MAX)]
Filters = Annotated[list[dict[str, Any]], Field(max_length=100, description="Not built: only null or an empty list.")]


class UpdateGuardrail(Body):
    """What is left out stays; lists are replaced whole; null takes a rule away. `limit_usd` and `reset_interval` come together."""

    name: Name = ""
    description: Description | None = None
    limit_usd: Usd | None = None
    reset_interval: Reset | None = None
    mode: Mode = "hard"
    include_byok_in_budgets: bool | None = None
    allowed_models: Allowed | None = None
    ignored_models: Ignored | None = None
    allowed_providers: Allowed | None = None
    ignored_providers: Ignored | None = None
    enforce_zdr: Annotated[bool | None, Field(description="For those of the following that are not sent.")] = None
    enforce_zdr_anthropic: bool | None = None
    enforce_zdr_openai: bool | None = None
    enforce_zdr_google: bool | None = None
    enforce_zdr_xai: bool | None = None
    enforce_zdr_other: bool | None = None
    enable_paid_model_training: bool | None = None
    enable_free_model_training: bool | None = None
    enable_free_model_publication: bool | None = None
    allowed_data_regions: Annotated[list[str], Field(min_length=1, max_length=10)] | None = None
    content_filters: Filters | None = None
    content_filter_builtins: Filters | None = None


class CreateGuardrail(UpdateGuardrail):
    """A new guardrail. It enforces nothing until it is assigned; `workspace_id` is an id or slug."""

    name: Name
    workspace_id: str | None = None


class SomeKeys(Body):
    """Keys by hash."""

    key_hashes: Annotated[list[Annotated[str, Field(max_length=64)]], Field(min_length=1, max_length=BATCH_MAX)]


class SomeMembers(Body):
    """Members of the organization by id."""

    member_user_ids: Annotated[list[Annotated[str, Field(max_length=100)]], Field(min_length=1, max_length=BATCH_MAX)]


class GuardrailShown(Shown):
    """A guardrail; null is no rule."""

    id: str
    workspace_id: str
    name: str
    description: str | None
    is_default: bool
    limit_usd: UsdShown | None
    reset_interval: Reset | None
    mode: Mode
    include_byok_in_budgets: bool
    allowed_models: list[str] | None
    ignored_models: list[str] | None
    allowed_providers: list[str] | None
    ignored_providers: list[str] | None
    enforce_zdr: bool | None
    enforce_zdr_anthropic: bool | None
    enforce_zdr_openai: bool | None
    enforce_zdr_google: bool | None
    enforce_zdr_xai: bool | None
    enforce_zdr_other: bool | None
    enable_paid_model_training: bool | None
    enable_free_model_training: bool | None
    enable_free_model_publication: bool | None
    allowed_data_regions: list[str] | None
    content_filters: list[dict[str, Any]] | None
    content_filter_builtins: list[dict[str, Any]] | None
    created_at: str
    updated_at: str | None


class GuardrailAnswer(Shown):
    """One guardrail."""

    data: GuardrailShown


class GuardrailList(Shown):
    """A page of guardrails, oldest first."""

    data: list[GuardrailShown]
    total_count: int


class KeyAssignmentShown(Shown):
    """A key that has a guardrail."""

    id: str
    guardrail_id: str
    key_hash: str
    key_name: str
    key_label: str
    assigned_by: str | None
    created_at: str


class KeyAssignmentList(Shown):
    """A page of them, the first assigned first."""

    data: list[KeyAssignmentShown]
    total_count: int


class MemberAssignmentShown(Shown):
    """A member who has a guardrail."""

    id: str
    guardrail_id: str
    user_id: str
    organization_id: str
    assigned_by: str | None
    created_at: str


class MemberAssignmentList(Shown):
    """A page of them, the first assigned first."""

    data: list[MemberAssignmentShown]
    total_count: int


class Assigned(Shown):
    """How many have it now."""

    assigned_count: int


class Unassigned(Shown):
    """How many had it."""

    unassigned_count: int


@router.get("/guardrails", response_model=GuardrailList)
def list_guardrails(
    house: Housed,
    manager: Managing,
    paging: Paged,
    workspace_id: Annotated[str | None, Query(description="Its id or slug. [default: the default workspace]")] = None,
) -> Answer:
    """List the guardrails of a workspace."""
    place = workspaces.find_workspace(house.engine, manager.organization_id, workspace_id)
    found = guardrails.list_guardrails(house.engine, manager.organization_id, place.id, paging.offset, paging.limit)
    return page([guardrail_data(row) for row in found.rows], found.total)


@router.post("/guardrails", status_code=201, response_model=GuardrailAnswer)
def create_guardrail(house: Housed, manager: Managing, body: CreateGuardrail) -> Answer:
    """Create a guardrail; it enforces nothing until it is assigned to keys or members."""
    changes = _changes(house, body)
    kept = {name: value for name, value in changes.get("settings", {}).items() if value is not None}
    rules = Rules(**{**changes, "settings": kept})
    row = guardrails.create_guardrail(
        house.engine, manager.organization_id, body.workspace_id, rules, manager.actor, house.clock.now_s()
    )
    return answer({"data": guardrail_data(row)}, 201)


@router.get("/guardrails/assignments/keys", response_model=KeyAssignmentList)
def list_all_key_assignments(house: Housed, manager: Managing, paging: Paged) -> Answer:
    """List every key that has a guardrail."""
    found = assignments.list_key_assignments(house.engine, manager.organization_id, None, paging.offset, paging.limit)
    return page([assignment_data(row) for row in found.rows], found.total)


@router.get("/guardrails/assignments/members", response_model=MemberAssignmentList)
def list_all_member_assignments(house: Housed, manager: Managing, paging: Paged) -> Answer:
    """List every member who has a guardrail."""
    found = assignments.list_member_assignments(
        house.engine, manager.organization_id, None, paging.offset, paging.limit
    )
    return page([assignment_data(row) for row in found.rows], found.total)


@router.get("/guardrails/{guardrail_id}", response_model=GuardrailAnswer)
def get_guardrail(house: Housed, manager: Managing, guardrail_id: str) -> Answer:
    """Give one guardrail; a workspace's default one also before it was written."""
    return answer(
        {"data": guardrail_data(guardrails.find_guardrail(house.engine, manager.organization_id, guardrail_id))}
    )


@router.patch("/guardrails/{guardrail_id}", response_model=GuardrailAnswer)
def update_guardrail(house: Housed, manager: Managing, guardrail_id: str, body: UpdateGuardrail) -> Answer:
    """Change a guardrail; what was spent stays counted. A workspace's default one is made by this."""
    changes = _changes(house, body)
    if not changes:
        return get_guardrail(house, manager, guardrail_id)
    row = guardrails.update_guardrail(
        house.engine, manager.organization_id, guardrail_id, changes, manager.actor, house.clock.now_s()
    )
    return answer({"data": guardrail_data(row)})


@router.delete("/guardrails/{guardrail_id}", response_model=Deleted)
def delete_guardrail(house: Housed, manager: Managing, guardrail_id: str) -> Answer:
    """Delete a guardrail and its assignments."""
    guardrails.delete_guardrail(house.engine, manager.organization_id, guardrail_id, manager.actor, house.clock.now_s())
    return answer({"deleted": True})


@router.get("/guardrails/{guardrail_id}/assignments/keys", response_model=KeyAssignmentList)
def list_key_assignments(house: Housed, manager: Managing, guardrail_id: str, paging: Paged) -> Answer:
    """List the keys that have a guardrail."""
    found = assignments.list_key_assignments(
        house.engine, manager.organization_id, guardrail_id, paging.offset, paging.limit
    )
    return page([assignment_data(row) for row in found.rows], found.total)


@router.post("/guardrails/{guardrail_id}/assignments/keys", response_model=Assigned)
def assign_keys(house: Housed, manager: Managing, guardrail_id: str, body: SomeKeys) -> Answer:
    """Give a guardrail to keys, all of them or none; it replaces an earlier one of theirs."""
    count = assignments.assign_keys(
        house.engine, manager.organization_id, guardrail_id, body.key_hashes, manager.actor, house.clock.now_s()
    )
    return answer({"assigned_count": count})


@router.post("/guardrails/{guardrail_id}/assignments/keys/remove", response_model=Unassigned)
def unassign_keys(house: Housed, manager: Managing, guardrail_id: str, body: SomeKeys) -> Answer:
    """Take a guardrail from keys."""
    count = assignments.unassign_keys(
        house.engine, manager.organization_id, guardrail_id, body.key_hashes, manager.actor, house.clock.now_s()
    )
    return answer({"unassigned_count": count})


@router.get("/guardrails/{guardrail_id}/assignments/members", response_model=MemberAssignmentList)
def list_member_assignments(house: Housed, manager: Managing, guardrail_id: str, paging: Paged) -> Answer:
    """List the members who have a guardrail."""
    found = assignments.list_member_assignments(
        house.engine, manager.organization_id, guardrail_id, paging.offset, paging.limit
    )
    return page([assignment_data(row) for row in found.rows], found.total)


@router.post("/guardrails/{guardrail_id}/assignments/members", response_model=Assigned)
def assign_members(house: Housed, manager: Managing, guardrail_id: str, body: SomeMembers) -> Answer:
    """Give a guardrail to members, all of them or none; each has an allowance of their own."""
    count = assignments.assign_members(
        house.engine, manager.organization_id, guardrail_id, body.member_user_ids, manager.actor, house.clock.now_s()
    )
    return answer({"assigned_count": count})


@router.post("/guardrails/{guardrail_id}/assignments/members/remove", response_model=Unassigned)
def unassign_members(house: Housed, manager: Managing, guardrail_id: str, body: SomeMembers) -> Answer:
    """Take a guardrail from members."""
    count = assignments.unassign_members(
        house.engine, manager.organization_id, guardrail_id, body.member_user_ids, manager.actor, house.clock.now_s()
    )
    return answer({"unassigned_count": count})


def _changes(house: House, body: UpdateGuardrail) -> dict[str, Any]:
    """What was sent, by the names of `Rules`. Raises BadRequest for what would promise something that does not happen."""
    if body.content_filters or body.content_filter_builtins:
        raise BadRequest(
            "content filters are not built: this gateway does not look into prompts, so it filters nothing"
        )
    if body.allowed_data_regions is not None and "global" not in body.allowed_data_regions:
        raise BadRequest("allowed_data_regions: this gateway has one door, the region global")
    changes: dict[str, Any] = body.given(*_SAME)
    for name in ("allowed_providers", "ignored_providers"):
        if changes.get(name) is not None:
            changes[name] = tuple(changes[name])
    for name in body.given("allowed_models", "ignored_models"):
        changes[name] = model_slugs(house.catalogue, getattr(body, name), name)
    if "limit_usd" in body.model_fields_set:
        changes["limit_nusd"] = body.limit_usd
    if body.include_byok_in_budgets is not None:
        changes["include_byok"] = body.include_byok_in_budgets
    if settings := _settings(body):
        changes["settings"] = settings
    return changes


def _settings(body: UpdateGuardrail) -> dict[str, Any]:
    given = body.given(*SETTINGS)
    if "enforce_zdr" in body.model_fields_set:
        return {**dict.fromkeys(ZDR, body.enforce_zdr), **given}
    return given
