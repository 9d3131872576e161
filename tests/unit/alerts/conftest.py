"""An organisation with its people and keys in a real database, on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.unit.alerts.office import Office, open_office


@pytest.fixture
def office(store_url: str) -> Iterator[Office]:
    with open_office(store_url) as opened:
        yield opened
