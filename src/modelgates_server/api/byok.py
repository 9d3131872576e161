"""The organisation's own provider keys: list, store, read, change, delete (product-surface 2.8). Keys can be written, never read."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Query
from pydantic import Field

from modelgates_server.api.answers import Answer, answer, page
from modelgates_server.api.caller import Manager
from modelgates_server.api.house import House
from modelgates_server.api.routes import Housed, Managing, new_router
from modelgates_server.api.shapes import Body, Deleted, Paged, Shown, slugs
from modelgates_server.management import credentials, workspaces
from modelgates_server.management.credentials import FILTER_ENTRIES_MAX, SORT_ORDER_MAX, NewCredential, Safe

router = new_router("byok")

Key = Annotated[str, Field(min_length=1, max_length=4096, description="The provider's key. It is never shown again.")]
Order = Annotated[int, Field(ge=0, le=SORT_ORDER_MAX, description="Lower ones are tried first.")]
Models = Annotated[list[Annotated[str, Field(max_length=256)]], Field(min_length=1, max_length=FILTER_ENTRIES_MAX)]
Hashes = Annotated[
    list[Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]], Field(min_length=1, max_length=FILTER_ENTRIES_MAX)
]
Members = Annotated[list[Annotated[str, Field(max_length=100)]], Field(min_length=1, max_length=FILTER_ENTRIES_MAX)]

NotBuilt = Annotated[Literal[False], Field(description="Other clients know it; here it can only be false.")]
"""Asked for, it must be refused: silence would look like consent."""


class CreateCredential(Body):
    """A new key for a configured provider. It goes to that provider's address only; null in a list allows all."""

    provider: Annotated[str, Field(min_length=1, max_length=64, description="The slug of a configured provider.")]
    key: Key
    name: Annotated[str, Field(max_length=400)] = ""
    workspace_id: str | None = None
    is_fallback: Annotated[bool, Field(description="Only after the operator's own account; else before it.")] = False
    disabled: bool = False
    allowed_models: Models | None = None
    allowed_api_key_hashes: Hashes | None = None
    allowed_user_ids: Members | None = None
    sort_order: Order = 0
    is_byok_only: NotBuilt = False
    is_required: NotBuilt = False


class UpdateCredential(Body):
    """What is left out stays; `key` replaces the key that is there."""

    key: Key = ""
    name: Annotated[str, Field(max_length=400)] = ""
    workspace_id: str | None = None
    is_fallback: bool = False
    disabled: bool = False
    allowed_models: Models | None = None
    allowed_api_key_hashes: Hashes | None = None
    allowed_user_ids: Members | None = None
    sort_order: Order = 0
    is_byok_only: NotBuilt = False
    is_required: NotBuilt = False


class CredentialShown(Shown):
    """A credential; of its key there is only `label`."""

    id: str
    workspace_id: str | None
    provider: str
    name: str
    label: str
    is_fallback: bool
    is_byok_only: bool
    is_required: bool
    declared_region: str | None
    declared_zdr: bool | None
    disabled: bool
    allowed_models: list[str] | None
    allowed_api_key_hashes: list[str] | None
    allowed_user_ids: list[str] | None
    sort_order: int
    created_at: str
    updated_at: str


class CredentialAnswer(Shown):
    """One credential."""

    data: CredentialShown


class CredentialList(Shown):
    """A page of credentials, in the order of trying."""

    data: list[CredentialShown]
    total_count: int


@router.get("/byok", response_model=CredentialList)
def list_credentials(
    house: Housed,
    manager: Managing,
    paging: Paged,
    workspace_id: Annotated[str | None, Query(description="Only those that serve it: its id or slug.")] = None,
) -> Answer:
    """List the organization's own provider keys, masked."""
    found = credentials.list_credentials(
        house.engine, manager.organization_id, _workspace(house, manager, workspace_id), paging.offset, paging.limit
    )
    return page(list(map(credentials.credential_data, found.rows)), found.total)


@router.post("/byok", status_code=201, response_model=CredentialAnswer)
def create_credential(house: Housed, manager: Managing, body: CreateCredential) -> Answer:
    """Store a key. Requests that it serves use no credit."""
    wanted = NewCredential(
        provider=body.provider,
        key=body.key,
        name=body.name,
        workspace_id=_workspace(house, manager, body.workspace_id),
        is_fallback=body.is_fallback,
        disabled=body.disabled,
        allowed_models=slugs(house, body.allowed_models, "allowed_models"),
        allowed_key_hashes=_tuple(body.allowed_api_key_hashes),
        allowed_member_ids=_tuple(body.allowed_user_ids),
        sort_order=body.sort_order,
    )
    row = credentials.add_credential(
        house.engine, _safe(house), manager.organization_id, wanted, manager.actor, house.clock.now_s()
    )
    return answer({"data": credentials.credential_data(row)}, 201)


@router.get("/byok/{credential_id}", response_model=CredentialAnswer)
def get_credential(house: Housed, manager: Managing, credential_id: str) -> Answer:
    """Give one credential, masked."""
    row = credentials.find_credential(house.engine, manager.organization_id, credential_id)
    return answer({"data": credentials.credential_data(row)})


@router.patch("/byok/{credential_id}", response_model=CredentialAnswer)
def update_credential(house: Housed, manager: Managing, credential_id: str, body: UpdateCredential) -> Answer:
    """Change a credential, or replace its key. A quarter of a second later no process plans with what was before."""
    said: dict[str, Any] = body.given("key", "name", "is_fallback", "disabled", "sort_order")
    if "workspace_id" in body.model_fields_set:
        said["workspace_id"] = _workspace(house, manager, body.workspace_id)
    if "allowed_models" in body.model_fields_set:
        said["allowed_models"] = slugs(house, body.allowed_models, "allowed_models")
    if "allowed_api_key_hashes" in body.model_fields_set:
        said["allowed_key_hashes"] = _tuple(body.allowed_api_key_hashes)
    if "allowed_user_ids" in body.model_fields_set:
        said["allowed_member_ids"] = _tuple(body.allowed_user_ids)
    if not said:
        return get_credential(house, manager, credential_id)
    row = credentials.change_credential(
        house.engine,
        _safe(house),
        manager.organization_id,
        credential_id,
        said,
        manager.actor,
        house.clock.now_s(),
    )
    return answer({"data": credentials.credential_data(row)})


@router.delete("/byok/{credential_id}", response_model=Deleted)
def delete_credential(house: Housed, manager: Managing, credential_id: str) -> Answer:
    """Delete a credential for good; what it served stays in the books."""
    credentials.remove_credential(
        house.engine, manager.organization_id, credential_id, manager.actor, house.clock.now_s()
    )
    return answer({"deleted": True})


def _safe(house: House) -> Safe:
    return Safe(house.pepper, house.places)


def _workspace(house: House, manager: Manager, selector: str | None) -> str | None:
    """The id of a workspace, from its id or slug."""
    if selector is None:
        return None
    return workspaces.find_workspace(house.engine, manager.organization_id, selector).id


def _tuple(entries: list[str] | None) -> tuple[str, ...] | None:
    return None if entries is None else tuple(entries)
