"""The docs of this repository over a real database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from tests.unit.docsite.front import Front, open_front

from modelgates_server.docsite.library import Library
from modelgates_server.storage.engine import database_of


@pytest.fixture(scope="session")
def library() -> Library:
    """What docs/ holds."""
    return Library()


@pytest_asyncio.fixture
async def front(tmp_path: Path, library: Library) -> AsyncIterator[Front]:
    async with open_front(tmp_path / "store.db", library) as opened:
        yield opened


@pytest_asyncio.fixture
async def either(empty_url: str, library: Library) -> AsyncIterator[Front]:
    """The test runs on both kinds of database: it is about what their statements do."""
    async with open_front(database_of(empty_url), library) as opened:
        yield opened
