"""A window of a real browser: somebody's session, a size and a colour scheme, and everything that goes wrong in it."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Dialog, Page, Request, Response, StorageState

CACHE: Final = Path(__file__).resolve().parents[2] / ".cache"
SCREENSHOTS: Final = CACHE / "screenshots"
AXE: Final = CACHE / "axe/node_modules/axe-core/axe.min.js"
PROGRAMS: Final = ("chromium", "chromium-browser", "google-chrome")
PATIENCE_MS: Final = 10_000
"""How long a thing may take to appear: far above the few seconds between two looks of a live page."""

SCRIPT_BYTES_MAX: Final = 100_000
"""All scripts of a page together, as they are sent: compressed."""

SHIFT_MAX: Final = 0.05
"""The layout may move by this much while a page loads and lives, half of what counts as good on the web: the columns of a long table
find their width while its rows arrive."""

_WATCH_SHIFTS: Final = """
window.shifts = [];
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.shifts.push([entry.value, entry.sources.map(
    (one) => [one.node && (one.node.outerHTML || one.node.textContent).slice(0, 120), one.previousRect, one.currentRect])]);
}).observe({ type: "layout-shift", buffered: true });
"""


def find_chromium() -> str:
    """The browser's program; tests fail without one, because a skipped one proves nothing."""
    found = next((path for name in PROGRAMS if (path := shutil.which(name))), None)
    assert found, "there is no Chromium: run `sh tests/browser/install.sh .venv/bin/python`, as `make test` does"
    return found


@dataclass(frozen=True)
class Look:
    """How wide the window is, in CSS pixels, and which scheme its owner prefers."""

    width: int
    scheme: str

    def __str__(self) -> str:
        return f"{self.width}-{self.scheme}"


WIDE = Look(1600, "light")
LOOKS: Final = (WIDE, Look(1600, "dark"), Look(360, "light"), Look(360, "dark"))


@dataclass
class Window:
    """An open page. `complaints` is what the browser, the server or the page itself had to complain about."""

    page: Page
    url: str
    look: Look
    complaints: list[str] = field(default_factory=list)
    forgiven: list[str] = field(default_factory=list)

    @classmethod
    async def open(cls, browser: Browser, url: str, look: Look, state: StorageState | None = None) -> Window:
        """A window on the gateway at `url`, with the cookies of `state`."""
        context = await browser.new_context(
            viewport={"width": look.width, "height": 900},
            color_scheme="dark" if look.scheme == "dark" else "light",
            storage_state=state,
            reduced_motion="reduce",
            permissions=["clipboard-read", "clipboard-write"],
        )
        context.set_default_timeout(PATIENCE_MS)
        await context.add_init_script(_WATCH_SHIFTS)
        window = cls(await context.new_page(), url, look)
        window._listen(context)
        return window

    def _listen(self, context: BrowserContext) -> None:
        page = self.page
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.complain(f"uncaught: {error}"))
        page.on("requestfailed", self._lost)
        page.on("response", self._answered)
        page.on("dialog", self._asked)
        context.on("page", lambda other: self.complain(f"another window opened: {other.url}"))

    def complain(self, what: str) -> None:
        """Note that something is wrong, unless the test said before that it would be."""
        if not any(re.search(pattern, what) for pattern in self.forgiven):
            self.complaints.append(f"{self.page.url}: {what}")

    def forgive(self, *patterns: str) -> None:
        """Say what will go wrong from here on, as regular expressions: a refusal that the test provokes."""
        self.forgiven += patterns

    async def go(self, path: str) -> None:
        """Open a page of the gateway, or any address, and wait until it is drawn."""
        await self.page.goto(path if "://" in path else self.url + path, wait_until="load")
        await self.page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")

    async def text(self, selector: str = "main") -> str:
        """What a person reads there."""
        return await self.page.inner_text(selector)

    async def sees(self, text: str, selector: str = "main") -> None:
        """Wait until a text stands there: live pages are given their time."""
        await self.page.locator(selector, has_text=text).first.wait_for()

    async def until(self, expression: str) -> None:
        """Look at an expression of the page until it is true. (Playwright's own way evaluates in the page, which its policy forbids.)"""
        loop = asyncio.get_running_loop()
        give_up_s = loop.time() + PATIENCE_MS / 1000
        while not await self.page.evaluate(expression):
            assert loop.time() < give_up_s, f"{self.page.url}: never true: {expression}"
            await asyncio.sleep(0.05)

    async def press(self, name: str, *, within: str = "body") -> None:
        """Press the button of that name."""
        await self.page.locator(within).get_by_role("button", name=name, exact=True).first.click()

    async def follow(self, name: str, *, within: str = "body") -> None:
        """Follow the link of that name."""
        await self.page.locator(within).get_by_role("link", name=name, exact=True).first.click()

    async def fill(self, label: str, value: str, *, within: str = "main") -> None:
        """Type into the field of that label."""
        await self.page.locator(within).get_by_label(label, exact=True).first.fill(value)

    async def choose(self, label: str, option: str, *, within: str = "main") -> None:
        """Choose from the list of that label."""
        await self.page.locator(within).get_by_label(label, exact=True).first.select_option(label=option)

    async def axe(self) -> None:
        """Fail on any violation that the accessibility checker finds."""
        if not await self.page.evaluate("'axe' in window"):
            await self.page.evaluate(AXE.read_text())
        found = await self.page.evaluate("axe.run(document, { resultTypes: ['violations'] })")
        told = [
            f"{one['id']} ({one['help']}): {node['html'][:300]} {node['failureSummary']}"
            for one in found["violations"]
            for node in one["nodes"][:3]
        ]
        assert not told, f"{self.page.url} at {self.look}:\n" + "\n".join(told)

    async def fits(self) -> None:
        """Fail when the page can be moved sideways."""
        wide = await self.page.evaluate("document.documentElement.scrollWidth")
        if wide > self.look.width:
            found = await self.page.evaluate(_TOO_WIDE)
            raise AssertionError(f"{self.page.url} is {wide} pixels wide at {self.look}: {json.dumps(found)}")

    async def stands_still(self) -> None:
        """Fail when what was on the page already jumped."""
        shifts = await self.page.evaluate("window.shifts")
        assert sum(size for size, _ in shifts) <= SHIFT_MAX, (
            f"{self.page.url} at {self.look} jumped: {json.dumps(shifts)}"
        )

    async def is_light(self) -> None:
        """Fail when the page's scripts are more than they may be, as they are sent."""
        sizes: dict[str, int] = await self.page.evaluate(_SCRIPT_SIZES)
        assert sum(sizes.values()) <= SCRIPT_BYTES_MAX, f"{self.page.url}: {sizes}"

    async def keep(self, name: str) -> None:
        """Keep a picture of the whole page: .cache/screenshots/NAME-WIDTH-SCHEME.png."""
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        await self.page.screenshot(path=SCREENSHOTS / f"{name}-{self.look}.png", full_page=True)

    async def close(self) -> None:
        """Close the window."""
        await self.page.context.close()

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.complain(f"console {message.type}: {message.text}")

    def _lost(self, request: Request) -> None:
        if request.failure != "net::ERR_ABORTED":  # a page was left, or a file was downloaded
            self.complain(f"no answer: {request.method} {request.url}: {request.failure}")

    def _answered(self, response: Response) -> None:
        if response.status >= 400:
            self.complain(f"status {response.status}: {response.request.method} {response.url}")

    async def _asked(self, dialog: Dialog) -> None:
        """A question that a page asks before it deletes is answered with yes; anything else is no dialog of ours."""
        if dialog.type == "confirm":
            await dialog.accept()
            return
        self.complain(f"a dialog opened: {dialog.type} {dialog.message}")
        await dialog.dismiss()


_TOO_WIDE: Final = """
[...document.querySelectorAll("body *")]
  .filter((one) => one.getBoundingClientRect().right > window.innerWidth + 1 && !one.closest(".wide *, .side *, pre *, .tabs *"))
  .slice(0, 5).map((one) => one.outerHTML.slice(0, 160))
"""

_SCRIPT_SIZES: Final = """
Object.fromEntries(performance.getEntriesByType("resource")
  .filter((one) => one.initiatorType === "script").map((one) => [one.name, one.encodedBodySize]))
"""


def strings(value: Any) -> set[str]:
    """Every string in a JSON value."""
    if isinstance(value, str):
        return {value}
    if isinstance(value, dict):
        value = list(value.values())
    return set().union(*map(strings, value)) if isinstance(value, list) else set()
