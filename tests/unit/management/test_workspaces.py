"""Workspaces: made, found, changed, deleted; who is in them."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from tests.unit.management.estate import Estate

from modelgates_server.errors import BadRequest, NotFound, Unauthenticated
from modelgates_server.limits import Scope, Window
from modelgates_server.management.assignments import assign_keys, unassign_keys
from modelgates_server.management.budgets import Budget, list_budgets, set_budget
from modelgates_server.management.guardrails import Rules, create_guardrail, list_guardrails
from modelgates_server.management.keys import delete_key, update_key
from modelgates_server.management.workspaces import (
    NewWorkspace,
    WorkspaceRow,
    add_places,
    create_workspace,
    delete_workspace,
    find_workspace,
    list_places,
    list_workspaces,
    remove_places,
    update_workspace,
)
from modelgates_server.storage import schema
from modelgates_server.storage.engine import reading, transaction


def create(estate: Estate, name: str = "Team Lab", **more: object) -> WorkspaceRow:
    return create_workspace(estate.engine, estate.org, NewWorkspace(name, **more), "test", estate.now_s)


def update(estate: Estate, selector: str, **changes: object) -> WorkspaceRow:
    return update_workspace(estate.engine, estate.org, selector, changes, "test", estate.now_s)


def delete(estate: Estate, selector: str) -> None:
    delete_workspace(estate.engine, estate.org, selector, "test", estate.now_s)


def test_a_workspace_is_found_by_id_and_slug(either: Estate) -> None:
    """The slug is made of the name when none is given; without a selector it is the default, the oldest."""
    row = create(either, description="where it hurts", settings={"default_text_model": "m"})
    assert (row.slug, row.description, row.settings) == ("team-lab", "where it hurts", {"default_text_model": "m"})
    for selector in (row.id, "team-lab"):
        assert find_workspace(either.engine, either.org, selector) == row
    found = list_workspaces(either.engine, either.org)
    assert ([one.slug for one in found.rows], found.total) == (["default", "team-lab"], 2)
    assert find_workspace(either.engine, either.org).slug == "default"
    assert list_workspaces(either.engine, either.org, 1, 1).rows == [row]


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ({"name": ""}, "needs a name"),
        ({"name": "x" * 101}, "at most 100"),
        ({"slug": "Team"}, "small letters"),
        ({"slug": "a--b"}, "small letters"),
        ({"slug": "-a"}, "small letters"),
        ({"slug": "x" * 51}, "from 1 to 50"),
        ({"name": "äöü"}, "no slug can be made"),
        ({"description": "x" * 1001}, "at most 1,000"),
        ({"routing": "[]"}, "a JSON object"),
        ({"settings": {"x": "y" * 20_000}}, "at most 16,384 bytes"),
        ({"slug": "default"}, "already"),
    ],
)
def test_a_workspace_that_makes_no_sense_is_refused(estate: Estate, wanted: dict[str, object], told: str) -> None:
    """With the sentence that says why, when it is made and when it is changed."""
    with pytest.raises(BadRequest, match=told):
        create(estate, **{"name": "n"} | wanted)
    create(estate, "other")
    if "name" not in wanted or wanted["name"] != "äöü":
        with pytest.raises(BadRequest, match=told):
            update(estate, "other", **wanted)
    assert list_workspaces(estate.engine, estate.org).total == 2


def test_a_change_touches_only_what_it_names(estate: Estate) -> None:
    """Settings are merged and null takes one back; routing null takes the preferences back."""
    row = create(estate, routing='{"sort":"price"}', settings={"a": 1, "b": 2})
    renamed = update(estate, row.id, name="New", slug="new", settings={"a": None, "c": 3})
    assert (renamed.name, renamed.slug, renamed.settings, renamed.routing) == (
        "New", "new", {"b": 2, "c": 3}, '{"sort":"price"}',
    )  # fmt: skip
    version = estate.version()
    assert update(estate, "new", routing=None, slug="new").routing is None
    assert estate.version() == version + 1
    assert estate.noted()[-3:] == ["workspace.create", "workspace.update", "workspace.update"]


def test_the_default_workspace_stays(estate: Estate) -> None:
    """Whatever it is called, and however fast the next one was made."""
    create(estate, "aaa")
    update(estate, "default", name="Main", slug="main")
    with pytest.raises(BadRequest, match="cannot be deleted"):
        delete(estate, "main")
    delete(estate, "aaa")
    assert find_workspace(estate.engine, estate.org).slug == "main"


def test_a_workspace_with_keys_is_not_deleted(either: Estate) -> None:
    """Nor one whose guardrail is assigned; then it goes, with its budgets and guardrails, and its slug is free."""
    row = create(either)
    _, in_it = either.key(workspace_id=row.id)
    _, outside = either.key()
    set_budget(either.engine, either.org, Budget(Scope.WORKSPACE, row.id, Window.DAY, 5), "test", either.now_s)
    guardrail = create_guardrail(either.engine, either.org, row.id, Rules("g"), "test", either.now_s)
    assign_keys(either.engine, either.org, guardrail.id, [outside.hash], "test", either.now_s)
    with pytest.raises(BadRequest, match="still has keys"):
        delete(either, row.slug)
    delete_key(either.engine, either.org, in_it.hash, "test", either.now_s)
    with pytest.raises(BadRequest, match="assigned"):
        delete(either, row.slug)
    unassign_keys(either.engine, either.org, guardrail.id, [outside.hash], "test", either.now_s)
    delete(either, row.slug)
    with pytest.raises(NotFound):
        find_workspace(either.engine, either.org, row.id)
    assert (list_budgets(either.engine, either.org), list_guardrails(either.engine, either.org).rows) == ([], [])
    assert create(either).slug == row.slug


async def test_a_key_in_a_deleted_workspace_is_unknown(estate: Estate) -> None:
    """Should one ever be left behind: no request is admitted for a place that is gone."""
    row = create(estate)
    secret, _ = estate.key(workspace_id=row.id)
    assert (await estate.caller(secret)).workspace_id == row.id
    with transaction(estate.engine) as connection:
        connection.execute(sa.update(schema.workspaces).where(schema.workspaces.c.id == row.id).values(deleted_at_s=1))
    with pytest.raises(Unauthenticated):
        await estate.caller(secret)


def test_people_join_and_leave_a_workspace(either: Estate) -> None:
    """Joining twice is joining once; leaving counts those who were in it."""
    row, ann, bob = create(either), either.member("Ann"), either.member("Bob")
    for _ in range(2):
        places = add_places(either.engine, either.org, row.slug, [ann.id, ann.id], "test", either.now_s)
        assert [place.member.id for place in places] == [ann.id]
    found = list_places(either.engine, either.org, row.slug)
    assert ([place.member for place in found.rows], found.total) == ([ann], 1)
    assert remove_places(either.engine, either.org, row.id, [ann.id, bob.id], "test", either.now_s) == 1
    assert list_places(either.engine, either.org, row.slug).rows == []


def test_everybody_is_in_the_default_workspace(estate: Estate) -> None:
    """Without a row, so nobody can be taken out."""
    ann = estate.member("Ann")
    assert [place.member.name for place in list_places(estate.engine, estate.org, "default").rows] == ["Admin", "Ann"]
    with pytest.raises(BadRequest, match="everybody"):
        remove_places(estate.engine, estate.org, "default", [ann.id], "test", estate.now_s)


def test_nobody_leaves_behind_a_key(estate: Estate) -> None:
    """Removal is blocked while the member owns keys there (product-surface 2.8), for all who were named."""
    row, ann, bob = create(estate), estate.member("Ann"), estate.member("Bob")
    add_places(estate.engine, estate.org, row.id, [ann.id, bob.id], "test", estate.now_s)
    _, key = estate.key(member_id=ann.id, workspace_id=row.id)
    estate.key(member_id=ann.id)
    with pytest.raises(BadRequest, match="still has keys"):
        remove_places(estate.engine, estate.org, row.id, [bob.id, ann.id], "test", estate.now_s)
    assert list_places(estate.engine, estate.org, row.id).total == 2
    delete_key(estate.engine, estate.org, key.hash, "test", estate.now_s)
    assert remove_places(estate.engine, estate.org, row.id, [bob.id, ann.id], "test", estate.now_s) == 2


def test_whose_key_is_in_a_workspace_has_a_place_there(either: Estate) -> None:
    """Whether the key is made there or moves there. Once is enough; the default workspace needs no place, and a service key has nobody."""
    made, moved = create(either, "Made"), create(either, "Moved")
    ann = either.member("Ann")
    either.key(member_id=ann.id, workspace_id=made.id)
    either.key(workspace_id=made.id)
    _, key = either.key(member_id=ann.id)
    assert [list_places(either.engine, either.org, row.id).total for row in (made, moved)] == [1, 0]
    for place in (moved.id, made.id, "default"):
        update_key(either.engine, either.org, key.hash, {"workspace_id": place}, "test", either.now_s)
    for row in (made, moved):
        assert [place.member for place in list_places(either.engine, either.org, row.id).rows] == [ann]
    with reading(either.engine) as connection:
        assert len(connection.execute(sa.select(schema.workspace_members)).all()) == 2


def test_a_deleted_key_keeps_no_workspace(either: Estate) -> None:
    """What was assigned to it goes with it, so that nothing stands in the way that nobody can see."""
    row = create(either)
    rules = create_guardrail(either.engine, either.org, row.id, Rules("Strict"), "test", either.now_s)
    keys = [either.key()[1], either.key()[1]]
    for key in keys:
        assign_keys(either.engine, either.org, rules.id, [key.hash], "test", either.now_s)
        with pytest.raises(BadRequest, match="assigned"):
            delete(either, row.id)
        delete_key(either.engine, either.org, key.hash, "test", either.now_s)
    delete(either, row.id)


def test_a_foreign_workspace_is_unknown(estate: Estate) -> None:
    """By id, for everything that can be done with one; and foreign people cannot join ours."""
    foreign, row = estate.foreign, create(estate)
    for attempt in (
        lambda: find_workspace(estate.engine, estate.org, foreign.workspace.id),
        lambda: update(estate, foreign.workspace.id, name="mine"),
        lambda: delete(estate, foreign.workspace.id),
        lambda: list_places(estate.engine, estate.org, foreign.workspace.id),
        lambda: add_places(estate.engine, estate.org, foreign.workspace.id, [], "test", estate.now_s),
        lambda: remove_places(estate.engine, estate.org, foreign.workspace.id, [], "test", estate.now_s),
    ):
        with pytest.raises(NotFound, match="no such workspace"):
            attempt()
    for change in (add_places, remove_places):
        with pytest.raises(NotFound, match="no such member"):
            change(estate.engine, estate.org, row.id, [foreign.admin.id], "test", estate.now_s)
    assert [one.id for one in list_workspaces(estate.engine, foreign.organization.id).rows] == [foreign.workspace.id]
    assert find_workspace(estate.engine, foreign.organization.id).name == "Default"
