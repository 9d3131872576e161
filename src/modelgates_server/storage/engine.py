"""Opening a database: a SQLAlchemy engine for people's changes and reports, a raw connection for the hot path.

SQLite runs in WAL mode with `synchronous=FULL`: a commit that was acknowledged survives a power cut. `BEGIN IMMEDIATE`
takes the write lock at the start, because a read that turns into a write can fail however long one waits.
PostgreSQL runs at READ COMMITTED with `synchronous_commit` on; whoever decides on rows locks them first.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import sqlalchemy as sa
from sqlalchemy import event

from modelgates_server.errors import ConfigError, StoreUnavailable

BUSY_WAIT_S = 5.0
"""How long a change made by people waits for the write lock; the server's own batches hold it for milliseconds."""

CONNECT_S: Final = 2
"""Longest wait for a connection to PostgreSQL; libpq counts whole seconds and takes fewer than two for two."""

_READS = "modelgates_reads"

_PRAGMAS = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",
    "PRAGMA foreign_keys=ON",
    "PRAGMA temp_store=MEMORY",
)


@dataclass(frozen=True, slots=True)
class Database:
    """Where rows are kept. `path` is the file of SQLite; `conninfo` is what libpq takes, for PostgreSQL; `shown` hides the password."""

    kind: Literal["sqlite", "postgresql"]
    url: str
    path: Path = Path()

    @property
    def distributed(self) -> bool:
        """Whether many processes, on many machines, may serve it."""
        return self.kind == "postgresql"

    @property
    def conninfo(self) -> str:
        """The address as libpq takes it."""
        url = sa.make_url(self.url).set(drivername="postgresql")
        return url.render_as_string(hide_password=False)

    @property
    def shown(self) -> str:
        """The address as people may read it."""
        if self.kind == "sqlite":
            return str(self.path)
        return (
            sa.make_url(self.url).set(query={}).render_as_string(hide_password=True)
        )  # a query may hold a password too


def database_of(url: str) -> Database:
    """The database that a URL means: ``sqlite:///path`` or ``postgresql://…``, as written. Raises ConfigError."""
    try:
        parsed = sa.make_url(url)
    except (sa.exc.ArgumentError, ValueError) as error:  # ValueError: a port that is no number, as in host:1,host:2
        raise ConfigError("[database] url is no address of a database", remedy=_FORMS) from error
    backend = parsed.drivername.partition("+")[0]
    if backend in {"postgresql", "postgres"}:
        return Database("postgresql", url)
    if backend == "sqlite":
        if not parsed.database or parsed.database == ":memory:":
            raise ConfigError("the database must be a file", remedy="use sqlite:///path/to/modelgates.db")
        return Database("sqlite", url, Path(parsed.database))
    raise ConfigError(f"databases of the kind {backend!r} are not known here", remedy=_FORMS)


_FORMS: Final = (
    "use sqlite:///path/to/modelgates.db or postgresql://user:password@host/name"
    " (of several hosts: postgresql://user:password@/name?host=a,b)"
)


def sqlite_path(database_url: str) -> Path:
    """The file behind a ``sqlite:///path`` URL. Raises ConfigError for any other kind of database."""
    database = database_of(database_url)
    if database.kind != "sqlite":
        raise ConfigError("this needs SQLite", remedy="leave [database] url out, or name a file with sqlite:///path")
    return database.path


def connect(path: Path, *, busy_wait_s: float = BUSY_WAIT_S) -> sqlite3.Connection:
    """Open a raw connection in autocommit mode, so that every transaction is spelled out.

    Raises StoreUnavailable when the file cannot be opened or is no database.
    """
    try:
        connection = sqlite3.connect(path, timeout=busy_wait_s, isolation_level=None, check_same_thread=False)
        for pragma in _PRAGMAS:
            connection.execute(pragma)
    except sqlite3.Error as error:
        raise StoreUnavailable(f"cannot open the database {path}: {error}") from error
    return connection


def open_engine(where: Database | Path) -> sa.Engine:
    """A SQLAlchemy engine; `transaction` and `reading` are the ways to use it. A path means SQLite."""
    if isinstance(where, Database) and where.kind == "postgresql":
        return _postgres_engine(where)
    return _sqlite_engine(where.path if isinstance(where, Database) else where)


def _sqlite_engine(path: Path) -> sa.Engine:
    url = sa.URL.create("sqlite", database=str(path))  # a path may hold what means something in a URL
    engine = sa.create_engine(url, connect_args={"timeout": BUSY_WAIT_S, "isolation_level": None})

    @event.listens_for(engine, "connect")
    def prepare(connection: sqlite3.Connection, _record: Any) -> None:
        for pragma in _PRAGMAS:
            connection.execute(pragma)

    @event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        reads = connection.get_execution_options().get(_READS, False)
        connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")

    return engine


def _postgres_engine(database: Database) -> sa.Engine:
    from modelgates_server.storage.postgres import prepare  # noqa: PLC0415 - the driver is loaded where it is used

    url = sa.make_url(database.url).set(drivername="postgresql+psycopg")
    engine = sa.create_engine(
        url,
        pool_pre_ping=True,
        pool_size=4,
        max_overflow=4,
        pool_timeout=BUSY_WAIT_S,
        connect_args=_postgres_arguments(),
    )

    @event.listens_for(engine, "connect")
    def prepared(connection: Any, _record: Any) -> None:
        prepare(connection)

    @event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        if connection.get_execution_options().get(_READS, False):
            connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")

    return engine


def _postgres_arguments() -> Mapping[str, Any]:
    """For people's changes and reports: they may take longer than the hot path, but never for ever."""
    return {
        "connect_timeout": CONNECT_S,
        "application_name": "modelgates",
        "options": "-c timezone=UTC -c lock_timeout=5000 -c statement_timeout=60000"
        " -c idle_in_transaction_session_timeout=60000",
    }


@contextmanager
def transaction(engine: sa.Engine) -> Iterator[sa.Connection]:
    """One all-or-nothing change. Raises StoreUnavailable when the database is locked, full, away or broken."""
    with translated(), engine.begin() as connection:
        yield connection


@contextmanager
def reading(engine: sa.Engine) -> Iterator[sa.Connection]:
    """One snapshot, to read from: it takes no lock, so that a report never stands in the way of the server's writer."""
    with translated(), engine.execution_options(**{_READS: True}).connect() as connection:
        yield connection


@contextmanager
def translated() -> Iterator[None]:
    """Database errors as StoreUnavailable, except a row that breaks a rule of the schema: that is a mistake of ours."""
    try:
        yield
    except sa.exc.IntegrityError:
        raise
    except (sa.exc.DatabaseError, sa.exc.TimeoutError, sqlite3.Error) as error:
        raise StoreUnavailable(f"the database cannot serve: {getattr(error, 'orig', error)}") from error
