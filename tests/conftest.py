"""What every test may ask for: a PostgreSQL server of the session, and databases on it (see `tests/support/postgres.py`)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from modelgates_server.storage.engine import database_of
from modelgates_server.storage.maintenance import upgrade
from tests.support.postgres import Postgres


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    """Started by the first test that wants it."""
    server = Postgres()
    try:
        yield server
    finally:
        server.close()


@pytest.fixture
def postgres(postgres_server: Postgres) -> Iterator[Postgres]:
    """The session's PostgreSQL; awake at the test's beginning, and again at its end."""
    postgres_server.awake()
    yield postgres_server
    postgres_server.awake()


@pytest.fixture
def postgres_url(postgres: Postgres) -> Iterator[str]:
    """A database on PostgreSQL, at this version's schema and without rows."""
    with postgres.database() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database at this version's schema and without rows: the test runs on both kinds."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'store.db'}"
        upgrade(database_of(url))
        yield url
        return
    postgres: Postgres = request.getfixturevalue("postgres")
    url = postgres.lend()
    yield url
    postgres.awake()
    postgres.take_back(url)


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Where a database may be made: the test runs on both kinds."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'store.db'}"
        return
    with request.getfixturevalue("postgres").database(empty=True) as url:
        yield url
