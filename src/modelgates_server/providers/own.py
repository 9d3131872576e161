"""Adapters that speak with an organisation's own key instead of the operator's (BYOK)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final, Protocol
from weakref import WeakKeyDictionary

from modelgates_server.errors import ModelGatesError
from modelgates_server.outbound.http import Outbound
from modelgates_server.providers.base import Fault, Provider, Setup
from modelgates_server.providers.kinds import build_provider

ACCOUNT_SETTINGS: Final = frozenset({"workspace_id", "profile", "credentials", "tenant_id", "client_id", "admin_key"})
"""Settings that name a part of the operator's account. Another account does not have it, so they are left out where they may be."""


class SealedKey(Protocol):
    """A credential as callers carry it. `base_url` is the only address that it may be sent to."""

    @property
    def id(self) -> str: ...
    @property
    def provider(self) -> str: ...
    @property
    def base_url(self) -> str: ...


class OwnProviders:
    """Makes an adapter for a credential on first use. It lives as long as the credential's reference: until the policy changes.

    `setups` are the configured providers by slug; `unseal` opens a credential and raises ModelGatesError when that cannot be done.
    """

    def __init__(self, setups: Mapping[str, Setup], outbound: Outbound, unseal: Callable[[SealedKey], str]) -> None:
        self._setups = setups
        self._outbound = outbound
        self._unseal = unseal
        self._made: WeakKeyDictionary[SealedKey, Provider] = WeakKeyDictionary()

    def find(self, ref: SealedKey) -> Provider:
        """The adapter. Raises Fault when the key cannot be opened, or was not stored for the address that is configured now."""
        made = self._made.get(ref)
        if made is None:
            made = self._made[ref] = self._make(ref)
        return made

    def _make(self, ref: SealedKey) -> Provider:
        setup = self._setups.get(ref.provider)
        if setup is None or setup.base_url != ref.base_url:
            detail = f"{ref.id} was stored for another address than {ref.provider} has now: store the key again"
            raise Fault("credential", detail, trusted=False)
        try:
            key = self._unseal(ref)
            kept = {
                name: value
                for name, value in setup.settings.items()
                if name not in ACCOUNT_SETTINGS or name in setup.kind.required
            }
            return build_provider(replace(setup, api_key=key, settings=kept), self._outbound)
        except ModelGatesError as error:
            raise Fault("credential", f"{ref.id}: {error.message}", trusted=False) from error
