"""One gateway for all walks that leave it as they found it: with pings after 100 ms, so that gaps are short."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from tests.support.console import Person, new_member, signed_in
from tests.support.gateway import Gateway, open_gateway
from tests.walk.managed import Managed

LIMIT_S = 60.0
"""What no sound answer comes near, even when the machine stands still for a while."""

QUICK = {
    "first_ping_s": 0.1,
    "ping_s": 0.1,
    "first_byte_s": LIMIT_S,
    "answer_s": LIMIT_S,
    "idle_s": LIMIT_S,
    "hold_wait_s": LIMIT_S,
    "connect_s": LIMIT_S,
    "retry_pause_s": 0.01,
}
HURRIED = {**QUICK, "first_byte_s": 2.0, "answer_s": 2.0, "idle_s": 1.0}
"""For tests of a provider that is silent: what is given up is given up soon."""


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    async with open_gateway(tmp_path_factory.mktemp("walk") / "gateway", routing=QUICK) as running:
        yield running


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def two(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    async with open_gateway(tmp_path_factory.mktemp("walk") / "pair", simulators=2, routing=QUICK) as running:
        yield running


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def hurried(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    """A gateway with two providers that waits for neither of them long."""
    async with open_gateway(tmp_path_factory.mktemp("walk") / "hurried", simulators=2, routing=HURRIED) as running:
        yield running


@pytest.fixture
def hurried_pair(hurried: Gateway) -> Gateway:
    """Both providers are in service; no conversation is anywhere."""
    hurried.forget()
    return hurried


@pytest.fixture
def pair(two: Gateway) -> Gateway:
    """A gateway with two providers, both in service; no conversation is anywhere."""
    two.forget()
    return two


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def managed(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Managed]:
    """A gateway with two more organisations, each with a management key; tests add their own receipts."""
    async with open_gateway(tmp_path_factory.mktemp("walk") / "managed", routing=QUICK) as running:
        yield Managed.of(running)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    """A gateway with two providers, for one file's pages; a file that needs another one has a fixture of this name."""
    async with open_gateway(tmp_path_factory.mktemp("console") / "gateway", simulators=2, routing=QUICK) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def admin(house: Gateway) -> AsyncIterator[Person]:
    async with signed_in(house) as person:
        yield person


@pytest_asyncio.fixture(loop_scope="session")
async def member(house: Gateway) -> AsyncIterator[Person]:
    async with signed_in(house, new_member(house)) as person:
        yield person
