"""Make the pictures in docs/images/: a month of a small team, asked through a real gateway over simulators, and its pages.

Run it with `.venv/bin/python docs/screenshots.py`, after `make test` has installed what it needs. Everything on the pages went through
the request path; only the clock is turned back at first, so that the month has passed when the pictures are taken.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Final

from playwright.async_api import Browser, FloatRect, Page, async_playwright

ROOT: Final = Path(__file__).parents[1]
IMAGES: Final = ROOT / "docs/images"
sys.path.insert(0, str(ROOT))

from tests.browser.window import find_chromium  # noqa: E402 - the repository is no installed package
from tests.support.console import new_member, signed_in  # noqa: E402
from tests.support.gateway import Gateway, open_gateway  # noqa: E402

from modelgates_server.limits import Window  # noqa: E402
from modelgates_server.management.budgets import set_share  # noqa: E402
from modelgates_server.management.organizations import rename_organization  # noqa: E402

WIDTH, HEIGHT = 1280, 900
GUTTER: Final = 15
"""At the right, where pages leave room for a scroll bar."""

DAYS: Final = 60
"""Two periods of Activity: a month, and the one before it."""

DAY_S: Final = 86_400
SYSTEM_BYTES: Final = 160_000
"""What a coding agent says before anybody has asked anything; it comes from the cache the second time."""

ADDRESS: Final = "http://127.0.0.1:8787"
"""What the pages show as the gateway's address, as after `modelgates serve`; the browser is led to the free port that it really has."""

MODELS: Final = ("claude-opus-5-5", "claude-sonnet-5-5", "claude-haiku-5-5")
PROVIDERS: Final = {"anthropic": "anthropic", "bedrock": "bedrock"}


class TurnedClock:
    """The machine's clock, turned back by `back_s`."""

    def __init__(self, back_s: float) -> None:
        self.back_s = back_s

    def now_s(self) -> float:
        return time.time() - self.back_s

    def monotonic_s(self) -> float:
        return time.monotonic() - self.back_s


@dataclass(frozen=True)
class Person:
    """Somebody of the team: how many requests on a working day, for which of the models, from which app, and a share in whole dollars."""

    name: str
    requests: int
    weights: Sequence[int]
    app: str
    share_usd: int
    window: Window


TEAM: Final = (
    Person("Ana Lima", 7, (6, 3, 1), "Claude Code", 150, Window.MONTH),
    Person("Bo Chen", 5, (3, 6, 1), "Claude Code", 100, Window.MONTH),
    Person("Chidi Okafor", 3, (2, 5, 3), "Claude Desktop", 60, Window.MONTH),
    Person("Ines Intern", 3, (5, 3, 2), "Claude Code", 20, Window.WEEK),
    Person("Support bot", 6, (0, 2, 8), "support.example.com", 30, Window.WEEK),
)


@dataclass(frozen=True)
class Seat:
    """A person's key."""

    person: Person
    key: str


@dataclass
class Office:
    """The team at its gateway. Chance is the same in every run."""

    gateway: Gateway
    clock: TurnedClock
    chance: Random
    seats: list[Seat]

    @classmethod
    def open(cls, gateway: Gateway, clock: TurnedClock) -> Office:
        """Everybody has joined, and has a share and a key."""
        seats = [Seat(person, _hired(gateway, clock, person)) for person in TEAM]
        return cls(gateway, clock, Random(7), seats)  # noqa: S311 - nothing is secret here

    async def weeks(self) -> None:
        """The days until now; on weekends almost nobody works, and now and then Anthropic is overloaded."""
        midnight_s = time.time() // DAY_S * DAY_S
        for day in range(DAYS, -1, -1):
            start_s = midnight_s - day * DAY_S
            weekend = time.gmtime(start_s).tm_wday >= 5
            asked = [
                (start_s + self.chance.triangular(7, 20, 14) * 3600, seat)
                for seat in self.seats
                for _ in range(self.chance.randint(0, 1) if weekend else seat.person.requests)
            ]
            for at_s, seat in sorted(asked, key=lambda one: one[0]):
                if at_s < time.time() - 3600:
                    self.clock.back_s = time.time() - at_s
                    if self.chance.random() < 0.01:
                        self.fail({"status": 529})
                    await self.ask(seat)
        self.clock.back_s = 0

    async def today(self) -> str:
        """The last minutes, at the speed of real answers; the last of them failed over. Gives that one's id."""
        slow = {"first_event_delay_s": 0.9, "event_delay_s": 0.02}
        for seat in self.seats[:3]:
            await self.ask(seat, simulate=slow)
        self.fail({"status": 529, "delay_s": 1.9})
        return await self.ask(self.seats[0], simulate=slow)

    def fail(self, control: dict[str, Any]) -> None:
        """Anthropic fails the next request."""
        self.gateway.simulators[0].script.append(control)

    async def ask(self, seat: Seat, simulate: dict[str, Any] | None = None) -> str:
        """One request in the manner of its app, with a prompt that is in the cache but for its end. Gives its id."""
        person, chance = seat.person, self.chance
        model = MODELS[chance.choices((0, 1, 2), person.weights)[0]]
        prompt = "x" * min(600_000, int(chance.lognormvariate(11.3, 0.6)))
        body: dict[str, Any] = {
            "model": model,
            "max_tokens": 8_000,
            "stream": True,
            "system": [
                {"type": "text", "text": person.name * (SYSTEM_BYTES // 10), "cache_control": {"type": "ephemeral"}}
            ],
            "messages": [{"role": "user", "content": prompt}],
        }
        if model != MODELS[-1]:
            body["thinking"] = {"type": "adaptive"}
        tokens = min(8_000, int(chance.lognormvariate(7.8 if simulate is None else 5.6, 0.7)))
        session = f"{person.name}-{int(self.clock.now_s()) // DAY_S}"
        told = await self.gateway.send(
            body, key=seat.key, simulate={"tokens": tokens} | (simulate or {}), x_title=person.app, x_session_id=session
        )
        return told.headers.get("x-generation-id", "")


def _hired(gateway: Gateway, clock: TurnedClock, person: Person) -> str:
    member = new_member(gateway, person.name)
    with gateway.engine() as (engine, _):
        organization = gateway.initialised.organization_id
        rename_organization(engine, organization, "Example Ltd", "operator", clock.now_s())
        set_share(engine, organization, member, person.share_usd * 10**9, "operator", clock.now_s(), person.window)
    return gateway.new_key(f"{person.name} · {person.app}", member_id=member)


async def _shoot(page: Page, name: str) -> None:
    """Wait until a page is drawn, and keep its upper part."""
    await page.wait_for_load_state("networkidle")
    await page.evaluate("new Promise((done) => setTimeout(done, 1000))")  # charts draw in the next frames
    IMAGES.mkdir(exist_ok=True)
    clip: FloatRect = {"x": 0, "y": 0, "width": WIDTH - GUTTER, "height": HEIGHT}
    await page.screenshot(path=IMAGES / f"{name}.png", clip=clip)


async def _shoot_all(gateway: Gateway, generation_id: str) -> None:
    led = f"--host-resolver-rules=MAP 127.0.0.1:8787 {gateway.url.removeprefix('http://')}"
    args = ["--no-sandbox", "--hide-scrollbars", led]
    ana = str(gateway.rows("SELECT id FROM members WHERE name = :name", name=TEAM[0].name)[0]["id"])
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=find_chromium(), args=args)
        page = await _page_of(browser, gateway, None)
        await page.goto(f"{ADDRESS}/activity")
        await _shoot(page, "activity")
        await page.goto(f"{ADDRESS}/logs/{generation_id}")
        await _shoot(page, "request")
        page = await _page_of(browser, gateway, ana)
        await page.goto(f"{ADDRESS}/setup/desktop")
        await _shoot(page, "setup")
        await browser.close()


async def _page_of(browser: Browser, gateway: Gateway, member_id: str | None) -> Page:
    """A window in which a member is signed in; the administrator for None."""
    context = await browser.new_context(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
    async with signed_in(gateway, member_id) as person:
        cookies = [{"name": one.key, "value": one.value, "url": ADDRESS} for one in person.http.cookie_jar]
    await context.add_cookies(cookies)
    return await context.new_page()


async def main() -> None:
    """Make all of them."""
    clock = TurnedClock((DAYS + 1) * DAY_S)
    order = {"order": list(PROVIDERS)}
    with tempfile.TemporaryDirectory() as folder:
        async with open_gateway(
            Path(folder) / "gateway", credit_usd="1000", simulators=PROVIDERS, routing=order, clock=clock
        ) as gateway:
            office = Office.open(gateway, clock)
            await office.weeks()
            await _shoot_all(gateway, await office.today())


if __name__ == "__main__":
    asyncio.run(main())
