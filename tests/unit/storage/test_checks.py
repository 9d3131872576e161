"""`db check` finds nothing in a sound database of either kind, and whatever is planted in another."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from tests.support.postgres import Postgres
from tests.unit.accounts.house import House, open_house

from modelgates_server.storage.engine import Database, database_of
from modelgates_server.storage.maintenance import check

OTHER = (
    "INSERT INTO organizations (id, name, created_at_s) VALUES ('org-other', 'Other', 1);"
    "INSERT INTO workspaces (id, organization_id, slug, name, created_at_s) VALUES ('ws-other', 'org-other', 'x', 'X', 1);"
)
DAMAGE = {
    "held": "UPDATE meters SET held = held + 1 WHERE held > 0 AND scope = 'key'",
    "holds": "DELETE FROM meters WHERE held > 0 AND scope = 'key'",
    "parallel": "INSERT INTO meters VALUES ('key:k:parallel:life', 'o', 'key', 'k', 'parallel', 'life', 0, NULL, 1, 1, 0, 0)",
    "owners": "UPDATE processes SET seen_at_s = 1000, ended_at_s = 900",
    "key use": "UPDATE meters SET posted = posted - 1 WHERE scope = 'key' AND \"window\" = 'life' AND posted > 0",
    "credit use": "UPDATE meters SET posted = posted + 1 WHERE scope = 'organization' AND \"window\" = 'life'",
    "credit": 'UPDATE meters SET "limit" = "limit" + 1 WHERE scope = \'organization\' AND "window" = \'life\'',
    "entries": "DELETE FROM entries WHERE kind = 'charge'",
    "accounts": "UPDATE entries SET credit = 'customer:org-other' WHERE kind = 'grant'",
    "charges": "UPDATE entries SET generation_id = 'gen-none' WHERE kind = 'charge'",
    "owed": "DELETE FROM entries WHERE kind = 'overrun'",
    "limits": "UPDATE meters SET \"limit\" = 1 WHERE scope = 'key' AND posted > 1 AND unit = 'nusd'",
    "meters": "UPDATE meters SET scope_id = 'key-other' WHERE scope = 'key'",
    "roll-ups": "UPDATE activity_hours SET output_tokens = output_tokens + 1",
    "days": "UPDATE activity_days SET cache_discount_nusd = cache_discount_nusd + 1",
    "references": "UPDATE api_keys SET workspace_id = 'ws-none'",
    "tenants": f"{OTHER} UPDATE api_keys SET workspace_id = 'ws-other'",
    "audit": "UPDATE audit SET actor = 'somebody else' WHERE id = 1",
    "schema": "UPDATE alembic_version SET version_num = '0000'",
}
WINDOWS = {
    "more than was used": "UPDATE meters SET posted = posted + 1 WHERE scope = '{scope}' AND \"window\" <> 'life'",
    "less than was used": "UPDATE meters SET posted = posted - 1 WHERE scope = '{scope}' AND \"window\" <> 'life' AND posted > 0",
}


def damage(database: Database, statement: str) -> None:
    """Change rows behind everybody's back: no constraint of references holds it up."""
    if database.kind == "sqlite":
        with closing(sqlite3.connect(database.path)) as connection, connection:
            connection.executescript(statement)
        return
    superuser = database.conninfo.replace("modelgates:", "postgres:", 1)
    with psycopg.connect(superuser) as server:
        server.execute("SET session_replication_role = replica")
        server.execute(statement)  # type: ignore[arg-type]


def kinds(database: Database) -> set[str]:
    return {problem.kind for problem in check(database)}


def test_a_sound_database_has_no_problems(busy: Database) -> None:
    """With requests of every outcome settled, lost and open, on meters of every scope and unit, every sum agrees."""
    assert check(busy) == []


@pytest.mark.parametrize("kind", DAMAGE)
def test_planted_damage_is_found_and_named(busy: Database, kind: str) -> None:
    """One altered figure is reported under its own name."""
    damage(busy, DAMAGE[kind])
    assert kind in kinds(busy)


@pytest.mark.parametrize("wrong", WINDOWS)
@pytest.mark.parametrize("scope", ["key", "member", "workspace", "organization", "app"])
def test_every_budget_counts_what_was_used_in_its_window(busy: Database, scope: str, wrong: str) -> None:
    """A nano-USD too much, or one too little where the budget is older than the window."""
    damage(busy, WINDOWS[wrong].format(scope=scope))
    assert kinds(busy) == {"windows"}


def test_a_seat_counts_what_its_member_used_in_its_workspace(busy: Database) -> None:
    """A seat's meter stands for the member's use in one workspace, and not for more."""
    seat = (
        "INSERT INTO meters SELECT 'seat:' || workspace_id || '/' || member_id || ':nusd:life', organization_id, 'seat',"
        " workspace_id || '/' || member_id, 'nusd', 'life', 0, NULL, NULL, SUM(cost_nusd){more}, 0, 0 FROM generations"
        " WHERE member_id IS NOT NULL GROUP BY workspace_id, member_id, organization_id"
    )
    damage(busy, seat.format(more=""))
    assert check(busy) == []
    damage(busy, "DELETE FROM meters WHERE scope = 'seat';" + seat.format(more=" + 1"))
    assert kinds(busy) == {"windows"}


@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM audit WHERE id = 1",
        "DELETE FROM audit WHERE id = (SELECT MAX(id) FROM audit)",
        "DELETE FROM audit",
        "UPDATE audit SET details = '{}' WHERE action = 'initialise'",
        "UPDATE audit SET id = -id",
    ],
)
def test_the_audit_chain_shows_every_kind_of_change(house: House, change: str) -> None:
    """Removed, altered, reordered, or cut off at the end."""
    damage(house.database, change)
    assert [problem.kind for problem in check(house.database)] == ["audit"]


def test_a_torn_file_is_reported_not_raised(tmp_path: Path) -> None:
    """Pages overwritten in the middle are a problem with a name."""
    with open_house(tmp_path / "m.db") as house:
        house.engine.dispose()
        with house.path.open("r+b") as file:
            file.seek(house.path.stat().st_size // 2)
            file.write(b"\xff" * 9000)
        assert kinds(house.database) == {"integrity"}


def test_a_counter_that_would_give_a_number_again_is_found(postgres: Postgres, postgres_url: str) -> None:
    """After rows were put in with their numbers, PostgreSQL does not know of them."""
    with open_house(database_of(postgres_url)) as house:
        damage(house.database, "ALTER SEQUENCE audit_id_seq RESTART WITH 1")
        assert kinds(house.database) == {"sequences"}
