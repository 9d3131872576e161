"""The pages that exist until the console does: sign in, join, the status page, its stylesheet."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs

import sqlalchemy as sa

from modelgates_server.accounts import sessions
from modelgates_server.clock import Clock
from modelgates_server.console import status
from modelgates_server.console.join import JoinPage
from modelgates_server.console.requests import HTML, SAFE, Form, Header, Request
from modelgates_server.errors import Unauthenticated
from modelgates_server.storage.engine import reading

SESSION_S = 7 * 24 * 3600

_CSS: tuple[Header, ...] = ((b"content-type", b"text/css; charset=utf-8"), (b"cache-control", b"public, max-age=3600"))


class Pages:
    """The pages, over one engine. Database work happens in a thread: people can wait for it, programs cannot."""

    def __init__(self, engine: sa.Engine, clock: Clock, house: status.House) -> None:
        self._engine = engine
        self._clock = clock
        self._house = house
        self._joining = JoinPage(engine, clock)

    def routes(self) -> dict[str, Callable[[Request], Awaitable[None]]]:
        """Handlers by path; all are for GET."""
        return {
            "/": self.home,
            "/sign-in": self.sign_in,
            "/join": self._joining.show,
            "/assets/status.css": self.stylesheet,
        }

    def forms(self) -> dict[str, Callable[[Form], Awaitable[None]]]:
        """Handlers by path; all are for POST."""
        return {"/join": self.join}

    async def home(self, request: Request) -> None:
        """The status page for whoever is signed in; for others, how to sign in."""
        body = await asyncio.to_thread(self._home, _session(request))
        if body is None:
            await request.respond(401, status.sign_in_required(), HTML)
            return
        await request.respond(200, body, HTML)

    async def sign_in(self, request: Request) -> None:
        """Redeem a one-time link: set the session cookie and go to `/`."""
        token = parse_qs(request.query.decode("latin-1")).get("token", [""])[0]
        try:
            session = await asyncio.to_thread(self._redeem, token)
        except Unauthenticated:
            await request.respond(401, status.sign_in_required(), HTML)
            return
        await self._enter(request, session)

    async def join(self, request: Form) -> None:
        """Become a member by an invitation: set the session cookie and go to `/`."""
        session = await self._joining.accept(request)
        if session is not None:
            await self._enter(request, session)

    async def _enter(self, request: Request, session: str) -> None:
        cookie = f"{self._cookie_name()}={session}; Path=/; HttpOnly; SameSite=Lax; Max-Age={SESSION_S}"
        if self._house.secure:
            cookie += "; Secure"
        await request.respond(303, b"", ((b"location", b"/"), (b"set-cookie", cookie.encode()), *SAFE))

    async def stylesheet(self, request: Request) -> None:
        await request.respond(200, status.stylesheet(), _CSS)

    def _home(self, cookies: SimpleCookie) -> bytes | None:
        morsel = cookies.get(self._cookie_name())
        if morsel is None:
            return None
        with self._engine.begin() as connection:
            member = sessions.session_member(connection, morsel.value, self._clock.now_s())
        if member is None:
            return None
        with reading(self._engine) as connection:
            return status.render_status(status.status_context(connection, member.organization_id, self._house))

    def _redeem(self, token: str) -> str:
        with self._engine.begin() as connection:
            return sessions.redeem_link(connection, token, self._clock.now_s())

    def _cookie_name(self) -> str:
        return "__Host-mg_session" if self._house.secure else "mg_session"


def _session(request: Request) -> SimpleCookie:
    try:
        return SimpleCookie(request.header(b"cookie") or "")
    except CookieError:
        return SimpleCookie()
