"""A gateway with two organisations of many people, and their management keys."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from tests.support.gateway import Gateway, Told
from tests.unit.activity.crowd import NOW_S, ORG, OTHER, Did, found_organizations, settle

from modelgates_server.accounts.values import KeyClass
from modelgates_server.clock import SystemClock
from modelgates_server.management import NewKey, create_key
from modelgates_server.vault.secret import load_secret

DAY_MS = 86_400_000


@dataclass(frozen=True)
class Managed:
    """A running gateway and a management key of each organisation."""

    gateway: Gateway
    keys: dict[str, str]

    @classmethod
    def of(cls, gateway: Gateway) -> Managed:
        with gateway.engine() as (engine, _):
            found_organizations(engine)
        made = cls(gateway, {})
        made.keys.update({org: made.new_key(org) for org in (ORG, OTHER)})
        return made

    def new_key(self, organization_id: str = ORG, key_class: KeyClass = KeyClass.MANAGEMENT) -> str:
        """Another key; gives its text."""
        wanted = NewKey("another", key_class=key_class, workspace_id=f"{organization_id}-workspace-0")
        with self.gateway.engine() as (engine, now_s):
            pepper = load_secret(self.gateway.config)
            return create_key(engine, pepper, organization_id, wanted, "test", now_s)[0]

    def settle(self, *crowd: Did) -> list[str]:
        """Keep receipts; gives their ids."""
        with self.gateway.engine() as (engine, _):
            return settle(engine, crowd)

    async def get(self, path: str, organization_id: str = ORG, key: str | None = None, **query: Any) -> Told:
        sent = {name.rstrip("_"): value for name, value in query.items()}
        return await self.gateway.request(
            "GET", f"/api/v1{path}?{urlencode(sent)}", self._headers(organization_id, key)
        )

    async def post(self, path: str, body: Any, organization_id: str = ORG, key: str | None = None) -> Told:
        headers = {**self._headers(organization_id, key), "content-type": "application/json"}
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await self.gateway.request("POST", f"/api/v1{path}", headers, data)

    def _headers(self, organization_id: str, key: str | None) -> dict[str, str]:
        return {"authorization": f"Bearer {key or self.keys[organization_id]}"}


def ago(days: float) -> int:
    """For `Did.ago_ms`: so many days before now, by the gateway's clock."""
    return NOW_S * 1000 - int(SystemClock().now_s() * 1000 - days * DAY_MS)


def places(rows: Iterable[dict[str, Any]], name: str) -> list[Any]:
    """One column."""
    return [row[name] for row in rows]
