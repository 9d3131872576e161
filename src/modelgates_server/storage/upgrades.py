"""How a database comes to this version's schema: made at once when it is empty, migrated when it is older.

The rule for migrations is *expand, then contract*: a version only adds tables, columns with a default (or nullable) and indexes; what
it no longer needs is taken away by a later version, once no server of the version before can run. So servers of the version
before go on working on the new schema, and an upgrade needs no stop (tests/unit/storage/test_upgrades.py runs the old
statements on the new schema). On PostgreSQL each lock that stands in a running server's way is given up after an
eighth of a second and tried again, and indexes on tables that may be large are built beforehand, beside the running server.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import sqlalchemy as sa
from sqlalchemy import event

from modelgates_server.errors import StoreMismatch, StoreUnavailable
from modelgates_server.storage import schema
from modelgates_server.storage.engine import BUSY_WAIT_S, Database, open_engine, reading, translated

if TYPE_CHECKING:
    from alembic.config import Config

State = Literal["empty", "current", "old", "newer"]

UPGRADE_KEY: Final = 5_494_120_400_001
"""The advisory lock of whoever makes or upgrades a database of PostgreSQL; the server frees it when its owner dies."""

WAIT_S: Final = 60
"""So long a second one waits for the first: a container's start may take that long, and an upgrade usually takes a second."""

POLL_S: Final = 0.1

LOCK_MS: Final = 125
"""Whoever waits for a whole table makes everybody behind it wait as well, so it waits half as long as a server's batch may."""

LOCK_TRIES: Final = 240

VERSION_MIN: Final = 140_000
"""The oldest PostgreSQL that its makers still mend."""

_AGAIN: Final = frozenset({"55P03", "40P01"})
"""Lock not available, deadlock: nothing is wrong, and nothing is changed."""


def as_database(where: Database | Path) -> Database:
    """The database itself; a path means SQLite."""
    if isinstance(where, Database):
        return where
    return Database("sqlite", sa.URL.create("sqlite", database=str(where)).render_as_string(), where)


@contextmanager
def looking(database: Database) -> Iterator[sa.Connection]:
    """One snapshot of a database, which nothing is written to: a damaged file can still be looked at. Raises StoreUnavailable."""
    engine = _read_only(database.path) if database.kind == "sqlite" else open_engine(database)
    try:
        with reading(engine) as connection:
            yield connection
    finally:
        engine.dispose()


def _read_only(path: Path) -> sa.Engine:
    def connect() -> sqlite3.Connection:
        uri = f"{path.absolute().as_uri()}?mode=ro"
        return sqlite3.connect(uri, uri=True, isolation_level=None, timeout=BUSY_WAIT_S, check_same_thread=False)

    engine = sa.create_engine("sqlite://", creator=connect, poolclass=sa.NullPool)

    @event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN")

    return engine


def schema_state(where: Database | Path) -> State:
    """Tell how the database's schema stands to this version's. A file that is missing counts as empty.

    Raises StoreMismatch when the tables in it are somebody else's, StoreUnavailable when it cannot be read.
    """
    database = as_database(where)
    if database.kind == "sqlite" and (not database.path.exists() or database.path.stat().st_size == 0):
        return "empty"
    try:
        with looking(database) as connection:
            return state_in(connection, database)
    except StoreUnavailable as error:
        if database.kind == "sqlite":
            raise
        raise StoreUnavailable(
            f"cannot use the database {database.shown}: {' '.join(error.message.split())}",
            remedy="check [database] url, and that the server runs and takes this user",
        ) from error


def state_in(connection: sa.Connection, database: Database) -> State:
    """The same over an open connection."""
    version = version_in(connection, database)
    if version is None:
        return "empty"
    if version == schema.SCHEMA_VERSION:
        return "current"
    return "old" if version < schema.SCHEMA_VERSION else "newer"


def version_in(connection: sa.Connection, database: Database) -> str | None:
    """The version of the schema; None when there is no table at all. Raises StoreMismatch when the tables are somebody else's."""
    tables = set(sa.inspect(connection).get_table_names())
    if not tables:
        return None
    version = None
    if "alembic_version" in tables:
        version = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar_one_or_none()
    if version is None:
        raise StoreMismatch(
            f"{database.shown} is not a database of ModelGates", remedy="name another --database-url or --data-dir"
        )
    return str(version)


def newer(database: Database) -> StoreMismatch:
    """What is told about a database that a later version made."""
    return StoreMismatch(
        f"the database {database.shown} has a newer schema", remedy="use the version of ModelGates that made it"
    )


def upgrade(where: Database | Path, *, wait_s: float = WAIT_S) -> State:
    """Create the database, or bring it to this version's schema; harmless when it is there already. Tells what it found.

    It happens whole or not at all. Two at once are safe: the second waits, on PostgreSQL for `wait_s`, and finds nothing to do.
    Servers of the version before may run meanwhile. Raises StoreMismatch at a newer schema, StoreUnavailable.
    """
    database = as_database(where)
    state = schema_state(database)
    if state == "current":
        return state
    if state == "newer":
        raise newer(database)
    with alone(database, wait_s=wait_s) as connection, translated():
        if database.kind == "postgresql":
            _build_ahead(connection, database)
        return _patiently(connection, database)


@contextmanager
def alone(database: Database, *, wait_s: float = WAIT_S) -> Iterator[sa.Connection]:
    """A connection, and everybody else who would make or upgrade this database kept out as long as the block lasts.

    Its owner begins the transactions. On PostgreSQL the lock and they share one connection: neither can outlive the other.
    Raises StoreUnavailable.
    """
    lock = _file_lock(database.path) if database.kind == "sqlite" else nullcontext()
    with lock, translated():
        engine = open_engine(database)
        try:
            with engine.connect() as connection:
                if database.kind == "postgresql":
                    _refuse_unfit(connection, database)
                    _advisory_lock(connection, database, wait_s)
                yield connection
        finally:
            engine.dispose()  # closes the connection, which frees the lock


def _patiently(connection: sa.Connection, database: Database) -> State:
    for _ in range(LOCK_TRIES):
        try:
            with connection.begin():
                if database.kind == "postgresql":
                    connection.execute(sa.text(f"SET LOCAL lock_timeout = {LOCK_MS}"))
                return bring(connection, database)
        except sa.exc.OperationalError as error:
            if getattr(error.orig, "sqlstate", None) not in _AGAIN:
                raise
        time.sleep(LOCK_MS / 1000)  # whoever was made to wait goes first
    raise StoreUnavailable(
        f"the tables of {database.shown} were in use all the time: nothing was changed",
        remedy="end transactions that have been open for long, and try again",
    )


def bring(connection: sa.Connection, database: Database) -> State:
    """Make or migrate, inside the caller's transaction; tells what was found."""
    state = state_in(connection, database)
    if state == "newer":
        raise newer(database)
    if state == "empty":
        create(connection)
    elif state == "old":
        migrate(connection)
    return state


def create(connection: sa.Connection, version: str = schema.SCHEMA_VERSION) -> None:
    """Make every table of a version. This version's are made at once: a hundred times faster than running migrations, and equal."""
    if version != schema.SCHEMA_VERSION:
        migrate(connection, version)
        return
    schema.metadata.create_all(connection, checkfirst=False)
    connection.execute(
        sa.text(
            "CREATE TABLE alembic_version ( version_num VARCHAR(32) NOT NULL, "
            "CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num) )"
        )
    )
    connection.execute(sa.text("INSERT INTO alembic_version VALUES (:version)"), {"version": version})


def migrate(connection: sa.Connection, version: str = "head") -> None:
    """Run every migration up to `version` that the database does not have yet, in the caller's transaction."""
    from alembic import command  # noqa: PLC0415 - a slow import that a usual start does not need

    config = _alembic()
    config.attributes["connection"] = connection
    command.upgrade(config, version)


def _alembic() -> Config:
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")).replace("%", "%%"))
    return config


def _build_ahead(connection: sa.Connection, database: Database) -> None:
    """Build the indexes that migrations will ask for on tables that are there: beside a running server, which goes on writing.

    They are harmless before the migration, and found by it afterwards. One that an earlier try left half built is removed.
    """
    version = version_in(connection, database)
    columns = {
        table: {column["name"] for column in sa.inspect(connection).get_columns(table)}
        for table in sa.inspect(connection).get_table_names()
    }
    connection.rollback()  # an open snapshot would make the build wait for itself
    if version is None:
        return
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    scripts = ScriptDirectory.from_config(_alembic()).iterate_revisions("head", version)
    indexes = [index for script in scripts for index in getattr(script.module, "INDEXES", ())]
    connection.execution_options(isolation_level="AUTOCOMMIT")
    connection.execute(sa.text("SET lock_timeout = 0"))  # this lock stands in nobody's way
    for index in indexes:
        if columns.get(index.table, set()).issuperset(index.columns):
            _build(connection, index)
    connection.commit()
    connection.execution_options(isolation_level="READ COMMITTED")


def _build(connection: sa.Connection, index: Any) -> None:
    valid = connection.execute(_VALID, {"name": index.name}).scalar_one_or_none()
    if valid is False:
        connection.execute(sa.text(f'DROP INDEX CONCURRENTLY "{index.name}"'))
    listed = ", ".join(f'"{column}"' for column in index.columns)
    where = f" WHERE {index.where}" if index.where else ""
    statement = f'CREATE INDEX CONCURRENTLY IF NOT EXISTS "{index.name}" ON "{index.table}" ({listed}){where}'
    connection.execute(sa.text(statement))


_VALID: Final = sa.text("SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(:name)")


def _advisory_lock(connection: sa.Connection, database: Database, wait_s: float) -> None:
    """Ask again and again: whoever waited inside a statement would hold a snapshot that index builds wait for."""
    connection.execution_options(isolation_level="AUTOCOMMIT")
    for _ in range(1 + int(wait_s / POLL_S)):
        if connection.execute(sa.select(sa.func.pg_try_advisory_lock(UPGRADE_KEY))).scalar_one():
            break
        time.sleep(POLL_S)
    else:
        raise StoreUnavailable(
            f"another process has been changing the schema of {database.shown} for {wait_s:g} seconds",
            remedy="wait until it is done, and try again",
        )
    for name in ("statement_timeout", "idle_in_transaction_session_timeout"):
        connection.execute(sa.text(f"SET {name} = 0"))  # a large table takes as long as it takes
    connection.commit()
    connection.execution_options(isolation_level="READ COMMITTED")


def _refuse_unfit(connection: sa.Connection, database: Database) -> None:
    """Refuse before the first step what would stop a later one. Raises StoreUnavailable."""
    found = connection.execute(_FITNESS).mappings().one()
    connection.rollback()
    wrong, remedy = None, ""
    if found["version"] < VERSION_MIN:
        wrong, remedy = (
            f"is PostgreSQL {found['version'] // 10_000}",
            f"use PostgreSQL {VERSION_MIN // 10_000} or newer",
        )
    elif found["encoding"] != "UTF8":
        wrong, remedy = f"keeps text as {found['encoding']}", "make a database with ENCODING 'UTF8'"
    elif found["standby"] or found["read_only"] == "on":
        wrong, remedy = "takes no changes: it is a standby, or read-only", "name the primary"
    elif found["schema"] is None or not found["may_create"]:
        wrong, remedy = "lets this user make no tables", "GRANT CREATE ON SCHEMA public, or make the user its owner"
    if wrong is not None:
        raise StoreUnavailable(f"the database {database.shown} {wrong}", remedy=remedy)


_FITNESS: Final = sa.text("""
    SELECT CAST(current_setting('server_version_num') AS INTEGER) AS version, current_setting('server_encoding') AS encoding,
        pg_is_in_recovery() AS standby, current_setting('default_transaction_read_only') AS read_only,
        current_schema() AS schema, has_schema_privilege(current_schema(), 'CREATE') AS may_create
""")


@contextmanager
def _file_lock(path: Path) -> Iterator[None]:
    """Hold the lock beside SQLite's file, and make the file, for its owner only. The kernel frees it when its owner dies."""
    try:
        if not path.parent.is_dir():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(path.with_name(path.name + ".upgrade"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreUnavailable(f"cannot write beside the database {path}: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        yield
    finally:
        os.close(lock)
