"""Privacy, settings and audit in the console, as an administrator and as a member, as HTML and as JSON, over a real port."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from tests.support.console import Person, signed_in
from tests.support.gateway import Gateway, ask, open_gateway
from tests.support.mail import MailBox, open_mailbox

from modelgates_server.management import audit, workspaces
from modelgates_server.management.organizations import NewOrganization, create_organization
from modelgates_server.management.workspaces import NewWorkspace
from modelgates_server.storage import schema
from modelgates_server.storage.engine import transaction
from modelgates_server.vault.secret import load_secret

pytestmark = pytest.mark.asyncio(loop_scope="session")

EVIL = "<script>alert(1)</script>\"'&"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def box() -> AsyncIterator[MailBox]:
    async with open_mailbox() as opened:
        yield opened


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def house(tmp_path_factory: pytest.TempPathFactory, box: MailBox) -> AsyncIterator[Gateway]:
    toml = f'[alerts]\nsmtp_url = "smtp://127.0.0.1:{box.port}"\nemail_from = "gate@example.com"\n'
    async with open_gateway(tmp_path_factory.mktemp("console-settings") / "gateway", toml=toml) as running:
        yield running


def org(house: Gateway) -> str:
    return house.initialised.organization_id


def place(data: dict[str, Any], name: str = "Default") -> dict[str, Any]:
    return next(one for one in data["places"] if one["name"] == name)


async def test_privacy_is_told_to_everybody_in_plain_words(admin: Person, member: Person) -> None:
    """What is recorded and what is not, who may read; a member sees the rule and cannot change it."""
    for person in (admin, member):
        shown = await person.get("/privacy")
        assert shown.status == 200
        assert "no prompt, no answer" in shown.text
        assert "Each reading is written into the audit log" in shown.text
        assert "not stored" in shown.text
    theirs = place(await member.data("/privacy"))
    assert (theirs["stored"], theirs["mine"], theirs["keeps"]) == (None, [], False)
    assert "Change" not in (await member.get("/privacy")).text
    assert (await member.get("/privacy/default")).status == 403
    assert (await member.post("/privacy/default", {"keeps": "on"})).status == 403


async def test_an_admin_opts_a_workspace_in_and_out(house: Gateway, admin: Person, member: Person) -> None:
    """From the form to a stored request, to its deletion; the member reads there which of their keys are concerned."""
    secret, hash_ = house.new_key_row("theirs", member_id=member.member_id)
    form = {"keeps": "on", "days": "12", "keys": "theirs\n", "share": "100"}
    done = await admin.post("/privacy/default", form)
    assert (done.status, done.headers["location"]) == (303, "/privacy?said=prompts-stored")
    assert "The rule holds from the next request on" in (await admin.get(done.headers["location"])).text
    await house.send(ask("hello"), key=secret)
    await house.settled()
    rule, mine = place(await admin.data("/privacy")), place(await member.data("/privacy"))
    one = await admin.data("/privacy/default")
    await admin.post("/privacy/default", {})
    left = place(await admin.data("/privacy"))
    gone = await admin.post("/privacy/default/forget")

    assert (rule["keeps"], rule["retention_days"], rule["keys"], rule["stored"]) == (True, 12, ["theirs"], 1)
    assert (mine["mine"], mine["keys"], mine["stored"]) == (["theirs"], [], None)
    assert one["named"] == hash_
    assert (left["keeps"], left["retention_days"], left["stored"]) == (False, 12, 1)
    assert gone.headers["location"] == "/privacy?said=prompts-deleted"
    assert place(await admin.data("/privacy"))["stored"] == 0
    assert [one.action for _, one in _changes(house)][:3] == [
        "content.delete",
        "workspace.prompt_log",
        "workspace.prompt_log",
    ]


def _changes(house: Gateway) -> list[Any]:
    with house.engine() as (engine, _):
        return audit.audit_before(engine, org(house), audit.AuditFilter(), None, 10)


@pytest.mark.parametrize(
    ("form", "told"),
    [
        ({"days": "0"}, "days must be a whole number"),
        ({"days": "366"}, "days must be a whole number"),
        ({"share": "x"}, "is no share"),
        ({"share": "0.001"}, "sampling rate"),
        ({"keys": "nobody"}, "There is no key"),
        ({"keys": EVIL}, "There is no key"),
    ],
)
async def test_what_cannot_be_comes_back_with_what_was_typed(admin: Person, form: dict[str, str], told: str) -> None:
    """The sentence on top, the fields as they were, and nothing is stored."""
    shown = await admin.post("/privacy/default", {"keeps": "on", "days": "30", "share": "100"} | form)
    again = re.search(r'name="keeps" value="on"( checked)?', shown.text)

    assert (shown.status, told.lower() in shown.text.lower()) == (400, True), shown.text
    assert "<script>alert" not in shown.text
    assert again is not None
    assert again[1] == " checked"
    assert not place(await admin.data("/privacy"))["keeps"]


async def test_a_member_sees_the_rules_of_their_own_workspaces_only(house: Gateway, member: Person) -> None:
    """The default one is everybody's; another one is theirs when they joined it."""
    with house.engine() as (engine, now_s):
        workspaces.create_workspace(engine, org(house), NewWorkspace("Secret lab"), "test", now_s)
        joined = workspaces.create_workspace(engine, org(house), NewWorkspace("Team"), "test", now_s)
        workspaces.add_places(engine, org(house), joined.id, [member.member_id], "test", now_s)

    assert [one["name"] for one in (await member.data("/privacy"))["places"]] == ["Default", "Team"]


async def test_settings_show_what_is_set_and_what_runs(house: Gateway, admin: Person, member: Person) -> None:
    """Name, alerts, top-up, sign-in, addresses; none of it is for members."""
    data, shown = await admin.data("/settings"), await admin.get("/settings")
    here = data["installation"]

    assert (data["organization_id"], data["usual_thresholds"]) == (org(house), [50, 80, 95, 100])
    assert (here["store"], here["with_password"], here["identity_issuer"]) == ("SQLite", True, None)
    assert here["base_url"].endswith("/api")
    assert "This installation" in shown.text
    assert (await member.get("/settings")).status == 403


async def test_the_organization_is_renamed(admin: Person) -> None:
    """Whatever is typed stands there as text; an empty name is refused."""
    old = (await admin.data("/settings"))["name"]
    assert (await admin.post("/settings/organization", {"organization_name": EVIL})).status == 303
    shown = await admin.get("/settings")
    assert "<script>alert" not in shown.text
    assert (await admin.data("/settings"))["name"] == EVIL
    assert (await admin.post("/settings/organization", {"organization_name": " "})).status == 400
    await admin.post("/settings/organization", {"organization_name": old})


async def test_alerts_are_chosen(admin: Person) -> None:
    """Percents and a balance; empty is the gateway's own and none; off is never; nonsense is refused and stays in the field."""
    await admin.post("/settings/alerts", {"thresholds": "80, 50%", "low_balance": "$12.50"})
    chosen = await admin.data("/settings")
    await admin.post("/settings/alerts", {"thresholds": "off", "low_balance": ""})
    never = await admin.data("/settings")
    wrong = await admin.post("/settings/alerts", {"thresholds": "half", "low_balance": "5"})
    await admin.post("/settings/alerts", {"thresholds": "", "low_balance": "10"})
    usual = await admin.data("/settings")

    assert (chosen["thresholds"], chosen["low_balance_nusd"]) == ([50, 80], 12_500_000_000)
    assert (never["thresholds"], never["low_balance_nusd"]) == ([], None)
    assert (wrong.status, 'value="half"' in wrong.text) == (400, True)
    assert (usual["thresholds"], usual["low_balance_nusd"]) == (None, 10_000_000_000)


async def test_a_top_up_rule_is_set_and_switched_off(house: Gateway, admin: Person) -> None:
    """Its amounts stay when it is off; what is missing is said. Admins of other organisations need the operator's leave."""
    form = {"topup_enabled": "on", "topup_below": "5", "topup_amount": "20", "topup_month": ""}
    assert (await admin.post("/settings/topup", form)).status == 303
    on = (await admin.data("/settings"))["topup"]
    missing = await admin.post("/settings/topup", form | {"topup_amount": ""})
    await admin.post("/settings/topup", {"topup_below": "5"})
    off = (await admin.data("/settings"))["topup"]
    with house.engine() as (engine, now_s):
        wanted = NewOrganization("Others")
        other = create_organization(engine, load_secret(house.config), wanted, "test", now_s).admin.id
    async with signed_in(house, other) as stranger:
        refused = await stranger.post("/settings/topup", form)

    assert (on["enabled"], on["threshold_nusd"], on["amount_nusd"], on["monthly_max_nusd"]) == (
        True,
        5 * 10**9,
        20 * 10**9,
        None,
    )
    assert (missing.status, "Say how much is added" in missing.text) == (400, True)
    assert off == on | {"enabled": False}
    assert refused.status == 403


async def test_a_webhook_shows_its_secret_once(admin: Person) -> None:
    """When it is added and when the secret is renewed; then nowhere. It is switched, tried in vain, and removed."""
    form = {"channel_kind": "webhook", "channel_target": "https://hooks.example.com/in"}
    made = await admin.post("/settings/channels", form)
    secret = re.search(r"whsec_[A-Za-z0-9_-]+", made.text)
    assert (made.status, secret is not None) == (200, True)
    assert "whsec_" not in (await admin.get("/settings")).text
    assert (await admin.post("/settings/channels", form)).status == 400
    (channel,) = (await admin.data("/settings"))["channels"]
    path = f"/settings/channels/{channel['id']}"
    renewed = await admin.post(f"{path}/secret", accept="application/json")
    assert renewed.data["outcome"]["secret"] not in {None, secret and secret[0]}
    await admin.post(f"{path}/disable")
    tried = await admin.post(f"{path}/test")
    assert "did not arrive" in tried.text
    assert "switched off" in tried.text
    await admin.post(f"{path}/enable")
    assert (await admin.data("/settings"))["channels"][0]["enabled"]
    await admin.post(f"{path}/remove")
    assert (await admin.data("/settings"))["channels"] == []
    for bad in ("http://hooks.example.com/in", "https://127.0.0.1/in", EVIL, ""):
        shown = await admin.post("/settings/channels", form | {"channel_target": bad})
        assert (shown.status, "<script>alert" in shown.text) == (400, False), bad


async def test_mail_is_tried_and_alerts_are_seen_to(house: Gateway, admin: Person, box: MailBox) -> None:
    """The test arrives; the newest alerts stand there with how they were delivered, until somebody sees to them."""
    await admin.post("/settings/channels", {"channel_kind": "email", "channel_target": "ops@example.com"})
    (channel,) = (await admin.data("/settings"))["channels"]
    shown = await admin.post(f"/settings/channels/{channel['id']}/test")
    await admin.post("/settings/alerts", {"thresholds": "", "low_balance": "500"})
    await house.application.watch.look()
    await house.application.courier.deliver_due()
    (alert, *_) = (await admin.data("/settings"))["alerts"]
    await admin.post(f"/settings/alerts/{alert['id']}/acknowledge")
    seen = (await admin.data("/settings"))["alerts"][0]

    assert (shown.status, "The test arrived" in shown.text, len(box.messages) >= 2) == (200, True, True)
    assert [(one["target"], one["state"]) for one in alert["deliveries"]] == [("ops@example.com", "delivered")]
    assert (alert["cleared_at_s"], seen["cleared_at_s"] is not None) == (None, True)


async def test_the_log_of_changes_is_read_and_filtered(house: Gateway, admin: Person, member: Person) -> None:
    """By name, newest first, page by page, by who, what and day; it is not for members."""
    for number in range(60):
        house.new_key(f"key {number}")
    first = await admin.data("/audit")
    second = await admin.data(f"/audit?before={first['older']}")
    mine = await admin.data("/audit?action=key.create&actor=test&from=2020-01-01&to=2099-01-01")
    renamed = await admin.data("/audit?action=organization.rename")
    shown = await admin.get("/audit?action=organization.rename")

    assert (len(first["changes"]), first["newest"], second["newest"]) == (50, True, False)
    digests = [one["digest"] for one in (*first["changes"], *second["changes"])]
    assert len(digests) == len(set(digests))
    assert {one["action"] for one in mine["changes"]} == {"key.create"}
    assert renamed["changes"][0]["who"] == "Admin"
    assert "Admin" in shown.text
    assert "<script>alert" not in shown.text
    assert (await admin.data("/audit?action=nothing"))["changes"] == []
    assert (await admin.get("/audit?before=x")).status == 400
    assert (await member.get("/audit")).status == 403


async def test_the_log_is_checked_and_taken_away(house: Gateway, admin: Person, member: Person, tmp_path: Path) -> None:
    """The page says that it is whole; the download holds our rows only, and proves later that they were there."""
    whole = await admin.post("/audit/verify")
    assert "The log is whole" in whole.text
    shown = await admin.get("/audit.jsonl")
    lines = shown.text.splitlines()
    with house.engine() as (engine, _):
        secret = load_secret(house.config)
        assert audit.verify_export(engine, secret, lines) == audit.Verdict(None, len(lines) - 1)
        forged = [lines[0].replace("organization", "organisation"), *lines[1:]]
        assert audit.verify_export(engine, secret, forged).broken is not None
        assert audit.verify_export(engine, secret, lines[1:]).broken is not None
        assert audit.verify_export(engine, bytes(32), lines).broken is not None

    assert shown.headers["content-disposition"].startswith('attachment; filename="modelgates-audit-')
    assert {json.loads(line)["organization_id"] for line in lines} == {org(house)}
    assert (await member.get("/audit.jsonl")).status == 403
    assert (await member.post("/audit/verify")).status == 403


async def test_a_log_that_was_tampered_with_is_told(tmp_path: Path) -> None:
    """Where the chain breaks, on the page; and the copy of before does not fit any more."""
    async with open_gateway(tmp_path / "gateway") as gateway, signed_in(gateway) as admin:
        lines = (await admin.get("/audit.jsonl")).text.splitlines()
        with gateway.engine() as (engine, _):
            with transaction(engine) as connection:
                connection.execute(schema.audit.update().where(schema.audit.c.id == 1).values(actor="nobody"))
            verdict = audit.verify_export(engine, load_secret(gateway.config), lines)
        shown = await admin.post("/audit/verify")

    assert (shown.status, "The log is broken: row 1 was altered" in shown.text) == (200, True)
    assert verdict.broken == "row 1 of the export is not what the log says now"
