"""An endpoint that is compatible with Anthropic's, more or less (providers 3.8)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

from modelgates_server.simulator import wire
from modelgates_server.simulator.models import Model, find
from modelgates_server.simulator.request import Refused, Request, check
from modelgates_server.simulator.wire_base import MESSAGES, Wire

if TYPE_CHECKING:
    from modelgates_server.simulator.answer import Answer
    from modelgates_server.simulator.call import Call, Headers, Route, Scope
    from modelgates_server.simulator.faults import Fault

_ANY_VERSION: Final = "2023-06-01"
_STAND_IN: Final = "claude-opus-4-8"
_EMPTY_PING: Final = b"event:ping\r\n\r\n"


class Compatible(Wire):
    """Messages and nothing else; CRLF, no space after the colon, no pings.

    When it is not strict, it also takes any model and no version, and sends pings without data and no `message_stop`.
    """

    name = "compatible"
    standing: ClassVar[Headers] = []

    def route(self, scope: Scope) -> Route | None:
        return MESSAGES if scope["path"] == "/v1/messages" else None

    def check(self, call: Call, request: Request, *, counting: bool = False) -> Model:
        if self.settings.strict:
            return super().check(call, request, counting=counting)
        told = request.model
        if isinstance(told, str) and find(told) is None:
            request.model = _STAND_IN  # whatever it is called, it answers like a Claude
        version = call.entry.headers.get("anthropic-version", _ANY_VERSION)
        model = check(request, version, counting=counting)
        request.model = told
        return Model(str(told), model.display_name, model.created_at, model.max_input_tokens, model.max_tokens)

    def frames(self, frames: wire.Frames, _answer: Answer, _fault: Fault) -> wire.Frames:
        written = wire.Frames()
        for frame, tokens in zip(frames.data, frames.tokens, strict=True):
            if self.settings.strict:
                if frame is not wire.PING:
                    written.add(_loose(frame), tokens)
            elif frame is wire.PING:
                written.add(_EMPTY_PING)
            elif frame is not wire.STOP:
                written.add(_loose(frame), tokens)
        return written

    def error_event(self, refused: Refused, request_id: str) -> bytes:
        return _loose(super().error_event(refused, request_id))


def _loose(frame: bytes) -> bytes:
    """Write an event as other servers do. Its JSON has no line ends, so only the frame changes."""
    name, data = frame.split(b"\n", 1)
    return name.replace(b"event: ", b"event:", 1) + b"\r\n" + data.replace(b"data: ", b"data:", 1)[:-2] + b"\r\n\r\n"
