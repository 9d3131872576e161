"""A real, initialised database of either kind: what people change, they change on both."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.unit.accounts.house import House, open_house
from tests.unit.management.estate import Estate, open_estate

from modelgates_server.storage.engine import database_of


@pytest.fixture
def house(store_url: str) -> Iterator[House]:
    with open_house(database_of(store_url)) as opened:
        yield opened


@pytest.fixture
def estate(tmp_path: Path) -> Iterator[Estate]:
    """Two organisations in one file."""
    with open_house(tmp_path / "estate.db") as opened:
        yield open_estate(opened, tmp_path)


@pytest.fixture
def either(house: House, tmp_path: Path) -> Estate:
    """Two organisations in one database, once of each kind: for tests that together run every statement."""
    return open_estate(house, tmp_path)
