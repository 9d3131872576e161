"""`workspaces`: made, changed and deleted, and who is in them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from modelgates_server.cli.frame import Options, Report
from modelgates_server.cli.local import ACTOR, opened
from modelgates_server.cli.output import clean, listing, moment, table
from modelgates_server.errors import BadRequest
from modelgates_server.limits import Scope
from modelgates_server.management import budgets, members, workspaces
from modelgates_server.management.shown import place_data, workspace_data
from modelgates_server.management.workspaces import NewWorkspace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from modelgates_server.cli.local import Workplace
    from modelgates_server.management.workspaces import WorkspaceRow


def show(options: Options) -> Report:
    """List the workspaces, the default one first."""
    with opened(options) as place:
        rows = workspaces.list_workspaces(place.engine, place.organization_id).rows
        data = [_data(place, row) for row in rows]
    lines = [(row.slug, row.name, row.description or "-", moment(row.created_at_s), row.id) for row in rows]
    return Report({"data": data}, table(("Slug", "Name", "Description", "Since", "Id"), lines))


def create(options: Options, name: str, slug: str | None, description: str | None) -> Report:
    """Make a workspace."""
    with opened(options) as place:
        wanted = NewWorkspace(name, slug, description)
        row = workspaces.create_workspace(place.engine, place.organization_id, wanted, ACTOR, place.now_s)
        return Report({"data": _data(place, row)}, f"The workspace {row.slug} ({row.id}) is there now.")


def update(options: Options, selector: str, changes: dict[str, Any]) -> Report:
    """Change what is given. Raises BadRequest when nothing is."""
    if not changes:
        raise BadRequest("there is nothing to change", remedy="name --name, --slug or --description")
    with opened(options) as place:
        row = workspaces.update_workspace(place.engine, place.organization_id, selector, changes, ACTOR, place.now_s)
        return Report({"data": _data(place, row)}, f"The workspace {row.slug} is changed.")


def delete(options: Options, selector: str) -> Report:
    """Delete a workspace in which nothing lives any more."""
    with opened(options) as place:
        row = workspaces.find_workspace(place.engine, place.organization_id, selector)
        workspaces.delete_workspace(place.engine, place.organization_id, row.id, ACTOR, place.now_s)
    return Report(
        {"deleted": True, "id": row.id}, f"The workspace {row.slug} is deleted; what it used stays in the books."
    )


def show_members(options: Options, selector: str) -> Report:
    """List who is in a workspace."""
    with opened(options) as place:
        found = workspaces.list_places(place.engine, place.organization_id, selector).rows
    lines = [(one.member.name, one.member.role, moment(one.created_at_s), one.member.id) for one in found]
    text = listing(("Name", "Role", "Since", "Id"), lines, f"Nobody is in {clean(selector)} yet.")
    return Report({"data": [place_data(one) for one in found]}, text)


def join(options: Options, selector: str, people: Sequence[str]) -> Report:
    """Make members of the organisation members of a workspace."""
    with opened(options) as place:
        ids = _ids(place, people)
        found = workspaces.add_places(place.engine, place.organization_id, selector, ids, ACTOR, place.now_s)
    names = ", ".join(one.member.name for one in found)
    return Report(
        {"added_count": len(found), "data": [place_data(one) for one in found]}, f"In {selector} now: {names}."
    )


def leave(options: Options, selector: str, people: Sequence[str]) -> Report:
    """Take members out of a workspace."""
    with opened(options) as place:
        ids = _ids(place, people)
        count = workspaces.remove_places(place.engine, place.organization_id, selector, ids, ACTOR, place.now_s)
    return Report({"removed_count": count}, f"{count} left {selector}.")


def _ids(place: Workplace, people: Sequence[str]) -> list[str]:
    return [members.find_member(place.engine, place.organization_id, one).id for one in people]


def _data(place: Workplace, row: WorkspaceRow) -> dict[str, Any]:
    rows = budgets.list_budgets(place.engine, place.organization_id, Scope.WORKSPACE, row.id)
    return workspace_data(row, include_byok=any(one.include_byok for one in rows))
