"""The nouns of the wire: what was asked, what was used, one event of a stream. Values only; no decisions, no I/O.

They are frozen msgspec structs rather than dataclasses because one is made per streamed event, and a struct is built
ten times faster. `msgspec.structs.replace` makes a changed copy.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Final, Literal

from msgspec import Meta, Struct

if TYPE_CHECKING:
    from collections.abc import Mapping


FALLBACKS_BETA: Final = "server-side-fallback"
"""A beta of this name makes `fallbacks` the upstream's field instead of ours (product-surface 1.2)."""


class BadEvent(ValueError):
    """An upstream's stream broke the event format: too large a frame, or an event that is not JSON."""


class BadAnswer(ValueError):
    """An upstream answered 200 with something that is not a message."""


class Iteration(Struct, frozen=True, gc=False):
    """One entry of `usage.iterations` (providers 10), in tokens; `model` is None when it is the message's own.

    `kind` is message, compaction, advisor_message, fallback_message, or a word that is newer than this code.
    """

    kind: str
    model: str | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_5m_tokens: int = 0
    cache_write_1h_tokens: int = 0


class Usage(Struct, frozen=True):
    """What an upstream says it used (providers 10). Tokens are disjoint: `input_tokens` excludes the cache.

    `thinking_tokens` are part of `output_tokens` and never added. When `iterations` is not empty, cost is the sum over
    its entries instead of the totals. `estimated` means that the upstream did not report all of it.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_5m_tokens: int = 0
    cache_write_1h_tokens: int = 0
    thinking_tokens: int = 0
    web_searches: int = 0
    web_fetches: int = 0
    service_tier: str | None = None
    speed: str | None = None
    inference_geo: str | None = None
    served_model: str | None = None
    iterations: tuple[Iteration, ...] = ()
    estimated: bool = False


class Shape(Struct, frozen=True, gc=False):
    """Upper bounds for the size of a hold (design 5.4), found by counting bytes, so never too small.

    `unbounded` means that bytes do not bound the input tokens (documents, files, URLs, server tools): use the context
    window. `cache_1h` means that one-hour cache writes may occur. `web_searches_max` counts fees, not tokens.

    What not every provider offers: `has_files` (uploaded ones, by id), `has_urls` (sources by URL), `has_callers` (tools that code
    may call) and `tool_types` other than custom. A body that is too large to be looked through shows none of the first two.
    """

    body_bytes: int
    messages_max: int = 0
    images_max: int = 0
    has_tools: bool = False
    unbounded: bool = False
    cache_1h: bool = False
    web_searches_max: int = 0
    has_files: bool = False
    has_urls: bool = False
    has_callers: bool = False
    tool_types: tuple[str, ...] = ()


class Percentiles(Struct, frozen=True, forbid_unknown_fields=True):
    """Cutoffs of a `preferred_…` wish: all that are given must hold."""

    p50: float | None = None
    p75: float | None = None
    p90: float | None = None
    p99: float | None = None


Amount = Annotated[float, Meta(ge=0, le=1_000_000)] | Annotated[str, Meta(pattern=r"^[0-9]{1,7}(\.[0-9]{1,12})?$")]
"""USD, as JSON clients write it."""


class MaxPrice(Struct, frozen=True):
    """The dearest that the client accepts, in USD per million tokens; `request` and `image` are USD each."""

    prompt: Amount | None = None
    completion: Amount | None = None
    request: Amount | None = None
    image: Amount | None = None


class SortBy(Struct, frozen=True):
    """The long form of `sort`."""

    by: Literal["price", "throughput", "latency", "exacto"]
    partition: Literal["model", "none"] = "model"


Sort = Literal["price", "throughput", "latency", "exacto"]


class Preferences(Struct, frozen=True):
    """The `provider` object: which providers may answer, and in which order (product-surface 1.2). Null says nothing.

    `within` are further allow-lists, all of which must hold: a policy's own, when policies are merged.
    `quantizations` other than those of the open weights never fit a Claude endpoint. What is not declared here is ignored.
    """

    order: tuple[str, ...] | None = None
    only: tuple[str, ...] | None = None
    within: tuple[tuple[str, ...], ...] | None = None
    ignore: tuple[str, ...] | None = None
    allow_fallbacks: bool | None = None
    sort: Sort | SortBy | None = None
    max_price: MaxPrice | None = None
    require_parameters: bool | None = None
    data_collection: Literal["allow", "deny"] | None = None
    zdr: bool | None = None
    quantizations: tuple[str, ...] | None = None
    preferred_min_throughput: float | Percentiles | None = None
    preferred_max_latency: float | Percentiles | None = None


NO_PREFERENCES: Final = Preferences()


class Ask(Struct, frozen=True):
    """What the client wants: the raw body, and the few fields that we route and price by.

    `spans` maps each top-level key to the byte range `[start, end)` of its value in `body`, in the order of the body.
    `max_tokens` is None for a token count. `models` are the client's alternatives, without `model` itself. `provider`
    is the client's routing object. `is_probe` marks the connection test of Claude Desktop (client-protocol D-2).
    """

    body: bytes
    spans: Mapping[str, tuple[int, int]]
    model: str
    shape: Shape
    stream: bool = False
    max_tokens: int | None = None
    thinking_budget: int = 0
    speed: str | None = None
    service_tier: str | None = None
    inference_geo: str | None = None
    session_id: str | None = None
    user: str | None = None
    models: tuple[str, ...] = ()
    provider: Preferences = NO_PREFERENCES
    is_probe: bool = False


class Kind(Enum):
    """What an event of a Messages stream means for the gateway; the value is the name on the wire."""

    START = b"message_start"
    BLOCK_START = b"content_block_start"
    DELTA = b"content_block_delta"
    BLOCK_STOP = b"content_block_stop"
    MESSAGE_DELTA = b"message_delta"
    STOP = b"message_stop"
    PING = b"ping"
    ERROR = b"error"
    OTHER = b""


# The look behind stands after the word that it guards, so that the search can leap from word to word.
_DATA_LINE: Final = re.compile(rb"data(?<![^\r\n]data)(?:: ?([^\r\n]*)|(?=[\r\n])())")


class Event(Struct, frozen=True, gc=False):
    """One frame of a stream. `raw` is what to send on: the whole frame with its blank line.

    `name` is the event's name, empty for comments. `raw` names the event in an `event:` line also when the upstream did
    not (client-protocol S-2).
    """

    kind: Kind
    name: bytes
    raw: bytes

    @property
    def data_spans(self) -> list[tuple[int, int]]:
        """Byte ranges of the `data` lines' contents in `raw`, without the one space after the colon."""
        return [match.span(match.lastindex or 1) for match in _DATA_LINE.finditer(self.raw)]

    @property
    def data(self) -> bytes:
        """The payload: the `data` lines joined by LF; empty for comments."""
        return b"\n".join([self.raw[start:end] for start, end in self.data_spans])
