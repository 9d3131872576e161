"""Somebody at the console, without a browser: cookies, forms with their token, pages as HTML or as JSON."""

from __future__ import annotations

import re
import uuid
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import aiohttp
import msgspec

from modelgates_server.accounts import sessions
from modelgates_server.management.members import NewMember, add_member
from modelgates_server.storage.engine import transaction
from tests.support.gateway import Gateway

CSRF = re.compile(r'name="csrf" value="([0-9a-f]+)"')


class Shown(NamedTuple):
    """What the console answered."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def data(self) -> Any:
        """The context of a JSON answer."""
        return msgspec.json.decode(self.text)["data"]


@dataclass(frozen=True, slots=True)
class Person:
    """A browser without a screen. `member_id` is who is signed in."""

    http: aiohttp.ClientSession
    url: str
    member_id: str

    async def get(self, path: str, **headers: str) -> Shown:
        """Look at a page."""
        async with self.http.get(self.url + path, headers=_named(headers), allow_redirects=False) as response:
            return Shown(response.status, response.headers, await response.text())

    async def data(self, path: str) -> Any:
        """A page's context."""
        shown = await self.get(path, accept="application/json")
        assert shown.status == 200, shown.text
        return shown.data

    async def csrf(self) -> str:
        """The token of this person's forms."""
        found = CSRF.search((await self.get("/")).text)
        return found[1] if found else ""

    async def post(
        self, path: str, fields: Mapping[str, str] | Iterable[tuple[str, str]] = (), **headers: str
    ) -> Shown:
        """Send a form as its own page would."""
        pairs = [*(fields.items() if isinstance(fields, Mapping) else fields), ("csrf", await self.csrf())]
        if not any(name == "once" for name, _ in pairs):
            pairs.append(("once", uuid.uuid4().hex))
        sent = {"Origin": self.url} | _named(headers)
        async with self.http.post(self.url + path, data=pairs, headers=sent, allow_redirects=False) as response:
            return Shown(response.status, response.headers, await response.text())


@asynccontextmanager
async def signed_in(gateway: Gateway, member_id: str | None = None) -> AsyncIterator[Person]:
    """Somebody who signed in by a link; the first administrator unless told otherwise."""
    member_id = member_id or _first_admin(gateway)
    with gateway.engine() as (engine, now_s), transaction(engine) as connection:
        token = sessions.create_link(connection, member_id, now_s)
    jar = aiohttp.CookieJar(unsafe=True)  # addresses instead of names
    async with aiohttp.ClientSession(cookie_jar=jar) as http:
        async with http.get(f"{gateway.url}/sign-in", params={"token": token}, allow_redirects=False) as entered:
            assert entered.status == 303, await entered.text()
        yield Person(http, gateway.url, member_id)


def new_member(gateway: Gateway, name: str = "Ines Intern", role: str = "member") -> str:
    """Somebody new in the organisation; their id."""
    email = f"{name.lower().replace(' ', '.')}.{uuid.uuid4().hex[:8]}@example.com"
    wanted = NewMember(name, email, role)
    with gateway.engine() as (engine, now_s):
        return add_member(engine, gateway.initialised.organization_id, wanted, "test", now_s).id


def _first_admin(gateway: Gateway) -> str:
    found = "SELECT id FROM members WHERE role = 'admin' AND organization_id = :id ORDER BY created_at_s, id"
    return str(gateway.rows(found, id=gateway.initialised.organization_id)[0]["id"])


def _named(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}
