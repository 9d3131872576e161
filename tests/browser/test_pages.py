"""Every page of the navigation, for an administrator and for a member, in every look: nothing is wrong in any of them.

The gateway is full of hostile names (`hostile.py`), so this is also the proof that they stay text.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from typing import Final

import pytest
import pytest_asyncio
from playwright.async_api import Browser, StorageState
from tests.browser.conftest import Open
from tests.browser.hostile import INJECTED, MARKUP, WORDS, settle_in
from tests.browser.house import House
from tests.browser.window import LOOKS, WIDE, Look, Window

from modelgates_server.console.navigation import entries

pytestmark = pytest.mark.asyncio(loop_scope="session")

FURTHER: Final = ("/profile", "/settings/management-keys", "/logs/sessions", "/docs")
"""Pages that are not in the navigation."""

ADMINS: Final = (*(entry.path for entry in entries(admin=True)), *FURTHER)
MEMBERS: Final = (*(entry.path for entry in entries(admin=False)), "/profile")
CHECKED: Final = (WIDE, Look(360, "dark"))
"""In both sizes and in both schemes: the accessibility checker need not see each with each."""


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A gateway in use, by people with odd names."""
    with House.open(tmp_path_factory.mktemp("browser") / "busy") as running:
        settle_in(running)
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def busy_admin(browser: Browser, busy: House) -> StorageState:
    return await busy.signed_in(browser)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def busy_member(browser: Browser, busy: House) -> StorageState:
    return await busy.joined(browser, MARKUP[1], "odd@example.com")


def name_of(path: str) -> str:
    """What pictures of a page are called."""
    return re.sub(r"\W+", "-", path.partition("?")[0]).strip("-") or "overview"


async def look_over(window: Window, path: str, name: str) -> None:
    """Open a page and find nothing wrong with it."""
    await window.go(path)
    await window.fits()
    await window.is_light()
    if window.look in CHECKED:
        await window.axe()
    await window.stands_still()
    await window.keep(name)
    assert await window.page.evaluate(INJECTED) == []


@pytest.mark.parametrize("look", LOOKS, ids=str)
@pytest.mark.parametrize("path", ADMINS)
async def test_a_page_of_the_administrator(
    windows: Open, busy: House, busy_admin: StorageState, path: str, look: Look
) -> None:
    """It draws without an error, is accessible, fits, stands still and is light; what people wrote is text."""
    await look_over(await windows(busy, busy_admin, look), path, name_of(path))


@pytest.mark.parametrize("path", MEMBERS)
async def test_a_page_of_a_member(windows: Open, busy: House, busy_member: StorageState, path: str) -> None:
    """The same for somebody who has no rights but their own."""
    await look_over(await windows(busy, busy_member, CHECKED[1]), path, f"member-{name_of(path)}")


@pytest.mark.parametrize("path", ADMINS)
async def test_a_page_without_anything_in_it(windows: Open, house: House, admin_state: StorageState, path: str) -> None:
    """What a new installation shows is as sound as what a busy one shows."""
    await look_over(await windows(house, admin_state, WIDE), path, f"new-{name_of(path)}")


@pytest.mark.parametrize("path", ["/keys/{key}", "/logs/{generation}", "/members/{member}"])
@pytest.mark.parametrize("look", CHECKED, ids=str)
async def test_a_page_of_one_thing(windows: Open, busy: House, busy_admin: StorageState, path: str, look: Look) -> None:
    """A key, a request, a member: each with a hostile name."""
    key = next(row for row in busy.call("GET", "/api/v1/keys").body["data"] if row["name"] == MARKUP[1])
    found = {
        "key": key["hash"],
        "member": key["creator_user_id"],
        "generation": busy.call("GET", "/api/v1/generations?limit=1").body["data"][0]["id"],
    }
    await look_over(await windows(busy, busy_admin, look), path.format(**found), f"one-{path.split('/')[1]}")


async def test_no_export_holds_a_formula(windows: Open, busy: House, busy_admin: StorageState) -> None:
    """Every CSV file that a page offers writes what people wrote as text: a spreadsheet computes nothing of it."""
    window, found = await windows(busy, busy_admin), 0
    for path in ADMINS:
        await window.go(path)
        hrefs: list[str] = await window.page.evaluate(_EXPORTS)
        for href in hrefs:
            answer = await window.page.context.request.get(href)
            rows = list(csv.reader(io.StringIO(await answer.text())))
            cells = [cell for row in rows for cell in row if cell[:1] in {"=", "+", "-", "@", "\t", "\r"}]
            assert [cell for cell in cells if not NUMBER.fullmatch(cell)] == [], href
            found += len(rows)
    assert found > len(WORDS)


_EXPORTS: Final = "[...document.querySelectorAll('a[href*=\".csv\"]')].map((one) => one.href)"
NUMBER: Final = re.compile(r"-?[0-9]+(\.[0-9]+)?")


async def test_pages_work_by_keyboard(windows: Open, busy: House, busy_admin: StorageState) -> None:
    """The first stop of the tabulator leads past the navigation; from there every stop is seen."""
    window = await windows(busy, busy_admin)
    await window.go("/keys")
    await window.page.keyboard.press("Tab")
    assert await window.page.evaluate("document.activeElement.textContent") == "Skip to the content"
    await window.page.keyboard.press("Enter")
    for _ in range(12):
        await window.page.keyboard.press("Tab")
        outline = await window.page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        inside = await window.page.evaluate("document.querySelector('main').contains(document.activeElement)")
        assert (outline, inside) == ("solid", True)
