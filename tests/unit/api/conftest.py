"""The management API over a real database, with the operator's leave to add credit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.unit.api.front import Front, open_front

from modelgates_server.storage.engine import database_of


@pytest.fixture
def front(tmp_path: Path) -> Iterator[Front]:
    with open_front(tmp_path / "store.db") as opened:
        yield opened


@pytest.fixture
def either(empty_url: str) -> Iterator[Front]:
    """The test runs on both kinds of database: it is about what their statements do."""
    with open_front(database_of(empty_url)) as opened:
        yield opened
