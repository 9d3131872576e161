"""One browser for the session, gateways with the built-in sandbox as provider, and windows in which people are signed in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, StorageState, async_playwright
from tests.browser.house import House
from tests.browser.window import WIDE, Look, Window, find_chromium

Open = Callable[..., Awaitable[Window]]


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        running = await playwright.chromium.launch(executable_path=find_chromium())
        yield running
        await running.close()


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A gateway as somebody has it who has just started it for the first time."""
    with House.open(tmp_path_factory.mktemp("browser") / "house") as running:
        yield running


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def admin_state(browser: Browser, house: House) -> StorageState:
    """The session of the administrator."""
    return await house.signed_in(browser)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def member_state(browser: Browser, house: House) -> StorageState:
    """The session of somebody who was invited, with a share of $20 a month."""
    return await house.joined(browser, "Mia Member", "mia@example.com")


@pytest_asyncio.fixture(loop_scope="session")
async def windows(browser: Browser) -> AsyncIterator[Open]:
    """Opens windows. The test fails when anything was wrong in one of them."""
    opened: list[Window] = []

    async def open_window(house: House, state: StorageState | None = None, look: Look = WIDE) -> Window:
        opened.append(await Window.open(browser, house.url, look, state))
        return opened[-1]

    yield open_window
    complaints = [complaint for window in opened for complaint in window.complaints]
    for window in opened:
        await window.close()
    assert complaints == []


@pytest_asyncio.fixture(loop_scope="session")
async def admin(windows: Open, house: House, admin_state: StorageState) -> Window:
    """A window of the administrator."""
    return await windows(house, admin_state)


@pytest_asyncio.fixture(loop_scope="session")
async def member(windows: Open, house: House, member_state: StorageState) -> Window:
    """A window of the member."""
    return await windows(house, member_state)
