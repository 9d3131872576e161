"""What people do with the console, in a real browser, from the first minute on."""

from __future__ import annotations

import pytest
from playwright.async_api import StorageState
from tests.browser.conftest import Open
from tests.browser.house import House
from tests.browser.window import Look, Window

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def make_key(window: Window, name: str, **fields: str) -> str:
    """Make a key by the form; gives its text, as the page shows it once."""
    await window.go("/keys")
    await window.fill("Name", name, within="#new")
    for label, value in fields.items():
        await window.fill(label.replace("_", " "), value, within="#new")
    await window.press("Make the key")
    return await window.text("#secret")


async def stay(window: Window) -> None:
    """Leave a mark that a reload would wipe away."""
    await window.page.evaluate("window.stayed = true")


async def stayed(window: Window) -> bool:
    return bool(await window.page.evaluate("window.stayed === true"))


async def test_the_printed_link_signs_in_once(windows: Open, house: House) -> None:
    """Whoever opens the link that the first start printed is in the console; a second opening of the link is refused."""
    window = await windows(house)
    await window.go(house.printed_link)

    assert window.page.url == f"{house.url}/"
    await window.page.get_by_role("navigation", name="Console").wait_for()

    stranger = await windows(house)
    stranger.forgive("401")
    await stranger.go(house.printed_link)

    await stranger.sees("was used or is older")
    assert await stranger.page.get_by_role("navigation", name="Console").count() == 0


async def test_a_key_is_made_used_and_its_request_appears(
    windows: Open, house: House, admin: Window, admin_state: StorageState
) -> None:
    """The copy button copies the key; its first request shows up in the log, on the overview and on the key's page without a reload."""
    log, overview = await windows(house, admin_state), await windows(house, admin_state)
    await log.go("/logs")
    await overview.go("/")
    secret = await make_key(admin, "laptop of Ada")
    await admin.axe()
    await admin.keep("key-made")
    await admin.press("Copy the key")
    await admin.sees("Copied")
    assert await admin.page.evaluate("navigator.clipboard.readText()") == secret
    await admin.follow("Open the key")
    for window in (log, overview, admin):
        await stay(window)

    answer = await house.asks("hello", secret)

    await log.sees("laptop of Ada", "#live")
    await admin.page.locator("#live time").first.wait_for()
    await overview.page.locator(f"#live a[href='/logs/{answer.body['id']}']").wait_for()
    for window in (log, overview, admin):
        assert await stayed(window), window.page.url
    await log.page.locator("#live tbody th a").first.click()
    await log.sees("Why it went there")
    await log.axe()


async def test_the_chart_moves_while_somebody_looks(windows: Open, house: House, admin: Window) -> None:
    """A request that ends makes the bars of the activity page grow, without a reload."""
    assert (await house.asks()).status == 200
    await admin.go("/activity")
    await admin.until(_BARS)
    before = await admin.page.evaluate(_BARS)
    await stay(admin)

    for _ in range(3):
        assert (await house.asks()).status == 200

    await admin.until(f"({_BARS}) > {before}")
    assert await stayed(admin)


_BARS = """
(() => {
  const charts = [...document.querySelectorAll("canvas[data-chart]")].map((one) => window.Chart && Chart.getChart(one)).filter(Boolean);
  return charts.flatMap((chart) => chart.data.datasets).flatMap((set) => set.data).reduce((sum, value) => sum + (value || 0), 0);
})()
"""


async def test_a_limit_refuses_and_says_so(house: House, admin: Window) -> None:
    """A key that may spend nothing is refused with the limit's name; its page shows what is left; with more money it goes on."""
    secret = await make_key(admin, "tight", Limit_in_US_dollars="0.000001")
    refused = await house.asks("hello", secret)

    assert refused.status == 402
    error = refused.body["error"]
    assert error["details"]["scope"] == "key"
    assert "limit" in error["message"]
    await admin.follow("Open the key")
    await admin.sees("Limit of this key")
    await admin.fill("Limit in US dollars", "5")
    await admin.press("Save")
    await admin.sees("Saved.")
    assert (await house.asks("hello", secret)).status == 200


async def test_somebody_is_invited_and_sees_what_a_member_may(windows: Open, house: House, admin: Window) -> None:
    """The invitation's link makes them a member with a share; they see their own keys and requests, and no page of administrators."""
    other = await make_key(admin, "the admin's own")
    assert (await house.asks("hello", other)).status == 200
    await admin.go("/members")
    await admin.fill("Name", "Ines Intern", within="#invite")
    await admin.fill("Mail address", "ines@example.com", within="#invite")
    await admin.fill("Share", "20 a week", within="#invite")
    await admin.press("Make the invitation")
    link = await admin.text("#made")

    intern = await windows(house, None, Look(360, "dark"))
    await intern.go(link)
    await intern.press("Join")
    await intern.page.get_by_role("navigation", name="Console").wait_for()
    assert await intern.page.locator("nav.side a").all_inner_texts() == [
        "Overview", "Activity", "Logs", "Keys", "Models", "Set-up", "Privacy",
    ]  # fmt: skip
    secret = await make_key(intern, "laptop of Ines")
    assert (await house.asks("hello", secret)).status == 200
    await intern.go("/keys")
    await intern.sees("Your share a week")
    assert "the admin's own" not in await intern.text()
    await intern.go("/logs")
    await intern.sees("laptop of Ines", "#live")
    assert "the admin's own" not in await intern.text()
    intern.forgive("403")
    for path in ("/members", "/credits", "/settings", "/audit", "/providers", "/guardrails"):
        await intern.go(path)
        await intern.sees("Only administrators")
    await admin.go("/members")
    await admin.sees("Ines Intern")


@pytest.mark.parametrize("path", ["/activity", "/logs"])
async def test_what_is_shown_can_be_exported(house: House, admin: Window, path: str) -> None:
    """The button gives a CSV file with a head and a line for what was asked."""
    assert (await house.asks()).status == 200
    await admin.go(path)
    async with admin.page.expect_download() as coming:
        await admin.follow("Export CSV")
    download = await coming.value
    with (await download.path()).open() as file:
        lines = file.read().splitlines()

    assert download.suggested_filename.endswith(".csv")
    assert len(lines) > 1
    assert "usd" in lines[0], lines[0]


async def test_prompts_are_stored_by_choice_and_no_longer(house: House, admin: Window) -> None:
    """Opted in, a prompt can be read behind a button, and the audit log says who read it; opted out, the next is stored nowhere."""
    await admin.go("/privacy")
    await admin.sees("not stored")
    await admin.follow("Change what is stored in Default")
    await admin.page.get_by_label("Store prompts and answers").check()
    await admin.press("Save")
    await admin.sees("The rule holds from the next request on.")
    button = admin.page.get_by_role("button", name="Show it; the audit log will say that you did")
    while not await button.count():  # the rule is known to the relay within 250 ms
        kept = (await house.asks("the kept question")).body["id"]
        await admin.go(f"/logs/{kept}")
    assert "the kept question" not in await admin.text()
    await button.click()
    await admin.sees("the kept question")
    await admin.axe()
    await admin.keep("content")
    await admin.go("/audit")
    await admin.sees("content.read")

    await admin.go("/privacy")
    await admin.follow("Change what is stored in Default")
    await admin.page.get_by_label("Store prompts and answers").uncheck()
    await admin.press("Save")
    await admin.sees("are not stored, from this moment on")
    unkept = (await house.asks("the unkept question")).body["id"]
    await admin.go(f"/logs/{unkept}")
    await admin.sees("Neither prompt nor completion is stored.")


async def test_signing_out_ends_the_session(windows: Open, house: House) -> None:
    """After it the pages are a stranger's again."""
    window = await windows(house, None)
    window.forgive("401")
    told = house.stand.cli("init")
    await window.go(told.json["sign_in_url"])
    await window.press("Sign out")
    await window.sees("You are signed out.")
    await window.go("/keys")
    await window.sees("Sign in")
