"""Calls of the management API, as a program makes them."""

from __future__ import annotations

import json
from typing import Any

from tests.support.gateway import Gateway, Told

from modelgates_server.management.organizations import Founded, NewOrganization, create_organization
from modelgates_server.vault.secret import load_secret


async def manage(gateway: Gateway, method: str, path: str, body: Any = None, *, key: str | None = None) -> Told:
    """Call `path` below /api/v1 with a management key: the first organisation's, unless another is given."""
    headers = {"authorization": f"Bearer {key or gateway.initialised.management_key}"}
    if body is None:
        return await gateway.request(method, f"/api/v1{path}", headers)
    headers["content-type"] = "application/json"
    return await gateway.request(method, f"/api/v1{path}", headers, json.dumps(body).encode())


async def done(gateway: Gateway, method: str, path: str, body: Any = None, status: int = 200) -> Any:
    """Call it and give the answer's JSON; fails unless the status is the expected one."""
    told = await manage(gateway, method, path, body)
    assert told.status == status, told.body
    return told.json


async def provider_of(gateway: Gateway, body: dict[str, Any], key: str | None = None) -> str:
    """Send a request; give the provider that its receipt names."""
    told = await gateway.send(body, key=key)
    assert told.status == 200, told.body
    return str((await gateway.receipt(told.id))["provider"])


def found_another(gateway: Gateway) -> Founded:
    """Another organisation in the same database."""
    with gateway.engine() as (engine, now_s):
        return create_organization(engine, load_secret(gateway.config), NewOrganization("Other"), "test", now_s)
