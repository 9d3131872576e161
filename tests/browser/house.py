"""A gateway for browser tests: a process of its own, with the built-in sandbox as its only provider."""

from __future__ import annotations

import asyncio
import json
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playwright.async_api import Browser, StorageState
from tests.support.process import Server, Stand

MODEL = "claude-opus-4-8"


@dataclass(frozen=True)
class Said:
    """What the gateway answered a program."""

    status: int
    body: dict[str, Any]


@dataclass(frozen=True)
class House:
    """A running gateway, its first key and its management key."""

    stand: Stand
    server: Server

    @classmethod
    @contextmanager
    def open(cls, folder: Path, toml: str = "") -> Iterator[House]:
        """Start one with an empty database, and end it."""
        stand = Stand(folder, toml=toml)
        server = stand.serve("--port", str(free_port()))  # links that people are given name the configured port
        try:
            yield cls(stand, server)
        finally:
            server.kill()

    @property
    def url(self) -> str:
        return self.server.url

    @property
    def printed_link(self) -> str:
        """The sign-in link that `serve` printed at its first start."""
        return str(self.server.facts["sign_in_url"])

    def call(self, method: str, path: str, body: Any = None, key: str | None = None, **more: str) -> Said:
        """Ask the gateway as a program does; with its management key unless another is given. `more` are headers, - as _."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"authorization": f"Bearer {key or self.stand.management_key}", "content-type": "application/json"}
        headers |= {name.replace("_", "-"): value for name, value in more.items()}
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return Said(answer.status, json.loads(answer.read() or b"{}"))
        except urllib.error.HTTPError as refused:
            return Said(refused.code, json.loads(refused.read() or b"{}"))

    def made(self, path: str, body: Any) -> dict[str, Any]:
        """Make something through the management API."""
        answer = self.call("POST", path, body)
        assert answer.status in {200, 201}, answer
        return answer.body

    def ask(self, text: str = "hello", key: str | None = None, **headers: str) -> Said:
        """Send a small Messages request, with the first key unless another is given."""
        body = {"model": MODEL, "max_tokens": 100, "messages": [{"role": "user", "content": text}]}
        return self.call("POST", "/api/v1/messages", body, key or self.stand.key, **headers)

    async def asks(self, text: str = "hello", key: str | None = None) -> Said:
        """The same while a browser is driven: its loop goes on."""
        return await asyncio.to_thread(self.ask, text, key)

    async def signed_in(self, browser: Browser) -> StorageState:
        """A session of the administrator, by a fresh link of `modelgates init`."""
        told = await asyncio.to_thread(self.stand.cli, "init")
        return await _state_after(browser, told.json["sign_in_url"])

    async def joined(self, browser: Browser, name: str, email: str, share_usd: float = 20) -> StorageState:
        """A session of somebody new, who is invited by the management API and accepts."""
        invited = await asyncio.to_thread(
            self.made, "/api/v1/organization/invitations", {"email": email, "name": name, "share_usd": share_usd}
        )
        return await _state_after(browser, invited["url"], press=True)


def free_port() -> int:
    """A port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def _state_after(browser: Browser, url: str, *, press: bool = False) -> StorageState:
    context = await browser.new_context()
    page = await context.new_page()
    await page.goto(url)
    if press:
        await page.locator("main button[type=submit]").first.click()
        await page.wait_for_url(lambda address: "/join" not in address)
    state = await context.storage_state()
    assert state["cookies"], f"{url} signed nobody in: {await page.inner_text('body')}"
    await context.close()
    return state
