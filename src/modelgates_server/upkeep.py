"""Periodic work. Each is a plain function of what it needs; `app.py` decides when."""

from __future__ import annotations

from modelgates_server.clock import Clock
from modelgates_server.storage.hot import Row

MINUTES_KEPT_S = 3600
"""Meters of past minutes answer no question; an hour is kept for whoever looks into a rate limit."""

Write = tuple[str, Row]

_PRUNE = (
    ("DELETE FROM meters WHERE \"window\" = 'minute' AND held = 0 AND ends_at_s < :before_s", MINUTES_KEPT_S),
    ("DELETE FROM sessions WHERE expires_at_s < :before_s", 0),
    ("DELETE FROM sign_in_links WHERE expires_at_s < :before_s", 0),
    ("DELETE FROM idempotency WHERE created_at_s < :before_s", 24 * 3600),
)


def prune(clock: Clock) -> list[Write]:
    """Statements that remove rows nobody will read again."""
    now_s = int(clock.now_s())
    return [(statement, {"before_s": now_s - kept_s}) for statement, kept_s in _PRUNE]
