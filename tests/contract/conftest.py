"""A real, initialised database of either kind."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.unit.accounts.house import House, open_house

from modelgates_server.storage.engine import database_of


@pytest.fixture
def house(store_url: str) -> Iterator[House]:
    with open_house(database_of(store_url)) as opened:
        yield opened
