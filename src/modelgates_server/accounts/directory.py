"""Who asks: from presented keys to a `Caller`, from memory on the hot path.

Memory follows the policy's version: `refresh` drops everything when it rose, and a hold compares the version again in
its transaction (design decision 14), so a change that was acknowledged bites everywhere, even between two refreshes.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import replace
from weakref import WeakValueDictionary

from modelgates_server.accounts import keys
from modelgates_server.accounts.credentials import Shelf
from modelgates_server.accounts.policy import Policy, caller_of
from modelgates_server.accounts.values import Caller, Wrapping
from modelgates_server.clock import Clock
from modelgates_server.errors import Unauthenticated
from modelgates_server.storage.reader import Reader

CALLERS_MAX = 50_000
"""About 1 KB each. When it is full the oldest entry goes."""

_WRAPPING = """
    SELECT c.value AS kek_id, s.value AS salt FROM meta c JOIN meta s ON s.key = 'kek:' || c.value WHERE c.key = 'kek'
"""
_VERSION = "SELECT version FROM policy WHERE id = 1"
_KEY = """
    SELECT k.*, w.routing AS workspace_routing, w.settings AS workspace_settings, w.deleted_at_s AS workspace_deleted_at_s,
        m.removed_at_s AS member_removed_at_s
    FROM api_keys k LEFT JOIN workspaces w ON w.id = k.workspace_id LEFT JOIN members m ON m.id = k.member_id
    WHERE k.hash = :hash
"""
_PASSES = "SELECT key_hash, expires_at_s FROM passes WHERE hash = :hash"
_BUDGETS = """
    SELECT id, scope, scope_id, "window", limit_nusd, mode, include_byok FROM budgets WHERE organization_id = :organization_id
        AND (scope IN ('organization', 'app') OR (scope = 'workspace' AND scope_id = :workspace_id)
            OR (scope = 'member' AND scope_id = :member_id))
"""
_RATES = """
    SELECT * FROM rates WHERE organization_id = :organization_id
        AND ((scope = 'organization' AND scope_id = :organization_id) OR (scope = 'workspace' AND scope_id = :workspace_id)
            OR (scope = 'member' AND scope_id = :member_id))
"""
_GUARDRAILS = """
    SELECT g.*, 'workspace' AS held_by, 0 AS place FROM guardrails g WHERE g.workspace_id = :workspace_id AND g.is_default = 1
    UNION ALL SELECT g.*, 'member', 1 FROM guardrails g JOIN guardrail_members a ON a.guardrail_id = g.id
        WHERE a.member_id = :member_id
    UNION ALL SELECT g.*, 'key', 2 FROM guardrails g JOIN guardrail_keys a ON a.guardrail_id = g.id WHERE a.key_hash = :hash
    ORDER BY place
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
    """Identifies callers for the serving process. `pepper` is the installation's secret.

    `wrapping` is what contents are sealed under; it is known once somebody came whose workspace keeps them.
    """

    def __init__(self, reader: Reader, pepper: bytes, clock: Clock) -> None:
        self._reader = reader
        self._pepper = pepper
        self._clock = clock
        self._shelf = Shelf(reader)
        self._version: int | None = None
        self.wrapping: Wrapping | None = None
        self._wrapping_at: int | None = None
        self._callers: dict[str, Caller] = {}
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()  # while somebody reads
        self._presented: dict[bytes, Caller] = {}  # by the plain digest of the key, which saves checksum and HMAC

    async def identify(self, candidates: Sequence[str]) -> Caller:
        """Give the caller of the first candidate that is a live key.

        Raises Unauthenticated with the reason that tells most about the candidates, never with their text; or StoreUnavailable.
        """
        reasons = []
        for text in candidates:
            presented = hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
            known = self._presented.get(presented)
            if known is None and keys.well_formed(text) is None:
                reasons.append(malformed(text))
                continue
            try:
                caller = self._unexpired(known) if known else await self._of(keys.digest(self._pepper, text))
            except Unauthenticated as refused:
                reasons.append(refused.message)
            else:
                if known is None and self._callers.get(caller.key_hash) is caller:
                    self._presented[presented] = caller
                return caller
        raise Unauthenticated(most_telling(reasons))

    async def refresh(self) -> None:
        """Drop what is remembered if the policy changed. Raises StoreUnavailable, and then keeps what it has.

        A version below one that was known before it was asked means that the store lost its newest commits: that is followed too.
        """
        known = self._version
        version = await self._current_version()
        if known is not None and version < known:
            self._version = self._wrapping_at = None
        self._adopt(version)
        if self.wrapping is not None:
            await self._renew_wrapping(version)

    async def caller(self, key_hash: str) -> Caller:
        """Give the caller of a key by its public name, for whoever tells people what it may do. Raises Unauthenticated when it is dead."""
        return await self._live(key_hash)

    async def reload(self, caller: Caller) -> Caller:
        """Read a caller again, after a hold said that the policy changed. Raises Unauthenticated when the key died."""
        await self.refresh()
        return await self._live(caller.key_hash)

    async def _of(self, presented_hash: str) -> Caller:
        """Give the caller of a key, or of the key that a pass stands for. Only what is no key's hash is looked up among the passes."""
        try:
            return await self._live(presented_hash)
        except Unauthenticated as refused:
            found = await self._reader.one(_PASSES, {"hash": presented_hash}) if refused.message == UNKNOWN else None
            if found is None:
                raise
        caller = await self._live(found["key_hash"])
        ends_at_s = min(found["expires_at_s"], caller.expires_at_s or found["expires_at_s"])
        return self._unexpired(replace(caller, expires_at_s=ends_at_s))  # never remembered: the key lives on without it

    async def _live(self, key_hash: str) -> Caller:
        known = self._callers.get(key_hash)
        if known is None:  # however many requests miss it together, one of them reads it
            async with self._turns.setdefault(key_hash, asyncio.Lock()):
                known = self._callers.get(key_hash) or await self._read(key_hash)
        return self._unexpired(known)

    def _unexpired(self, caller: Caller) -> Caller:
        if caller.expires_at_s is not None and caller.expires_at_s <= self._clock.now_s():
            raise Unauthenticated(EXPIRED)
        return caller

    async def _read(self, key_hash: str) -> Caller:
        """Read the version before the row: a change in between makes the caller look old, never new."""
        version = await self._current_version()
        caller = caller_of(await self.policy(key_hash), version)
        if credentials := await self._shelf.fitting(caller):
            caller = replace(caller, credentials=credentials)
        self._adopt(version)
        if caller.keeping is not None:
            await self._renew_wrapping(version)
        if version == self._version:
            self._remember(caller)
        return caller

    async def _renew_wrapping(self, version: int) -> None:
        """Read the key-encryption key again when the policy is newer than what is known: a rotation raises it."""
        if self._wrapping_at is None or version > self._wrapping_at:
            row = await self._reader.one(_WRAPPING)
            if self._wrapping_at is None or version > self._wrapping_at:  # nobody who knew more was faster
                self.wrapping = None if row is None else Wrapping(row["kek_id"], bytes.fromhex(row["salt"]))
                self._wrapping_at = version

    def _adopt(self, version: int) -> None:
        """Drop what is remembered when this version is newer; reads that overtake each other never bring an older one back."""
        if self._version is None or version > self._version:
            self._callers.clear()
            self._presented.clear()
            self._shelf.clear()
            self._version = version

    async def policy(self, key_hash: str) -> Policy:
        """Read every row that decides about a key. Raises Unauthenticated when it, its member or its workspace is gone."""
        row = await self._reader.one(_KEY, {"hash": key_hash})
        if row is None or row["deleted_at_s"] is not None or not hmac.compare_digest(row["hash"], key_hash):
            raise Unauthenticated(UNKNOWN)
        if row["workspace_deleted_at_s"] is not None:
            raise Unauthenticated(UNKNOWN)
        if row["disabled"] or row["member_removed_at_s"] is not None:
            raise Unauthenticated(DISABLED)
        places = {name: row[name] for name in ("organization_id", "workspace_id", "member_id", "hash")}
        return Policy(
            row,
            await self._reader.all(_BUDGETS, places),
            await self._reader.all(_RATES, places),
            await self._reader.all(_GUARDRAILS, places),
        )

    def _remember(self, caller: Caller) -> None:
        if len(self._callers) >= CALLERS_MAX:
            del self._callers[next(iter(self._callers))]
            self._presented.clear()
        self._callers[caller.key_hash] = caller

    async def _current_version(self) -> int:
        row = await self._reader.one(_VERSION)
        return row["version"] if row is not None else 0


_TELLING = (FOREIGN, DAMAGED, UNKNOWN, EXPIRED, DISABLED)
"""Reasons by how much they tell: of two bad keys, the refusal speaks about the one that is nearer to right."""


def most_telling(reasons: Sequence[str]) -> str:
    """Of the reasons why each presented key was refused, the one to tell."""
    return max(reasons, key=_TELLING.index) if reasons else MISSING


def malformed(text: str) -> str:
    """Say what is wrong with text that has not the shape of a key."""
    return DAMAGED if text.startswith("sk-mg-") else FOREIGN
