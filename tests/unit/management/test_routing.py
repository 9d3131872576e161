"""Provider preferences of keys and workspaces: kept, audited, and read by every process."""

from __future__ import annotations

import json

import pytest
import sqlalchemy as sa
from tests.unit.accounts.house import House

from modelgates_server import management
from modelgates_server.accounts.values import KeyClass
from modelgates_server.errors import BadRequest, NotFound
from modelgates_server.management import KeyRow, NewKey
from modelgates_server.storage import schema
from modelgates_server.storage.engine import reading

ORDER = '{"order": ["bedrock", "anthropic"], "zdr": null}'


def make(house: House, **wanted: object) -> tuple[str, KeyRow]:
    return management.create_key(
        house.engine, house.pepper, house.made.organization_id, NewKey("k", **wanted), "test", house.clock.now_s()
    )


def last_audit(house: House) -> dict[str, object]:
    with reading(house.engine) as connection:
        row = connection.execute(sa.select(schema.audit).order_by(schema.audit.c.id.desc()).limit(1)).mappings().one()
    return dict(row) | {"details": json.loads(row["details"])}


async def test_a_caller_carries_its_preferences(house: House) -> None:
    """The workspace's come before the key's; a process that remembers the caller reads it again."""
    secret, row = make(house)
    directory = house.directory()
    assert (await directory.identify([secret])).routing == ()
    workspace = management.find_workspace(house.engine, house.made.organization_id)
    management.set_workspace_routing(
        house.engine, house.made.organization_id, workspace.id, '{"zdr":true}', "ann", house.clock.now_s()
    )
    management.set_key_routing(house.engine, house.made.organization_id, row.hash, ORDER, "ann", house.clock.now_s())
    await directory.refresh()

    assert (await directory.identify([secret])).routing == (b'{"zdr":true}', b'{"order":["bedrock","anthropic"]}')


def test_preferences_can_be_taken_back(house: House) -> None:
    """None, and an object that says nothing, leave the column empty."""
    _, row = make(house)
    management.set_key_routing(house.engine, house.made.organization_id, row.hash, ORDER, "ann", house.clock.now_s())

    for nothing in (None, "{}", '{"zdr": null}'):
        assert (
            management.set_key_routing(
                house.engine, house.made.organization_id, row.hash, nothing, "ann", house.clock.now_s()
            ).routing
            is None
        )


def test_a_change_is_audited(house: House) -> None:
    """One row says who set what on which key or workspace."""
    _, row = make(house)
    management.set_key_routing(house.engine, house.made.organization_id, row.hash, ORDER, "ann", house.clock.now_s())
    key_row = last_audit(house)
    workspace = management.find_workspace(house.engine, house.made.organization_id, "default")
    management.set_workspace_routing(
        house.engine, house.made.organization_id, workspace.id, ORDER, "bob", house.clock.now_s()
    )
    space_row = last_audit(house)

    assert (key_row["actor"], key_row["action"], key_row["target"]) == ("ann", "key.routing", row.hash)
    assert (space_row["actor"], space_row["action"], space_row["target"]) == ("bob", "workspace.routing", workspace.id)
    assert space_row["details"] == {"routing": '{"order":["bedrock","anthropic"]}'}


@pytest.mark.parametrize("text", ["", "[]", "3", "{", '{"order": "' + "a" * 20_000 + '"}'])
def test_what_is_no_object_is_refused(house: House, text: str) -> None:
    """Preferences are a JSON object of a reasonable size; nothing is stored otherwise."""
    _, row = make(house)

    with pytest.raises(BadRequest):
        management.set_key_routing(house.engine, house.made.organization_id, row.hash, text, "ann", house.clock.now_s())
    assert management.find_key(house.engine, house.made.organization_id, row.hash).routing is None


def test_only_inference_keys_have_routing(house: House) -> None:
    """A management key sends no requests; an unknown key or workspace is not found."""
    _, row = make(house, key_class=KeyClass.MANAGEMENT)
    now_s = house.clock.now_s()

    with pytest.raises(BadRequest):
        management.set_key_routing(house.engine, house.made.organization_id, row.hash, ORDER, "ann", now_s)
    with pytest.raises(NotFound):
        management.set_key_routing(house.engine, house.made.organization_id, "ff" * 32, ORDER, "ann", now_s)
    with pytest.raises(NotFound):
        management.set_workspace_routing(house.engine, house.made.organization_id, "elsewhere", ORDER, "ann", now_s)
