"""The gate before every page: who comes, may they, and did our own page send the form.

Sources: reliability-security 1.3 (Session, CSRF) and 3.4. Forms are plain forms, so that they work without script; what guards
them is told in docs/decisions/0019: the browser's own word (Sec-Fetch-Site, Origin), SameSite cookies, and a token of the session.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from modelgates_server.accounts import sessions
from modelgates_server.accounts.sessions import Member
from modelgates_server.console.house import House
from modelgates_server.console.visits import ADMIN, OPEN, Fields, csrf_token
from modelgates_server.errors import BadRequest, Forbidden, TooLarge, Unauthenticated
from modelgates_server.storage.engine import reading, transaction

FORM_BYTES_MAX: Final = 256 * 1024
"""A guardrail with a thousand model names fits; nothing bigger is typed."""

STRANGER_BYTES_MAX: Final = 16 * 1024
"""Nobody has shown who they are yet: an address, a password or a token fits."""

SMALL_BYTES: Final = 8 * 1024
"""Read in a few milliseconds, whatever it holds."""

FORM_FIELDS_MAX: Final = 5_000
FORM: Final = "application/x-www-form-urlencoded"
CSRF: Final = "csrf"
"""The name of the field that carries the token."""

_NOT_OURS: Final = "This form was not sent by its own page. Open the page again and send it from there."


@dataclass(frozen=True, slots=True)
class Entrance:
    """Who came in: nobody has no member."""

    member: Member | None
    session: str


def cookie_name(*, secure: bool) -> str:
    """The session's cookie: a browser takes ``__Host-`` only over https and from this very host."""
    return "__Host-mg_session" if secure else "mg_session"


def session_cookie(token: str, *, secure: bool) -> str:
    """The header that sets the session's cookie; an empty token takes it away."""
    age = sessions.SESSION_LIFE_S if token else 0
    cookie = f"{cookie_name(secure=secure)}={token}; Path=/; HttpOnly; SameSite=Lax; Max-Age={age}"
    return cookie + "; Secure" if secure else cookie


def enter(house: House, cookie: str | None) -> Entrance:
    """Find who comes by their cookie, in the database each time: signing out bites at once. For a thread. Raises StoreUnavailable."""
    token = read_cookie(cookie, cookie_name(secure=house.secure))
    if not token:
        return Entrance(None, "")
    now_s = house.clock.now_s()
    with reading(house.engine) as connection:
        session = sessions.find_session(connection, token, now_s)
    if session is None:
        return Entrance(None, "")
    if session.due:
        with transaction(house.engine) as connection:
            sessions.note_seen(connection, token, now_s)
    return Entrance(session.member, token)


def admit(member: Member | None, role: str) -> None:
    """Raises Unauthenticated when a stranger must sign in first, Forbidden when a member may not come here."""
    if role == OPEN:
        return
    if member is None:
        raise Unauthenticated("Sign in to see this page.")
    if role == ADMIN and member.role != ADMIN:
        raise Forbidden("Only administrators of the organization see this page. Ask one of them.")


def check_sender(request: Request, origin: str) -> None:
    """Refuse a form that another site sent: by what the browser says, not by what the form says. Raises Forbidden."""
    site, sender = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site is not None:
        if site != "same-origin":
            raise Forbidden(_NOT_OURS)
        return
    own = {origin, f"{request.url.scheme}://{request.headers.get('host', '')}"}
    if sender is None or sender not in own:
        raise Forbidden(_NOT_OURS)


def check_token(house: House, session: str, form: Fields) -> None:
    """Refuse a form without the token of its session. Raises Forbidden."""
    if session and not hmac.compare_digest(csrf_token(house.secret, session).encode(), form.get(CSRF).encode()):
        raise Forbidden(_NOT_OURS)


async def read_form(request: Request, limit_bytes: int) -> Fields:
    """Read a posted form. Raises BadRequest, TooLarge."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != FORM:
        raise BadRequest(f"Forms are sent as {FORM}.")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit_bytes:
            raise TooLarge(f"A form has at most {limit_bytes // 1024} KiB.")
    return await _parsed(body)


async def read_query(query: bytes) -> Fields:
    """Read a query. Raises BadRequest."""
    return await _parsed(query)


async def _parsed(text: bytes) -> Fields:
    """What is long is read in a thread: a quarter of a megabyte of ``%41`` takes longer than requests should wait for the loop."""
    return _fields(text) if len(text) <= SMALL_BYTES else await run_in_threadpool(_fields, text)


def _fields(text: bytes) -> Fields:
    try:
        pairs = parse_qsl(text.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=FORM_FIELDS_MAX)
    except ValueError as error:
        raise BadRequest("The fields of this request cannot be read: they are not UTF-8, or too many.") from error
    if any("\0" in name or "\0" in value for name, value in pairs):
        raise BadRequest("A field holds a NUL character.")
    return Fields(pairs)


def read_cookie(cookie: str | None, name: str) -> str:
    """The value of a cookie, from the header; empty when it did not come.

    Browsers send the cookies of whatever else runs on this host along (RFC 6265, 8.5). What those hold does not matter here, as it does to
    the standard library, which stops reading at the first that it does not like.
    """
    found = ""
    for part in (cookie or "").split(";"):
        key, equals, value = part.strip().partition("=")
        if equals and key == name:
            found = value
    return found
