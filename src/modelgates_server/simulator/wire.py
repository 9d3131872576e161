"""Answers as bytes: the JSON message, and server-sent events as Anthropic writes them (client-protocol 6)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

if TYPE_CHECKING:
    from modelgates_server.simulator.answer import Answer, Block
    from modelgates_server.simulator.faults import Fault

PING: Final = b'event: ping\ndata: {"type": "ping"}\n\n'
STOP: Final = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'

_DELTA_OF = {
    "text": ("text_delta", "text"),
    "thinking": ("thinking_delta", "thinking"),
    "tool_use": ("input_json_delta", "partial_json"),
    "server_tool_use": ("input_json_delta", "partial_json"),
}
_REMEMBERED_BLOCKS = 8
_RENDERED_MAX = 10_000
_encode = msgspec.json.Encoder().encode


class Frames:
    """Server-sent events in order, each with the number of tokens that it carries."""

    __slots__ = ("data", "tokens")

    def __init__(self) -> None:
        self.data: list[bytes] = []
        self.tokens: list[int] = []

    def add(self, frame: bytes, tokens: int = 0) -> None:
        self.data.append(frame)
        self.tokens.append(tokens)


def message_json(answer: Answer, message_id: str, fault: Fault) -> bytes:
    """Render the whole answer to a request without streaming."""
    return _encode(
        {
            **_message(answer, message_id),
            "content": [block.whole() for block in answer.blocks],
            "stop_reason": answer.stop_reason,
            **_reported(answer.usage.whole(), fault),
        }
    )


def without_pings(frames: Frames) -> Frames:
    """Leave the pings out: not every provider sends them."""
    kept = Frames()
    for frame, tokens in zip(frames.data, frames.tokens, strict=True):
        if frame is not PING:
            kept.add(frame, tokens)
    return kept


def data_of(frame: bytes) -> bytes:
    """Give the JSON of an event that was rendered here."""
    return frame[frame.index(b"\ndata: ") + 7 : -2]


class Renderer:
    """Renders streams. It remembers rendered deltas, because prose repeats its tokens."""

    def __init__(self) -> None:
        self._deltas: dict[tuple[str, int], _Deltas] = {}

    def stream(self, answer: Answer, message_id: str, fault: Fault) -> Frames:
        """Every event of an answer: message_start, ping, blocks, message_delta, message_stop."""
        frames = Frames()
        message = {**_message(answer, message_id), **_reported(answer.usage.at_start(), fault)}
        frames.add(event("message_start", {"type": "message_start", "message": message}))
        frames.add(PING)
        for index, block in enumerate(answer.blocks):
            self._block(frames, block, index)
        delta = {"stop_reason": answer.stop_reason, "stop_sequence": None}
        ending = {"type": "message_delta", "delta": delta, **_reported(answer.usage.at_end(), fault)}
        frames.add(event("message_delta", ending))
        frames.add(STOP)
        return frames

    def _block(self, frames: Frames, block: Block, index: int) -> None:
        start = {"type": "content_block_start", "index": index, "content_block": block.opening}
        frames.add(event("content_block_start", start))
        if block.type in _DELTA_OF:
            deltas = self._deltas_of(block.type, index)
            if block.type.endswith("tool_use"):
                frames.add(deltas[""])  # Anthropic opens every input with an empty fragment
            frames.data += [deltas[piece] for piece in block.pieces]
            frames.tokens += [1] * len(block.pieces)
        if block.signature:
            signature = {"type": "signature_delta", "signature": block.signature}
            data = {"type": "content_block_delta", "index": index, "delta": signature}
            frames.add(event("content_block_delta", data), block.hidden)
        frames.add(event("content_block_stop", {"type": "content_block_stop", "index": index}))

    def _deltas_of(self, block_type: str, index: int) -> _Deltas:
        deltas = self._deltas.get((block_type, index))
        if deltas is None:
            deltas = _Deltas(*_DELTA_OF[block_type], index)
            if index < _REMEMBERED_BLOCKS:
                self._deltas[block_type, index] = deltas
        return deltas


class _Deltas(dict[str, bytes]):
    """The delta event of each token, for one kind of block at one index; rendered on first use."""

    def __init__(self, delta_type: str, name: str, index: int) -> None:
        super().__init__()
        self._head = (
            f'event: content_block_delta\ndata: {{"type":"content_block_delta","index":{index},'
            f'"delta":{{"type":"{delta_type}","{name}":'
        ).encode()

    def __missing__(self, piece: str) -> bytes:
        frame = self._head + _encode(piece) + b"}}\n\n"
        if len(self) < _RENDERED_MAX and len(piece) < 64:
            self[piece] = frame
        return frame


def event(name: str, data: dict[str, Any]) -> bytes:
    """One server-sent event whose name is its type."""
    return b"event: %b\ndata: %b\n\n" % (name.encode(), _encode(data))


def error_json(error_type: str, message: str, request_id: str) -> bytes:
    """Render the error envelope (client-protocol 7)."""
    return _encode(error_envelope(error_type, message, request_id))


def error_envelope(error_type: str, message: str, request_id: str) -> dict[str, Any]:
    return {"type": "error", "error": {"type": error_type, "message": message}, "request_id": request_id}


def _message(answer: Answer, message_id: str) -> dict[str, Any]:
    return {
        "id": message_id,
        "type": "message",
        "role": "assistant",
        "model": answer.model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
    }


def _reported(usage: dict[str, Any], fault: Fault) -> dict[str, Any]:
    """Give the usage as it is told: true, unless a lie or silence was asked for."""
    if fault.omit_usage:
        return {}
    return {"usage": {**usage, **fault.usage} if fault.usage else usage}
