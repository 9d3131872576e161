"""Who clicks twice means one thing."""

from __future__ import annotations

import pytest
from tests.browser.window import Window

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_double_click_does_it_once(admin: Window) -> None:
    """A key is made once and its text is shown; credit is added once; neither is there twice afterwards."""
    await admin.go("/keys")
    await admin.fill("Name", "clicked twice", within="#new")
    await admin.page.get_by_role("button", name="Make the key").dblclick()
    assert (await admin.text("#secret")).startswith("sk-mg-v1-")
    await admin.go("/keys?q=clicked+twice")
    assert await admin.page.get_by_role("link", name="clicked twice").count() == 1

    await admin.go("/credits")
    await admin.fill("Amount in US dollars", "7.77", within="form[action='/credits/grants']")
    await admin.page.get_by_role("button", name="Add credit").dblclick()
    await admin.sees("The credit is added.")
    assert await admin.page.get_by_role("cell", name="$7.77").count() == 1
