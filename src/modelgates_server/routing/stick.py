"""Which provider holds a conversation: its prompt cache is warm there, and its thinking was signed there (design decision 12)."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import Final

STICK_S: Final = 3600.0
"""As long as the longest prompt cache (providers 5)."""

CONVERSATIONS_MAX: Final = 50_000
"""About 200 bytes each; the one that was quiet for longest goes."""


KEY_BYTES_MAX: Final = 64
"""BLAKE2b takes no longer key."""


def conversation_id(secret: bytes, organization_id: str, model: str, session: str) -> str:
    """A short name of one conversation with one model: without the installation's secret, nobody can try out how it began."""
    parts = f"{organization_id}\0{model}\0{session}".encode()
    return hashlib.blake2b(parts, digest_size=12, key=secret[:KEY_BYTES_MAX]).hexdigest()


class Stickiness:
    """Remembers by conversation; what it does not know, the receipts may."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, tuple[str | None, float]] = OrderedDict()

    def forget(self) -> None:
        """Start anew, as after a restart."""
        self._known.clear()

    def find(self, conversation: str, now_s: float) -> tuple[bool, str | None]:
        """Whether the conversation is known at all, and the provider that holds it, if any does."""
        known = self._known.get(conversation)
        if known is None or known[1] <= now_s:
            return False, None
        return True, known[0]

    def keep(self, conversation: str, provider: str | None, now_s: float) -> None:
        """The provider gave content; None remembers that nobody holds the conversation yet."""
        self._known[conversation] = (provider, now_s + STICK_S)
        self._known.move_to_end(conversation)
        if len(self._known) > CONVERSATIONS_MAX:
            self._known.popitem(last=False)
