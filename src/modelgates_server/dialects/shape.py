"""How large a request can become, found by counting bytes: an upper bound for its hold, without decoding messages.

Counting errs on the large side only (design 5.4): text that looks like a key or a block type is counted too. One pass
of one pattern takes 0.3 to 0.9 ms per MB.
"""

from __future__ import annotations

import re
from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct

from modelgates_server.dialects.values import Shape

if TYPE_CHECKING:
    from modelgates_server.dialects.fields import Fields
    from modelgates_server.dialects.values import Ask

WEB_SEARCHES_DEFAULT: Final = 10
"""Assumed for a web search tool without `max_uses` (providers 10)."""

_TOOLS_BYTES_MAX: Final = 4 << 20
"""More tools than any context window holds."""

_COUNTED_BYTES_MAX: Final = 800_000
"""Bytes bound tokens, and no context window holds more than a million: a body of this size is taken to fill it, with
one-hour cache writes. Counting words in it would only hold up everybody else."""

_WORDS_MAX: Final = 200_000
"""A body with more telling words is not counted on but taken as unbounded."""

# `"type"` is part of the pattern because tool inputs are full of keys named "url" and "file". An escaped letter in the
# first word of a string can spell any of the words, so it is telling too.
_TELLING: Final = re.compile(
    rb'"(?:role"|type"[ \t\r\n]*:[ \t\r\n]*"(?:image|document|file|url|container_upload)"|1h"'
    rb"|[a-z_1]{0,18}+\\u00(?:[4-7]|31))"
)
_ESCAPE: Final = b"\\"
_QUOTE: Final = ord('"')
_BOUNDED_WORDS: Final = frozenset({b"role", b"image", b"1h"})

_CLIENT_TOOL: Final = re.compile(r"custom$|(?:bash|computer|memory|text_editor|tool_search)_")
_SERVER_FIELDS: Final = ("container", "mcp_servers")


class _Tool(Struct, frozen=True, gc=False):
    type: str | None = None
    max_uses: Annotated[int, Meta(ge=0, le=1_000_000)] | None = None
    allowed_callers: Any = None  # msgspec's Raw takes no part in unions


_TOOLS: Final = msgspec.json.Decoder(list[_Tool])


def read_shape(fields: Fields) -> Shape:
    """Bound the size of a request. Raises BadRequest when `tools` is not a list of tools."""
    tools = fields.decode("tools", _TOOLS, _TOOLS_BYTES_MAX) or []
    server_tools = [tool for tool in tools if tool.type is not None and not _CLIENT_TOOL.match(tool.type)]
    words = _telling_words(fields.body)
    unbounded = bool(
        words.keys() - _BOUNDED_WORDS or server_tools or any(fields.span(name) is not None for name in _SERVER_FIELDS)
    )
    return Shape(
        body_bytes=len(fields.body),
        messages_max=words[b"role"],
        images_max=words[b"image"],
        has_tools=bool(tools),
        unbounded=unbounded,
        cache_1h=bool(words[b"1h"] or words[_ESCAPE]),
        has_files=bool(words[b"file"] or words[b"container_upload"]),
        has_urls=bool(words[b"url"]),
        has_callers=any(tool.allowed_callers is not None for tool in tools),
        tool_types=tuple({tool.type: None for tool in tools if tool.type is not None and tool.type != "custom"}),
        web_searches_max=sum(
            WEB_SEARCHES_DEFAULT if tool.max_uses is None else tool.max_uses
            for tool in server_tools
            if (tool.type or "").startswith("web_search")
        ),
    )


def _telling_words(body: bytes) -> Counter[bytes]:
    """Count the words that tell size; `_ESCAPE` stands for all that could be hidden."""
    if len(body) > _COUNTED_BYTES_MAX:
        return Counter({_ESCAPE: 1})
    found = [match[0] for match in islice(_TELLING.finditer(body), _WORDS_MAX)]
    words = Counter(_ESCAPE if text[-1] != _QUOTE else text[text.rindex(b'"', 0, -1) + 1 : -1] for text in found)
    if len(found) == _WORDS_MAX:
        words[_ESCAPE] += 1
    return words


class _Source(Struct, frozen=True):
    type: str = ""
    content: str | list[_Part] | None = None


class _Part(Struct, frozen=True):
    """A content block, or whatever stands in its place: only what names a source is looked at."""

    type: str = ""
    source: _Source | str | None = None
    content: _Part | str | list[_Part] | None = None


class _Turn(Struct, frozen=True):
    content: str | list[_Part]


_TURNS: Final = msgspec.json.Decoder(list[_Turn])


def looked_through(ask: Ask) -> Shape:
    """The shape of a request with `has_files` and `has_urls` found by reading its messages: words in a tool's input do not count.

    A conversation of an unknown form keeps the bounds that its words gave.
    """
    start, end = ask.spans["messages"]
    try:
        turns = _TURNS.decode(memoryview(ask.body)[start:end])
    except (msgspec.MsgspecError, RecursionError):
        return ask.shape
    sources, types = set[str](), set[str]()
    parts = [part for turn in turns if not isinstance(turn.content, str) for part in turn.content]
    while parts:
        part = parts.pop()
        types.add(part.type)
        if isinstance(part.source, _Source):
            sources.add(part.source.type)
            parts += part.source.content if isinstance(part.source.content, list) else []
        if part.type == "tool_result" and isinstance(part.content, list):
            parts += part.content
    return msgspec.structs.replace(
        ask.shape, has_files="file" in sources or "container_upload" in types, has_urls="url" in sources
    )
