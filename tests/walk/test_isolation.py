"""Every route that there is, asked by everybody who may not (reliability R15). A route that is missing in the tables below fails.

Two organisations live in one database. Ours has one of everything, with names that are found again wherever they appear; the stranger
is the other's administrator. For each route, what it answers about our things must be what it answers about things that never were.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio
import sqlalchemy as sa
from tests.support.gateway import Gateway, Told, ask, open_gateway

from modelgates_server.edge.server import ROOT_ROUTES, ROUTES
from modelgates_server.management.organizations import NewOrganization, create_organization
from modelgates_server.storage import schema
from modelgates_server.vault.secret import load_secret

pytestmark = pytest.mark.asyncio(loop_scope="session")

CANARY = "canary7f3a"
DATE = "2026-11-01"

Ids = Mapping[str, str]
Body = dict[str, Any]

BODIES: dict[str, Body] = {
    "POST /keys": {"name": "x", "workspace_id": "{workspace}", "creator_user_id": "{user_id}"},
    "PATCH /keys/{key_hash}": {"name": "stolen", "disabled": True, "limit": 0},
    "PATCH /credits": {"enabled": False},
    "POST /credits/grants": {"amount": 1, "note": "x"},
    "POST /credits/adjustments": {"amount": -1, "note": "x"},
    "POST /credits/refunds": {"generation_id": "{generation}", "note": "x"},
    "POST /analytics/query": {
        "metrics": ["request_count"],
        "dimensions": ["api_key_id", "user"],
        "filters": [{"field": "api_key_id", "operator": "in", "value": ["{key_hash}"]}],
    },
    "POST /generation/feedback": {"generation_id": "{generation}", "category": "other", "comment": "x"},
    "POST /byok": {"provider": "anthropic", "key": "sk-ant-of-a-stranger-000", "workspace_id": "{workspace}"},
    "PATCH /byok/{credential_id}": {"disabled": True, "key": "sk-ant-of-a-stranger-001"},
    "POST /alerts/{alert_id}/acknowledge": {},
    "PATCH /alerts/settings": {"low_balance": 1},
    "POST /alerts/channels": {"type": "email", "target": "stranger@example.com"},
    "PATCH /alerts/channels/{channel_id}": {"target": "stranger@example.com"},
    "POST /alerts/channels/{channel_id}/test": {},
    "POST /organization/members": {"name": "x", "email": "x@example.com", "role": "org:member"},
    "PATCH /organization/members/{user_id}": {"role": "org:member"},
    "PUT /organization/members/{user_id}/budgets/{interval}": {"limit_usd": 0.01},
    "PUT /organization/members/{user_id}/rates": {"requests_per_minute": 1},
    "POST /organization/invitations": {
        "name": "y",
        "email": "y@example.com",
        "role": "org:member",
        "workspace_id": "{workspace}",
    },
    "PUT /organization/budgets/{interval}": {"limit_usd": 1},
    "PUT /organization/app-budgets/{interval}": {"app": "an app", "limit_usd": 1},
    "PUT /organization/rates": {"requests_per_minute": 100},
    "POST /workspaces": {"name": "x"},
    "PATCH /workspaces/{workspace}": {"name": "stolen"},
    "POST /workspaces/{workspace}/members/add": {"user_ids": ["{user_id}"]},
    "POST /workspaces/{workspace}/members/remove": {"user_ids": ["{user_id}"]},
    "PUT /workspaces/{workspace}/budgets/{interval}": {"limit_usd": 0.01},
    "PUT /workspaces/{workspace}/rates": {"requests_per_minute": 1},
    "POST /guardrails": {"name": "x", "workspace_id": "{workspace}"},
    "PATCH /guardrails/{guardrail_id}": {"name": "stolen"},
    "POST /guardrails/{guardrail_id}/assignments/keys": {"key_hashes": ["{key_hash}"]},
    "POST /guardrails/{guardrail_id}/assignments/keys/remove": {"key_hashes": ["{key_hash}"]},
    "POST /guardrails/{guardrail_id}/assignments/members": {"member_user_ids": ["{user_id}"]},
    "POST /guardrails/{guardrail_id}/assignments/members/remove": {"member_user_ids": ["{user_id}"]},
}
"""What a stranger would send, with our ids in it."""

QUERIES: dict[str, str] = {
    "id": "{id}", "api_key_hash": "{key_hash}", "user_id": "{user_id}", "workspace_id": "{workspace}",
    "session_id": CANARY, "target": "{key_hash}", "actor": "cli", "action": "key.create", "app": CANARY, "model": "claude",
    "provider": "anthropic", "outcome": "completed", "group_by": "workspace", "external_user": "ann", "from": "", "to": "", "date": "",
    "offset": "0", "limit": "100", "cursor": "", "include_disabled": "true", "include_expired": "true",
    "include_management": "true", "open": "",
}  # fmt: skip
"""Every query parameter, with what a stranger would put there; an empty one is left out."""

EDGE: dict[str, str] = {
    "/v1/messages": "key", "/v1/messages/count_tokens": "key", "/v1/models": "key", "/v1/models/user": "key",
    "/v1/models/count": "key", "/v1/providers": "key",
    "/v1/endpoints/zdr": "key", "/v1/key": "key", "/v1/auth/key": "key", "/v1/generation": "key",
    "/v1/chat/completions": "not built", "/v1/responses": "not built", "/hello": "open",
    "/livez": "open", "/healthz": "open", "/readyz": "open", "/metrics": "open",
}  # fmt: skip
"""The routes of the edge: which need a key, and which tell everybody the same."""


@dataclass
class Scene:
    gateway: Gateway
    mine: str
    theirs: str
    ids: dict[str, str]
    organization_id: str

    async def call(self, method: str, path: str, key: str | None, body: Any = None) -> Told:
        headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {key}"} if key else {})
        data = None if body is None else json.dumps(body).encode()
        return await self.gateway.request(method, f"/api/v1{path}", headers, data)

    async def made(self, method: str, path: str, body: Body) -> Any:
        told = await self.call(method, path, self.mine, body)
        assert told.status in {200, 201}, (path, told.status, told.body)
        return told.json.get("data", told.json)

    def everything(self) -> dict[str, list[Any]]:
        """Every row of our organisation."""
        found = {}
        with self.gateway.engine() as (engine, _), engine.connect() as connection:
            for table in schema.metadata.sorted_tables:
                if "organization_id" in table.c and table.name not in {"sessions", "idempotency"}:
                    query = sa.select(table).where(table.c.organization_id == self.organization_id)
                    found[table.name] = sorted(map(repr, connection.execute(query)))
        return found


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    toml = '[alerts]\nsmtp_url = "smtp://127.0.0.1:9"\nemail_from = "g@example.com"\n'
    async with open_gateway(tmp_path_factory.mktemp("isolation") / "gateway", toml=toml, credit_usd="1000") as gateway:
        with gateway.engine() as (engine, now_s):
            wanted = NewOrganization("Strangers", grant_nusd=10**9)
            stranger = create_organization(engine, load_secret(gateway.config), wanted, "operator", now_s)
        mine = gateway.initialised.management_key or ""
        scene = Scene(gateway, mine, stranger.management_key, {}, gateway.initialised.organization_id)
        await furnish(scene)
        yield scene


async def furnish(scene: Scene) -> None:
    """One of everything, and a request that left a receipt."""
    member = await scene.made("POST", "/organization/members", {"name": CANARY, "email": f"{CANARY}@example.com"})
    invited = {"name": CANARY, "email": f"{CANARY}2@example.com", "role": "org:member"}
    invitation = await scene.made("POST", "/organization/invitations", invited)
    place = await scene.made("POST", "/workspaces", {"name": f"{CANARY} place"})
    rail = {"name": f"{CANARY} rail", "limit_usd": 50, "reset_interval": "daily", "workspace_id": place["id"]}
    guardrail = await scene.made("POST", "/guardrails", rail)
    key = await scene.call("POST", "/keys", scene.mine, {"name": f"{CANARY} key"})
    sealed = {"provider": "anthropic", "key": f"sk-ant-{CANARY}-0123456789", "name": f"{CANARY} own", "disabled": True}
    credential = await scene.made("POST", "/byok", sealed)
    channel = await scene.made("POST", "/alerts/channels", {"type": "email", "target": f"{CANARY}@example.com"})
    secret, data = key.json["key"], key.json["data"]
    scene.ids |= {
        "user_id": member["id"], "invitation_id": invitation["id"], "workspace": place["id"],
        "guardrail_id": guardrail["id"], "key_hash": data["hash"], "credential_id": credential["id"],
        "channel_id": channel["id"], "interval": "monthly", "id": data["hash"],
    }  # fmt: skip
    told = await scene.gateway.send(ask(CANARY), key=secret)
    scene.ids["generation"] = told.id
    scene.ids["alert_id"] = plant_alert(scene)


def plant_alert(scene: Scene) -> str:
    row = {
        "id": "alert-canary-0000", "organization_id": scene.organization_id, "dedupe": CANARY, "kind": "budget",
        "severity": "warning", "message": CANARY, "details": "{}", "created_at_s": 1, "cleared_at_s": None,
    }  # fmt: skip
    with scene.gateway.engine() as (engine, _), engine.begin() as connection:
        connection.execute(sa.insert(schema.alerts).values(row))
    return str(row["id"])


async def operations(scene: Scene) -> list[tuple[str, str, list[str], bool]]:
    """Every operation of the management API: method, path below /api/v1, query parameters, whether it takes a body."""
    told = await scene.gateway.request("GET", "/api/openapi.json")
    found = []
    for path, methods in told.json["paths"].items():
        for method, operation in methods.items():
            queries = [entry["name"] for entry in operation.get("parameters", []) if entry["in"] == "query"]
            found.append((method.upper(), path.removeprefix("/api/v1"), queries, "requestBody" in operation))
    assert len(found) > 60
    return found


def filled(value: Any, ids: Ids) -> Any:
    """A body or text with ids in the places of their names."""
    if isinstance(value, str):
        return re.sub(r"\{(\w+)\}", lambda name: ids[name[1]], value)
    if isinstance(value, list):
        return [filled(item, ids) for item in value]
    return {name: filled(item, ids) for name, item in value.items()} if isinstance(value, dict) else value


def never(ids: Ids) -> dict[str, str]:
    """Ids of the same shape that nobody has."""
    return {name: text if name == "interval" else text[:-4] + "0f0f" for name, text in ids.items()}


def asked(method: str, path: str, queries: list[str], *, takes_body: bool, ids: Ids) -> tuple[str, Body | None]:
    """What is asked: the path with its query, and the body. Raises KeyError for what the tables do not know."""
    texts = [f"{name}={filled(QUERIES[name], ids)}" for name in queries if QUERIES[name]]
    if method != "GET":  # what a stranger writes stands in its own audit log, and is no leak there
        texts = [text.replace(CANARY, "word") for text in texts]
    body = filled(BODIES[f"{method} {path}"], ids) if takes_body else None
    return filled(path, ids) + ("?" + "&".join(texts) if texts else ""), body


def plain(told: Told, ids: Ids) -> tuple[int, str]:
    """An answer without what differs between any two: ids that were asked for, and the request's own."""
    text = re.sub(r"req-[\w-]+", "REQ", told.body.decode())
    for name, value in sorted(ids.items(), key=lambda item: -len(item[1])):
        text = text.replace(value, name).replace(value[:12], name)
    return told.status, re.sub(r'"(?:cachedAt|query_time_ms)":[^,}]+', "", text)


def names_us(told: Told, ids: Ids, question: str) -> Iterator[str]:
    """Whatever of ours appears in an answer that the question did not say itself."""
    text = told.body.decode()
    for value in (CANARY, *(value for name, value in ids.items() if name != "interval")):
        if value in text and value not in question:
            yield value


async def test_a_stranger_learns_and_changes_nothing_by_any_route(scene: Scene) -> None:
    """The other organisation's administrator asks every route for our things: it is as if they did not exist."""
    before, unknown = scene.everything(), never(scene.ids)
    for method, path, queries, takes_body in await operations(scene):
        where, body = asked(method, path, queries, takes_body=takes_body, ids=scene.ids)
        ours = await scene.call(method, where, scene.theirs, body)
        leaked = list(names_us(ours, scene.ids, where + json.dumps(body)))
        assert leaked == [], (method, path, ours.body)
        if re.search(r"\{(?!interval)\w+\}", path + json.dumps(BODIES.get(f"{method} {path}"))):
            where, body = asked(method, path, queries, takes_body=takes_body, ids=unknown)
            nobodys = await scene.call(method, where, scene.theirs, body)
            assert plain(ours, scene.ids) == plain(nobodys, unknown), (method, path)
            assert ours.status in {400, 403, 404} or "query" in path, (method, path, ours.status, ours.body)

    after = scene.everything()
    assert {name for name in before if before[name] != after[name]} == set()


async def test_a_stranger_who_filters_for_us_sees_nobody(scene: Scene) -> None:
    """Each filter alone, so that none hides behind another that is refused."""
    for method, path, queries, takes_body in await operations(scene):
        for name in queries:
            if QUERIES[name] and not takes_body and method == "GET" and "{" not in path:
                where, _ = asked(method, path, [name], takes_body=False, ids=scene.ids)
                told = await scene.call(method, where, scene.theirs)
                assert list(names_us(told, scene.ids, where)) == [], where


@pytest.mark.parametrize("who", ["nobody", "nonsense", "inference", "disabled"])
async def test_nobody_but_managers_gets_in(scene: Scene, who: str) -> None:
    """Without a management key that lives, every route answers the same, and says nothing about us."""
    key, status = {
        "nobody": (None, 401),
        "nonsense": ("sk-mg-mgmt-v1-nonsense", 401),
        "inference": (scene.gateway.key, 403),
        "disabled": (await disabled_key(scene), 401),
    }[who]
    for method, path, queries, takes_body in await operations(scene):
        where, body = asked(method, path, queries, takes_body=takes_body, ids=scene.ids)
        told = await scene.call(method, where, key, body)
        assert told.status == status, (method, path, told.status, told.body)
        assert list(names_us(told, scene.ids, where + json.dumps(body))) == []


async def disabled_key(scene: Scene) -> str:
    told = await scene.call("POST", "/keys", scene.mine, {"name": "to be switched off", "management": True})
    await scene.made("PATCH", f"/keys/{told.json['data']['hash']}", {"disabled": True})
    return str(told.json["key"])


async def test_every_route_of_the_edge_is_known_and_closed(scene: Scene) -> None:
    """A route of the edge either needs a key, or stands in the table of those that tell everybody the same."""
    assert set(EDGE) == {*ROUTES, *ROOT_ROUTES}
    for path, kind in EDGE.items():
        route = {**ROUTES, **ROOT_ROUTES}[path]
        for method in route.methods:
            told = await scene.gateway.request(
                method, path, {"content-type": "application/json"}, b"{}" if method == "POST" else None
            )
            assert (told.status == 401) == (kind == "key"), (method, path, told.status)
            assert CANARY not in told.body.decode(errors="replace")


async def test_a_strangers_key_reads_no_receipt_of_ours(scene: Scene) -> None:
    """`GET /generation` of the edge, by either class of key of the other organisation: not found, like one that never was."""
    told = await scene.call("POST", "/keys", scene.theirs, {"name": "theirs"})
    unknown = never(scene.ids)
    for key in (told.json["key"], scene.theirs):
        for path in ("/generation?id={generation}", "/generation/content?id={generation}"):
            ours = await scene.call("GET", filled(path, scene.ids), key)
            nobodys = await scene.call("GET", filled(path, unknown), key)
            assert plain(ours, scene.ids) == plain(nobodys, unknown)
            assert ours.status in {403, 404}
