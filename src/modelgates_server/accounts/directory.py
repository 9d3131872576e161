"""Who asks: from presented keys to a `Caller`, from memory on the hot path.

Memory follows the policy's version: `refresh` drops everything when it rose, and a hold compares the version again in
its transaction (design decision 14), so a change that was acknowledged bites everywhere, even between two refreshes.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Sequence

from modelgates_server.accounts import keys
from modelgates_server.accounts.values import Caller, KeyClass
from modelgates_server.clock import Clock
from modelgates_server.errors import Unauthenticated
from modelgates_server.limits import LIMIT_RESETS, MeterRef, Scope, Unit, Window
from modelgates_server.storage.hot import Row
from modelgates_server.storage.reader import Reader

CALLERS_MAX = 50_000
"""About 1 KB each. When it is full the oldest entry goes."""

_VERSION = "SELECT version FROM policy WHERE id = 1"
_KEY = """
    SELECT k.*, w.routing AS workspace_routing FROM api_keys k LEFT JOIN workspaces w ON w.id = k.workspace_id
    WHERE k.hash = :hash
"""
_BUDGETS = """
    SELECT scope, scope_id, "window", limit_nusd FROM budgets
    WHERE (scope = 'member' AND scope_id = :member_id) OR (scope = 'workspace' AND scope_id = :workspace_id)
    ORDER BY scope, "window"
"""

UNKNOWN = "Invalid API key. Check that the key is complete and belongs to this gateway."
DISABLED = "This API key is disabled. Ask your administrator to enable it, or use another key."
EXPIRED = "This API key has expired. Ask your administrator for a new one."
MISSING = "No API key was sent. Send it as 'Authorization: Bearer sk-mg-v1-…' or 'x-api-key: sk-mg-v1-…'."
DAMAGED = "Invalid API key: it begins like a ModelGates key but is cut off or mistyped. Copy it again."
FOREIGN = (
    "Invalid API key: this gateway takes ModelGates keys (sk-mg-v1-…), not keys of a provider or tokens of an account."
)


class Directory:
    """Identifies callers for the serving process. `pepper` is the installation's secret."""

    def __init__(self, reader: Reader, pepper: bytes, clock: Clock) -> None:
        self._reader = reader
        self._pepper = pepper
        self._clock = clock
        self._version: int | None = None
        self._callers: dict[str, Caller] = {}
        self._presented: dict[bytes, Caller] = {}  # by the plain digest of the key, which saves checksum and HMAC

    def identify(self, candidates: Sequence[str]) -> Caller:
        """Give the caller of the first candidate that is a live key.

        Raises Unauthenticated with the reason that tells most about the candidates, never with their text; or StoreUnavailable.
        """
        reasons = []
        for text in candidates:
            presented = hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
            known = self._presented.get(presented)
            if known is None and keys.well_formed(text) is None:
                reasons.append(_malformed(text))
                continue
            try:
                caller = self._unexpired(known) if known else self._live(keys.digest(self._pepper, text))
            except Unauthenticated as refused:
                reasons.append(refused.message)
            else:
                if known is None and self._callers.get(caller.key_hash) is caller:
                    self._presented[presented] = caller
                return caller
        raise Unauthenticated(max(reasons, key=_TELLING.index) if reasons else MISSING)

    def refresh(self) -> None:
        """Drop what is remembered if the policy changed. Raises StoreUnavailable, and then keeps what it has."""
        version = self._current_version()
        if version != self._version:
            self._callers.clear()
            self._presented.clear()
            self._version = version

    def reload(self, caller: Caller) -> Caller:
        """Read a caller again, after a hold said that the policy changed. Raises Unauthenticated when the key died."""
        self.refresh()
        return self._live(caller.key_hash)

    def _live(self, key_hash: str) -> Caller:
        return self._unexpired(self._callers.get(key_hash) or self._read(key_hash))

    def _unexpired(self, caller: Caller) -> Caller:
        if caller.expires_at_s is not None and caller.expires_at_s <= self._clock.now_s():
            raise Unauthenticated(EXPIRED)
        return caller

    def _read(self, key_hash: str) -> Caller:
        """Read the version before the row: a change in between makes the caller look old, never new."""
        version = self._current_version()
        row = self._reader.one(_KEY, {"hash": key_hash})
        if row is None or row["deleted_at_s"] is not None or not hmac.compare_digest(row["hash"], key_hash):
            raise Unauthenticated(UNKNOWN)
        if row["disabled"]:
            raise Unauthenticated(DISABLED)
        budgets = self._reader.all(_BUDGETS, {"member_id": row["member_id"], "workspace_id": row["workspace_id"]})
        caller = _caller(row, budgets, version)
        if version == self._version or not self._callers:
            self._remember(caller, version)
        return caller

    def _remember(self, caller: Caller, version: int) -> None:
        self._version = version
        if len(self._callers) >= CALLERS_MAX:
            del self._callers[next(iter(self._callers))]
            self._presented.clear()
        self._callers[caller.key_hash] = caller

    def _current_version(self) -> int:
        row = self._reader.one(_VERSION)
        return row["version"] if row is not None else 0


_TELLING = (FOREIGN, DAMAGED, UNKNOWN, EXPIRED, DISABLED)
"""Reasons by how much they tell: of two bad keys, the refusal speaks about the one that is nearer to right."""


def _malformed(text: str) -> str:
    return DAMAGED if text.startswith("sk-mg-") else FOREIGN


def _caller(row: Row, budgets: Sequence[Row], version: int) -> Caller:
    return Caller(
        organization_id=row["organization_id"],
        workspace_id=row["workspace_id"],
        member_id=row["member_id"],
        key_hash=row["hash"],
        key_name=row["name"],
        key_class=KeyClass(row["class"]),
        policy_version=version,
        meters=_meters(row, budgets),
        allowed_models=None if row["allowed_models"] is None else frozenset(json.loads(row["allowed_models"])),
        expires_at_s=row["expires_at_s"],
        routing=tuple(text.encode() for text in (row["workspace_routing"], row["routing"]) if text),
    )


def _meters(row: Row, budgets: Sequence[Row]) -> tuple[MeterRef, ...]:
    """Every meter that a request of this key passes, in the order in which a refusal names them."""
    key_hash, limit_nusd = row["hash"], row["limit_nusd"]
    rates = [
        MeterRef(Scope.KEY, key_hash, unit, Window.MINUTE, limit)
        for unit, limit in ((Unit.REQUESTS, row["requests_per_minute"]), (Unit.TOKENS, row["tokens_per_minute"]))
        if limit is not None
    ]
    shared = [
        MeterRef(Scope(entry["scope"]), entry["scope_id"], Unit.NUSD, Window(entry["window"]), entry["limit_nusd"])
        for entry in budgets
    ]
    window = LIMIT_RESETS.get(row["limit_reset"], Window.LIFE)
    own = [] if window is Window.LIFE else [MeterRef(Scope.KEY, key_hash, Unit.NUSD, window, limit_nusd)]
    life = MeterRef(Scope.KEY, key_hash, Unit.NUSD, Window.LIFE, limit_nusd if window is Window.LIFE else None)
    credit = MeterRef(Scope.ORGANIZATION, row["organization_id"], Unit.NUSD, Window.LIFE, limit_from_row=True)
    return (*rates, *shared, *own, life, credit)
