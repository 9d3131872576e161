"""Names instead of ids: what people write is found, and what is found is shown by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelgates_server.limits import Scope
from modelgates_server.management import members, organizations, workspaces
from modelgates_server.management.guardrails import default_guardrail_id, default_guardrail_name

if TYPE_CHECKING:
    from collections.abc import Mapping

    from modelgates_server.cli.local import Workplace


def owner_id(place: Workplace, scope: Scope, selector: str | None) -> str:
    """Give the id that a name stands for: a workspace's slug, a member's address, the organisation itself, an app's name."""
    if scope is Scope.ORGANIZATION:
        return place.organization_id
    if scope is Scope.WORKSPACE:
        return workspaces.find_workspace(place.engine, place.organization_id, selector).id
    if scope is Scope.MEMBER:
        return members.find_member(place.engine, place.organization_id, selector or "").id
    return selector or ""


def owner_names(place: Workplace) -> Mapping[str, str]:
    """Give the names of the organisation, its workspaces (their slugs) and its members, by id; `owner_id` finds them again.

    A workspace's default guardrail goes by its id and by the name that it has until somebody gives it another.
    """
    people = members.list_members(place.engine, place.organization_id).rows
    spaces = workspaces.list_workspaces(place.engine, place.organization_id).rows
    own = organizations.find_organization(place.engine, place.organization_id)
    return {
        own.id: own.name,
        **{row.id: row.slug for row in spaces},
        **{default_guardrail_id(row.id): f"Default of {row.name}" for row in spaces},
        **{default_guardrail_name(row.id): f"Default of {row.name}" for row in spaces},
        **{row.id: row.email or row.name for row in people},
    }
