"""Edits within the large members of a request, for upstreams that refuse what Anthropic takes, and for healing conversations.

Deterministic and prefix-preserving: the same message is edited alike in every later request, so prompt caches stay warm
(providers 5, rule 2). Whatever is not removed keeps its bytes.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

from modelgates_server.dialects.edit import add_member, write_ask
from modelgates_server.dialects.scan import scan_object
from modelgates_server.dialects.values import Ask
from modelgates_server.errors import BadRequest

_SCOPE: Final = rb'"scope"\s*:\s*(?:"(?:[^"\\]|\\.)*"|null)'
_CACHE_MARK: Final = re.compile(rb'("cache_control"\s*:\s*\{[^{}]*?)(?:,\s*' + _SCOPE + rb"|" + _SCOPE + rb"\s*,?\s*)")
_ATTRIBUTION: Final = "x-anthropic-billing-header:"
_OPENING_BYTES: Final = 4096
"""Of a long conversation's first message; of a short one all of it is looked at."""

_UNMARKED: Final = frozenset({"thinking", "redacted_thinking"})
"""Blocks that cannot be marked for the cache."""

_TURN_CONTROL: Final = frozenset({"clear_at", "output_config"})
"""Members of system messages that belong to the beta per-turn-control."""

_MEMBERS: Final = msgspec.json.Decoder(dict[str, Raw])
_MESSAGES: Final = msgspec.json.Decoder(list[Raw])


class _Message(Struct):
    role: str
    content: Raw = Raw(b"null")  # a system message may have other things to say


class _Block(Struct):
    type: str = ""
    text: Any = None


_MESSAGE: Final = msgspec.json.Decoder(_Message)
_BLOCK: Final = msgspec.json.Decoder(_Block)


BREAKPOINTS_MAX: Final = 4
"""How many places of a request may be marked for the cache."""


def edited_inside(ask: Ask, edits: tuple[str, ...]) -> Ask:
    """Edit what `edits` name.

    ``cache_control.scope``, Claude Code's ``attribution`` block and the ``turn_control`` of system messages go; ``breakpoint``
    marks the last block for the cache, which is what a top-level `cache_control` does at Anthropic (product-surface 3.6).
    """
    changed = ask
    if "breakpoint" in edits:
        changed = _with_breakpoint(changed)
    if "turn_control" in edits:
        changed = _without_turn_control(changed)
    if "attribution" in edits:
        changed = _without_attribution(changed)
    if "cache_control.scope" in edits and b'"scope"' in changed.body:
        changed = rewritten(changed, _CACHE_MARK.sub(rb"\1", changed.body))
    return changed


def cut_member(value: bytes, name: str) -> bytes | None:
    """Remove one member of a small JSON object; None when nothing is left of it. What is no object stays as it is."""
    try:
        members = msgspec.json.decode(value, type=dict[str, Raw])
    except msgspec.DecodeError:
        return value
    if name not in members:
        return value
    del members[name]
    return msgspec.json.encode(members) if members else None


def without_thinking(ask: Ask) -> Ask | None:
    """Take out every thinking block, and messages that have nothing else; None when there is none (providers 5, rule 4)."""
    start, end = ask.spans["messages"]
    try:
        messages = [bytes(message) for message in _MESSAGES.decode(memoryview(ask.body)[start:end])]
        kept = [text for message in messages if (text := _thoughtless(message))]
    except (msgspec.MsgspecError, RecursionError, BadRequest):
        return None
    if kept == messages or not kept:
        return None
    return rewritten(ask, write_ask(ask, put={"messages": b"[" + b",".join(kept) + b"]"}))


def bind_thinking(ask: Ask) -> Ask | None:
    """Ask the upstream to drop thinking that is bound elsewhere, instead of refusing it (providers 5, rule 4).

    None when the request does not say how it thinks; `ask` itself when the client chose what happens.
    """
    span = ask.spans.get("thinking")
    if span is None or ask.body[span[0]] != ord("{"):
        return None
    members = msgspec.json.decode(ask.body[slice(*span)], type=dict[str, Raw])
    if "block_binding" in members:
        return ask
    members["block_binding"] = Raw(b'{"prefix_mismatch_behavior":"drop_block"}')
    return rewritten(ask, write_ask(ask, put={"thinking": msgspec.json.encode(members)}))


def opening(ask: Ask) -> str:
    """A digest of how a conversation begins: the system prompt and the first message, which every later request repeats."""
    digest = hashlib.blake2b(digest_size=12)
    if "system" in ask.spans:
        start, end = ask.spans["system"]
        digest.update(ask.body[start : min(end, start + _OPENING_BYTES)])
    start, end = ask.spans["messages"]
    first = _first_item(ask.body, start + 1, min(end, start + 1 + _OPENING_BYTES))
    digest.update(first)
    return digest.hexdigest()


_NESTING: Final = re.compile(rb'"(?:[^"\\]|\\.)*"|[{}\[\]]')


def _first_item(body: bytes, start: int, end: int) -> bytes:
    """The first item of an array, or as much of it as lies before `end`: what follows it never matters."""
    depth = 0
    for match in _NESTING.finditer(body, start, end):
        depth += (match[0] in b"{[") - (match[0] in b"}]")
        if not depth:
            return body[start : match.end()]
    return body[start:end]


def rewritten(ask: Ask, body: bytes) -> Ask:
    """The same request with another body. Gives back `ask` itself when nothing changed."""
    if body == ask.body:
        return ask
    return msgspec.structs.replace(ask, body=body, spans=scan_object(body))


def _thoughtless(message: bytes) -> bytes | None:
    read = _MESSAGE.decode(message)
    content = bytes(read.content)
    if read.role != "assistant" or not content.startswith(b"["):
        return message
    blocks = [bytes(block) for block in _MESSAGES.decode(content)]
    kept = [block for block in blocks if _BLOCK.decode(block).type not in {"thinking", "redacted_thinking"}]
    if len(kept) == len(blocks):
        return message
    if not kept:
        return None
    spans = scan_object(message)
    start, end = spans["content"]
    return message[:start] + b"[" + b",".join(kept) + b"]" + message[end:]


def _with_breakpoint(ask: Ask) -> Ask:
    """The request with its top-level `cache_control` on the last block of its last message, if there is room for one more mark."""
    span = ask.spans.get("cache_control")
    if span is None or ask.body.count(b'"cache_control"') > BREAKPOINTS_MAX:
        return ask
    mark = ask.body[slice(*span)]
    try:
        messages = _MESSAGES.decode(memoryview(ask.body)[slice(*ask.spans["messages"])])
        last = bytes(messages[-1])
        content = bytes(_MESSAGE.decode(last).content)
        if content.startswith(b'"'):
            marked = b'[{"type":"text","text":%s,"cache_control":%s}]' % (content, mark)
        else:
            blocks = [bytes(block) for block in _MESSAGES.decode(content)]
            if b'"cache_control"' in blocks[-1] or _BLOCK.decode(blocks[-1]).type in _UNMARKED:
                return ask
            blocks[-1] = add_member(blocks[-1], "cache_control", mark)
            marked = b"[" + b",".join(blocks) + b"]"
        parts = [bytes(message) for message in messages[:-1]]
        value = b"[" + b",".join([*parts, add_member(last, "content", marked)]) + b"]"
    except (msgspec.MsgspecError, RecursionError, IndexError, BadRequest):
        return ask
    return rewritten(ask, write_ask(ask, put={"messages": value}))


def _without_turn_control(ask: Ask) -> Ask:
    """The request without what system messages say about single turns; one that says nothing else goes (providers 4)."""
    start, end = ask.spans["messages"]
    if not any(b'"%s"' % name.encode() in ask.body for name in _TURN_CONTROL):
        return ask
    kept: list[bytes] = []
    try:
        for message in map(bytes, _MESSAGES.decode(memoryview(ask.body)[start:end])):
            members = _MEMBERS.decode(message)
            if bytes(members.get("role", Raw(b""))) != b'"system"' or not members.keys() & _TURN_CONTROL:
                kept.append(message)
                continue
            left = {name: value for name, value in members.items() if name not in _TURN_CONTROL}
            if bytes(left.get("content", Raw(b"[]"))) not in {b"[]", b'""'}:
                kept.append(msgspec.json.encode(left))
    except (msgspec.MsgspecError, RecursionError):
        return ask
    return rewritten(ask, write_ask(ask, put={"messages": b"[" + b",".join(kept) + b"]"}))


def _without_attribution(ask: Ask) -> Ask:
    """Claude Code's first system block names its build and may change with every request: only Anthropic wants it."""
    span = ask.spans.get("system")
    if span is None or _ATTRIBUTION.encode() not in ask.body[span[0] : span[0] + 512]:
        return ask
    try:
        blocks = [bytes(block) for block in _MESSAGES.decode(memoryview(ask.body)[slice(*span)])]
        first = _BLOCK.decode(blocks[0])
    except (msgspec.MsgspecError, RecursionError, IndexError, BadRequest):
        return ask
    if not isinstance(first.text, str) or not first.text.startswith(_ATTRIBUTION):
        return ask
    if len(blocks) == 1:
        return rewritten(ask, write_ask(ask, drop=frozenset({"system"})))
    return rewritten(ask, write_ask(ask, put={"system": b"[" + b",".join(blocks[1:]) + b"]"}))
