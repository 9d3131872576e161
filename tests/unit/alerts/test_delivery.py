"""Alerts reach webhooks and mailboxes: signed, once, again after a failure, and not for ever."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from tests.support.gateway import until
from tests.support.hook import Hook, open_hook
from tests.support.mail import open_mailbox
from tests.support.tls import Tls, certified
from tests.unit.alerts.office import SECRET, USD, Office, at_once

from modelgates_server.alerts.courier import Courier, NotTaken, Operator
from modelgates_server.alerts.outbox import Alert, Kind, Outbox, Severity, claim
from modelgates_server.alerts.words import plain_reason
from modelgates_server.errors import BadRequest, NotFound
from modelgates_server.management.alerts import (
    Post,
    acknowledge_alert,
    create_channel,
    delete_channel,
    list_alerts,
    update_channel,
)
from modelgates_server.outbound.guard import Guard
from modelgates_server.outbound.http import Outbound
from modelgates_server.outbound.smtp import MailServer
from modelgates_server.storage import schema
from modelgates_server.storage.engine import transaction

HOST = "hooks.internal"
OPERATOR_SECRET = "0123456789abcdef0123456789abcdef"
RETRIES_S = (60, 300, 1_800, 7_200, 43_200)


async def local(_host: str, _port: int) -> list[str]:
    return ["127.0.0.1"]


GUARD = Guard([HOST], local)
POST = Post(SECRET, GUARD, sends_mail=True)


@asynccontextmanager
async def courier_of(
    office: Office, tls: Tls | None = None, operator: Operator | None = None
) -> AsyncIterator[Courier]:
    """A courier that may reach `HOST`, which is this machine."""
    trusted = Outbound(connect_s=2)
    guarded = Outbound(connect_s=2, verify=tls.client if tls else None, guard=GUARD)
    operator = operator or Operator()
    office.outbox = Outbox(operator.channels)
    try:
        yield Courier(office.engine, SECRET, operator, trusted, guarded, office.clock, "https://gate.example.com")
    finally:
        await trusted.close()
        await guarded.close()


def raise_one(office: Office, name: str = "one", message: str = "Something happened.", **details: Any) -> None:
    alert = Alert(office.organization_id, name, Kind.BUDGET, Severity.WARNING, message, details)
    with transaction(office.engine) as connection:
        assert office.outbox.post(connection, alert, office.now_s)


def hook_channel(office: Office, hook: Hook) -> tuple[str, str]:
    """Make a channel to a hook; gives its id and its secret."""
    made = create_channel(office.engine, POST, office.organization_id, "webhook", hook.url, "ann", office.now_s)
    assert made.secret is not None
    return made.channel.id, made.secret


def mail_operator(port: int, to: tuple[str, ...] = ()) -> Operator:
    return Operator(
        email_to=to, email_from="gate@example.com", mail_server=MailServer("127.0.0.1", port, "local", timeout_s=5)
    )


async def test_a_webhook_gets_a_signed_event(office: Office, tmp_path: Path) -> None:
    """An independent receiver verifies it with the secret that was shown once; amounts are exact, the id is the alert's."""
    tls = certified(tmp_path, HOST)
    async with open_hook(tls.server, HOST) as hook, courier_of(office, tls) as courier:
        _, secret = hook_channel(office, hook)
        raise_one(office, used_nusd=41_239_999_999, resets_at_s=1_801_440_000)
        assert (await courier.deliver_due(), await courier.deliver_due()) == (1, 0)
        assert hook.verified(0, secret)
        assert not hook.verified(0, secret[:-1])
    (event,), (alert,) = hook.events, office.told()
    assert hook.headers[0]["modelgates-event-id"] == event["id"] == alert["id"]
    assert event["organization_id"] == office.organization_id
    assert (event["type"], event["message"]) == ("alert.budget", "Something happened.")
    assert b'"used":41.239999999}' in hook.bodies[0]
    assert event["details"]["resets_at"] == "2027-02-01T00:00:00Z"


async def test_the_secret_is_strong_and_stored_sealed(office: Office, tmp_path: Path) -> None:
    """256 random bits, nowhere in the database; another organisation's row does not open it."""
    async with open_hook(certified(tmp_path, HOST).server, HOST) as hook:
        channel_id, secret = hook_channel(office, hook)
        other_id, other = hook_channel(office, Hook(url=hook.url + "?2"))
    assert len(secret.removeprefix("whsec_")) == 43
    assert secret != other
    rows = {row["id"]: row for row in office.rows(schema.alert_channels)}
    assert secret not in json.dumps([*rows.values(), *office.rows(schema.audit)])
    with transaction(office.engine) as connection:
        moved = {"sealed": rows[other_id]["sealed"]}
        mine = schema.alert_channels.c.id == channel_id
        connection.execute(sa.update(schema.alert_channels).where(mine).values(moved))
    async with courier_of(office) as courier:
        raise_one(office)
        await courier.deliver_due()
    states = {delivery["channel_id"]: delivery for delivery in office.deliveries()}
    assert "cannot be opened" in states[channel_id]["last_error"]
    assert states[channel_id]["next_at_s"] is None


async def test_a_failed_delivery_is_tried_again_and_given_up(office: Office, tmp_path: Path) -> None:
    """After 1 and 5 and 30 minutes, 2 and 12 hours; then it is failed for everybody to see. The id stays, the time moves."""
    tls = certified(tmp_path, HOST)
    async with open_hook(tls.server, HOST) as hook, courier_of(office, tls) as courier:
        channel_id, secret = hook_channel(office, hook)
        hook.plan = [500, 302, 404, 503, 429, 500, 200]
        raise_one(office)
        for pause_s in RETRIES_S:
            assert await courier.deliver_due() == 1
            office.clock.advance(pause_s - 1)
            assert await courier.deliver_due() == 0
            (delivery,) = list_alerts(office.engine, office.organization_id).rows[0].deliveries
            assert delivery.state == "pending"
            office.clock.advance(1)
        assert await courier.deliver_due() == 1
        office.clock.advance(10**6)
        assert await courier.deliver_due() == 0
        assert all(hook.verified(index, secret) for index in range(6))
    assert len(hook.bodies) == 6
    assert len({headers["modelgates-event-id"] for headers in hook.headers}) == 1
    assert len({headers["modelgates-signature"] for headers in hook.headers}) == 6
    (delivery,) = list_alerts(office.engine, office.organization_id).rows[0].deliveries
    assert (delivery.state, delivery.attempts, delivery.error) == ("failed", 6, "it answered 500")
    assert delivery.channel_id == channel_id


async def test_the_log_tells_of_the_first_failure_and_of_the_end(
    office: Office, caplog: pytest.LogCaptureFixture
) -> None:
    """What kind of channel, and why in people's words: neither its address nor its secret."""
    async with courier_of(office) as courier:
        channel_id, _ = hook_channel(office, Hook(url=f"https://{HOST}:1/in?token=hush"))
        raise_one(office)
        for pause_s in (*RETRIES_S, 0):
            assert await courier.deliver_due() == 1
            office.clock.advance(pause_s)
    told = [one for one in caplog.records if one.message.startswith("alert_delivery")]
    assert [one.message for one in told] == ["alert_delivery_failed", "alert_delivery_given_up"]
    assert {(vars(one)["kind"], vars(one)["reason"]) for one in told} == {("webhook", "connection refused")}
    assert {vars(one)["channel"] for one in told} == {channel_id}
    assert "hush" not in str([vars(one) for one in told])


async def test_an_outage_is_told_once(office: Office, caplog: pytest.LogCaptureFixture) -> None:
    """However often deliveries are looked for meanwhile; the next outage is told again."""
    caplog.set_level(logging.INFO, "modelgates_server")
    away = sa.create_engine("postgresql+psycopg://nobody@127.0.0.1:1/none", connect_args={"connect_timeout": 2})
    async with courier_of(office) as courier:
        for engine, told in ((away, 1), (away, 1), (office.engine, 1), (away, 2)):
            object.__setattr__(courier, "engine", engine)
            assert await courier.deliver_due() == 0
            reasons = [vars(one)["reason"] for one in caplog.records if one.message == "deliveries_wait_for_the_store"]
            assert len(reasons) == told
    away.dispose()
    assert all(reason.endswith("Connection refused") for reason in reasons)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("ConnectionRefusedError: [Errno 111] Connection refused", "connection refused"),
        ("[Errno 111] Connect call failed ('127.0.0.1', 1)", "connection refused"),
        ("Multiple exceptions: [Errno 111] Connect call failed ('::1', 1, 0, 0), [Errno 111] …", "connection refused"),
        ("gaierror: [Errno -2] Name or service not known", "name or service not known"),
        ("TimeoutError: timed out", "timed out"),
        (
            "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed certificate (_ssl.c:1006)",
            "certificate verify failed: self-signed certificate",
        ),
        ("the mail server said 550 no such user", "the mail server said 550 no such user"),
        ("a.example leads to a private or reserved address", "a.example leads to a private or reserved address"),
    ],
)
def test_a_reason_is_told_in_peoples_words(text: str, told: str) -> None:
    """Python's names of errors and the system's numbers are replaced; sentences stay as they are."""
    assert plain_reason(text) == told


async def test_a_receiver_that_recovers_gets_the_event(office: Office, tmp_path: Path) -> None:
    """What its inner pages say about a failure is shown to nobody; redirects are not followed."""
    tls = certified(tmp_path, HOST)
    async with open_hook(tls.server, HOST) as hook, courier_of(office, tls) as courier:
        hook_channel(office, hook)
        hook.plan = [307]
        raise_one(office)
        await courier.deliver_due()
        assert len(hook.bodies) == 1
        assert "redirects are not followed" in office.deliveries()[0]["last_error"]
        assert "inner secret" not in office.deliveries()[0]["last_error"]
        office.clock.advance(60)
        await courier.deliver_due()
    (delivery,) = list_alerts(office.engine, office.organization_id).rows[0].deliveries
    assert (delivery.state, delivery.attempts, delivery.error) == ("delivered", 2, None)


@pytest.mark.parametrize(
    "url", ["https://127.0.0.1/in", "https://10.0.0.1/", "http://example.com/", "https://a@b.com/"]
)
def test_inner_addresses_are_refused_when_a_channel_is_made(office: Office, url: str) -> None:
    """Also when one is aimed elsewhere later."""
    with pytest.raises(BadRequest):
        create_channel(office.engine, POST, office.organization_id, "webhook", url, "ann", office.now_s)
    good = create_channel(office.engine, POST, office.organization_id, "webhook", "https://a.com/", "ann", office.now_s)
    with pytest.raises(BadRequest):
        update_channel(office.engine, POST, office.organization_id, good.channel.id, "ann", office.now_s, target=url)


async def test_a_name_that_turns_inwards_is_not_connected_to(office: Office) -> None:
    """It was public when it was stored; each connection looks again."""
    made = create_channel(office.engine, POST, office.organization_id, "webhook", "https://a.com/", "ann", office.now_s)
    guarded = Outbound(connect_s=2, guard=Guard((), local))
    trusted = Outbound(connect_s=2)
    courier = Courier(office.engine, SECRET, Operator(), trusted, guarded, office.clock, "")
    raise_one(office)
    await courier.deliver_due()
    await guarded.close()
    (delivery,) = office.deliveries()
    assert delivery["channel_id"] == made.channel.id
    assert "private or reserved address" in delivery["last_error"]


def test_eight_threads_take_each_delivery_once(office: Office) -> None:
    """Two processes claim from one outbox: every delivery is in exactly one hand, and nobody takes it again at once."""
    for number in range(3):
        url = f"https://a{number}.com/"
        create_channel(office.engine, POST, office.organization_id, "webhook", url, "ann", office.now_s)
    for number in range(40):
        raise_one(office, f"alert {number}")
    engines = [office.engine, office.another()]

    def take(number: int) -> list[tuple[str, str]]:
        taken = []
        while parcels := claim(engines[number % 2], office.now_s):
            taken += [(parcel.told.id, parcel.channel_id) for parcel in parcels]
        return taken

    taken = [one for hand in at_once(take) for one in hand]
    assert (len(taken), len(set(taken))) == (120, 120)
    office.clock.advance(89)
    assert claim(office.engine, office.now_s) == []
    office.clock.advance(1)  # whoever took it is dead
    assert len(claim(office.engine, office.now_s)) == 20


async def test_mail_is_plain_text_to_who_asked_for_it(office: Office) -> None:
    """Subject, sentence, facts; markup stays text, and a line break in a name makes no header."""
    message = 'The key "x\r\nBcc: all@example.com <b>bold</b>" has used 82 %.'
    async with open_mailbox() as box, courier_of(office, operator=mail_operator(box.port)) as courier:
        create_channel(office.engine, POST, office.organization_id, "email", "ops@example.com", "ann", office.now_s)
        raise_one(office, message=message, guardrail="a\r\nTo: all@example.com\r\n\r\n<b>", limit_nusd=5 * USD)
        assert await courier.deliver_due() == 1
    (mail,) = box.messages
    assert box.recipients == [["ops@example.com"]]
    assert mail["To"] == "ops@example.com"
    assert mail["Bcc"] is None
    assert mail.get_content_type() == "text/plain"
    assert mail["Subject"].startswith('[ModelGates] Budget: The key "xBcc: all@example.com <b>bold</b>" has used')
    assert "limit: 5 USD" in mail.get_content().splitlines()
    assert "guardrail: aTo: all@example.com<b>" in mail.get_content().splitlines()
    assert b"\r\nTo: all@" not in box.raw[0]


async def test_the_operator_hears_of_every_organization(office: Office) -> None:
    """By the webhook and the addresses of the configuration file, which organisations do not see."""
    async with open_mailbox() as box, open_hook() as hook:
        mail = mail_operator(box.port, ("a@example.com", "b@example.com"))
        operator = Operator(hook.url, OPERATOR_SECRET, mail.email_to, mail.email_from, mail.mail_server)
        async with courier_of(office, operator=operator) as courier:
            raise_one(office)
            office.organization_id = office.second_organization()
            raise_one(office)
            assert await courier.deliver_due() == 4
            assert [hook.verified(index, OPERATOR_SECRET) for index in (0, 1)] == [True, True]
    assert len({event["organization_id"] for event in hook.events}) == 2
    assert box.recipients == [["a@example.com", "b@example.com"]] * 2
    assert list_alerts(office.engine, office.organization_id).rows[0].deliveries == ()


async def test_alerts_go_to_the_channels_of_their_organization_only(office: Office, tmp_path: Path) -> None:
    """Neither switched off ones nor those of others; what waits for a channel goes with it."""
    tls = certified(tmp_path, HOST)
    async with open_hook(tls.server, HOST) as hook, courier_of(office, tls) as courier:
        first, office.organization_id = office.organization_id, office.second_organization()
        hook_channel(office, hook)
        office.organization_id = first
        raise_one(office, "nobody hears it")
        channel_id, _ = hook_channel(office, Hook(url=hook.url + "?mine"))
        raise_one(office, "waiting")
        update_channel(office.engine, POST, first, channel_id, "ann", office.now_s, enabled=False)
        raise_one(office, "not even posted")
        assert len(office.deliveries()) == 1
        assert await courier.deliver_due() == 1
        assert office.deliveries()[0]["last_error"] == "the channel is switched off"
        update_channel(office.engine, POST, first, channel_id, "ann", office.now_s, enabled=True)
        raise_one(office, "waiting again")
        delete_channel(office.engine, first, channel_id, "ann", office.now_s)
        assert await courier.deliver_due() == 0
    assert hook.bodies == []


async def test_a_channel_can_be_tried(office: Office, tmp_path: Path) -> None:
    """The test is sent at once and signed like the rest, or it says why it could not be; nothing is stored."""
    tls = certified(tmp_path, HOST)
    async with open_hook(tls.server, HOST) as hook, courier_of(office, tls) as courier:
        _, secret = hook_channel(office, hook)
        (row,) = office.rows(schema.alert_channels)
        await courier.test(row)
        assert hook.events[0]["type"] == "alert.test"
        assert hook.verified(0, secret)
        hook.plan = [500]
        with pytest.raises(NotTaken, match="it answered 500"):
            await courier.test(row)
    assert office.told() == []


async def test_a_silent_receiver_holds_nobody_up(office: Office, tmp_path: Path) -> None:
    """One that never answers is cut off in time, while another gets its event at once."""
    tls = certified(tmp_path, HOST)
    silent = await asyncio.start_server(lambda _reader, _writer: asyncio.Event().wait(), "127.0.0.1", 0, ssl=tls.server)
    port = silent.sockets[0].getsockname()[1]
    async with open_hook(tls.server, HOST) as hook, courier_of(office, tls) as courier:
        slow, _ = hook_channel(office, Hook(url=f"https://{HOST}:{port}/"))
        hook_channel(office, hook)
        raise_one(office)
        work = asyncio.ensure_future(replace(courier, webhook_s=1.5).deliver_due())
        await until(lambda: hook.bodies, "the other one waits")
        assert not work.done()
        await work
    silent.close()
    states = {delivery["channel_id"]: delivery["last_error"] for delivery in office.deliveries()}
    assert states.pop(slow) == "no answer within 1.5 s"
    assert list(states.values()) == [None]


def test_acknowledging_is_done_once_and_by_its_own_people(office: Office) -> None:
    """It leaves one audit row; another organisation's id is as unknown as none."""
    raise_one(office)
    (alert,) = office.told()
    other = office.second_organization()
    for organization_id, alert_id in ((other, alert["id"]), (office.organization_id, "alr-none")):
        with pytest.raises(NotFound):
            acknowledge_alert(office.engine, organization_id, alert_id, "ann", office.now_s)
    for later_s in (0, 60):
        row = acknowledge_alert(office.engine, office.organization_id, alert["id"], "ann", office.now_s + later_s)
        assert row.cleared_at_s == int(office.now_s)
    audited = [row for row in office.rows(schema.audit) if row["action"] == "alert.acknowledge"]
    assert [row["actor"] for row in audited] == ["ann"]
    assert list_alerts(office.engine, office.organization_id, open_only=True).total == 0
    assert list_alerts(office.engine, office.organization_id).total == 1
    assert list_alerts(office.engine, other).total == 0
