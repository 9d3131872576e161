"""Mail is handed in over real sockets: encrypted, with a password, and refusals are told from hiccups."""

from __future__ import annotations

import asyncio
import ssl
from email.message import EmailMessage
from pathlib import Path

import pytest
from tests.support.mail import MailBox, open_mailbox
from tests.support.tls import certified

from modelgates_server.outbound.smtp import MailError, MailServer


def message() -> EmailMessage:
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = "gate@example.com", "ops@example.com", "hello"
    mail.set_content(".\n.. two dots, and an é\n")
    return mail


async def send(box: MailBox, security: str, context: ssl.SSLContext | None = None, password: str | None = None) -> None:
    user = None if password is None else "gate"
    host = "127.0.0.1" if security == "local" else "localhost"
    server = MailServer(host, box.port, security, user, password, context, timeout_s=5)
    await asyncio.to_thread(server.send, message())


@pytest.mark.parametrize("security", ["tls", "starttls", "local"])
async def test_mail_arrives(tmp_path: Path, security: str) -> None:
    """Whole, by each of the three ways; encrypted where it must be."""
    tls = certified(tmp_path, "localhost")
    context = None if security == "local" else tls.server
    async with open_mailbox(context, from_the_start=security == "tls") as box:
        await send(box, security, tls.client)
    assert box.messages[0].get_content().splitlines() == [".", ".. two dots, and an é"]
    assert box.recipients == [["ops@example.com"]]
    assert box.encrypted == [security != "local"]


async def test_a_password_goes_through_tls_only(tmp_path: Path) -> None:
    """The right one is taken, a wrong one is refused with what the server said and without the password."""
    tls = certified(tmp_path, "localhost")
    async with open_mailbox(tls.server) as box:
        box.password = ("gate", "open sesame")
        await send(box, "starttls", tls.client, "open sesame")
        assert box.encrypted == [True]
        with pytest.raises(MailError, match="535 who") as refused:
            await send(box, "starttls", tls.client, "wrong word")
        assert "wrong word" not in str(refused.value)


async def test_a_server_without_starttls_gets_nothing(tmp_path: Path) -> None:
    """No message and no password goes out in the clear because somebody took the offer away."""
    tls = certified(tmp_path, "localhost")
    async with open_mailbox() as box:
        with pytest.raises(MailError):
            await send(box, "starttls", tls.client, "open sesame")
        assert box.messages == []


async def test_a_strangers_certificate_is_refused(tmp_path: Path) -> None:
    """Whoever answers must be who was named."""
    async with open_mailbox(certified(tmp_path, "localhost").server, from_the_start=True) as box:
        with pytest.raises(MailError, match="certificate"):
            await send(box, "tls")
        assert box.messages == []


@pytest.mark.parametrize(("answer", "lasting"), [("550 no such user", True), ("451 try later", False)])
async def test_refusals_are_told_from_hiccups(answer: str, lasting: bool) -> None:
    """A mailbox that does not exist will not exist in five minutes either."""
    async with open_mailbox() as box:
        box.refuse = answer
        with pytest.raises(MailError, match=answer) as refused:
            await send(box, "local")
        assert refused.value.lasting is lasting


async def test_a_server_that_is_away_is_a_hiccup() -> None:
    """Nobody listens there; later somebody may."""
    async with open_mailbox() as box:
        pass
    with pytest.raises(MailError) as refused:
        await send(box, "local")
    assert not refused.value.lasting
