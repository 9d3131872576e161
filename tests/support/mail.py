"""A mail server that keeps what it is handed: plain, with TLS from the start, or with STARTTLS, and a password if one is wanted."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email import policy
from email.message import EmailMessage
from email.parser import BytesParser


@dataclass
class MailBox:
    """What came: the parsed messages and their raw bytes, envelope recipients, and whether TLS was on when they came."""

    port: int = 0
    tls: ssl.SSLContext | None = None
    password: tuple[str, str] | None = None
    refuse: str = ""  # what RCPT TO is answered with, instead of 250
    messages: list[EmailMessage] = field(default_factory=list)
    raw: list[bytes] = field(default_factory=list)
    recipients: list[list[str]] = field(default_factory=list)
    encrypted: list[bool] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One conversation."""
        secure, known, to = writer.get_extra_info("ssl_object") is not None, self.password is None, list[str]()

        async def say(line: str) -> None:
            writer.write(line.encode() + b"\r\n")
            await writer.drain()

        await say("220 box")
        while line := (await reader.readline()).decode().strip():
            verb = line.split(" ")[0].upper()
            if verb == "EHLO":
                offers = [
                    "box",
                    *(["AUTH PLAIN"] if self.password else []),
                    *(["STARTTLS"] if self.tls and not secure else []),
                ]
                for offer in offers[:-1]:
                    await say(f"250-{offer}")
                await say(f"250 {offers[-1]}")
            elif verb == "STARTTLS" and self.tls is not None:
                await say("220 go")
                await writer.start_tls(self.tls)
                secure = True
            elif verb == "AUTH":
                known = self.password == tuple(base64.b64decode(line.split(" ")[-1]).decode().split("\0")[1:])
                await say("235 welcome" if known else "535 who?")
            elif verb in {"MAIL", "RCPT", "DATA"} and not known:
                await say("530 log in")
            elif verb == "RCPT":
                to.append(line.partition("<")[2].partition(">")[0])
                await say(self.refuse or "250 ok")
            elif verb == "DATA":
                await say("354 go on")
                data = (await reader.readuntil(b"\r\n.\r\n"))[:-3].replace(b"\r\n..", b"\r\n.")
                self.raw.append(data)
                self.messages.append(BytesParser(policy=policy.default).parsebytes(data))  # type: ignore[arg-type]
                self.recipients.append(to)
                self.encrypted.append(secure)
                await say("250 kept")
            elif verb == "QUIT":
                await say("221 bye")
                break
            else:
                await say("250 ok")
        writer.close()


@asynccontextmanager
async def open_mailbox(tls: ssl.SSLContext | None = None, *, from_the_start: bool = False) -> AsyncIterator[MailBox]:
    """Listen on a free port of this machine."""
    box = MailBox(tls=None if from_the_start else tls)
    server = await asyncio.start_server(box.serve, "127.0.0.1", 0, ssl=tls if from_the_start else None)
    box.port = server.sockets[0].getsockname()[1]
    try:
        yield box
    finally:
        server.close()
