"""Credentials that expire: kept, renewed in time off the event loop, once for everybody who waits (providers 12.5)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from modelgates_server.clock import Clock, SystemClock
from modelgates_server.privacy import redacted, visible
from modelgates_server.providers.wire import Call, CredentialError, Headers

EARLY_S: Final = 300.0
"""How long before its end a credential is replaced. Until the new one is there, the old one serves."""

PAUSE_S: Final = 30.0
"""Least time between two early renewals, and between two that a refusal asks for: a storm of 401s is no reason to storm
the token server, and a metadata server may give what it has until shortly before the end."""

AFTER_FAILURE_S: Final = 5.0
"""How long a failure stands when there is nothing to serve. Requests in between fail at once instead of waiting for timeouts."""

REASON_CHARS_MAX: Final = 300

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Granted(Generic[T]):
    """A credential, and the Unix second at which it ends."""

    value: T
    expires_s: float


FrozenHeaders = tuple[tuple[str, str], ...]

Fetch = Callable[[bool], Granted[T]]
"""Gets a credential; blocks, and runs in a thread. With True, whatever a library has kept is not good enough."""


class Refreshing(Generic[T]):
    """A credential that is fetched when needed and renewed before it ends. For one event loop.

    `fetch` runs in a thread, never twice at the same time. `what` names the credential in errors.
    """

    def __init__(self, what: str, fetch: Fetch[T], clock: Clock | None = None) -> None:
        self._what = what
        self._fetch = fetch
        self._clock = clock or SystemClock()
        self._held: Granted[T] | None = None
        self._coming: asyncio.Future[Granted[T]] | None = None
        self._failure = ""
        self._failed_s = self._begun_s = self._forced_s = float("-inf")

    async def get(self) -> T:
        """The credential, usually at once. Raises CredentialError when there is none that is valid."""
        held = self._held
        left_s = held.expires_s - self._clock.now_s() if held is not None else 0.0
        if held is not None and left_s > EARLY_S:
            return held.value
        now_s = self._clock.monotonic_s()
        if held is not None and left_s > 0:
            if self._coming is None and now_s - self._begun_s >= PAUSE_S:
                self._begin(forced=False)
            return held.value
        if self._coming is None and now_s - self._failed_s < AFTER_FAILURE_S:
            raise CredentialError(self._failure)
        return (await self._next(forced=False)).value

    async def renew(self, was_refused: Callable[[T], bool]) -> bool:
        """Whether there is a credential other than the one that was refused, fetching it if need be. Raises CredentialError."""
        if self._held is not None and not was_refused(self._held.value):
            return True
        now_s = self._clock.monotonic_s()
        if self._coming is None:
            if now_s - self._forced_s < PAUSE_S:
                return False
            self._forced_s = now_s
        return not was_refused((await self._next(forced=True)).value)

    async def _next(self, *, forced: bool) -> Granted[T]:
        coming = self._coming or self._begin(forced=forced)
        try:
            return await asyncio.shield(coming)  # who stops waiting does not stop it for the others
        except Exception as error:
            raise CredentialError(self._failure) from error

    def _begin(self, *, forced: bool) -> asyncio.Future[Granted[T]]:
        coming = asyncio.get_running_loop().run_in_executor(None, self._fetch, forced)
        self._coming = coming
        self._begun_s = self._clock.monotonic_s()
        coming.add_done_callback(self._ended)
        return coming

    def _ended(self, coming: asyncio.Future[Granted[T]]) -> None:
        self._coming = None
        if coming.cancelled():
            return
        error = coming.exception()
        if error is None:
            self._held = coming.result()
            self._failed_s = float("-inf")
        else:
            self._failure = f"cannot get {self._what}: {reason(error)}"
            self._failed_s = self._clock.monotonic_s()


class BearerCredential:
    """A token in the `authorization` header, with whatever else its issuer wants to see."""

    def __init__(self, tokens: Refreshing[FrozenHeaders]) -> None:
        self._tokens = tokens

    async def headers(self, call: Call) -> Headers:  # noqa: ARG002 - the same for every call
        return list(await self._tokens.get())

    async def renew(self, refused: Headers) -> bool:
        return await self._tokens.renew(lambda headers: list(headers) == refused)


def reason(error: BaseException) -> str:
    """Why a credential was not had, for the operator: the kind of error and its words, without anything like a secret."""
    name = type(error).__name__
    text = visible(redacted(str(error)), REASON_CHARS_MAX)
    return f"{name}: {text}" if text else name
