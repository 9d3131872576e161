"""Creating and upgrading a database of either kind: whole or not at all, by one at a time, beside a server of the version before."""

from __future__ import annotations

import multiprocessing
import re
import sqlite3
import stat
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from tests.support.busy import fill_empty_tables
from tests.support.postgres import Postgres

from modelgates_server.errors import StoreMismatch, StoreUnavailable
from modelgates_server.storage import maintenance, schema, upgrades
from modelgates_server.storage.engine import Database, database_of, open_engine, transaction
from modelgates_server.storage.postgres import LOCK_MS

CATALOGUE = """
    SELECT 'column', table_name::text, column_name::text, data_type::text, is_nullable::text, column_default::text, ordinal_position::text
    FROM information_schema.columns WHERE table_schema = 'public'
    UNION ALL SELECT 'constraint', conrelid::regclass::text, conname, pg_get_constraintdef(oid), '', '', '' FROM pg_constraint
        WHERE connamespace = 'public'::regnamespace
    UNION ALL SELECT 'index', tablename, indexname, indexdef, '', '', '' FROM pg_indexes WHERE schemaname = 'public'
    UNION ALL SELECT 'table', relname, relkind::text, reloptions::text, '', '', '' FROM pg_class WHERE relnamespace = 'public'::regnamespace
"""


def clauses(sql: str) -> list[str]:
    """The parts of a statement in any order: a column that was added later stands behind the constraints."""
    return sorted(" ".join(part.split()) for part in re.split(r",(?![^(]*\))", sql.rpartition(")")[0]))


def shape(database: Database) -> list[tuple[object, ...]]:
    """Every object of the schema with its columns, independent of how its statement was written."""
    found: list[tuple[object, ...]] = []
    if database.kind == "postgresql":
        with psycopg.connect(database.conninfo) as server:
            return sorted(tuple(map(str, row)) for row in server.execute(CATALOGUE))
    with closing(sqlite3.connect(database.path)) as connection:
        for kind, name, sql in connection.execute("SELECT type, name, sql FROM sqlite_schema ORDER BY name").fetchall():
            found.append((kind, name, clauses(sql or "")))
            found += connection.execute(f"PRAGMA table_xinfo('{name}')").fetchall()
            found += connection.execute(f"PRAGMA foreign_key_list('{name}')").fetchall()
        found += connection.execute(
            "SELECT name, strict FROM pragma_table_list WHERE schema = 'main' ORDER BY name"
        ).fetchall()
    return found


def made_at(database: Database, version: str) -> Database:
    """A database as that version left it."""
    with upgrades.alone(database) as connection, connection.begin():
        upgrades.migrate(connection, version)
    return database


def set_version(database: Database, version: str) -> None:
    engine = open_engine(database)
    with transaction(engine) as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = :version"), {"version": version})
    engine.dispose()


def test_migrations_lead_to_exactly_the_schema(postgres: Postgres, tmp_path: Path) -> None:
    """Creating at once and running every migration give the same database."""
    with postgres.database(empty=True) as one, postgres.database(empty=True) as other:
        pairs = [(one, other), tuple(f"sqlite:///{tmp_path / name}.db" for name in ("created", "migrated"))]
        for created, migrated in (map(database_of, pair) for pair in pairs):
            assert upgrades.upgrade(created) == "empty"
            assert upgrades.upgrade(made_at(migrated, "0001")) == "old"
            assert shape(created) == shape(migrated)
            assert maintenance.schema_state(migrated) == "current"


def test_alembic_finds_no_difference_to_the_metadata(empty_url: str) -> None:
    """The newest migration and `schema.metadata` agree, types included."""
    with upgrades.alone(database_of(empty_url)) as connection, connection.begin():
        upgrades.migrate(connection)
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, schema.metadata) == []


def test_the_migrations_end_at_the_schema_version() -> None:
    """`SCHEMA_VERSION` is the head of the one line of migrations."""
    config = Config()
    config.set_main_option("script_location", str(Path(maintenance.__file__).with_name("migrations")))
    assert ScriptDirectory.from_config(config).get_heads() == [schema.SCHEMA_VERSION]


def test_a_fresh_file_is_there_at_once_and_private(tmp_path: Path) -> None:
    """Well below the second that a first start may take, and readable by its owner only."""
    path = tmp_path / "data" / "modelgates.db"
    started = time.perf_counter()
    maintenance.upgrade(path)
    assert time.perf_counter() - started < 0.5
    assert maintenance.schema_state(path) == "current"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def _upgrade(url: str, barrier: Any, told: Any) -> None:
    barrier.wait(30)
    told.put(maintenance.upgrade(database_of(url)))


@pytest.mark.parametrize("version", [None, "0002"])
def test_upgrades_at_once_are_safe(empty_url: str, version: str | None) -> None:
    """Of four processes that find nothing, or an older schema, one does the work; the others wait and find it done."""
    if version is not None:
        made_at(database_of(empty_url), version)
    spawn = multiprocessing.get_context("spawn")
    barrier, told = spawn.Barrier(4), spawn.Queue()
    processes = [spawn.Process(target=_upgrade, args=(empty_url, barrier, told)) for _ in range(4)]
    for process in processes:
        process.start()
    found = sorted(told.get(timeout=60) for _ in processes)
    for process in processes:
        process.join(30)
    assert found == ["current"] * 3 + ["old" if version else "empty"]
    assert maintenance.check(database_of(empty_url)) == []


def test_other_states_are_told_apart(store_url: str) -> None:
    """Older and newer; a newer one is not touched."""
    database = database_of(store_url)
    for version, state in (("0000", "old"), ("9999", "newer")):
        set_version(database, version)
        assert maintenance.schema_state(database) == state
    with pytest.raises(StoreMismatch, match="newer schema"):
        maintenance.upgrade(database)


def test_somebody_elses_tables_are_left_alone(empty_url: str) -> None:
    """A database that is not ours is named as such, before anything is done to it."""
    database = database_of(empty_url)
    engine = open_engine(database)
    with transaction(engine) as connection:
        connection.execute(sa.text("CREATE TABLE songs (title TEXT)"))
    engine.dispose()
    for act in (maintenance.schema_state, maintenance.upgrade):
        with pytest.raises(StoreMismatch, match="not a database of ModelGates"):
            act(database)


def test_what_is_no_database_is_unavailable(tmp_path: Path) -> None:
    """A file of text, and a server that is not there; the password is not repeated."""
    (tmp_path / "text.db").write_text("no database " * 1000)
    for database in (upgrades.as_database(tmp_path / "text.db"), database_of("postgresql://u:hush@127.0.0.1:1/d")):
        with pytest.raises(StoreUnavailable) as told:
            maintenance.upgrade(database)
        assert "hush" not in str(told.value)


def test_a_path_may_hold_what_means_something_in_a_url(tmp_path: Path) -> None:
    """Spaces, question marks, percent signs and hashes are letters like others."""
    path = tmp_path / "a b?c%41#d" / "modelgates.db"
    maintenance.upgrade(path)
    assert path.exists()
    assert maintenance.schema_state(path) == "current"
    assert maintenance.check(path) == []


def test_an_upgrade_that_fails_leaves_the_old_schema_whole(empty_url: str) -> None:
    """A table stands in the way of the last step: nothing of the steps before is there, and the old version goes on."""
    database = made_at(database_of(empty_url), "0002")
    engine = open_engine(database)
    with transaction(engine) as connection:
        connection.execute(sa.text("CREATE TABLE reconciliations (title TEXT)"))
    with pytest.raises(StoreUnavailable, match="reconciliations"):
        maintenance.upgrade(database)
    assert maintenance.schema_state(database) == "old"
    assert {"processes", "alerts"}.isdisjoint(sa.inspect(engine).get_table_names())
    with transaction(engine) as connection:
        connection.execute(sa.text("DROP TABLE reconciliations"))
    engine.dispose()
    assert (maintenance.upgrade(database), maintenance.schema_state(database)) == ("old", "current")


def test_the_version_before_goes_on_writing(empty_url: str) -> None:
    """Expand, then contract: rows as 0002 wrote them, and its sums, are taken by today's schema, which fills in the rest."""
    database = made_at(database_of(empty_url), "0002")
    engine = open_engine(database)
    old = sa.MetaData()
    old.reflect(engine)
    maintenance.upgrade(database)
    with transaction(engine) as connection:
        for table in old.sorted_tables:
            if table.name != "alembic_version":
                values = {column.name: _old_value(column) for column in table.columns}
                connection.execute(sa.insert(table).values(values))
        again = {column.name: _old_value(column) for column in old.tables["activity_hours"].columns}
        names, marks = ", ".join(again), ", ".join(f":{name}" for name in again)
        connection.execute(
            sa.text(
                f"INSERT INTO activity_hours ({names}) VALUES ({marks})"
                " ON CONFLICT (hour_s, organization_id, key_hash, model, provider)"
                " DO UPDATE SET requests = activity_hours.requests + excluded.requests"
            ),
            again,
        )
        assert connection.execute(sa.text("SELECT requests, byok_cost_nusd FROM activity_hours")).one() == (14, 0)
        connection.execute(sa.text("UPDATE meters SET posted = posted + 1, held = held - 1"))
        connection.execute(sa.text("DELETE FROM holds"))
        fill_empty_tables(connection)
    engine.dispose()


def _old_value(column: sa.Column[object]) -> object:
    """The same for every table, so that references find their row."""
    if isinstance(column.type, sa.Text):
        return "y" if column.name == "debit" else "x"
    return 7


def test_a_second_migrator_is_kept_out_and_told_so(postgres_url: str) -> None:
    """It waits for a while; when that passes it says what is going on. Afterwards it can have its turn."""
    database = database_of(postgres_url)
    set_version(database, "0002")
    with upgrades.alone(database), pytest.raises(StoreUnavailable, match="another process has been changing"):
        maintenance.upgrade(database, wait_s=0.3)
    with upgrades.alone(database, wait_s=0):
        pass


def test_an_upgrade_stands_in_nobodys_way_for_long(postgres: Postgres) -> None:
    """A server of the version before writes all the time while another keeps a row locked for two seconds: no write is given up."""
    with postgres.database(empty=True) as url:
        database = made_at(database_of(url), "0002")
        with psycopg.connect(database.conninfo, autocommit=True) as server:
            server.execute("INSERT INTO organizations (id, name, created_at_s) VALUES ('o', 'O', 1)")
            server.execute(_ENTRIES, {"many": 50_000})
        server_of_before = _Writing(database)
        with psycopg.connect(database.conninfo) as slow:
            slow.execute("SELECT * FROM organizations FOR UPDATE")
            timer = threading.Timer(2, slow.rollback)
            timer.start()
            assert maintenance.upgrade(database) == "old"
            timer.join()
        assert server_of_before.stop() > 50
        assert maintenance.schema_state(database) == "current"


_ENTRIES = """
    INSERT INTO entries (organization_id, created_at_s, kind, debit, credit, amount_nusd, generation_id)
    SELECT 'o', 1, 'grant', 'operator:grants', 'customer:o', 1, 'g' || n FROM generate_series(1, %(many)s) AS n
"""


class _Writing(threading.Thread):
    """Writes as a server does: it fails when it has to wait for a lock as long as a server's batch may."""

    def __init__(self, database: Database) -> None:
        super().__init__()
        self._database = database
        self._done = threading.Event()
        self._written = 0
        self._failure: psycopg.Error | None = None
        self.start()

    def run(self) -> None:
        try:
            self._write()
        except psycopg.Error as error:
            self._failure = error

    def _write(self) -> None:
        with psycopg.connect(self._database.conninfo, autocommit=True) as server:
            server.execute(f"SET lock_timeout = {LOCK_MS}")
            while not self._done.is_set():
                server.execute(_ENTRIES, {"many": 1})
                server.execute("UPDATE organizations SET name = name WHERE id = 'none'")
                self._written += 1

    def stop(self) -> int:
        """How many times it wrote."""
        self._done.set()
        self.join()
        assert self._failure is None, self._failure
        return self._written


def test_an_index_that_was_left_half_built_is_built_again(postgres: Postgres) -> None:
    """A build that is interrupted leaves an index that nobody uses; the next upgrade replaces it."""
    with postgres.database(empty=True) as url:
        database = made_at(database_of(url), "0002")
        name = url.rpartition("/")[2]
        with psycopg.connect(database.conninfo) as server:
            server.execute("CREATE INDEX entries_few ON entries (id)")
        postgres.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'entries_few'::regclass", name)
        maintenance.upgrade(database)
        with psycopg.connect(database.conninfo) as server:
            found = server.execute("SELECT indexdef FROM pg_indexes WHERE indexname = 'entries_few'").fetchone()
        assert found is not None
        assert "(organization_id, id) WHERE" in found[0]


def test_a_server_that_cannot_hold_us_is_refused_with_what_to_do(postgres: Postgres) -> None:
    """Another encoding, read-only, no right to make tables: said before the first step, with the remedy."""
    unfit = {
        "keeps text as LATIN1": "CREATE DATABASE unfit TEMPLATE template0 ENCODING 'LATIN1' LOCALE_PROVIDER libc LOCALE 'C'",
        "takes no changes": "ALTER DATABASE unfit SET default_transaction_read_only = on",
        "lets this user make no tables": "REVOKE CREATE ON SCHEMA public FROM pg_database_owner",
    }
    for told, statement in unfit.items():
        if not statement.startswith("CREATE"):
            postgres.execute("CREATE DATABASE unfit OWNER modelgates")
        postgres.execute(statement, "unfit" if "REVOKE" in statement else "postgres")
        try:
            with pytest.raises(StoreUnavailable, match=told) as refused:
                maintenance.upgrade(database_of(postgres.url("unfit")))
            assert refused.value.remedy
        finally:
            postgres.execute("DROP DATABASE unfit")
