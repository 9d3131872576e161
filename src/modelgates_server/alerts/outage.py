"""Says in the log that work waits for the store: once, and again only after it was done in between."""

from __future__ import annotations

import logging

from modelgates_server.errors import StoreUnavailable

log = logging.getLogger(__name__)


class Outage:
    """What one kind of work knows of the store. `event` is how the log calls its waiting."""

    def __init__(self, event: str) -> None:
        self._event = event
        self._lasts = False

    def note(self, error: StoreUnavailable | None) -> None:
        """Take how the work went; None means that the store was there. Of a driver's text the log gets the first line."""
        if error is not None and not self._lasts:
            log.info(self._event, extra={"reason": error.message.partition("\n")[0]})
        self._lasts = error is not None
