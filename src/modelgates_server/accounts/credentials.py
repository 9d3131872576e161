"""Which of an organisation's own provider keys a caller may be served with. They stay sealed here: the provider's adapter opens them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

from modelgates_server.accounts.values import Caller, CredentialRef
from modelgates_server.storage.hot import Row
from modelgates_server.storage.reader import Reader

ORGANIZATIONS_MAX: Final = 5_000
"""Whose credentials are remembered; when it is full the oldest go."""

VERSION_LETTERS: Final = 16
"""Of the ciphertext, which is new with every key and stays when its wrapping is renewed: the nonce."""

_CREDENTIALS: Final = """
    SELECT c.id, c.organization_id, c.workspace_id, c.provider, c.base_url, c.sealed, c.kek_id, m.value AS salt, c.is_fallback,
           c.sort_order, c.allowed_models, c.allowed_key_hashes, c.allowed_member_ids
    FROM provider_credentials c LEFT JOIN meta m ON m.key = 'kek:' || c.kek_id
    WHERE c.organization_id = :organization_id AND c.disabled = 0
    ORDER BY c.is_fallback, c.sort_order, c.created_at_s, c.id
"""
"""One statement sees one moment: a rotation cannot take the salt away between the credential and its salt."""


class Shelf:
    """The live credentials of each organisation, read once for each version of the policy and shared by its callers."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._known: dict[str, tuple[int, tuple[CredentialRef, ...]]] = {}

    def clear(self) -> None:
        """Forget everything: the policy changed."""
        self._known.clear()

    async def fitting(self, caller: Caller) -> tuple[CredentialRef, ...]:
        """Those that may serve the caller, in the order of trying. Raises StoreUnavailable."""
        version = caller.policy_version
        known = self._known.get(caller.organization_id)
        if known is None or known[0] != version:
            rows = await self._reader.all(_CREDENTIALS, {"organization_id": caller.organization_id})
            known = version, tuple(map(_ref, rows))
            if len(self._known) >= ORGANIZATIONS_MAX:
                del self._known[next(iter(self._known))]
            self._known[caller.organization_id] = known
        return tuple([ref for ref in known[1] if _fits(ref, caller)])


def _fits(ref: CredentialRef, caller: Caller) -> bool:
    return (
        (ref.workspace_id is None or ref.workspace_id == caller.workspace_id)
        and (ref.key_hashes is None or caller.key_hash in ref.key_hashes)
        and (ref.member_ids is None or caller.member_id in ref.member_ids)
    )


def _ref(row: Row) -> CredentialRef:
    return CredentialRef(
        id=row["id"],
        organization_id=row["organization_id"],
        provider=row["provider"],
        base_url=row["base_url"],
        sealed=row["sealed"],
        kek_id=row["kek_id"],
        salt=bytes.fromhex(row["salt"] or ""),
        version=row["sealed"].rpartition(".")[2][:VERSION_LETTERS],
        is_fallback=bool(row["is_fallback"]),
        sort_order=row["sort_order"],
        workspace_id=row["workspace_id"],
        models=_list(row["allowed_models"]),
        key_hashes=_list(row["allowed_key_hashes"]),
        member_ids=_list(row["allowed_member_ids"]),
    )


def _list(text: str | None) -> frozenset[str] | None:
    entries: Sequence[str] | None = None if text is None else json.loads(text)
    return None if entries is None else frozenset(entries)
