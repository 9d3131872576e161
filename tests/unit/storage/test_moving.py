"""From SQLite to PostgreSQL: every row, proven equal, or nothing at all."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from tests.support.busy import execute, tallies
from tests.support.postgres import Postgres

from modelgates_server.errors import ConfigError, StoreMismatch, StoreUnavailable
from modelgates_server.management.setup import initialise
from modelgates_server.storage import maintenance, upgrades
from modelgates_server.storage.engine import Database, database_of, open_engine
from modelgates_server.storage.lock import serving_lock
from modelgates_server.storage.moving import move

PEPPER = bytes(range(32))


@pytest.fixture
def target(postgres: Postgres) -> Iterator[Database]:
    with postgres.database(empty=True) as url:
        yield database_of(url)


def test_everything_moves_and_is_proven_equal(busy_file: Database, target: Database) -> None:
    """Every table has the same rows on both sides, the books agree, and the installation knows its database by its secret."""
    before = tallies(busy_file)
    copied = move(busy_file, target, PEPPER)
    assert {name: (told.rows, told.digest) for name, told in copied.tallies.items()} == before == tallies(target)
    assert list(copied.problems) == maintenance.check(target) == []
    engine = open_engine(target)
    assert initialise(engine, PEPPER, 0, 1_900_000_000).already
    engine.dispose()
    assert maintenance.check(target) == []


def test_the_old_database_is_served_no_more(busy_file: Database, target: Database) -> None:
    """It says where its rows went, without the password, and cannot be moved a second time."""
    move(busy_file, target, PEPPER)
    engine = open_engine(busy_file)
    with pytest.raises(StoreMismatch, match=r"was moved to postgresql://modelgates:\*\*\*@"):
        maintenance.verify_secret(engine, PEPPER)
    engine.dispose()
    with pytest.raises(StoreMismatch, match="was moved to"):
        move(busy_file, target, PEPPER)


def test_what_must_not_be_moved_is_refused(busy_file: Database, target: Database, tmp_path: Path) -> None:
    """While a server runs, with another secret, to a file, from a file that is not there: refused, and nothing is changed."""
    before = tallies(busy_file)
    with serving_lock(busy_file), pytest.raises(StoreUnavailable, match="another process is serving"):
        move(busy_file, target, PEPPER)
    with pytest.raises(StoreMismatch, match="another secret"):
        move(busy_file, target, b"y" * 32)
    with pytest.raises(ConfigError, match="only from SQLite to PostgreSQL"):
        move(busy_file, upgrades.as_database(tmp_path / "other.db"), PEPPER)
    with pytest.raises(StoreMismatch, match="not at this version"):
        move(upgrades.as_database(tmp_path / "none.db"), target, PEPPER)
    with pytest.raises(StoreUnavailable):
        move(busy_file, database_of("postgresql://u@127.0.0.1:1/d"), PEPPER)
    assert tallies(busy_file) == before
    assert maintenance.schema_state(target) == "empty"


def test_a_database_with_rows_is_not_moved_into(busy_file: Database, target: Database) -> None:
    """Somebody else's rows stay; tables without rows do not stand in the way."""
    upgrades.upgrade(target)
    execute(target, "INSERT INTO policy (id, version) VALUES (1, 7)")
    with pytest.raises(ConfigError, match="not empty"):
        move(busy_file, target, PEPPER)
    assert tallies(target)["policy"][0] == 1
    execute(target, "DELETE FROM policy")
    assert move(busy_file, target, PEPPER).tallies["policy"].rows == 1


def test_what_postgresql_cannot_keep_is_named_and_nothing_is_left(busy_file: Database, target: Database) -> None:
    """A NUL character in a text of the old database: the row's table and column are told, the target stays empty."""
    with closing(sqlite3.connect(busy_file.path)) as connection, connection:
        connection.execute("UPDATE generation_feedback SET comment = ?", ("a\0b",))
    with pytest.raises(StoreMismatch, match="comment has a NUL"):
        move(busy_file, target, PEPPER)
    assert maintenance.schema_state(target) == "empty"
    engine = open_engine(busy_file)
    maintenance.verify_secret(engine, PEPPER)
    engine.dispose()


def test_books_that_were_wrong_before_move_and_stay_told(busy_file: Database, target: Database) -> None:
    """The rows are the truth that there is: a finding moves along, and is reported."""
    execute(busy_file, "UPDATE entries SET kind = 'gift' WHERE kind = 'uncertain'")
    copied = move(busy_file, target, PEPPER)
    assert {problem.kind for problem in copied.problems} == {"accounts"}


def test_a_server_that_dies_in_the_middle_leaves_both_as_they_were(
    postgres: Postgres, busy_file: Database, target: Database
) -> None:
    """PostgreSQL is killed while the tables are being made: nothing is there afterwards, and the move can be done again."""
    failed: list[StoreUnavailable] = []

    def try_to_move() -> None:
        try:
            move(busy_file, target, PEPPER)
        except StoreUnavailable as error:
            failed.append(error)

    other = psycopg.connect(target.conninfo)
    other.execute("CREATE TABLE workspaces (id int)")  # the move waits for the fate of this
    moving = threading.Thread(target=try_to_move)
    moving.start()
    while not postgres.execute("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"):
        threading.Event().wait(0.01)
    postgres.kill()
    moving.join()
    other.close()
    postgres.start()
    assert len(failed) == 1
    assert maintenance.schema_state(target) == "empty"
    assert list(move(busy_file, target, PEPPER).problems) == []


def test_nobody_changes_the_old_database_meanwhile(busy_file: Database, target: Database) -> None:
    """From the first row to the last, its write lock is held: a key that is made meanwhile waits, and is not lost."""
    with upgrades.alone(target):  # the move gets as far as its target, and waits there
        moving = threading.Thread(target=move, args=(busy_file, target, PEPPER))
        moving.start()
        with closing(sqlite3.connect(busy_file.path, timeout=0, isolation_level=None)) as other:
            _until_locked(other)
            assert other.execute("SELECT COUNT(*) FROM organizations").fetchone() == (1,)
    moving.join()
    assert tallies(target).keys() == tallies(busy_file).keys()


def _until_locked(connection: sqlite3.Connection) -> None:
    for _ in range(10_000):
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return
        connection.execute("ROLLBACK")
        threading.Event().wait(0.001)
    raise AssertionError("the move never takes the write lock")
