"""The `usage` object of the Messages API, folded report by report into one `Usage` (providers 10).

Each field is the last value that was reported, never a sum; null and absent say nothing, an explicit zero is a value.
What cannot be a count (negative, fractional, text, absurdly large) is ignored and makes the tally `suspect`, and
so does a count that shrinks; neither disturbs the answer (reliability-security 3.1 row 18).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from modelgates_server.dialects.values import Iteration, Usage

if TYPE_CHECKING:
    from collections.abc import Mapping

COUNT_MAX: Final = 10**9
"""No request uses a thousand million tokens; what claims to is a lie."""

ITERATIONS_MAX: Final = 1_000
"""Ten times the most hops a server loop makes; bounds what one event may make us build."""

_WORD_CHARS_MAX: Final = 64
_WORDS: Final = ("service_tier", "speed", "inference_geo")

_PLACES: Final = {
    "input": (None, "input_tokens"),
    "output": (None, "output_tokens"),
    "read": (None, "cache_read_input_tokens"),
    "write": (None, "cache_creation_input_tokens"),
    "write_5m": ("cache_creation", "ephemeral_5m_input_tokens"),
    "write_1h": ("cache_creation", "ephemeral_1h_input_tokens"),
    "thinking": ("output_tokens_details", "thinking_tokens"),
    "web_searches": ("server_tool_use", "web_search_requests"),
    "web_fetches": ("server_tool_use", "web_fetch_requests"),
}
"""Our name of each count: the object inside `usage` that holds it (None for `usage` itself), and its name there."""


class Tally:
    """The last believable value of each field of `usage`."""

    __slots__ = ("_iterations", "_placeholder", "_words", "counts", "suspect")

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.suspect = False
        self._placeholder = False
        self._words: dict[str, str] = {}
        self._iterations: tuple[Iteration, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether input was reported, and output other than the placeholder of message_start."""
        return "input" in self.counts and "output" in self.counts and not self._placeholder

    def merge(self, raw: msgspec.Raw, *, is_start: bool = False) -> None:
        """Take one report, as raw JSON. The output count of message_start (`is_start`) is a placeholder."""
        try:
            usage = msgspec.json.decode(raw)
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            self.suspect = True
            return
        if usage is None:
            return
        if not isinstance(usage, dict):
            self.suspect = True
            return
        self._merge_counts(usage)
        if is_start:
            self._placeholder = True
        self._words.update(
            (name, word)
            for name in _WORDS
            if isinstance(word := usage.get(name), str) and 0 < len(word) <= _WORD_CHARS_MAX and word.isprintable()
        )
        entries = usage.get("iterations")
        if isinstance(entries, list):
            self._iterations = tuple(self._iteration(entry) for entry in entries[:ITERATIONS_MAX])

    def usage(self, served_model: str | None) -> Usage:
        """Give what was reported so far."""
        count = self.counts.get
        write_5m, write_1h = self._writes()
        return Usage(
            input_tokens=count("input", 0),
            output_tokens=count("output", 0),
            cache_read_tokens=count("read", 0),
            cache_write_5m_tokens=write_5m,
            cache_write_1h_tokens=write_1h,
            thinking_tokens=count("thinking", 0),
            web_searches=count("web_searches", 0),
            web_fetches=count("web_fetches", 0),
            service_tier=self._words.get("service_tier"),
            speed=self._words.get("speed"),
            inference_geo=self._words.get("inference_geo"),
            served_model=served_model,
            iterations=self._iterations,
        )

    def _merge_counts(self, usage: Mapping[str, Any]) -> None:
        for name, (group, field) in _PLACES.items():
            holder = usage if group is None else usage.get(group)
            value = holder.get(field) if isinstance(holder, dict) else None
            if value is None:
                continue
            if type(value) is not int or not 0 <= value <= COUNT_MAX:
                self.suspect = True
                continue
            is_first = name == "output" and self._placeholder
            if is_first:
                self._placeholder = False
            elif value < self.counts.get(name, 0):
                self.suspect = True
            self.counts[name] = value

    def _writes(self) -> tuple[int, int]:
        """Split cache writes by lifetime. Only message_start has the split, and the total may grow after it.

        The excess is taken as five-minute writes, unless all that was split was one-hour writes.
        """
        write_5m, write_1h = self.counts.get("write_5m", 0), self.counts.get("write_1h", 0)
        excess = self.counts.get("write", write_5m + write_1h) - write_5m - write_1h
        if excess >= 0:
            return (0, write_1h + excess) if write_1h and not write_5m else (write_5m + excess, write_1h)
        total = self.counts["write"]
        return total - min(write_1h, total), min(write_1h, total)

    def _iteration(self, entry: object) -> Iteration:
        """Read one entry; what is not an object counts nothing."""
        if not isinstance(entry, dict):
            self.suspect = True
            return Iteration("")
        own = Tally()
        own._merge_counts(entry)
        self.suspect |= own.suspect
        count = own.counts.get
        write_5m, write_1h = own._writes()
        return Iteration(
            kind=text_or_none(entry.get("type")) or "",
            model=text_or_none(entry.get("model")),
            input_tokens=count("input", 0),
            output_tokens=count("output", 0),
            cache_read_tokens=count("read", 0),
            cache_write_5m_tokens=write_5m,
            cache_write_1h_tokens=write_1h,
        )


def text_or_none(value: object) -> str | None:
    """Take a short string from a foreign object, one that may be stored and shown; anything else counts as absent."""
    return value if isinstance(value, str) and 0 < len(value) <= 256 and value.isprintable() else None
