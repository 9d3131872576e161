"""The audit log over the wire: one's own changes, and whether the log is whole."""

from __future__ import annotations

import pytest
from tests.unit.activity.crowd import ORG, OTHER, Did
from tests.walk.managed import Managed, ago, places

from modelgates_server.accounts.values import KeyClass

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_changes_are_listed_newest_first(managed: Managed) -> None:
    """Who, what, to whom and when; by action, actor, target and time; in pages."""
    ids = managed.settle(*(Did(ago_ms=ago(1) + number) for number in range(3)))
    for id_ in ids:
        await managed.post("/generation/feedback", {"generation_id": id_, "category": "other"})
    told = (await managed.get("/audit", action="generation.feedback", limit=2)).json
    (row,) = (await managed.get("/audit", target=ids[0])).json["data"]

    assert places(told["data"], "target") == [ids[2], ids[1]]
    assert told["total_count"] >= 3
    assert (row["details"]["category"], len(row["id"]), row["actor"][:4]) == ("other", 64, "key:")
    assert (await managed.get("/audit", actor=row["actor"], from_="2999-01-01")).json == {"data": [], "total_count": 0}
    assert (await managed.get("/audit", to=row["created_at"], target=ids[0])).json["data"] == []
    assert len((await managed.get("/audit", from_=row["created_at"], target=ids[0])).json["data"]) == 1


async def test_nobody_sees_another_organisation(managed: Managed) -> None:
    """No filter and no offset shows a foreign change; nothing tells how many there are."""
    (id_,) = managed.settle(Did(ago_ms=ago(1), organization_id=OTHER))
    await managed.post("/generation/feedback", {"generation_id": id_, "category": "other"}, OTHER)
    theirs = (await managed.get("/audit", OTHER, target=id_)).json["data"][0]
    for query in (
        {"target": id_},
        {"actor": theirs["actor"]},
        {"action": "%"},
        {"action": "' OR 1=1 --"},
        {"offset": 10**6},
    ):
        assert (await managed.get("/audit", **query)).json["data"] == []
    mine = (await managed.get("/audit")).json

    assert id_ not in str(mine)
    assert theirs["id"] not in str(mine)
    assert not {"organization_id", "previous"} & set(mine["data"][0])


async def test_a_broken_chain_is_told_and_no_more(managed: Managed) -> None:
    """Whole or not, for every organisation alike; a row that somebody altered is not shown."""
    rows = managed.gateway.rows("SELECT MIN(id) AS id FROM audit")
    assert (await managed.get("/audit/verify")).json == {"data": {"whole": True}}
    with managed.gateway.engine() as (engine, _), engine.begin() as connection:
        actor = connection.exec_driver_sql("SELECT actor FROM audit WHERE id = ?", (rows[0]["id"],)).scalar()
        connection.exec_driver_sql("UPDATE audit SET actor = 'nobody' WHERE id = ?", (rows[0]["id"],))
    broken = [(await managed.get("/audit/verify", org)).json for org in (ORG, OTHER)]
    with managed.gateway.engine() as (engine, _), engine.begin() as connection:
        connection.exec_driver_sql("UPDATE audit SET actor = ? WHERE id = ?", (actor, rows[0]["id"]))

    assert broken == [{"data": {"whole": False}}] * 2
    assert (await managed.get("/audit/verify")).json["data"]["whole"]


async def test_only_management_keys_may_ask_and_not_all_the_time(managed: Managed) -> None:
    """401, 403; and a look that walks the whole log may be taken ten times a minute."""
    assert (await managed.get("/audit", key="sk-mg-mgmt-v1-nobody")).status == 401
    assert (await managed.get("/audit", key=managed.new_key(key_class=KeyClass.INFERENCE))).status == 403
    key = managed.new_key()
    statuses = [(await managed.get("/audit/verify", key=key)).status for _ in range(11)]

    assert statuses == [200] * 10 + [429]
