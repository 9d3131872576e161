"""Periodic work. Each is a plain function of what it needs; `app.py` decides when."""

from __future__ import annotations

import logging
import time
from typing import Final

import sqlalchemy as sa

from modelgates_server.activity.contents import delete_some, no_longer_wanted
from modelgates_server.activity.rollups import mend
from modelgates_server.clock import Clock
from modelgates_server.storage.hot import Row

log = logging.getLogger(__name__)

MINUTES_KEPT_S = 3600
"""Meters of past minutes answer no question; an hour is kept for whoever looks into a rate limit."""

BREATH_S: Final = 0.03
"""After each batch of contents: SQLite's other writers look every 25 ms at first whether they may."""

CONTENTS_S_MAX: Final = 30.0
"""How long contents are removed at a time; what is left then is removed the next time."""

FAILURES_KEPT_S = 2 * 24 * 3600
KNOWN_KEPT_S = 91 * 24 * 3600
"""Wrong passwords are forgotten after half a day anyway, and networks that somebody signed in from after 90 (accounts/guesses.py)."""

Write = tuple[str, Row]

_PRUNE = (
    ("DELETE FROM meters WHERE \"window\" = 'minute' AND held = 0 AND ends_at_s < :before_s", MINUTES_KEPT_S),
    ("DELETE FROM sessions WHERE expires_at_s < :before_s", 0),
    ("DELETE FROM sign_in_links WHERE expires_at_s < :before_s", 0),
    ("DELETE FROM sign_in_states WHERE expires_at_s < :before_s", 0),
    ("DELETE FROM sign_in_failures WHERE failures > 0 AND last_at_s < :before_s", FAILURES_KEPT_S),
    ("DELETE FROM sign_in_failures WHERE last_at_s < :before_s", KNOWN_KEPT_S),
    ("DELETE FROM passes WHERE expires_at_s < :before_s", 0),
    ("DELETE FROM idempotency WHERE created_at_s < :before_s", 24 * 3600),
)


def prune(clock: Clock) -> list[Write]:
    """Statements that remove rows nobody will read again."""
    now_s = int(clock.now_s())
    return [(statement, {"before_s": now_s - kept_s}) for statement, kept_s in _PRUNE]


def prune_contents(engine: sa.Engine, clock: Clock) -> int:
    """Remove prompts and answers whose time is over, batch by batch; how many. Blocks: for a thread. Raises StoreUnavailable."""
    removed, until_s = 0, clock.monotonic_s() + CONTENTS_S_MAX
    for condition in no_longer_wanted(clock.now_s()):
        while clock.monotonic_s() < until_s and (count := delete_some(engine, condition)):
            removed += count
            time.sleep(BREATH_S)
    return removed


def mend_days(engine: sa.Engine, clock: Clock) -> None:
    """Add to the days of activity what servers of the version before left out. For a thread. Raises StoreUnavailable."""
    for organization_id, day_s in mend(engine, clock.now_s()):
        log.warning("day_mended", extra={"organization_id": organization_id, "day_s": day_s})
