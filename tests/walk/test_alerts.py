"""Alerts from a request to a mailbox: spent, noticed, delivered, listed and seen to, through a real port."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio
from tests.support.gateway import Gateway, Told, ask, open_gateway, until
from tests.support.hook import Hook, open_hook
from tests.support.mail import MailBox, open_mailbox
from tests.walk.test_money import at_the_bound, held_for

from modelgates_server.management.organizations import NewOrganization, create_organization
from modelgates_server.vault.secret import load_secret

pytestmark = pytest.mark.asyncio(loop_scope="session")

SECRET = "0123456789abcdef0123456789abcdef"


@dataclass
class Scene:
    """A gateway whose operator has a webhook and a mail server, and two organisations' management keys."""

    gateway: Gateway
    hook: Hook
    box: MailBox
    mine: str
    theirs: str

    async def call(self, method: str, path: str, body: Any = None, key: str = "") -> Told:
        headers = self.gateway.headers(key=key or self.mine)
        return await self.gateway.request(
            method, f"/api/v1{path}", headers, None if body is None else json.dumps(body).encode()
        )

    async def look(self) -> None:
        """What upkeep does every few seconds."""
        await self.gateway.application.watch.look()
        await self.gateway.application.courier.deliver_due()

    async def channel(self, address: str) -> str:
        told = await self.call("POST", "/alerts/channels", {"type": "email", "target": address})
        assert told.status == 201, told.body
        return str(told.json["data"]["id"])


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    folder = tmp_path_factory.mktemp("alerts")
    async with open_hook() as hook, open_mailbox() as box:
        toml = f"""
            [credits]
            api_grants = true

            [alerts]
            webhook_url = "{hook.url}"
            webhook_secret = "{SECRET}"
            smtp_url = "smtp://127.0.0.1:{box.port}"
            email_from = "gate@example.com"
        """
        async with open_gateway(folder / "gateway", toml=toml) as gateway:
            with gateway.engine() as (engine, now_s):
                wanted = NewOrganization("Others", grant_nusd=10**9)
                other = create_organization(engine, load_secret(gateway.config), wanted, "operator", now_s)
            mine = gateway.initialised.management_key or ""
            yield Scene(gateway, hook, box, mine, other.management_key)


async def test_a_budget_that_runs_out_is_told_everywhere(scene: Scene) -> None:
    """Spent by a real request, it is in the list, in the operator's signed webhook and in the organisation's mailbox, once."""
    await scene.channel("lead@example.com")
    body = ask(max_tokens=2_000)
    used_nusd = held_for(scene.gateway, body)
    key = scene.gateway.new_key("nightly", limit_nusd=used_nusd * 100 // 82, limit_reset="monthly")
    assert (await scene.gateway.send(body, key=key, simulate=at_the_bound(body))).status == 200
    await scene.look()
    await scene.look()

    (event,) = [event for event in scene.hook.events if "nightly" in event["message"]]
    assert scene.hook.verified(scene.hook.events.index(event), SECRET)
    (mail,) = [mail for mail in scene.box.messages if "nightly" in mail["Subject"]]
    assert mail["To"] == "lead@example.com"
    assert event["message"] in mail.get_content().splitlines()
    listed = await scene.call("GET", "/alerts?open=true")
    (alert,) = [alert for alert in listed.json["data"] if "nightly" in alert["message"]]
    assert (alert["id"], alert["severity"], alert["details"]["threshold_percent"]) == (event["id"], "warning", 80)
    assert [delivery["state"] for delivery in alert["deliveries"]] == ["delivered"]

    seen = await scene.call("POST", f"/alerts/{alert['id']}/acknowledge")
    assert seen.json["data"]["cleared_at"] is not None
    assert "nightly" not in (await scene.call("GET", "/alerts?open=true")).body.decode()


async def test_upkeep_does_it_by_itself(scene: Scene) -> None:
    """Nobody has to ask: within seconds of the spending the operator's webhook has the alert."""
    body = ask(max_tokens=2_000)
    key = scene.gateway.new_key("unattended", limit_nusd=held_for(scene.gateway, body) * 100 // 97)
    await scene.gateway.send(body, key=key, simulate=at_the_bound(body))

    await until(lambda: [event for event in scene.hook.events if "unattended" in event["message"]], "not told", 15)


async def test_credit_is_topped_up_by_rule(scene: Scene) -> None:
    """The rule of `PATCH /credits` acts, the balance shows it, and everybody is told."""
    before = (await scene.call("GET", "/credits")).json["data"]["balance"]
    rule = {"enabled": True, "threshold": 500, "amount": 450, "monthly_max": 500}
    assert (await scene.call("PATCH", "/credits", rule)).status == 200
    await scene.look()
    await scene.look()

    after = (await scene.call("GET", "/credits")).json["data"]["balance"]
    assert after - before == pytest.approx(450)
    kinds = [event["details"].get("amount") for event in scene.hook.events if event["type"] == "alert.topup"]
    assert kinds == [450]
    assert scene.gateway.problems() == []


async def test_a_channel_is_made_tried_changed_and_removed(scene: Scene) -> None:
    """Mail is tried at once; what is switched off stays listed; a removed one is gone."""
    channel_id = await scene.channel("ops@example.com")
    tried = await scene.call("POST", f"/alerts/channels/{channel_id}/test")
    assert tried.json == {"data": {"delivered": True, "error": None}}
    assert scene.box.messages[-1]["Subject"].startswith("[ModelGates] Test: ")
    scene.box.refuse = "550 no such user"
    tried = await scene.call("POST", f"/alerts/channels/{channel_id}/test")
    scene.box.refuse = ""
    assert tried.json["data"]["delivered"] is False
    assert "550 no such user" in tried.json["data"]["error"]
    changed = await scene.call(
        "PATCH", f"/alerts/channels/{channel_id}", {"enabled": False, "target": "two@example.com"}
    )
    assert (changed.json["data"]["enabled"], changed.json["data"]["target"]) == (False, "two@example.com")
    assert (await scene.call("DELETE", f"/alerts/channels/{channel_id}")).json == {"deleted": True}
    assert (await scene.call("GET", f"/alerts/channels/{channel_id}")).status == 404


async def test_a_webhooks_secret_is_shown_once(scene: Scene) -> None:
    """In the answer that made it; a new address brings a new one; nothing shows it again."""
    made = await scene.call(
        "POST", "/alerts/channels", {"type": "webhook", "target": "https://hooks.example.com/a?b=1"}
    )
    path = f"/alerts/channels/{made.json['data']['id']}"
    moved = await scene.call("PATCH", path, {"target": "https://hooks.example.com/c"})
    renewed = await scene.call("PATCH", path, {"new_secret": True})
    shown = [told.json["secret"] for told in (made, moved, renewed)]
    assert len(set(shown)) == 3
    assert all(secret.startswith("whsec_") and len(secret) == 49 for secret in shown)
    assert (await scene.call("PATCH", path, {"enabled": False})).json["secret"] is None
    listed = (await scene.call("GET", "/alerts/channels")).body + (await scene.call("GET", "/audit")).body
    assert b"whsec_" not in listed
    assert b"/a?b=1" not in listed


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"type": "webhook", "target": "http://hooks.example.com/"}, 400),
        ({"type": "webhook", "target": "https://127.0.0.1/"}, 400),
        ({"type": "webhook", "target": "https://169.254.169.254/latest"}, 400),
        ({"type": "webhook", "target": "https://user@hooks.example.com/"}, 400),
        ({"type": "email", "target": "ops@example.com\r\nBcc: x@example.com"}, 400),
        ({"type": "email", "target": "Ops <ops@example.com>"}, 400),
        ({"type": "pager", "target": "ops@example.com"}, 400),
        ({"type": "email"}, 400),
    ],
)
async def test_a_channel_that_cannot_be_is_refused(scene: Scene, body: dict[str, str], status: int) -> None:
    """Inner addresses, tricks with headers, and what is neither."""
    assert (await scene.call("POST", "/alerts/channels", body)).status == status


async def test_the_same_place_is_not_told_twice(scene: Scene) -> None:
    """A second channel to it is a conflict, and so is the twenty-first of all."""
    await scene.channel("twice@example.com")
    told = await scene.call("POST", "/alerts/channels", {"type": "email", "target": "twice@example.com"})
    assert told.status == 409
    made = 0
    while (
        await scene.call("POST", "/alerts/channels", {"type": "email", "target": f"{made}@a.com"}, scene.theirs)
    ).status == 201:
        made += 1
    assert made == 20


async def test_nothing_of_others_is_seen_or_changed(scene: Scene) -> None:
    """Another organisation's alerts and channels are as unknown as none; an inference key is told to go away."""
    channel_id = await scene.channel("private@example.com")
    alert_id = (await scene.call("GET", "/alerts")).json["data"][0]["id"]
    for method, path, body in (
        ("GET", f"/alerts/channels/{channel_id}", None),
        ("PATCH", f"/alerts/channels/{channel_id}", {"enabled": False}),
        ("DELETE", f"/alerts/channels/{channel_id}", None),
        ("POST", f"/alerts/channels/{channel_id}/test", None),
        ("POST", f"/alerts/{alert_id}/acknowledge", None),
    ):
        assert (await scene.call(method, path, body, scene.theirs)).status == 404
        assert (await scene.call(method, path, body, scene.gateway.key)).status == 403
    for path in ("/alerts", "/alerts/channels"):
        told = (await scene.call("GET", path, key=scene.theirs)).body
        assert channel_id.encode() not in told
        assert alert_id.encode() not in told


async def test_an_organization_says_when_it_is_told(scene: Scene) -> None:
    """Thresholds and low balance are read as they were written; what is left out stays; null goes back."""
    assert (await scene.call("GET", "/alerts/settings", key=scene.theirs)).json["data"]["thresholds"] is None
    for body, expected in (
        ({"thresholds": [90, 60]}, {"thresholds": [60, 90], "low_balance": 10}),
        ({"low_balance": 2.5}, {"thresholds": [60, 90], "low_balance": 2.5}),
        ({"thresholds": None, "low_balance": None}, {"thresholds": None, "low_balance": None}),
    ):
        told = await scene.call("PATCH", "/alerts/settings", body, scene.theirs)
        assert told.json["data"] == expected
    for body in ({"thresholds": [0]}, {"thresholds": [101]}, {"low_balance": -1}, {"thresholds": "50"}):
        assert (await scene.call("PATCH", "/alerts/settings", body, scene.theirs)).status == 400


async def test_tests_of_channels_are_counted(scene: Scene) -> None:
    """Nobody is flooded through us."""
    channel_id = await scene.channel("flood@example.com")
    statuses = [(await scene.call("POST", f"/alerts/channels/{channel_id}/test")).status for _ in range(11)]
    assert statuses[-1] == 429
    assert len(scene.box.messages) < 30
