"""Copies of a database, and databases made from them: whole, proven equal, or nothing at all."""

from __future__ import annotations

import gzip
import hashlib
import json
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
from tests.support.busy import execute, tallies
from tests.support.postgres import Postgres
from tests.unit.accounts.house import House, open_house

from modelgates_server.errors import ConfigError, StoreUnavailable
from modelgates_server.management.change import Note, change
from modelgates_server.storage import maintenance, schema, upgrades
from modelgates_server.storage.backups import backup, restore
from modelgates_server.storage.engine import Database, database_of, open_engine


def test_the_database_with_everything_has_a_row_in_every_table(busy: Database) -> None:
    """What these tests say about copies they say about every table."""
    assert all(rows > 0 for rows, _ in tallies(busy).values())
    assert tallies(busy).keys() == schema.metadata.tables.keys()


def test_a_copy_restores_to_the_same_rows_on_either_kind(busy: Database, empty_url: str, tmp_path: Path) -> None:
    """From SQLite to SQLite and PostgreSQL, from PostgreSQL to both; numbers go on, and the books agree."""
    copy, target = tmp_path / "copy", database_of(empty_url)
    backup(busy, copy)
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    copied = restore(copy, target)
    assert {name: (told.rows, told.digest) for name, told in copied.tallies.items()} == tallies(busy) == tallies(target)
    assert list(copied.problems) == maintenance.check(target) == []
    engine = open_engine(target)
    with change(engine, 1_900_000_000) as changing:
        changing.note(Note("org", "test", "after", "restore"))
    engine.dispose()
    assert maintenance.check(target) == []


def test_a_copy_is_of_one_moment(house: House, empty_url: str, tmp_path: Path) -> None:
    """While changes go on, a copy never holds half of one: its books always agree."""
    done, failed = threading.Event(), []

    def work() -> None:
        number = 0
        while not done.is_set():
            number += 1
            with change(house.engine, number) as changing:
                changing.note(Note("org", "test", f"change {number}", "x"))

    worker = threading.Thread(target=work)
    worker.start()
    try:
        for number in range(5):
            backup(house.database, tmp_path / f"copy{number}")
    finally:
        done.set()
        worker.join()
    for number in range(5):
        target = upgrades.as_database(tmp_path / f"restored{number}.db")
        failed += restore(tmp_path / f"copy{number}", target).problems
    assert failed == []


def test_a_copy_never_overwrites(house: House, tmp_path: Path) -> None:
    """An existing file is left alone; a copy that fails leaves none."""
    target = tmp_path / "copy"
    backup(house.database, target)
    before = target.read_bytes()
    with pytest.raises(ConfigError, match="cannot write"):
        backup(house.database, target)
    assert target.read_bytes() == before
    for nothing in (upgrades.as_database(tmp_path / "missing.db"), database_of("postgresql://u@127.0.0.1:1/d")):
        with pytest.raises(StoreUnavailable):
            backup(nothing, tmp_path / "x")
        assert not (tmp_path / "x").exists()


def test_a_copy_makes_no_folder(house: House, tmp_path: Path) -> None:
    """A mistyped one would get a copy that nobody finds."""
    with pytest.raises(ConfigError, match="there is no folder"):
        backup(house.database, tmp_path / "none" / "copy")
    assert not (tmp_path / "none").exists()


def test_only_an_empty_database_is_filled(busy: Database, store_url: str, tmp_path: Path) -> None:
    """One at this schema without rows is filled; one with a single row is not touched."""
    target = database_of(store_url)
    backup(busy, tmp_path / "copy")
    execute(target, "INSERT INTO policy (id, version) VALUES (1, 1)")
    with pytest.raises(ConfigError, match="not empty"):
        restore(tmp_path / "copy", target)
    execute(target, "DELETE FROM policy")
    restore(tmp_path / "copy", target)
    assert tallies(target) == tallies(busy)


@pytest.mark.parametrize("version", ["0001", "0002"])
def test_copies_of_older_versions_are_brought_to_this_one(empty_url: str, tmp_path: Path, version: str) -> None:
    """A file of SQLite as an older version left it becomes a database of today."""
    old, target = upgrades.as_database(tmp_path / "old.db"), database_of(empty_url)
    if target == old:
        return
    with upgrades.alone(old) as connection, connection.begin():
        upgrades.create(connection, version)
        connection.execute(sa.text("INSERT INTO organizations (id, name, created_at_s) VALUES ('o', 'O', 1)"))
    copied = restore(old.path, target)
    assert copied.tallies["organizations"].rows == 1
    assert maintenance.schema_state(target) == "current"
    assert maintenance.check(target) == []


def broken(copy: Path, change: Callable[[list[str]], list[str]], *, signed: bool = False) -> None:
    """Rewrite the lines of a copy; `signed` makes the last line say that this is right."""
    lines = change(gzip.decompress(copy.read_bytes()).decode().splitlines())
    if signed:
        seen = hashlib.sha256("".join(f"{line}\n" for line in lines[:-1]).encode()).hexdigest()
        lines[-1] = json.dumps(json.loads(lines[-1]) | {"sha256": seen})
    copy.write_bytes(gzip.compress("".join(f"{line}\n" for line in lines).encode()))


DAMAGE: dict[str, Callable[[list[str]], list[str]]] = {
    "cut off": lambda lines: lines[:-1],
    "cut off in the middle": lambda lines: lines[: len(lines) // 2],
    "a row less": lambda lines: [line for line in lines if '"audit_head"' not in line],
    "an altered figure": lambda lines: [line.replace("100000000000", "100000000001") for line in lines],
    "another row twice": lambda lines: [line for line in lines for _ in range(2 if '"audit_head"' in line else 1)],
    "a table less": lambda lines: [line for line in lines if '"table":"rates"' not in line],
    "a column less": lambda lines: [line.replace('"version"]', "]") if '"policy"' in line else line for line in lines],
    "a newer schema": lambda lines: [lines[0].replace(schema.SCHEMA_VERSION, "9999"), *lines[1:]],
    "another format": lambda lines: [json.dumps({"format": "other", "schema": schema.SCHEMA_VERSION}), *lines[1:]],
    "nothing": lambda lines: lines[:0],
}


SIGNED = ("a row less", "an altered figure", "another row twice", "a table less", "a column less", "a newer schema")


@pytest.mark.parametrize(("how", "signed"), [*((how, False) for how in DAMAGE), *((how, True) for how in SIGNED)])
def test_a_damaged_copy_restores_nothing(
    postgres: Postgres, postgres_url: str, tmp_path: Path, how: str, signed: bool
) -> None:
    """Whatever is missing or altered, also by somebody who knows the format, the database stays as empty as it was."""
    with open_house(database_of(postgres_url)) as house:
        backup(house.database, tmp_path / "copy")
    broken(tmp_path / "copy", DAMAGE[how], signed=signed)
    with postgres.database(empty=True) as url:
        for target in (database_of(url), upgrades.as_database(tmp_path / "target.db")):
            with pytest.raises(ConfigError):
                restore(tmp_path / "copy", target)
            assert maintenance.schema_state(target) == "empty"


@pytest.mark.parametrize("content", [b"", b"no copy", gzip.compress(b"no json")[:-4], b"\x1f\x8bnot really gzip"])
def test_what_is_no_copy_is_named_as_such(tmp_path: Path, content: bytes) -> None:
    """Any file may be named by mistake."""
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(ConfigError):
        restore(tmp_path / "file", upgrades.as_database(tmp_path / "target.db"))
    with pytest.raises(ConfigError, match="cannot read"):
        restore(tmp_path / "none", upgrades.as_database(tmp_path / "target.db"))


@pytest.mark.parametrize("damage", ["cut off", "a page of nothing"])
def test_a_damaged_file_of_sqlite_restores_nothing(tmp_path: Path, damage: str) -> None:
    """It is the copy that is told of, not the store."""
    with open_house(upgrades.as_database(tmp_path / "house.db")) as house:
        backup(house.database, tmp_path / "copy")
    whole = (tmp_path / "copy").read_bytes()
    half = len(whole) // 8192 * 4096
    broken_by = {"cut off": whole[:half], "a page of nothing": whole[:8192] + b"\xff" * 4096 + whole[12288:]}
    (tmp_path / "copy").write_bytes(broken_by[damage])
    target = upgrades.as_database(tmp_path / "target.db")
    with pytest.raises(ConfigError, match="cannot restore") as refused:
        restore(tmp_path / "copy", target)
    assert "another copy" in str(refused.value.remedy)
    assert maintenance.schema_state(target) == "empty"


def test_a_store_that_is_away_is_no_damaged_copy(house: House, tmp_path: Path) -> None:
    """The error stays one of the store."""
    if house.database.kind != "sqlite":
        return
    backup(house.database, tmp_path / "copy")
    with pytest.raises(StoreUnavailable):
        restore(tmp_path / "copy", database_of("postgresql://u@127.0.0.1:1/d"))
