"""What of a request and of its answer is kept, where a workspace opted in. Pure; `activity/contents.py` decides whether and for how long.

Of the request: what the model was shown and how it was told to answer, as the client wrote it. What else may stand in a body is left
out: tokens for MCP servers, account ids in `metadata`, fields that nobody here knows. Of the answer: text, thinking and
tool calls; no signatures, which only their provider can read. Each side has a bound, and says so when it was cut there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import msgspec

from modelgates_server.dialects.meter import UsageMeter
from modelgates_server.dialects.values import Ask, Event, Kind

SETTINGS: Final = (
    "model", "max_tokens", "stream", "temperature", "top_p", "top_k", "stop_sequences", "thinking", "output_config",
    "output_format", "context_management", "tool_choice", "speed", "service_tier",
)  # fmt: skip
"""How the model was told to answer."""

SHOWN: Final = ("system", "tools")
"""What the model was shown besides the messages."""

_CUTTABLE: Final = ("text", "thinking", "partial_json")
_OPAQUE: Final = frozenset({"signature", "data"})
"""Members of an answer's blocks that only their provider can read."""

_DATA: Final = b"\ndata: "
_UNREADABLE: Final = (msgspec.MsgspecError, UnicodeError, RecursionError)

Block = dict[str, Any]


class Kept(NamedTuple):
    """One side as JSON text, and whether something of it was left out because it is too long."""

    json: bytes
    cut: bool


class _Message(msgspec.Struct, gc=False):
    content: list[Any] = []
    stop_reason: Any = None


class _Said(msgspec.Struct, gc=False):
    role: Any = None
    content: Any = None


class _Delta(msgspec.Struct, gc=False):
    text: str | None = None
    partial_json: str | None = None
    thinking: str | None = None
    citation: Any = None


class _Change(msgspec.Struct):
    index: int
    delta: _Delta


class _Opening(msgspec.Struct):
    index: int
    content_block: dict[str, Any]


_MESSAGE: Final = msgspec.json.Decoder(_Message)
_CHANGE: Final = msgspec.json.Decoder(_Change)
_OPENING: Final = msgspec.json.Decoder(_Opening)
_MESSAGES: Final = msgspec.json.Decoder(list[msgspec.Raw])
_SAID: Final = msgspec.json.Decoder(_Said)


def kept_request(ask: Ask, bytes_max: int) -> Kept:
    """A request within `bytes_max`: of what is too long the newest messages stay, then what the model was shown besides them."""
    body, spans = ask.body, ask.spans
    found = {name: body[slice(*spans[name])] for name in (*SETTINGS, *SHOWN, "messages") if name in spans}
    if sum(map(len, found.values())) <= bytes_max:
        return Kept(_object(found), cut=False)
    left = bytes_max
    fitting: dict[str, bytes] = {}
    for name in (*SETTINGS, "messages", *SHOWN):
        value = found.get(name, b"")
        if len(value) > left and name == "messages":
            value = _newest(value, left)
        if value and len(value) <= left:
            fitting[name] = value
            left -= len(value)
    return Kept(_object(fitting), cut=True)


def kept_message(body: bytes, bytes_max: int) -> Kept:
    """An answer that came whole, within `bytes_max`."""
    try:
        message = _MESSAGE.decode(body)
    except _UNREADABLE:
        return Kept(b"null", cut=True)
    return _answer(message.content, message.stop_reason, bytes_max)


class ContentMeter(UsageMeter):
    """A meter that also gathers the content of the events which pass, up to `bytes_max`; it keeps no event as it came.

    `keeping` ends when the client is gone: what comes from then on was given to nobody.
    """

    __slots__ = ("_blocks", "_left", "cut", "keeping")

    def __init__(self, bytes_max: int) -> None:
        super().__init__()
        self._blocks: dict[int, tuple[Block, list[str]]] = {}
        self._left = bytes_max
        self.cut = False
        self.keeping = True

    def see(self, event: Event) -> None:
        """Take one event into account, and what it adds to the content. Raises BadEvent as every meter does."""
        super().see(event)
        if not self.keeping:
            return
        try:
            if event.kind is Kind.DELTA:
                self._add(event)
            elif event.kind is Kind.BLOCK_START:
                opened = _OPENING.decode(event.data)
                if self._room(len(event.raw)):
                    self._blocks[opened.index] = (opened.content_block, [])
        except (*_UNREADABLE, KeyError):
            self.cut = True  # it is not what this dialect's events look like; the client has it all the same

    def kept(self, bytes_max: int) -> Kept:
        """The content so far."""
        blocks = [_whole(block, pieces) for _, (block, pieces) in sorted(self._blocks.items())]
        answer = _answer(blocks, self.stop_reason, bytes_max)
        return Kept(answer.json, answer.cut or self.cut)

    def _add(self, event: Event) -> None:
        """The piece of one delta. Nearly all of them have one line of data, the last of the frame."""
        raw = event.raw
        try:
            change = _CHANGE.decode(raw[raw.index(_DATA) + len(_DATA) :])
        except (*_UNREADABLE, ValueError):
            change = _CHANGE.decode(event.data)
        delta = change.delta
        block, pieces = self._blocks[change.index]
        piece = delta.text or delta.partial_json or delta.thinking
        if piece is not None:
            if self._room(len(piece)):
                pieces.append(piece)
        elif delta.citation is not None and self._room(len(raw)):
            block["citations"] = [*(block.get("citations") or ()), delta.citation]

    def _room(self, size: int) -> bool:
        """Take `size` of what is left; false, and nothing more is taken, when that is too little."""
        if self.cut or size > self._left:
            self.cut = True
            return False
        self._left -= size
        return True


def _whole(block: Block, pieces: Sequence[str]) -> Block:
    """A block with the pieces of its deltas in place."""
    text = "".join(pieces)
    if block.get("type") == "thinking":
        return {**block, "thinking": block.get("thinking", "") + text}
    if not str(block.get("type")).endswith("tool_use"):
        return {**block, "text": block.get("text", "") + text} if text or "text" in block else block
    if not text:
        return block
    try:
        return {**block, "input": msgspec.json.decode(text)}
    except _UNREADABLE:  # a tool call that broke off
        return {**block, "partial_json": text}


def _answer(blocks: Sequence[Any], stop_reason: Any, bytes_max: int) -> Kept:
    """An answer's blocks within `bytes_max`: the first that does not fit is cut in its text, those after it are left out."""
    fitting, left, cut = [], bytes_max, False
    for block in blocks:
        kept = {name: value for name, value in block.items() if name not in _OPAQUE} if isinstance(block, dict) else {}
        size = len(msgspec.json.encode(kept))
        if cut := size > left:
            shorter = {name: kept[name][:left] for name in _CUTTABLE if isinstance(kept.get(name), str)}
            if shorter and left:
                fitting.append({"type": kept.get("type"), **shorter})
            break
        fitting.append(kept)
        left -= size
    told = {"content": fitting, "stop_reason": stop_reason if isinstance(stop_reason, str) else None}
    return Kept(msgspec.json.encode(told), cut)


def _newest(messages: bytes, bytes_max: int) -> bytes:
    """The newest messages that fit, as a list, or the beginning of the last one's text; nothing when they cannot be read."""
    taken: list[bytes] = []
    left = bytes_max - 2
    try:
        every = [bytes(raw) for raw in _MESSAGES.decode(messages)]
        for raw in reversed(every):
            if len(raw) + 1 > left:
                break
            taken.append(raw)
            left -= len(raw) + 1
        if not taken and every:
            taken.append(_beginning(every[-1], left))
    except _UNREADABLE:
        return b""
    return b"[%s]" % b",".join(reversed(taken)) if taken else b""


def _beginning(message: bytes, bytes_max: int) -> bytes:
    """A message with the first of its text alone. Half of the room is for what JSON has to escape."""
    said = _SAID.decode(message)
    blocks = said.content if isinstance(said.content, list) else [{"text": said.content}]
    texts = [block["text"] for block in blocks if isinstance(block, dict) and isinstance(block.get("text"), str)]
    text = "\n".join(texts).encode("utf-8", "replace")[: bytes_max // 2].decode("utf-8", "ignore")
    return msgspec.json.encode({"role": said.role, "content": text})


def _object(members: dict[str, bytes]) -> bytes:
    return b"{%s}" % b",".join(b'"%s":%s' % (name.encode(), value) for name, value in members.items())
