"""Keys: list, create, read, change, delete (product-surface 2.6)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Depends, Query
from pydantic import Field

from modelgates_server.accounts.values import KeyClass
from modelgates_server.api.answers import Answer, answer, page
from modelgates_server.api.house import House
from modelgates_server.api.preferences import Provider, understood, written
from modelgates_server.api.routes import Housed, Managing, new_router
from modelgates_server.api.shapes import Body, Deleted, Models, Moment, Paged, Shown, Usd, UsdShown, slugs
from modelgates_server.management import describe, keys
from modelgates_server.management.key_values import RATE_MAX, KeyFilter, KeyRow, NewKey

router = new_router("keys")

Reset = Literal["daily", "weekly", "monthly"]
Rate = Annotated[int, Field(ge=1, le=RATE_MAX)]


class CreateKey(Body):
    """A new key. Without `workspace_id` it belongs to the default workspace; `creator_user_id` owns what it spends."""

    name: Annotated[str, Field(min_length=1, max_length=400)]
    limit: Usd | None = None
    limit_reset: Reset | None = None
    include_byok_in_limit: bool = False
    expires_at: Moment | None = None
    workspace_id: str | None = None
    creator_user_id: str | None = None
    requests_per_minute: Rate | None = None
    tokens_per_minute: Rate | None = None
    parallel_max: Rate | None = None
    allowed_models: Models | None = None
    provider: Provider | None = None
    management: Annotated[bool, Field(description="A key that manages and cannot infer.")] = False


class UpdateKey(Body):
    """What is left out stays; null takes a limit away. What the key used stays counted. `provider` replaces what was there."""

    name: Annotated[str, Field(min_length=1, max_length=400)] = ""
    disabled: bool = False
    limit: Usd | None = None
    limit_reset: Reset | None = None
    include_byok_in_limit: bool = False
    expires_at: Moment | None = None
    workspace_id: str = ""
    requests_per_minute: Rate | None = None
    tokens_per_minute: Rate | None = None
    parallel_max: Rate | None = None
    allowed_models: Models | None = None
    provider: Provider | None = None


class KeyShown(Shown):
    """A key. Its text is never shown again; `hash` names it, `label` is the masked form that people know it by."""

    hash: str
    name: str
    label: str
    disabled: bool
    limit: UsdShown | None
    limit_remaining: UsdShown | None
    limit_reset: Reset | None
    include_byok_in_limit: bool
    usage: UsdShown
    usage_daily: UsdShown
    usage_weekly: UsdShown
    usage_monthly: UsdShown
    byok_usage: UsdShown
    byok_usage_daily: UsdShown
    byok_usage_weekly: UsdShown
    byok_usage_monthly: UsdShown
    requests_per_minute: int | None
    tokens_per_minute: int | None
    parallel_max: int | None
    allowed_models: list[str] | None
    provider: dict[str, Any] | None
    is_management_key: bool
    created_at: str
    updated_at: str
    last_used_at: str | None
    expires_at: str | None
    creator_user_id: str | None
    external_user: str | None
    organization_id: str
    workspace_id: str


class KeyAnswer(Shown):
    """One key."""

    data: KeyShown


class NewKeyAnswer(KeyAnswer):
    """The new key, with its text: the only time that it is shown."""

    key: str


class KeyList(Shown):
    """A page of keys, oldest first."""

    data: list[KeyShown]
    total_count: int


def _which(
    workspace_id: Annotated[str | None, Query(description="Its id or slug. [default: the default workspace]")] = None,
    include_disabled: bool = False,  # noqa: FBT001, FBT002 - a switch of the query
    include_expired: bool = False,  # noqa: FBT001, FBT002
    include_management: bool = False,  # noqa: FBT001, FBT002
) -> KeyFilter:
    return KeyFilter(
        everywhere=False,
        workspace_id=workspace_id,
        key_class=None if include_management else KeyClass.INFERENCE,
        disabled=include_disabled,
        expired=include_expired,
    )


@router.get("/keys", response_model=KeyList)
def list_keys(
    house: Housed,
    manager: Managing,
    paging: Paged,
    wanted: Annotated[KeyFilter, Depends(_which)],
    external_user: Annotated[str | None, Query(description="Keys of an app's user; here no key is one.")] = None,
) -> Answer:
    """List keys of one workspace that can be used; the switches add those that cannot, and those that manage."""
    if external_user is not None:
        return page([], 0)
    now_s = house.clock.now_s()
    found = keys.page_keys(house.engine, manager.organization_id, wanted, paging.offset, paging.limit, now_s)
    use = describe.keys_use(house.engine, found.rows, now_s)
    return page([describe.key_data(row, use[row.hash]) for row in found.rows], found.total)


@router.post("/keys", status_code=201, response_model=NewKeyAnswer)
def create_key(house: Housed, manager: Managing, body: CreateKey) -> Answer:
    """Create a key; its text is in this answer only."""
    now_s = house.clock.now_s()
    wanted = NewKey(
        name=body.name,
        key_class=KeyClass.MANAGEMENT if body.management else KeyClass.INFERENCE,
        limit_nusd=body.limit,
        limit_reset=body.limit_reset,
        expires_at_s=None if body.expires_at is None else describe.parse_expiry(body.expires_at, now_s),
        requests_per_minute=body.requests_per_minute,
        tokens_per_minute=body.tokens_per_minute,
        workspace_id=body.workspace_id,
        member_id=body.creator_user_id,
        allowed_models=slugs(house, body.allowed_models, "allowed_models"),
        parallel_max=body.parallel_max,
        include_byok_in_limit=body.include_byok_in_limit,
        routing=_routing(body),
    )
    secret, row = keys.create_key(house.engine, house.pepper, manager.organization_id, wanted, manager.actor, now_s)
    return answer({"data": describe.key_data(row, describe.KeyUse()), "key": secret}, 201)


@router.delete("/keys", response_model=Deleted, operation_id="delete_key_by_query")
def delete_key_by_query(
    house: Housed,
    manager: Managing,
    id: Annotated[str, Query(description="The key's hash.")],  # noqa: A002 - its name
) -> Answer:
    """Delete a key, as older clients write it."""
    return delete_key(house, manager, id)


@router.get("/keys/{key_hash}", response_model=KeyAnswer)
def get_key(house: Housed, manager: Managing, key_hash: str) -> Answer:
    """Give one key."""
    return _told(house, keys.get_key(house.engine, manager.organization_id, key_hash))


@router.patch("/keys/{key_hash}", response_model=KeyAnswer)
def update_key(house: Housed, manager: Managing, key_hash: str, body: UpdateKey) -> Answer:
    """Change a key. A key that is switched off admits no further request from the moment of the answer on."""
    now_s = house.clock.now_s()
    changes: dict[str, Any] = body.given(
        "name", "disabled", "limit_reset", "include_byok_in_limit", "workspace_id",
        "requests_per_minute", "tokens_per_minute", "parallel_max",
    )  # fmt: skip
    if "limit" in body.model_fields_set:
        changes["limit_nusd"] = body.limit
    if "expires_at" in body.model_fields_set:
        changes["expires_at_s"] = None if body.expires_at is None else describe.parse_expiry(body.expires_at, now_s)
    if "allowed_models" in body.model_fields_set:
        changes["allowed_models"] = slugs(house, body.allowed_models, "allowed_models")
    if "provider" in body.model_fields_set:
        changes["routing"] = _routing(body)
    if not changes:
        return get_key(house, manager, key_hash)
    row = keys.update_key(house.engine, manager.organization_id, key_hash, changes, manager.actor, now_s)
    return _told(house, row)


@router.delete("/keys/{key_hash}", response_model=Deleted)
def delete_key(house: Housed, manager: Managing, key_hash: str) -> Answer:
    """Delete a key for good; what it used stays in the books."""
    keys.delete_key(house.engine, manager.organization_id, key_hash, manager.actor, house.clock.now_s())
    return answer({"deleted": True})


def _routing(body: CreateKey | UpdateKey) -> str | None:
    """The key's preferences; they stand on top of its workspace's."""
    return None if body.provider is None else written(understood(body.provider))


def _told(house: House, row: KeyRow) -> Answer:
    use = describe.keys_use(house.engine, [row], house.clock.now_s())[row.hash]
    return answer({"data": describe.key_data(row, use)})
