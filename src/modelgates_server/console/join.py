"""The page behind an invitation's link: opening it changes nothing, so a mail scanner cannot use it up; its button does."""

from __future__ import annotations

import asyncio
from urllib.parse import parse_qs

import sqlalchemy as sa

from modelgates_server.accounts import sessions
from modelgates_server.clock import Clock
from modelgates_server.console import status
from modelgates_server.console.requests import HTML, Form, Request
from modelgates_server.errors import BadRequest, NotFound
from modelgates_server.management.invitations import accept_invitation, invitation_of
from modelgates_server.storage import schema
from modelgates_server.storage.engine import reading, transaction

FORM_BYTES_MAX = 4096
"""A token has 43 characters."""


class JoinPage:
    """`/join`: shows whom an invitation is for, and makes them a member."""

    def __init__(self, engine: sa.Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock

    async def show(self, request: Request) -> None:
        """Tell whom the invitation is for, with a button."""
        token = parse_qs(request.query.decode("latin-1")).get("token", [""])[0]
        try:
            body = await asyncio.to_thread(self._page, token)
        except NotFound as dead:
            await request.respond(404, status.join_dead(dead.message), HTML)
            return
        await request.respond(200, body, HTML)

    async def accept(self, request: Form) -> str | None:
        """Make the member, and give the token of a new session; None when it was refused, and answered so."""
        site, length = request.header(b"sec-fetch-site"), request.header(b"content-length") or ""
        short = length.isdecimal() and len(length) < 9 and int(length) <= FORM_BYTES_MAX
        if site not in {None, "same-origin", "none"} or not short:  # nobody has shown a token yet: no more is read
            await request.respond(403, status.join_dead("This form was not sent by its own page."), HTML)
            return None
        token = parse_qs((await request.body()).decode("latin-1")).get("token", [""])[0]
        try:
            return await asyncio.to_thread(self._join, token)
        except (NotFound, BadRequest) as dead:
            await request.respond(404, status.join_dead(f"{dead.message.rstrip('.')}."), HTML)
            return None

    def _page(self, token: str) -> bytes:
        invitation = invitation_of(self._engine, token, self._clock.now_s())
        names = schema.organizations.c
        with reading(self._engine) as connection:
            query = sa.select(names.name).where(names.id == invitation.organization_id)
            organization = connection.execute(query).scalar_one()
        return status.join_page(organization, invitation.name, invitation.email, token)

    def _join(self, token: str) -> str:
        now_s = self._clock.now_s()
        made = accept_invitation(self._engine, token, now_s)
        with transaction(self._engine) as connection:
            return sessions.redeem_link(connection, made.sign_in_token, now_s)
