"""Activity as a file and on paper: every group in every step where something was, with all figures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from modelgates_server.activity.series import Figures, Look, figures_of
from modelgates_server.activity.series_names import told_apart
from modelgates_server.money import usd_text

SECTIONS_MAX: Final = 50
"""Groups that are printed with their steps; the summary and the CSV have more."""

HEAD: Final = (
    "time", "group_by", "group_id", "group", "requests", "failures", "spend_usd", "credits_usd", "own_keys_usd", "tokens",
    "prompt_tokens", "cache_read_tokens", "cache_write_tokens", "completion_tokens", "reasoning_tokens",
)  # fmt: skip

_FORMS: Final = {"minute": "%Y-%m-%d %H:%M", "hour": "%Y-%m-%d %H:%M", "day": "%Y-%m-%d", "month": "%Y-%m"}


@dataclass(frozen=True, slots=True)
class Step:
    """A step in which something was: its beginning as text, and its figures."""

    time: str
    figures: Figures


@dataclass(frozen=True, slots=True)
class Section:
    """A group with its steps, in the order of time."""

    name: str
    figures: Figures
    steps: tuple[Step, ...]


def sections(seen: Look) -> tuple[Section, ...]:
    """The largest groups, each for a page of its own."""
    texts = told_apart(seen.named)
    return tuple(
        Section(texts.get(group, "all"), figures, tuple(_steps(seen, group)))
        for group, figures in seen.ranked[:SECTIONS_MAX]
    )


def rows(seen: Look) -> Iterator[Sequence[object]]:
    """Rows under `HEAD`: all groups, the largest first, each in the order of time."""
    texts = told_apart(seen.named)
    for group, _ in seen.ranked:
        for step in _steps(seen, group):
            found = step.figures
            yield (
                step.time, str(seen.wanted.group or "none"), group, texts.get(group, group or "all"), found.requests,
                found.failures, usd_text(found.spend_nusd), usd_text(found.credits_nusd), usd_text(found.own_keys_nusd),
                found.tokens, found.prompt_tokens, found.cache_read_tokens, found.cache_write_tokens,
                found.completion_tokens, found.reasoning_tokens,
            )  # fmt: skip


def time_text(step: str, start_s: int) -> str:
    """The beginning of a step, as exact as its kind: ``2026-11-26 14:05``, ``2026-11-26``, ``2026-11``."""
    return datetime.fromtimestamp(start_s, UTC).strftime(_FORMS[step])


def _steps(seen: Look, group: str) -> Iterator[Step]:
    by_step = seen.cells[group]
    for number, start_s in enumerate(seen.span.starts_s):
        if number in by_step:
            yield Step(time_text(seen.span.step, start_s), figures_of(by_step[number]))
