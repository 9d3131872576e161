"""A person's share in one field, as people write it: ``20 a week``, ``5 a day, 50 a month``, ``none``. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from modelgates_server.errors import BadRequest
from modelgates_server.limits import Window
from modelgates_server.money import dollars, nusd_from_usd

PER: Final = {"day": "a day", "week": "a week", "month": "a month", "life": "in all"}
"""How a window is said, by its name."""

HOW: Final = "write it like 20 a week, or 5 a day, 50 a month; none takes the share away"

_PART: Final = re.compile(
    r"\$?\s*(?P<amount>[0-9][0-9.,']*)\s*(?:\$|usd)?\s*(?:(?:/|per|an?|each)?\s*(?P<word>[a-z][a-z -]*))?"
)
_WORDS: Final = {
    "day": Window.DAY, "daily": Window.DAY, "today": Window.DAY,
    "week": Window.WEEK, "weekly": Window.WEEK,
    "month": Window.MONTH, "monthly": Window.MONTH, "": Window.MONTH,
    "in all": Window.LIFE, "all": Window.LIFE, "life": Window.LIFE, "lifetime": Window.LIFE, "for life": Window.LIFE, "ever": Window.LIFE,
}  # fmt: skip
_NOTHING: Final = frozenset({"", "none", "no", "-", "unlimited"})


def read_shares(text: str) -> dict[Window, int]:
    """Give nano-USD by window; an amount alone is for a month. Empty for ``none``. Raises BadRequest."""
    written = " ".join(text.casefold().split())
    if written in _NOTHING:
        return {}
    found: dict[Window, int] = {}
    for part in re.split(r"\s*(?:;|\+|\band\b|,(?=\s))\s*", written):
        fits = _PART.fullmatch(part)
        window = None if fits is None else _WORDS.get((fits["word"] or "").strip())
        if fits is None or window is None or window in found:
            raise BadRequest(f"{text.strip()[:60]!r} is no share; {HOW}")
        found[window] = nusd_from_usd(_amount(fits["amount"]))
    return found


def shares_text(shares: Iterable[tuple[str, int]]) -> str:
    """Write pairs of window and nano-USD as `read_shares` reads them."""
    return ", ".join(f"{dollars(nusd)} {PER[window]}" for window, nusd in shares)


def _amount(text: str) -> str:
    """An amount without marks between its thousands. ``12,50`` is left as it is, and refused: it may mean 12.50 or 1250."""
    return re.sub(r"[,'](?=[0-9]{3}(?:\D|$))", "", text)
