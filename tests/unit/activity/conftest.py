"""A database with two organisations, on both kinds of store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from tests.support.postgres import Postgres
from tests.unit.activity.crowd import found_organizations

from modelgates_server.storage import schema
from modelgates_server.storage.engine import database_of, open_engine


def _open(url: str) -> Iterator[sa.Engine]:
    engine = open_engine(database_of(url))
    try:
        schema.metadata.create_all(engine)
        found_organizations(engine)
        yield engine
    finally:
        engine.dispose()


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[sa.Engine]:
    """On SQLite."""
    yield from _open(f"sqlite:///{tmp_path / 'activity.db'}")


@pytest.fixture
def either_engine(empty_url: str) -> Iterator[sa.Engine]:
    """Once on SQLite, once on PostgreSQL."""
    yield from _open(empty_url)


@pytest.fixture
def postgres_engine(postgres: Postgres) -> Iterator[sa.Engine]:
    """On PostgreSQL."""
    with postgres.database(empty=True) as url:
        yield from _open(url)
