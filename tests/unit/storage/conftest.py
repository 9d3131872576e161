"""Real, initialised databases of both kinds: fresh ones, and one with everything in it."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.support.busy import make_busy
from tests.support.postgres import Postgres
from tests.unit.accounts.house import House, open_house

from modelgates_server.storage.engine import Database, database_of


@pytest.fixture
def house(store_url: str) -> Iterator[House]:
    with open_house(database_of(store_url)) as opened:
        yield opened


class Originals:
    """One database of each kind with everything in it, made when it is first asked for, and only ever copied."""

    def __init__(self, folder: Path, server: Callable[[], Postgres]) -> None:
        self._folder = folder
        self._server = server
        self._made: dict[str, Database] = {}

    def of(self, kind: str) -> Database:
        if kind not in self._made:
            url = f"sqlite:///{self._folder / 'busy.db'}" if kind == "sqlite" else self._server().fresh_database()
            with open_house(database_of(url)) as house:
                asyncio.run(make_busy(house, self._folder))
            self._made[kind] = database_of(url)
        return self._made[kind]


@pytest.fixture(scope="session")
def originals(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Originals:
    return Originals(tmp_path_factory.mktemp("busy"), lambda: request.getfixturevalue("postgres_server"))


@pytest.fixture
def busy_file(originals: Originals, tmp_path: Path) -> Database:
    """A database with everything in it (tests/support/busy.py), on SQLite."""
    original = originals.of("sqlite").path
    for path in original.parent.glob(f"{original.name}*"):
        shutil.copy(path, tmp_path)
    return database_of(f"sqlite:///{tmp_path / original.name}")


@pytest.fixture(params=["sqlite", "postgresql"])
def busy(request: pytest.FixtureRequest, originals: Originals) -> Iterator[Database]:
    """A database with everything in it, of either kind."""
    if request.param == "sqlite":
        yield request.getfixturevalue("busy_file")
        return
    postgres: Postgres = request.getfixturevalue("postgres")
    url = postgres.copy_of(originals.of("postgresql").url)
    yield database_of(url)
    postgres.drop(url)
