"""Creating, upgrading, copying a database, and telling whose it is."""

from __future__ import annotations

import multiprocessing
import re
import sqlite3
import stat
import time
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from tests.unit.accounts.house import House

from modelgates_server.errors import ConfigError, StoreMismatch, StoreUnavailable
from modelgates_server.storage import maintenance, schema
from modelgates_server.storage.engine import open_engine, transaction


def clauses(sql: str) -> list[str]:
    """The parts of a statement in any order: a column that was added later stands behind the constraints."""
    return sorted(" ".join(part.split()) for part in re.split(r",(?![^(]*\))", sql.rpartition(")")[0]))


def shape(path: Path) -> list[tuple[object, ...]]:
    """Every object of the schema with its columns, independent of how its statement was written."""
    found: list[tuple[object, ...]] = []
    with closing(sqlite3.connect(path)) as connection:
        for kind, name, sql in connection.execute("SELECT type, name, sql FROM sqlite_schema ORDER BY name").fetchall():
            found.append((kind, name, clauses(sql or "")))
            found += connection.execute(f"PRAGMA table_xinfo('{name}')").fetchall()
            found += connection.execute(f"PRAGMA foreign_key_list('{name}')").fetchall()
        found += connection.execute(
            "SELECT name, strict FROM pragma_table_list WHERE schema = 'main' ORDER BY name"
        ).fetchall()
    return found


def test_migrations_lead_to_exactly_the_schema(tmp_path: Path) -> None:
    """Creating at once and running every migration give the same database."""
    created, migrated = tmp_path / "created.db", tmp_path / "migrated.db"
    maintenance.upgrade(created)
    maintenance.migrate(migrated)
    assert shape(created) == shape(migrated)
    assert maintenance.schema_state(migrated) == "current"


def test_alembic_finds_no_difference_to_the_metadata(tmp_path: Path) -> None:
    """The newest migration and `schema.metadata` agree, types included."""
    maintenance.migrate(tmp_path / "a.db")
    engine = open_engine(tmp_path / "a.db")
    with transaction(engine) as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, schema.metadata) == []
    engine.dispose()


def test_the_migrations_end_at_the_schema_version() -> None:
    """`SCHEMA_VERSION` is the head of the one line of migrations."""
    config = Config()
    config.set_main_option("script_location", str(Path(maintenance.__file__).with_name("migrations")))
    assert ScriptDirectory.from_config(config).get_heads() == [schema.SCHEMA_VERSION]


def test_a_fresh_database_is_there_at_once_and_private(tmp_path: Path) -> None:
    """Well below the second that a first start may take, and readable by its owner only."""
    path = tmp_path / "data" / "modelgates.db"
    started = time.perf_counter()
    maintenance.upgrade(path)
    assert time.perf_counter() - started < 0.5
    assert maintenance.schema_state(path) == "current"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def _upgrade(path: Path) -> None:
    maintenance.upgrade(path)


def test_upgrades_at_once_are_safe(tmp_path: Path) -> None:
    """Four processes that find nothing make one database."""
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=_upgrade, args=(tmp_path / "modelgates.db",)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
    assert [process.exitcode for process in processes] == [0] * 4
    assert maintenance.check(tmp_path / "modelgates.db") == []


def test_other_states_are_told_apart(tmp_path: Path) -> None:
    """Missing, older, newer, somebody else's, and no database at all."""
    path = tmp_path / "modelgates.db"
    assert maintenance.schema_state(path) == "empty"
    maintenance.upgrade(path)
    for version, state in (("0000", "old"), ("9999", "newer")):
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("UPDATE alembic_version SET version_num = ?", (version,))
        assert maintenance.schema_state(path) == state
    with pytest.raises(StoreMismatch, match="newer schema"):
        maintenance.upgrade(path)
    with closing(sqlite3.connect(tmp_path / "other.db")) as connection, connection:
        connection.execute("CREATE TABLE songs (title)")
    with pytest.raises(StoreMismatch, match="not a database of ModelGates"):
        maintenance.upgrade(tmp_path / "other.db")
    (tmp_path / "text.db").write_text("no database " * 1000)
    with pytest.raises(StoreUnavailable):
        maintenance.upgrade(tmp_path / "text.db")


def test_a_path_may_hold_what_means_something_in_a_url(tmp_path: Path) -> None:
    """Spaces, question marks, percent signs and hashes are letters like others."""
    path = tmp_path / "a b?c%41#d" / "modelgates.db"
    maintenance.upgrade(path)
    assert path.exists()
    assert maintenance.schema_state(path) == "current"
    assert maintenance.check(path) == []


def test_a_backup_is_complete_and_never_overwrites(house: House, tmp_path: Path) -> None:
    """It holds what was committed while the database is open; an existing file is left alone."""
    target = tmp_path / "copies" / "copy.db"
    maintenance.backup(house.path, target)
    assert maintenance.check(target) == []
    with closing(sqlite3.connect(target)) as connection:
        assert connection.execute("SELECT id FROM organizations").fetchone() == (house.made.organization_id,)
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    before = target.read_bytes()
    with pytest.raises(ConfigError, match="cannot write"):
        maintenance.backup(house.path, target)
    assert target.read_bytes() == before
    with pytest.raises(StoreUnavailable, match="no database"):
        maintenance.backup(tmp_path / "missing.db", tmp_path / "x.db")


def test_a_database_belongs_to_its_secret(house: House) -> None:
    """Another secret is refused, before any key silently stops working; the secret itself is not stored."""
    maintenance.verify_secret(house.engine, house.pepper)
    with pytest.raises(StoreMismatch, match="another secret"):
        maintenance.verify_secret(house.engine, b"y" * 32)
    assert house.pepper.hex() not in maintenance.fingerprint(house.pepper)
