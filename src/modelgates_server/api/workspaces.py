"""Workspaces with their members, budgets and rates (product-surface 2.8); in addresses a workspace is its id or its slug."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from modelgates_server.api import limits
from modelgates_server.api.answers import Answer, answer, page
from modelgates_server.api.caller import Manager
from modelgates_server.api.house import House
from modelgates_server.api.limits import BudgetAnswer, BudgetList, Interval, PutBudget, PutRates, RatesAnswer
from modelgates_server.api.preferences import Provider, understood, written
from modelgates_server.api.routes import Housed, Managing, new_router
from modelgates_server.api.shapes import Body, Deleted, Fraction, Paged, Shown
from modelgates_server.errors import BadRequest
from modelgates_server.limits import Scope
from modelgates_server.management import budgets, prompt_log, workspaces
from modelgates_server.management.prompt_log import EVERY_PPM, KEYS_MAX, RETENTION_DAYS_MAX, PromptLog, prompt_log_of
from modelgates_server.management.shown import place_data, workspace_data
from modelgates_server.management.workspaces import NewWorkspace, WorkspaceRow

router = new_router("workspaces")

NOT_BUILT: Final = {
    "is_observability_broadcast_enabled": "requests are not sent on to observers here",
    "is_data_discount_logging_enabled": "nobody is given data for a discount here",
}
"""Switches of the hosted product that would promise something which does not happen."""

_KEPT: Final = ("default_text_model", "default_image_model")

_LOGGING: Final = {
    "is_observability_io_logging_enabled": "enabled",
    "io_logging_retention_days": "retention_days",
    "io_logging_api_key_hashes": "key_hashes",
    "io_logging_sampling_rate": "sampling_ppm",
}
"""Fields of a body, and what they are in `management.prompt_log.PromptLog`."""

Name = Annotated[str, Field(min_length=1, max_length=100)]
Slug = Annotated[str, Field(min_length=1, max_length=50, pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
Description = Annotated[str, Field(max_length=1_000)]
Kept = Annotated[str, Field(max_length=256, description="Kept for clients that read it; requests name their model.")]
Sort = Literal["price", "throughput", "latency", "exacto"]
Hashes = Annotated[list[Annotated[str, Field(max_length=64)]], Field(min_length=1, max_length=KEYS_MAX)]
Users = Annotated[list[Annotated[str, Field(max_length=100)]], Field(min_length=1, max_length=100)]


class Settings(Body):
    """What a workspace is given when it is made and when it is changed."""

    description: Description | None = None
    default_text_model: Kept | None = None
    default_image_model: Kept | None = None
    default_provider_sort: Sort | None = None
    provider: Provider | None = None
    io_logging_api_key_ids: Annotated[list[int], Field(max_length=1_000)] | None = None
    io_logging_api_key_hashes: Hashes | None = None
    io_logging_sampling_rate: Annotated[Fraction, Field(ge=0.0001, le=1)] | None = None
    io_logging_retention_days: Annotated[int, Field(ge=1, le=RETENTION_DAYS_MAX)] | None = None
    is_observability_io_logging_enabled: bool | None = None
    is_observability_broadcast_enabled: bool | None = None
    is_data_discount_logging_enabled: bool | None = None
    disabled_server_tools: Annotated[list[str], Field(max_length=100)] | None = None


class CreateWorkspace(Settings):
    """A new workspace; without a slug it is made of the name."""

    name: Name
    slug: Slug | None = None


class UpdateWorkspace(Settings):
    """What is left out stays; null takes back."""

    name: Name = ""
    slug: Slug = ""


class SomeUsers(Body):
    """Members of the organization by id."""

    user_ids: Users


class WorkspaceShown(Shown):
    """A workspace. Its default guardrail exists as soon as its rules are written."""

    id: str
    name: str
    slug: str
    description: str | None
    created_at: str
    updated_at: str
    created_by: str | None
    default_guardrail_id: str
    default_text_model: str | None
    default_image_model: str | None
    default_provider_sort: str | None
    provider: dict[str, Any] | None
    include_byok_in_budgets: bool
    io_logging_api_key_ids: list[int] | None
    io_logging_api_key_hashes: list[str] | None
    io_logging_sampling_rate: float
    io_logging_retention_days: int
    is_observability_io_logging_enabled: bool
    is_observability_broadcast_enabled: bool
    is_data_discount_logging_enabled: bool


class WorkspaceAnswer(Shown):
    """One workspace."""

    data: WorkspaceShown


class WorkspaceList(Shown):
    """A page of workspaces, oldest first: the first of all is the default one."""

    data: list[WorkspaceShown]
    total_count: int


class PlaceShown(Shown):
    """A member's place in a workspace."""

    id: str
    user_id: str
    workspace_id: str
    role: Literal["admin", "member"]
    created_at: str


class PlaceList(Shown):
    """A page of places."""

    data: list[PlaceShown]
    total_count: int


class Added(Shown):
    """Who has a place now."""

    added_count: int
    data: list[PlaceShown]


class Removed(Shown):
    """How many had one."""

    removed_count: int


@router.get("/workspaces", response_model=WorkspaceList)
def list_workspaces(house: Housed, manager: Managing, paging: Paged) -> Answer:
    """List the workspaces of the organization."""
    found = workspaces.list_workspaces(house.engine, manager.organization_id, paging.offset, paging.limit)
    byok = _with_byok(house, manager)
    return page([workspace_data(row, include_byok=row.id in byok) for row in found.rows], found.total)


@router.post("/workspaces", status_code=201, response_model=WorkspaceAnswer)
def create_workspace(house: Housed, manager: Managing, body: CreateWorkspace) -> Answer:
    """Create a workspace."""
    _refuse_promises(body)
    wanted = NewWorkspace(body.name, body.slug, body.description, _routing(body, None), body.given(*_KEPT))
    log, now_s = _log(body, PromptLog()), house.clock.now_s()
    if log is None:
        row = workspaces.create_workspace(house.engine, manager.organization_id, wanted, manager.actor, now_s)
    else:
        row = prompt_log.create_workspace_with(house.engine, manager.organization_id, wanted, log, manager.actor, now_s)
    return _told(house, manager, row, 201)


@router.get("/workspaces/{workspace}", response_model=WorkspaceAnswer)
def get_workspace(house: Housed, manager: Managing, workspace: str) -> Answer:
    """Give one workspace."""
    return _told(house, manager, workspaces.find_workspace(house.engine, manager.organization_id, workspace))


@router.patch("/workspaces/{workspace}", response_model=WorkspaceAnswer)
def update_workspace(house: Housed, manager: Managing, workspace: str, body: UpdateWorkspace) -> Answer:
    """Change a workspace."""
    _refuse_promises(body)
    before = workspaces.find_workspace(house.engine, manager.organization_id, workspace)
    changes = body.given("name", "slug", "description")
    if settings := body.given(*_KEPT):
        changes["settings"] = settings
    if body.given("provider", "default_provider_sort"):
        changes["routing"] = _routing(body, before.routing)
    log, now_s = _log(body, prompt_log_of(before)), house.clock.now_s()
    if log is not None:
        row = prompt_log.update_workspace_with(
            house.engine, manager.organization_id, before.id, changes, log, manager.actor, now_s
        )
        return _told(house, manager, row)
    if not changes:
        return _told(house, manager, before)
    row = workspaces.update_workspace(house.engine, manager.organization_id, before.id, changes, manager.actor, now_s)
    return _told(house, manager, row)


@router.delete("/workspaces/{workspace}", response_model=Deleted)
def delete_workspace(house: Housed, manager: Managing, workspace: str) -> Answer:
    """Delete a workspace: not the default one, and not while keys are in it."""
    workspaces.delete_workspace(house.engine, manager.organization_id, workspace, manager.actor, house.clock.now_s())
    return answer({"deleted": True})


@router.get("/workspaces/{workspace}/members", response_model=PlaceList)
def list_places(house: Housed, manager: Managing, workspace: str, paging: Paged) -> Answer:
    """List the members of a workspace; everybody is a member of the default one."""
    found = workspaces.list_places(house.engine, manager.organization_id, workspace, paging.offset, paging.limit)
    return page([place_data(place) for place in found.rows], found.total)


@router.post("/workspaces/{workspace}/members/add", response_model=Added)
def add_places(house: Housed, manager: Managing, workspace: str, body: SomeUsers) -> Answer:
    """Make members of the organization members of a workspace: all of them or none."""
    places = workspaces.add_places(
        house.engine, manager.organization_id, workspace, body.user_ids, manager.actor, house.clock.now_s()
    )
    return answer({"added_count": len(places), "data": [place_data(place) for place in places]})


@router.post("/workspaces/{workspace}/members/remove", response_model=Removed)
def remove_places(house: Housed, manager: Managing, workspace: str, body: SomeUsers) -> Answer:
    """Take members out of a workspace; not while they have keys there."""
    removed = workspaces.remove_places(
        house.engine, manager.organization_id, workspace, body.user_ids, manager.actor, house.clock.now_s()
    )
    return answer({"removed_count": removed})


@router.get("/workspaces/{workspace}/budgets", response_model=BudgetList)
def list_workspace_budgets(house: Housed, manager: Managing, workspace: str) -> Answer:
    """List the budgets of a workspace."""
    return limits.show_budgets(house, manager, Scope.WORKSPACE, _id(house, manager, workspace))


@router.get("/workspaces/{workspace}/budgets/{interval}", response_model=BudgetAnswer)
def get_workspace_budget(house: Housed, manager: Managing, workspace: str, interval: Interval) -> Answer:
    """Give one budget of a workspace."""
    return limits.show_budget(house, manager, Scope.WORKSPACE, _id(house, manager, workspace), interval)


@router.put("/workspaces/{workspace}/budgets/{interval}", response_model=BudgetAnswer)
def put_workspace_budget(
    house: Housed, manager: Managing, workspace: str, interval: Interval, body: PutBudget
) -> Answer:
    """Set a budget of a workspace; budgets strictly decrease from lifetime over monthly and weekly to daily."""
    return limits.put_budget(house, manager, Scope.WORKSPACE, _id(house, manager, workspace), interval, body)


@router.delete("/workspaces/{workspace}/budgets/{interval}", response_model=Deleted)
def delete_workspace_budget(house: Housed, manager: Managing, workspace: str, interval: Interval) -> Answer:
    """Lift a budget of a workspace."""
    return limits.delete_budget(house, manager, Scope.WORKSPACE, _id(house, manager, workspace), interval)


@router.get("/workspaces/{workspace}/rates", response_model=RatesAnswer)
def get_workspace_rates(house: Housed, manager: Managing, workspace: str) -> Answer:
    """Give the rates of a workspace, which hold over all its keys together."""
    return limits.show_rates(house, manager, Scope.WORKSPACE, _id(house, manager, workspace))


@router.put("/workspaces/{workspace}/rates", response_model=RatesAnswer)
def put_workspace_rates(house: Housed, manager: Managing, workspace: str, body: PutRates) -> Answer:
    """Set the rates of a workspace."""
    return limits.put_rates(house, manager, Scope.WORKSPACE, _id(house, manager, workspace), body)


def _id(house: House, manager: Manager, workspace: str) -> str:
    return workspaces.find_workspace(house.engine, manager.organization_id, workspace).id


def _refuse_promises(body: Settings) -> None:
    """A switch that does nothing must not look as if it did."""
    for name, why in NOT_BUILT.items():
        if getattr(body, name):
            raise BadRequest(f"{name} cannot be switched on: {why}")
    if body.disabled_server_tools:
        raise BadRequest("disabled_server_tools: this gateway has no server tools of its own to disable")


def _log(body: Settings, known: PromptLog) -> PromptLog | None:
    """The workspace's rule about prompts with what was sent in place, null meaning the default; None when nothing was sent."""
    if body.io_logging_api_key_ids:
        raise BadRequest(
            "io_logging_api_key_ids: keys have no numbers here", remedy="name them by hash in io_logging_api_key_hashes"
        )
    given = {name: value for field, name in _LOGGING.items() for value in body.given(field).values()}
    if not given:
        return None
    if given.get("sampling_ppm") is not None:
        given["sampling_ppm"] = round(given["sampling_ppm"] * EVERY_PPM)
    if given.get("key_hashes") is not None:
        given["key_hashes"] = tuple(dict.fromkeys(given["key_hashes"]))
    plain = PromptLog()
    return replace(known, **{name: getattr(plain, name) if value is None else value for name, value in given.items()})


def _routing(body: Settings, known: str | None) -> str | None:
    """The preferences with what was sent in place: `provider` replaces them, `default_provider_sort` is one of them."""
    said: dict[str, Any] = json.loads(known, parse_float=Decimal) if known else {}
    if "provider" in body.model_fields_set:
        said = understood(body.provider)
    sort = said.get("sort")
    by = sort.get("by") if isinstance(sort, dict) else sort
    if "default_provider_sort" in body.model_fields_set and body.default_provider_sort != by:
        said = {**said, "sort": body.default_provider_sort}
    return written(said)


def _with_byok(house: House, manager: Manager) -> set[str]:
    """The workspaces whose budgets count what own provider keys are asked."""
    rows = budgets.list_budgets(house.engine, manager.organization_id, Scope.WORKSPACE)
    return {row.scope_id for row in rows if row.include_byok}


def _told(house: House, manager: Manager, row: WorkspaceRow, status: int = 200) -> Answer:
    return answer({"data": workspace_data(row, include_byok=row.id in _with_byok(house, manager))}, status)
