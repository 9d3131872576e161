"""What the relay knows about providers: how to open an answer, and how opening or reading it fails."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Protocol

import msgspec

from modelgates_server.catalogue.kinds import Kind
from modelgates_server.catalogue.models import Endpoint
from modelgates_server.dialects.edit import write_ask
from modelgates_server.dialects.values import Ask

FAULT_BODY_BYTES_MAX = 64 * 1024
"""How much of an upstream's error is read: enough for any real one, not enough to hurt."""

_NOTHING: Mapping[str, bytes] = MappingProxyType({})


class Outgoing(msgspec.Struct, frozen=True):
    """A request for one endpoint, in the client's dialect: what was asked, and what is to be different upstream.

    `headers` are the client's own that may travel (design section 6: `anthropic-*`, user agent, accept), in lower case and without
    `anthropic-beta`, whose names are `betas`. `drop` and `put` remove and set top-level members; `model` is the endpoint's own name.
    """

    ask: Ask
    model: str
    headers: tuple[tuple[str, str], ...] = ()
    betas: tuple[str, ...] = ()
    max_tokens: int | None = None
    drop: frozenset[str] = frozenset()
    put: Mapping[str, bytes] = _NOTHING
    beta_query: bool = False
    stream: bool = False

    def body(self, drop: frozenset[str] = frozenset(), put: Mapping[str, bytes] = _NOTHING) -> bytes:
        """The body to send: the client's bytes with those top-level edits, and the wire's own on top.

        The very same object when nothing must change.
        """
        members = {**self.put, **put} if put else self.put
        return write_ask(
            self.ask,
            model=self.model,
            max_tokens=self.max_tokens,
            drop=self.drop | drop if drop else self.drop,
            put=members,
        )

    def member(self, name: str) -> bytes | None:
        """The JSON value of a top-level member as it is to be sent; None when it is not."""
        if name in self.put:
            return self.put[name]
        span = None if name in self.drop else self.ask.spans.get(name)
        return None if span is None else self.ask.body[slice(*span)]

    def header(self, name: str) -> str | None:
        """One of the client's headers."""
        return next((value for found, value in self.headers if found == name), None)


@dataclass(slots=True, eq=False)
class Fault(Exception):
    """An attempt failed before the commit point, or an open answer broke.

    `signal` is one of `routing.verdict.Signal`; `status`, `body` and the headers are the upstream's when it answered.
    `detail` is for the operator's eyes only. The body of a `trusted` one may be shown to a client: Anthropic itself wrote it.
    """

    signal: str
    detail: str = ""
    status: int = 0
    body: bytes = b""
    content_type: str = ""
    retry_after: str | None = None
    should_retry: str | None = None
    request_id: str | None = None
    aws_error_type: str | None = None
    trusted: bool = True

    def __str__(self) -> str:
        return f"{self.signal} {self.status or ''} {self.detail}".strip()


class Reply(Protocol):
    """An open 200. Read until empty or close; closing is immediate and may be repeated.

    `foreign_events`: its stream may carry events that clients of the Messages API do not know; they are not passed on.
    """

    request_id: str | None
    content_type: str
    foreign_events: bool

    async def read(self) -> bytes:
        """The next bytes as they arrive, in the Messages dialect; empty at the end. Raises Fault when the connection breaks."""
        ...

    def tap(self, taker: Callable[[bytes], bool]) -> None:
        """Offer `taker` each piece that arrives while `read` waits; one that it takes (returning true) is not read."""
        ...

    def close(self) -> None: ...


class Provider(Protocol):
    """One configured provider."""

    slug: str

    async def open(self, endpoint: Endpoint, request: Outgoing) -> Reply:
        """Send the request; give the answer once its headers say 200. Raises Fault."""
        ...

    async def count(self, endpoint: Endpoint, request: Outgoing) -> int:
        """Ask how many input tokens a request has. Raises Fault; one with status 501 when the provider cannot count."""
        ...


@dataclass(frozen=True, slots=True)
class Setup:
    """What an adapter is built from, as the operator configured it. `settings` are the kind's own, such as the region."""

    slug: str
    kind: Kind
    base_url: str
    api_key: str | None = None
    key_header: str = "x-api-key"
    settings: Mapping[str, Any] = field(default_factory=dict)
