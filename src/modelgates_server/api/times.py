"""Reading times and days that queries and bodies name."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

from modelgates_server.activity.daily import midnight_s
from modelgates_server.errors import BadRequest

_INSTANT: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_DAY_CHARACTERS: Final = 10


def instant_ms(text: str, name: str) -> int:
    """Read ``2026-11-26T12:00:00Z``, or a day as its beginning in UTC, as Unix milliseconds.

    Raises BadRequest for everything else, also for a time without a zone: whose it is would be a guess.
    """
    if len(text) <= _DAY_CHARACTERS:
        return midnight_s(text, name) * 1000
    try:
        if _INSTANT.fullmatch(text):
            moment = datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text.upper()))
            return int((moment.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1000)
    except (ValueError, OverflowError):
        pass
    raise BadRequest(f"{name}: {text[:60]!r} is not a time; write it like 2026-11-26T12:00:00Z")
