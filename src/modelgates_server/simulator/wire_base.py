"""What a wire is: Anthropic's own. Every other wire says only how it differs."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar, Final

import msgspec

from modelgates_server.simulator import wire
from modelgates_server.simulator.call import Call, Headers, Route, Scope, Settings
from modelgates_server.simulator.faults import SSE, STATUS_OF, Fault, Framing
from modelgates_server.simulator.gate import Gate
from modelgates_server.simulator.request import BODY_BYTES_MAX, Refused, Request, check, invalid, read_request

if TYPE_CHECKING:
    from collections.abc import Mapping

    from modelgates_server.simulator.answer import Answer
    from modelgates_server.simulator.models import Model

ANTHROPIC_HEADERS: Final[Headers] = [
    (b"anthropic-organization-id", b"00000000-0000-4000-8000-000000000001"),
    *(
        (f"anthropic-ratelimit-{kind}-{field}".encode(), value)
        for kind in ("requests", "tokens", "input-tokens", "output-tokens")
        for field, value in (("limit", b"4000000"), ("remaining", b"3999000"), ("reset", b"2027-01-01T00:00:00Z"))
    ),
]
MESSAGES: Final = Route("POST", "messages")
COUNT: Final = Route("POST", "count")
MODELS: Final = Route("GET", "models")
_MODEL_PREFIX: Final = "/v1/models/"
_PATHS: Final[Mapping[str, Route]] = {
    "/v1/messages": MESSAGES,
    "/v1/messages/count_tokens": COUNT,
    "/v1/models": MODELS,
}


@lru_cache(maxsize=1024)
def _betas(header: str) -> list[str]:
    # Clients repeat their betas, so entries share one list; nobody changes it.
    return [beta.strip() for beta in header.split(",") if beta.strip()]


class Wire:
    """The Anthropic wire (providers 3.1)."""

    name: ClassVar[str] = "anthropic"
    body_bytes_max: ClassVar[int] = BODY_BYTES_MAX
    message_prefix: ClassVar[str] = "msg_01"
    stream_type: ClassVar[bytes] = b"text/event-stream; charset=utf-8"
    standing: ClassVar[Headers] = ANTHROPIC_HEADERS
    framing: ClassVar[Framing] = SSE
    aws_services: ClassVar[frozenset[str]] = frozenset()
    """The names of the service that an AWS signature may be made for."""
    key_headers: ClassVar[tuple[str, ...]] = ("x-api-key", "authorization")

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.gate = Gate(settings, self.aws_services)

    # In

    def route(self, scope: Scope) -> Route | None:
        """Find where the path leads; None is a 404."""
        path = scope["path"]
        route = _PATHS.get(path)
        if route is None and path.startswith(_MODEL_PREFIX):
            return Route("GET", "model", path.removeprefix(_MODEL_PREFIX))
        return route

    def request_id(self, run: str, sequence: int) -> str:
        """Give the id of a request. `run` is ten hex digits, `sequence` counts from 1."""
        return f"req_01{run}{sequence:012d}"

    def key_header(self, headers: Mapping[str, str]) -> str:
        """Name the header that carries the key; "" if none does."""
        return next((name for name in self.key_headers if name in headers), "")

    def authenticate(self, call: Call) -> None:
        """Raise Refused unless the key is one that is accepted."""
        entry = call.entry
        if self.gate.tokens is not None and entry.key_header == "authorization":
            if not self.gate.bearer(call):
                raise Refused(401, "authentication_error", "invalid bearer token")
            return
        digest = entry.headers.get(entry.key_header, "")
        if self.gate.is_empty(digest):
            raise Refused(401, "authentication_error", "x-api-key header is required")
        if not self.gate.knows(digest):
            raise Refused(401, "authentication_error", f"invalid {entry.key_header}")

    def read(self, call: Call) -> Request:
        """Decode the body, name the model as Anthropic does, and note in the entry what the log wants."""
        request = read_request(call.body)
        entry = call.entry
        entry.model = entry.upstream_model = request.model if isinstance(request.model, str) else ""
        entry.stream = request.stream is True
        entry.user_id = request.user_id
        betas = entry.headers.get("anthropic-beta")
        if betas:
            entry.betas = _betas(betas)
        return request

    def check(self, call: Call, request: Request, *, counting: bool = False) -> Model:
        """Validate and give the model, or raise Refused."""
        version = call.entry.headers.get("anthropic-version")
        if not version:
            raise invalid("anthropic-version: header is required")
        return check(request, version, counting=counting)

    def check_size(self, _tokens: int, _model: Model) -> None:
        """Raise Refused if the prompt has more tokens than the model takes."""

    # Out

    def headers(self, call: Call) -> Headers:
        """Give the headers that every answer has, but for its content type."""
        return [*self.standing, (b"request-id", call.entry.request_id.encode())]

    def whole_headers(self, _answer: Answer) -> Headers:
        """Give the headers that only whole answers have."""
        return []

    def stream_headers(self) -> Headers:
        """Give the headers that only streams have."""
        return [(b"cache-control", b"no-cache")]

    def frames(self, frames: wire.Frames, _answer: Answer, _fault: Fault) -> wire.Frames:
        """Turn Anthropic's events into what this wire sends."""
        return frames

    def counted(self, tokens: int) -> bytes:
        """Give the body of a token count."""
        return b'{"input_tokens":%d}' % tokens

    # Errors

    def of_fault(self, fault: Fault) -> Refused:
        """Say what the fault's status or type means here."""
        error_type, message = fault.error()
        return Refused(fault.status or STATUS_OF.get(error_type, 500), error_type, message)

    def error(self, refused: Refused, request_id: str, *, streaming: bool) -> tuple[bytes, Headers]:  # noqa: ARG002 - Google's shape depends on it
        """Give the body of an error, and the headers that belong to it."""
        return wire.error_json(refused.error_type, refused.message, request_id), []

    def error_event(self, refused: Refused, request_id: str) -> bytes:
        """Give the event that breaks a stream off."""
        return wire.event("error", wire.error_envelope(refused.error_type, refused.message, request_id))

    def nowhere(self, *, wrong_method: bool) -> Refused:
        """Say that the path leads nowhere, or not with that method."""
        if wrong_method:
            return Refused(405, "invalid_request_error", "Method Not Allowed")
        return Refused(404, "not_found_error", "Not found")

    def too_large(self) -> Refused:
        """Say that the body has more than `body_bytes_max`."""
        return Refused(413, "request_too_large", "Request exceeds the maximum size")

    def unreadable(self, error: msgspec.DecodeError) -> Refused:
        """Say that a part of the body cannot be decoded."""
        return invalid(f"The request body cannot be understood: {error}")
