"""What a page needs of a request, and the headers that every page has."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Protocol

Header = tuple[bytes, bytes]

SAFE: Final[tuple[Header, ...]] = (
    (
        b"content-security-policy",
        b"default-src 'none'; style-src 'self'; img-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
)
HTML: Final[tuple[Header, ...]] = ((b"content-type", b"text/html; charset=utf-8"), *SAFE)


class Request(Protocol):
    """A request for a page."""

    query: bytes

    def header(self, name: bytes) -> str | None: ...

    async def respond(self, status: int, body: bytes, headers: Iterable[Header] = ...) -> None: ...


class Form(Request, Protocol):
    """A request that carries a form."""

    async def body(self) -> bytes: ...
