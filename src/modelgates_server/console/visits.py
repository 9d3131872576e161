"""One visit to a page: who comes, what they ask, and what a page gives back."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeVar
from urllib.parse import urlencode

from anyio import from_thread

from modelgates_server.accounts.sessions import Member
from modelgates_server.console.house import House
from modelgates_server.errors import BadRequest, Unauthenticated

ADMIN: Final = "admin"
MEMBER: Final = "member"
OPEN: Final = "open"

T = TypeVar("T")


class Fields:
    """The fields of a query or a form, in the order they came; a name may come several times."""

    __slots__ = ("_pairs",)

    def __init__(self, pairs: Iterable[tuple[str, str]] = ()) -> None:
        self._pairs = tuple(pairs)

    def get(self, name: str, default: str = "") -> str:
        """The first value of a field without the spaces around it; `default` when it did not come."""
        return next((value.strip() for key, value in self._pairs if key == name), default)

    def raw(self, name: str) -> str:
        """The first value as it came: passwords keep their spaces."""
        return next((value for key, value in self._pairs if key == name), "")

    def all(self, name: str) -> tuple[str, ...]:
        """Every value of a field that is not empty, without the spaces around them."""
        return tuple(value.strip() for key, value in self._pairs if key == name and value.strip())

    def has(self, name: str) -> bool:
        """Whether a field came: that is how a ticked box is told from an empty one."""
        return any(key == name for key, _ in self._pairs)

    def pairs(self) -> tuple[tuple[str, str], ...]:
        return self._pairs

    def __bool__(self) -> bool:
        return bool(self._pairs)


@dataclass(frozen=True, slots=True)
class Page:
    """A page: a template, and the context that it shows; the same context is the JSON answer."""

    template: str
    context: Any
    status: int = 200


@dataclass(frozen=True, slots=True)
class Moved:
    """Go to another page of ours. `said` is a key of the frame's `SAID`: the sentence that is shown there once."""

    path: str
    said: str | None = None
    cookies: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Download:
    """A file. `chunks` are written as they come, so that a long export needs no memory."""

    filename: str
    media_type: str
    chunks: Iterable[bytes]


Answer = Page | Moved | Download
Handler = Callable[["Visit"], Answer]


@dataclass(frozen=True, slots=True)
class Visit:
    """A request for a page, checked: who comes may come here, and what is posted was posted by our own page.

    `address` is the client's network address. `session` is the token of the session, empty for a stranger. `asked` is the origin that
    the browser says it asked, which a stranger may have made up; `socket_url` is this process's own end of the connection. `cookies` is
    the header as it came. `site` is what the browser says about where the visitor was led here from (Sec-Fetch-Site), empty if nothing.
    """

    house: House
    url: str
    method: str = "GET"
    path: Mapping[str, str] = field(default_factory=dict)
    query: Fields = field(default_factory=Fields)
    form: Fields = field(default_factory=Fields)
    visitor: Member | None = None
    session: str = field(default="", repr=False)
    address: str = ""
    asked: str = ""
    socket_url: str = ""
    cookies: str = field(default="", repr=False)
    site: str = ""
    error: str | None = None
    partial: bool = False

    @property
    def member(self) -> Member:
        """Who is signed in. Raises Unauthenticated on a page that is open to strangers."""
        if self.visitor is None:
            raise Unauthenticated("Sign in first.")
        return self.visitor

    @property
    def organization_id(self) -> str:
        return self.member.organization_id

    @property
    def is_admin(self) -> bool:
        return self.visitor is not None and self.visitor.role == ADMIN

    @property
    def only_member_id(self) -> str | None:
        """Whose things may be seen: None for an admin, who sees all; a member sees their own."""
        return None if self.is_admin else self.member.id

    @property
    def actor(self) -> str:
        """What the audit log calls the visitor."""
        return f"member:{self.member.id}"

    @property
    def now_s(self) -> float:
        return self.house.clock.now_s()

    @property
    def csrf(self) -> str:
        """What every form must carry: bound to the session, so that another site cannot know it."""
        return csrf_token(self.house.secret, self.session)

    @property
    def once(self) -> str:
        """Something new for a form that must be done once, however often it is sent."""
        return secrets.token_urlsafe(16)

    @property
    def origin(self) -> str:
        """Where clients on the visitor's machine find this gateway: the address that the operator set, else the one they came by."""
        house = self.house
        if house.admin is not None:
            return house.admin.clients_at(self.asked.partition("://")[2])
        return house.origin if house.origin != house.local_url else _literal(self.asked) or house.origin

    @property
    def console_origin(self) -> str:
        """Where people find these pages, for links: the address that the operator set, else the one the visitor came by."""
        admin = self.house.admin
        if admin is None:
            return self.origin
        return admin.origin if admin.named else _literal(self.asked) or admin.origin

    @property
    def base_url(self) -> str:
        """What Claude clients on the visitor's machine are given."""
        return f"{self.origin}/api"

    @property
    def management_url(self) -> str:
        """Where programs on the visitor's machine find the management API."""
        return f"{self.console_origin}/api/v1"

    @property
    def here(self) -> str:
        """The path without its query."""
        return self.url.partition("?")[0]

    def with_query(self, **changes: str | int | None) -> str:
        """This page's address with some fields of its query changed; None takes a field away."""
        changed = {name: value for name, value in changes.items() if value is not None}
        pairs = [(name, value) for name, value in self.query.pairs() if name not in changes]
        pairs += [(name, str(value)) for name, value in changed.items()]
        return f"{self.here}?{urlencode(pairs)}" if pairs else self.here

    def typed(self, name: str, default: object = "") -> str:
        """What a field of a form shows: what was typed when the form comes back, else the default."""
        return self.form.get(name) if self.form.has(name) else "" if default is None else str(default)

    def failed(self, message: str) -> Visit:
        """The same visit with the sentence that says why what was posted is refused."""
        return replace(self, error=message)

    def call(self, work: Callable[..., Coroutine[Any, Any, T]], *given: Any) -> T:
        """Run a coroutine function on the server's loop and wait for it: pages run in threads."""
        return from_thread.run(work, *given)


def _literal(origin: str) -> str:
    """Plain-http ``localhost`` by its number: it may mean an address that the gateway does not listen on (client-protocol E-11)."""
    scheme, _, rest = origin.partition("://")
    host, colon, port = rest.rpartition(":") if rest.rpartition(":")[2].isdecimal() else (rest, "", "")
    return f"{scheme}://127.0.0.1{colon}{port}" if scheme == "http" and host == "localhost" else origin


def csrf_token(secret: bytes, session: str) -> str:
    """The token of a session's forms."""
    return hmac.new(secret, b"csrf:" + session.encode(), hashlib.sha256).hexdigest()


def whole(visit: Visit, name: str, least: int, most: int, default: int | None = None) -> int:
    """Read a whole number of a query or form. Raises BadRequest."""
    text = visit.form.get(name) or visit.query.get(name)
    if not text and default is not None:
        return default
    if not text.isascii() or not text.isdecimal() or len(text) > 18 or not least <= int(text) <= most:
        raise BadRequest(f"{name.replace('_', ' ')} must be a whole number from {least} to {most}")
    return int(text)
