"""An organisation's own provider keys in a running gateway."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from modelgates_server.management import credentials
from modelgates_server.management.credentials import CredentialRow, NewCredential, Safe
from modelgates_server.simulator.truth import key_digest
from modelgates_server.vault.secret import load_secret
from tests.support.gateway import UPSTREAM_KEY, Gateway

OWN = "sk-own-canary-0123456789abcdefgh"
OPERATORS = key_digest(UPSTREAM_KEY.encode())
CANARIES = (OWN, "canary-0123456789")


def digest(key: str = OWN) -> str:
    """What the simulator's log says of a key."""
    return key_digest(key.encode())


def safe(gateway: Gateway) -> Safe:
    return Safe(load_secret(gateway.config), credentials.places_of(gateway.config.providers))


@asynccontextmanager
async def own(
    gateway: Gateway, provider: str = "anthropic", key: str = OWN, **wanted: Any
) -> AsyncIterator[CredentialRow]:
    """Store a key that every request may use; it is gone afterwards."""
    organization_id = gateway.initialised.organization_id
    with gateway.engine() as (engine, now_s):
        new = NewCredential(provider, key, **wanted)
        row = credentials.add_credential(engine, safe(gateway), organization_id, new, "test", now_s)
        await gateway.application.context.directory.refresh()
        try:
            yield row
        finally:
            credentials.remove_credential(engine, organization_id, row.id, "test", now_s)
            await gateway.application.context.directory.refresh()


async def changed(gateway: Gateway, row: CredentialRow, **said: Any) -> None:
    """Change a key, and let the serving process hear of it."""
    with gateway.engine() as (engine, now_s):
        credentials.change_credential(
            engine, safe(gateway), gateway.initialised.organization_id, row.id, said, "test", now_s
        )
    await gateway.application.context.directory.refresh()


def keys_seen(gateway: Gateway) -> list[tuple[int, str]]:
    """What arrived at which simulator with which key, since `forget_seen`."""
    return [
        (at, value)
        for at, simulator in enumerate(gateway.simulators)
        for entry in simulator.log
        for name, value in entry.headers.items()
        if name in {"x-api-key", "api-key", "authorization"}
    ]


def forget_seen(gateway: Gateway) -> None:
    for simulator in gateway.simulators:
        simulator.log.clear()
        simulator.script.clear()
