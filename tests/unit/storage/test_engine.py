"""The ways into a database of either kind: reading stands in nobody's way, a change is all or nothing, failures have one name."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa
from tests.unit.accounts.house import House, open_house

from modelgates_server.errors import ConfigError, StoreUnavailable
from modelgates_server.storage import schema
from modelgates_server.storage.engine import (
    Database,
    connect,
    database_of,
    open_engine,
    reading,
    sqlite_path,
    transaction,
)
from modelgates_server.storage.reader import open_reader


def names(connection: sa.Connection) -> list[str]:
    return list(connection.execute(sa.select(schema.organizations.c.name)).scalars())


@contextmanager
def another(database: Database) -> Iterator[sa.Connection]:
    """Another process's connection."""
    engine = open_engine(database)
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def test_reading_neither_waits_for_a_writer_nor_stops_one(house: House) -> None:
    """With rows locked by a change a report still reads, and while a report is open the change commits; its snapshot stays."""
    with another(house.database) as writer:
        writer.execute(sa.update(schema.organizations).values(name="new"))
        with reading(house.engine) as connection:
            assert names(connection) == ["Organization"]
            writer.commit()
            assert names(connection) == ["Organization"]
        with reading(house.engine) as connection:
            assert names(connection) == ["new"]


def test_a_change_that_fails_leaves_nothing(house: House) -> None:
    """An error in the middle undoes what was done before it."""

    def fail() -> None:
        with transaction(house.engine) as connection:
            connection.execute(sa.update(schema.organizations).values(name="half"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with reading(house.engine) as connection:
        assert names(connection) == ["Organization"]


def test_a_transaction_of_sqlite_locks_from_its_beginning(tmp_path: Path) -> None:
    """Nobody else can begin one meanwhile, so what was read cannot change before it is written."""
    with (
        open_house(tmp_path / "m.db") as house,
        transaction(house.engine),
        closing(connect(house.path, busy_wait_s=0)) as other,
        pytest.raises(sqlite3.Error),
    ):
        other.execute("BEGIN IMMEDIATE")


def test_sums_are_whole_numbers(house: House) -> None:
    """Money is integer: also what a database adds up is never a decimal or a float."""
    with reading(house.engine) as connection:
        total = connection.execute(sa.select(sa.func.sum(schema.entries.c.amount_nusd))).scalar_one()
    assert (type(total), total) == (int, 100 * 10**9)


def test_any_text_may_be_asked_for(house: House) -> None:
    """A client may put a NUL into an id: nothing is found, and nothing fails."""
    known = schema.organizations.c.id
    with reading(house.engine) as connection:
        for odd in ("a\0b", f"{house.made.organization_id}\0", "\0"):
            assert connection.execute(sa.select(known).where(known.in_([odd, odd + "x"]))).all() == []
            assert connection.execute(sa.text("SELECT id FROM organizations WHERE id = :id"), {"id": odd}).all() == []


async def test_the_serving_process_may_ask_for_any_text(house: House) -> None:
    """Also where ids come from a request's path."""
    reader = open_reader(house.database)
    assert await reader.one("SELECT id FROM organizations WHERE id = :id", {"id": "gen-\0"}) is None
    await reader.close()


def test_a_database_that_cannot_serve_is_unavailable(tmp_path: Path) -> None:
    """A folder in its place, a file of text, missing tables, a server that is not there: one kind of error for all."""
    (tmp_path / "text.db").write_text("no database " * 1000)
    away = database_of("postgresql://u:hush@127.0.0.1:1/d")
    for where in (tmp_path, tmp_path / "text.db", tmp_path / "empty.db", away):
        engine = open_engine(where)
        with pytest.raises(StoreUnavailable) as told, reading(engine) as connection:
            names(connection)
        assert "hush" not in str(told.value)
        engine.dispose()


def test_an_address_says_which_kind_of_database_it_is() -> None:
    """PostgreSQL's is taken as written; what is shown of it hides the password."""
    for url in ("postgresql://u:hush@h/d", "postgres://u:hush@h:5433/d?sslmode=require&sslpassword=hush"):
        found = database_of(url)
        assert (found.kind, found.url, found.distributed) == ("postgresql", url, True)
        assert "hush" not in found.shown
        assert found.conninfo.startswith("postgresql://u:hush@h")
    assert database_of("sqlite:////var/lib/m.db").path == Path("/var/lib/m.db")
    for url in ("mysql://u@h/d", "sqlite://", "sqlite:///:memory:", "nothing", "postgresql://u@h:1,g:2/d"):
        with pytest.raises(ConfigError):
            database_of(url)


def test_some_things_need_a_file_of_sqlite() -> None:
    """Other kinds are refused with a remedy."""
    assert sqlite_path("sqlite:////var/lib/m.db") == Path("/var/lib/m.db")
    with pytest.raises(ConfigError) as told:
        sqlite_path("postgresql://u@h/d")
    assert told.value.remedy
