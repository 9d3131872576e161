"""The docs in a real browser, without a session: every page, the search by keyboard, and where links lead."""

from __future__ import annotations

import pytest
from playwright.async_api import expect
from tests.browser.conftest import Open
from tests.browser.house import House
from tests.browser.window import LOOKS, Look

from modelgates_server.docsite.library import Library

pytestmark = pytest.mark.asyncio(loop_scope="session")

PAGES = tuple(page.path for page in Library().pages.values())
SHOWN = ("/docs", "/docs/search?q=backup", "/docs/search", "/docs/budgets", "/docs/commands")


@pytest.mark.parametrize("look", LOOKS, ids=str)
@pytest.mark.parametrize("path", SHOWN)
async def test_the_docs_in_every_look(windows: Open, house: House, path: str, look: Look) -> None:
    """Accessible, no wider than the window, standing still; pictures are kept."""
    window = await windows(house, None, look)
    await window.go(path)
    await window.fits()
    await window.axe()
    await window.stands_still()
    await window.keep("docs" + path.removeprefix("/docs").replace("/", "-").replace("?q=", "-"))


@pytest.mark.parametrize("path", PAGES)
async def test_every_page_of_the_docs(windows: Open, house: House, path: str) -> None:
    """Accessible, and it fits a telephone."""
    window = await windows(house, None, Look(360, "dark"))
    await window.go(path)
    await window.fits()
    await window.axe()


async def test_a_search_by_keyboard(windows: Open, house: House) -> None:
    """Skip link, field, Enter, the first hit: the section that was looked for stands in view."""
    window = await windows(house)
    await window.go("/docs")
    await window.page.keyboard.press("Tab")
    await expect(window.page.get_by_role("link", name="Skip to the content")).to_be_focused()
    await window.page.get_by_role("searchbox", name="Search the docs").focus()
    await window.page.keyboard.type("backup and restore")
    await window.page.keyboard.press("Enter")
    await window.sees("the best first")
    await window.page.locator("main a").first.click()

    await expect(window.page).to_have_url(f"{house.url}/docs/operations#backup-and-restore")
    await expect(window.page.get_by_role("heading", name="Backup and restore")).to_be_in_viewport()


async def test_a_missing_page_says_where_to_go(windows: Open, house: House) -> None:
    """In the docs' own frame, with the way to all pages."""
    window = await windows(house)
    window.forgive("status 404", "console error: Failed to load resource")
    await window.go("/docs/nothing-here")
    await window.axe()
    await window.follow("all pages", within="main")

    await expect(window.page).to_have_url(f"{house.url}/docs")
