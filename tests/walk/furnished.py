"""A gateway with one of everything for the console's attackers: things that paths and fields can name, of two organisations."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from tests.support.console import new_member
from tests.support.gateway import Gateway, ask

from modelgates_server.management.organizations import Founded, NewOrganization, create_organization
from modelgates_server.storage import schema
from modelgates_server.vault.secret import load_secret

CANARY = "canary9c1e"
MAIL = '[alerts]\nsmtp_url = "smtp://127.0.0.1:9"\nemail_from = "g@example.com"\n'


@dataclass
class Furnished:
    """A gateway, the ids of one of everything in its first organisation, and a stranger: another organisation's founder."""

    gateway: Gateway
    stranger: Founded
    ids: dict[str, str] = field(default_factory=dict)

    async def manage(self, method: str, path: str, body: Any, key: str | None = None) -> Any:
        """Call the management API; gives the answer's JSON."""
        authorization = f"Bearer {key or self.gateway.initialised.management_key}"
        headers = {"authorization": authorization, "content-type": "application/json"}
        told = await self.gateway.request(method, f"/api/v1{path}", headers, json.dumps(body).encode())
        assert told.status in {200, 201}, (path, told.status, told.body)
        return told.json

    async def made(self, path: str, body: Any) -> Any:
        """Make something; gives its data."""
        told = await self.manage("POST", path, body)
        return told.get("data", told)


async def furnish(gateway: Gateway) -> Furnished:
    """Make one of everything, and a request that left a receipt; every name holds the canary."""
    with gateway.engine() as (engine, now_s):
        wanted = NewOrganization("Strangers", grant_nusd=10**9)
        stranger = create_organization(engine, load_secret(gateway.config), wanted, "operator", now_s)
    scene = Furnished(gateway, stranger)
    member = new_member(gateway, f"{CANARY} member")
    invited = {"name": CANARY, "email": f"{CANARY}2@example.com", "role": "org:member"}
    invitation = await scene.made("/organization/invitations", invited)
    place = await scene.made("/workspaces", {"name": f"{CANARY} place"})
    rail = {"name": f"{CANARY} rail", "limit_usd": 50, "reset_interval": "daily"}
    guardrail = await scene.made("/guardrails", rail)
    sealed = {"provider": "anthropic", "key": f"sk-ant-{CANARY}-0123456789", "name": f"{CANARY} own", "disabled": True}
    credential = await scene.made("/byok", sealed)
    channel = await scene.made("/alerts/channels", {"type": "email", "target": f"{CANARY}@example.com"})
    secret, key_hash = gateway.new_key_row(f"{CANARY} key", member_id=member)
    told = await gateway.send(ask(CANARY), key=secret, x_session_id=f"{CANARY}-session")
    manager = (await scene.manage("POST", "/keys", {"name": f"{CANARY} manager", "management": True}))["data"]
    scene.ids |= {
        "member": member, "invitation": invitation["id"], "workspace": place["id"], "slug": place["slug"],
        "guardrail": guardrail["id"], "credential": credential["id"], "channel": channel["id"], "key": key_hash,
        "manager": manager["hash"], "generation": told.id, "alert": _alert(scene), "secret": secret,
    }  # fmt: skip
    return scene


def _alert(scene: Furnished) -> str:
    row = {
        "id": f"alert-{CANARY}", "organization_id": scene.gateway.initialised.organization_id, "dedupe": CANARY,
        "kind": "budget", "severity": "warning", "message": CANARY, "details": "{}", "created_at_s": 1,
        "cleared_at_s": None,
    }  # fmt: skip
    with scene.gateway.engine() as (engine, _), engine.begin() as connection:
        connection.execute(sa.insert(schema.alerts).values(row))
    return str(row["id"])


PARAMETERS = {
    "/keys": "key", "/members/invitations": "invitation", "/members": "member", "/guardrails": "guardrail", "/logs": "generation",
    "/privacy": "workspace", "/providers/credentials": "credential", "/settings/channels": "channel", "/settings/alerts": "alert",
    "/settings/management-keys": "manager",
}  # fmt: skip
"""What stands in the place of a parameter, by what stands before it."""


def named(path: str) -> str | None:
    """Which of the ids a route's path names; None when it names none. A route that is missing in the table fails."""
    before, brace, _ = path.partition("/{")
    return PARAMETERS[before] if brace else None


def filled(path: str, value: str) -> str:
    """A route's path with a value in the place of its parameter."""
    before, brace, after = path.partition("{")
    return before + value + after.partition("}")[2] if brace else before
