"""What a check of `doctor` found: a colour, a sentence, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

GREEN, YELLOW, RED = "green", "yellow", "red"

Finding = tuple[str, str, str | None]
"""Colour, detail, remedy."""

_MARKS: Final = {GREEN: "ok", YELLOW: "warn", RED: "FAIL"}


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the doctor's table. `ms` is how long it took, where that means something."""

    name: str
    status: str
    detail: str
    remedy: str | None = None
    ms: int | None = None

    @property
    def mark(self) -> str:
        return _MARKS[self.status]

    def as_data(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "status": self.status,
            "detail": self.detail,
            "remedy": self.remedy,
            "ms": self.ms,
        }
