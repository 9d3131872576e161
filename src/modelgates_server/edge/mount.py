"""Applications below the edge: which paths are theirs, and how they are called. The management API, the pages for people, the docs."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from modelgates_server.edge.exchange import Receive, Request, Scope, Send
from modelgates_server.errors import StoreUnavailable

Asgi = Callable[[Any, Any, Any], Awaitable[None]]

_SPELLING: Final = re.compile(r"(?:/api)?(?:/anthropic)?(?:/v1)?/v1(/([^/]+)(?:/.*)?)", re.DOTALL)


class Mounted(Protocol):
    """An application that answers where no route of the edge does."""

    def path(self, path: str) -> str | None:
        """The path as the application knows it; None when it is not one of its."""
        ...

    async def answer(self, request: Request, path: str, scope: Scope, receive: Receive, send: Send) -> None: ...


@dataclass(frozen=True, slots=True)
class Pages:
    """Pages for people, by the first words of their paths; the empty word is the page at ``/``. They tell failures themselves."""

    app: Asgi
    words: frozenset[str]

    def path(self, path: str) -> str | None:
        """The path without a final slash; None when it is not one of its."""
        shown = path.rstrip("/") or "/"
        return shown if shown[1:].partition("/")[0].partition(".")[0] in self.words else None

    async def answer(self, request: Request, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the application answer; its response carries the request's id."""
        await self.app({**scope, "path": path, "root_path": ""}, receive, request.passing(send))


@dataclass(frozen=True, slots=True)
class Files:
    """An application of which only some exact paths are there."""

    app: Asgi
    paths: frozenset[str]

    def path(self, path: str) -> str | None:
        """The path, when it is one of its."""
        return path if path in self.paths else None

    async def answer(self, request: Request, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the application answer; its response carries the request's id."""
        await self.app({**scope, "path": path, "root_path": ""}, receive, request.passing(send))


@dataclass(frozen=True, slots=True)
class Mount:
    """An application and its paths, and whether the store is away: then its threads would wait for it, and be told nothing.

    `words` are the first words below `prefix`, `others` are exact paths besides.
    """

    app: Asgi
    prefix: str
    words: frozenset[str]
    others: frozenset[str] = frozenset()
    away: Callable[[], bool] = lambda: False

    def path(self, path: str) -> str | None:
        """The path as the application knows it; None when it is not one of its."""
        if path in self.others:
            return path
        found = _SPELLING.fullmatch(path)
        if found is None or found[2] not in self.words:
            return None
        return self.prefix + found[1].rstrip("/")

    async def answer(self, request: Request, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the application answer; its response carries the request's id. Raises StoreUnavailable when it could only wait."""
        if self.away():
            raise StoreUnavailable

        await self.app({**scope, "path": path}, receive, request.passing(send))
