"""Where the time of one request went: its attempts as bars, and in words why it was slow. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

SCALE: Final = 1_000
"""Bars are placed on a line that is so many units long."""

WIDTH_MIN: Final = 4
"""A bar that took next to no time can still be seen."""

WORTH_SAYING_MS: Final = 1_000
"""Less than this over what is usual is not called slow."""

LARGE_PROMPT_TOKENS: Final = 50_000
LONG_ANSWER_TOKENS: Final = 1_500


@dataclass(frozen=True, slots=True)
class Bar:
    """A stretch of time of a request: who had it, when it began and how long it took, and where it stands on the line.

    `kind` is gateway, failed, answered or writing. `fault` is the class of what went wrong.
    """

    kind: str
    label: str
    starts_ms: int
    took_ms: int
    x: int
    width: int
    status: int | None = None
    fault: str | None = None


@dataclass(frozen=True, slots=True)
class Timeline:
    """All bars of a request, in order; `total_ms` is how long the line is, zero when no time was recorded."""

    total_ms: int
    bars: tuple[Bar, ...]


@dataclass(frozen=True, slots=True)
class Usual:
    """What is usual for a provider and model: medians over `requests` receipts before this one. None where none had it."""

    requests: int = 0
    latency_ms: int | None = None
    total_ms: int | None = None
    tokens_per_s: int | None = None


@dataclass(frozen=True, slots=True)
class Pace:
    """Why a request took as long as it did: the answer in one sentence, and the figures behind it."""

    headline: str
    details: tuple[str, ...]


def tokens_per_s(row: Mapping[Any, Any]) -> int | None:
    """How fast an answer was written: from its first content where it was streamed, else in all. None when there was nothing."""
    ms = _writing_ms(row)
    return round(row["output_tokens"] * 1000 / ms) if ms > 0 and row["output_tokens"] > 0 else None


def usual(rows: Iterable[Mapping[Any, Any]]) -> Usual:
    """The medians of receipts."""
    rows = list(rows)
    speeds = (tokens_per_s(row) for row in rows)
    return Usual(
        len(rows),
        _median(row["latency_ms"] for row in rows),
        _median(row["generation_ms"] for row in rows),
        _median(speeds),
    )


def timeline(row: Mapping[str, Any]) -> Timeline:
    """The bars of a receipt whose attempts are decoded.

    Attempts follow one another, and a receipt has how long each took; what is left of the time to the first content the gateway
    had: reading, planning, holding money, pausing between attempts. It is drawn first.
    """
    attempts = row["attempts"]
    tried_ms = sum(attempt["ms"] for attempt in attempts)
    end_ms = max(row["generation_ms"] or 0, row["latency_ms"] or 0, tried_ms)
    spans = [("gateway", "gateway", _gateway_ms(row), None)] if _gateway_ms(row) else []
    spans += [("failed" if one["fault"] else "answered", one["provider"], one["ms"], one) for one in attempts]
    writing_ms = end_ms - sum(took for _, _, took, _ in spans)
    if writing_ms > 0 and attempts and attempts[-1]["fault"] is None:
        spans.append(("writing", row["provider"] or "", writing_ms, None))
    return Timeline(end_ms, tuple(_bars(spans, end_ms)))


def pace(row: Mapping[str, Any], known: Usual) -> Pace:
    """Tell why a receipt, whose attempts are decoded, took as long as it did, beside what is usual."""
    failed = [attempt for attempt in row["attempts"] if attempt["fault"]]
    failed_ms = sum(attempt["ms"] for attempt in failed)
    causes = [
        (failed_ms, f"{_attempts(len(failed))} failed before and took {_seconds(failed_ms)}"),
        (_gateway_ms(row), f"{_seconds(_gateway_ms(row))} passed in the gateway"),
        *_over_usual(row, known),
    ]
    excess_ms, cause = max(causes, key=lambda one: one[0])
    total_ms = row["generation_ms"]
    if total_ms is None:
        headline = "How long it took was not recorded."
    elif excess_ms >= WORTH_SAYING_MS and excess_ms * 4 >= total_ms:
        headline = f"Slow mostly because {cause}."
    elif known.total_ms is None:
        headline = "Nothing stands out; there is too little before it to say what is usual."
    elif total_ms > known.total_ms * 3 // 2 + WORTH_SAYING_MS:
        headline = (
            f"It took {_seconds(total_ms)}, where {_seconds(known.total_ms)} is usual; no single cause stands out."
        )
    else:
        headline = "Nothing stands out: it took about what is usual, or less."
    return Pace(headline, tuple(_details(row, known, failed, failed_ms)))


def _over_usual(row: Mapping[str, Any], known: Usual) -> Iterator[tuple[int, str]]:
    """By how much the provider was slower than usual, at its first content and in writing."""
    answered = _answered(row)
    if answered is not None and known.latency_ms is not None:
        over_ms = answered["ms"] - known.latency_ms
        yield over_ms, f"{answered['provider']} needed {_seconds(over_ms)} more than usual for {_what(row)}"
    speed = tokens_per_s(row)
    if speed is not None and known.tokens_per_s:
        over_ms = _writing_ms(row) - row["output_tokens"] * 1000 // known.tokens_per_s
        yield over_ms, f"the answer was written at {speed:,} tokens per second, where {known.tokens_per_s:,} are usual"
    if row["output_tokens"] >= LONG_ANSWER_TOKENS and speed is not None and speed >= (known.tokens_per_s or speed):
        yield _writing_ms(row) // 2, f"the answer is long: {row['output_tokens']:,} tokens"


def _details(
    row: Mapping[str, Any], known: Usual, failed: Sequence[Mapping[str, Any]], failed_ms: int
) -> Iterator[str]:
    if failed:
        yield f"{_attempts(len(failed))} failed and took {_seconds(failed_ms)} in all; the attempts below say what went wrong."
    if _gateway_ms(row):
        yield (
            f"{_seconds(_gateway_ms(row))} passed in the gateway: planning, waiting for room in a budget"
            " that other requests held, pauses between attempts."
        )
    answered = _answered(row)
    if answered is not None:
        yield f"{answered['provider']} needed {_seconds(answered['ms'])} for {_what(row)}.{_usually(known)}"
    speed = tokens_per_s(row)
    if speed is not None:
        most = f"; {known.tokens_per_s:,} are usual" if known.tokens_per_s else ""
        yield f"{row['output_tokens']:,} tokens came at {speed:,} per second{most}."
    if row["thinking_tokens"] * 2 > row["output_tokens"] > 0:
        yield f"{row['thinking_tokens']:,} of them were thinking, which comes before the text."
    prompt = (
        row["input_tokens"] + row["cache_read_tokens"] + row["cache_write_5m_tokens"] + row["cache_write_1h_tokens"]
    )
    if prompt >= LARGE_PROMPT_TOKENS:
        yield f"The prompt has {prompt:,} tokens, of which {row['cache_read_tokens']:,} came from a cache; the rest had to be read."


def _what(row: Mapping[str, Any]) -> str:
    return "its first content" if row["streamed"] else "the whole answer"


def _usually(known: Usual) -> str:
    if known.latency_ms is None:
        return ""
    requests = f"{known.requests:,} request{'s' if known.requests > 1 else ''}"
    return (
        f" Usual for it and this model: {_seconds(known.latency_ms)} (the median of {requests} in the 24 hours before)."
    )


def _answered(row: Mapping[str, Any]) -> Mapping[str, Any] | None:
    return next((attempt for attempt in reversed(row["attempts"]) if not attempt["fault"]), None)


def _gateway_ms(row: Mapping[str, Any]) -> int:
    """What of the time before the first content (without any: of all) no attempt had."""
    until_ms: int | None = row["latency_ms"] if row["latency_ms"] is not None else row["generation_ms"]
    tried_ms: int = sum(attempt["ms"] for attempt in row["attempts"])
    return max(0, (until_ms or 0) - tried_ms)


def _writing_ms(row: Mapping[Any, Any]) -> int:
    if row["generation_ms"] is None:
        return 0
    return int(row["generation_ms"] - ((row["latency_ms"] or 0) if row["streamed"] else 0))


def _bars(spans: Iterable[tuple[str, str, int, Mapping[str, Any] | None]], end_ms: int) -> Iterator[Bar]:
    at_ms = 0
    for kind, label, took_ms, attempt in spans:
        x = min(at_ms * SCALE // max(1, end_ms), SCALE - WIDTH_MIN)
        width = max(WIDTH_MIN, min(took_ms * SCALE // max(1, end_ms), SCALE - x))
        status = None if attempt is None else attempt["status"] or None
        yield Bar(kind, label, at_ms, took_ms, x, width, status, None if attempt is None else attempt["fault"])
        at_ms += took_ms


def _median(values: Iterable[int | None]) -> int | None:
    ordered = sorted(value for value in values if value is not None)
    return ordered[(len(ordered) - 1) // 2] if ordered else None


def _attempts(count: int) -> str:
    return f"{count} attempt{'' if count == 1 else 's'}"


def _seconds(ms: int) -> str:
    return f"{ms / 1000:.1f} s" if abs(ms) >= 1_000 else f"{ms} ms"
