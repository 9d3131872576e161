"""What all HTTP adapters share: a wire says what to send and how to read it, a credential proves who asks, this sends.

A new kind of provider is one file with a `Wire` and a `build` function, and one line in `kinds.py` (docs/adding-a-provider.md).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

import msgspec

from modelgates_server.catalogue.models import Endpoint
from modelgates_server.dialects.values import BadEvent
from modelgates_server.outbound.http import Outbound, OutboundError, OutboundReply
from modelgates_server.privacy import visible
from modelgates_server.providers.base import FAULT_BODY_BYTES_MAX, Fault, Outgoing, Reply

_REQUEST_ID_CHARACTERS_MAX: Final = 200
COUNT_BYTES_MAX: Final = 4096

HIDDEN: Final = b"[hidden]"
SECRET_BYTES_MIN: Final = 8
"""What is shorter is no secret, and may well be a word of the sentence."""

Headers = list[tuple[str, str]]


class Call(NamedTuple):
    """One HTTP request. `url` is already encoded and sent as it stands; `body` is what a signature covers."""

    method: str
    url: str
    headers: Headers
    body: bytes


class Translator(Protocol):
    """Turns an upstream's bytes into server-sent events of the Messages dialect, wherever the network cut them.

    `broken` is what ends it, when events before that had still to be given.
    """

    broken: BadEvent | None

    def feed(self, data: bytes) -> bytes:
        """The events that `data` completes, as bytes. Raises BadEvent."""
        ...

    def finish(self) -> None:
        """The upstream is done. Raises BadEvent when something was cut off."""
        ...


class Wire(Protocol):
    """How one kind of provider is spoken to. Pure: no I/O, no clock.

    `trusted` and `foreign_events` are those of `Fault` and `Reply`.
    """

    trusted: bool
    foreign_events: bool

    def messages(self, endpoint: Endpoint, request: Outgoing) -> Call:
        """The call that asks for an answer, without credentials."""
        ...

    def count(self, endpoint: Endpoint, request: Outgoing) -> Call | None:
        """The call that counts input tokens; None when this endpoint cannot count."""
        ...

    def counted(self, body: bytes) -> int:
        """The count that the answer to `count` names. Raises msgspec.DecodeError."""
        ...

    def translator(self, content_type: str) -> Translator | None:
        """What turns a stream into the Messages dialect; None when it is in it already."""
        ...


class CredentialError(Exception):
    """A credential cannot be had right now. The text is for the operator and holds no secret."""


class Credential(Protocol):
    """Proves to a provider who asks."""

    async def headers(self, call: Call) -> Headers:
        """The headers that authorise `call`, to be added to it. Usually from memory. Raises CredentialError."""
        ...

    async def renew(self, refused: Headers) -> bool:
        """The provider refused what `headers` gave: whether there is something fresh, so that asking again makes sense.

        Raises CredentialError.
        """
        ...


class KeyCredential:
    """A key that never changes, in one or more headers."""

    def __init__(self, headers: Headers) -> None:
        self._headers = headers

    async def headers(self, call: Call) -> Headers:  # noqa: ARG002 - the same for every call
        return self._headers

    async def renew(self, refused: Headers) -> bool:  # noqa: ARG002 - there is no other
        return False


@dataclass(slots=True)
class OpenReply:
    """An open answer, streaming or whole."""

    reply: OutboundReply
    request_id: str | None
    content_type: str
    foreign_events: bool = False
    translator: Translator | None = None

    async def read(self) -> bytes:
        while True:
            try:
                if self.translator is not None and self.translator.broken is not None:
                    raise self.translator.broken
                data = await self.reply.read()
                if self.translator is None:
                    return data
                if not data:
                    self.translator.finish()
                    return data
                if told := self.translator.feed(data):
                    return told
            except OutboundError as error:
                raise Fault(error.kind, str(error), request_id=self.request_id) from error
            except BadEvent as error:
                raise Fault("unreadable", str(error), request_id=self.request_id) from error

    def tap(self, taker: Callable[[bytes], bool]) -> None:
        if self.translator is None:
            self.reply.tap(taker)

    def close(self) -> None:
        self.reply.close()


class HttpProvider:
    """A provider: a wire, a credential, and the client that sends."""

    def __init__(self, slug: str, wire: Wire, credential: Credential, outbound: Outbound) -> None:
        self.slug = slug
        self._wire = wire
        self._credential = credential
        self._outbound = outbound

    async def open(self, endpoint: Endpoint, request: Outgoing) -> Reply:
        reply = await self._send(self._wire.messages(endpoint, request))
        content_type = reply.headers.get("content-type", "")
        translator = self._wire.translator(content_type) if request.stream else None
        if translator is not None:
            content_type = "text/event-stream"
        return OpenReply(reply, request_id(reply), content_type, self._wire.foreign_events, translator)

    async def count(self, endpoint: Endpoint, request: Outgoing) -> int:
        call = self._wire.count(endpoint, request)
        if call is None:
            raise Fault("status", "this provider does not count tokens", status=501, trusted=False)
        reply = await self._send(call)
        try:
            return self._wire.counted(await reply.read_all(COUNT_BYTES_MAX))
        except OutboundError as error:
            raise Fault(error.kind, str(error)) from error
        except msgspec.DecodeError as error:
            raise Fault("unreadable", "the count cannot be read") from error
        finally:
            reply.close()

    async def _send(self, call: Call) -> OutboundReply:
        reply, proof = await self._authorised(call)
        if reply.status in {401, 403}:
            fault = await self._fault(reply, proof)
            try:
                renewed = await self._credential.renew(proof)
            except CredentialError:
                renewed = False
            if not renewed:
                raise fault
            reply, proof = await self._authorised(call)
        if reply.status != 200:
            raise await self._fault(reply, proof)
        return reply

    async def _authorised(self, call: Call) -> tuple[OutboundReply, Headers]:
        """Send a call with its proof. The proof comes back, for when it is refused."""
        try:
            proof = await self._credential.headers(call)
            return await self._outbound.request(call.method, call.url, [*call.headers, *proof], call.body), proof
        except CredentialError as error:
            raise Fault("credential", str(error), trusted=False) from error
        except OutboundError as error:
            raise Fault(error.kind, str(error)) from error

    async def _fault(self, reply: OutboundReply, proof: Headers) -> Fault:
        try:
            body = await reply.read_all(FAULT_BODY_BYTES_MAX)
        except OutboundError:
            body = b""  # the status alone is a complete verdict
        finally:
            reply.close()
        headers = reply.headers
        return Fault(
            "status",
            f"HTTP {reply.status}",
            status=reply.status,
            body=_without(body, proof),
            content_type=headers.get("content-type", ""),
            retry_after=headers.get("retry-after"),
            should_retry=headers.get("x-should-retry"),
            request_id=request_id(reply),
            aws_error_type=headers.get("x-amzn-errortype"),
            trusted=self._wire.trusted,
        )


def _without(body: bytes, proof: Headers) -> bytes:
    """An error without the credential, should the provider repeat it: errors are shown and stored."""
    for _, value in proof:
        secret = value.rpartition(" ")[2].encode()
        if len(secret) >= SECRET_BYTES_MIN and secret in body:
            body = body.replace(secret, HIDDEN)
    return body


def request_id(reply: OutboundReply) -> str | None:
    """The upstream's own name for the request, whatever it calls the header, fit to be stored."""
    headers = reply.headers
    name = headers.get("request-id") or headers.get("x-amzn-requestid") or headers.get("apim-request-id")
    return None if name is None else visible(name, _REQUEST_ID_CHARACTERS_MAX) or None


class _Count(msgspec.Struct):
    input_tokens: int


def counted_tokens(body: bytes) -> int:
    """`input_tokens` of an Anthropic-shaped count. Raises msgspec.DecodeError."""
    return msgspec.json.decode(body, type=_Count).input_tokens
