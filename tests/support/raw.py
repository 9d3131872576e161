"""Upstreams below HTTP: sockets that do to their callers what no server library would, and listeners that nobody gets through to.

An act is what happens on one connection. `RawUpstream` counts what came in, so a test can say how often somebody was asked.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import re
import socket
import ssl
import struct
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

MESSAGE: Final[dict[str, Any]] = {
    "id": "msg_raw", "type": "message", "role": "assistant", "model": "claude-opus-4-8", "stop_reason": "end_turn",
    "stop_sequence": None, "content": [{"type": "text", "text": "hi there"}],
    "usage": {"input_tokens": 9, "output_tokens": 2},
}  # fmt: skip

_EVENTS: Final[list[dict[str, Any]]] = [
    {"type": "message_start", "message": {**MESSAGE, "content": [], "stop_reason": None}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hi "}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "there"}},
    {"type": "content_block_stop", "index": 0},
    {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn", "stop_sequence": None},
        "usage": {"output_tokens": 2},
    },
    {"type": "message_stop"},
]
EVENTS: Final = [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in _EVENTS]
BEFORE_CONTENT: Final = EVENTS[0]
WITH_CONTENT: Final = b"".join(EVENTS[:3])

_LINGER_NOT = struct.pack("ii", 1, 0)
_LENGTH = re.compile(rb"(?i)\r\ncontent-length: (\d+)")
_NOISE = b"a" * 65_536


class Caller:
    """One connection, seen from the upstream."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, upstream: RawUpstream) -> None:
        self._reader = reader
        self._writer = writer
        self._upstream = upstream
        self.stream = False

    async def ask(self) -> bytes:
        """Read one request to its end; its body. Raises IncompleteReadError when there is none."""
        head = await self._reader.readuntil(b"\r\n\r\n")
        found = _LENGTH.search(head)
        body = await self._reader.readexactly(int(found[1]) if found else 0)
        self._upstream.asked += 1
        self.stream = b'"stream": true' in body or b'"stream":true' in body
        return body

    async def say(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def begin(self, *headers: str, length: int | None = None) -> None:
        """The head of a 200 of the form that was asked for: in chunks, unless it has a length."""
        kind = "text/event-stream" if self.stream else "application/json"
        framing = "transfer-encoding: chunked" if length is None else f"content-length: {length}"
        lines = ["HTTP/1.1 200 OK", f"content-type: {kind}", framing, *headers]
        await self.say("\r\n".join([*lines, "", ""]).encode("latin-1"))

    async def chunk(self, data: bytes) -> None:
        await self.say(b"%x\r\n%s\r\n" % (len(data), data))

    async def answer(self, *headers: str) -> None:
        """A whole good answer."""
        body = b"".join(EVENTS) if self.stream else json.dumps(MESSAGE).encode()
        await self.begin(*headers, length=len(body))
        await self.say(body)

    async def wait(self) -> None:
        """Say nothing until the caller leaves."""
        while await self._reader.read(65_536):
            pass

    def reset(self) -> None:
        """End the connection with a TCP reset."""
        self._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
        self._writer.transport.abort()


Act = Callable[[Caller], Awaitable[None]]


class RawUpstream:
    """A listener that plays one act on every connection."""

    def __init__(self, act: Act) -> None:
        self.act = act
        self.url = ""
        self.connections = 0
        self.asked = 0

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            with suppress(OSError, asyncio.IncompleteReadError):
                await self.act(Caller(reader, writer, self))
        finally:
            writer.close()


@asynccontextmanager
async def raw(act: Act, tls: ssl.SSLContext | None = None) -> AsyncIterator[RawUpstream]:
    """A raw upstream on a free port for the length of a block."""
    upstream = RawUpstream(act)
    tasks: set[asyncio.Task[None]] = set()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(upstream.connected(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls)
    upstream.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield upstream
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def closed_port() -> str:
    """An address at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as once:
        return f"http://127.0.0.1:{once.getsockname()[1]}"


@contextmanager
def black_hole() -> Iterator[str]:
    """An address at which connections are neither taken nor refused: the queue of its listener is full."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            for filler in fillers:
                filler.close()


def unknown_certificate(folder: Path) -> ssl.SSLContext:
    """TLS for 127.0.0.1 with a certificate that nobody vouches for."""
    from cryptography import x509  # noqa: PLC0415 - slow, and only here
    from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = dt.datetime.now(dt.UTC)
    day = dt.timedelta(days=1)
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now - day, now + day)
    form = serialization.Encoding.PEM
    file = folder / "unknown.pem"
    file.write_bytes(
        made.sign(key, hashes.SHA256()).public_bytes(form)
        + key.private_bytes(form, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context


# What a connection may do. Each is asked first, unless it says otherwise.


async def hang_up_at_once(caller: Caller) -> None:
    """Not even the request is read. In the handshake, if there should be one."""
    caller.reset()


async def plain_words(caller: Caller) -> None:
    """Speak before being asked, and not what was expected."""
    await caller.say(b"220 mail.example.com ESMTP\r\n")
    await caller.wait()


async def silent(caller: Caller) -> None:
    """Take the request and never answer."""
    await caller.ask()
    await caller.wait()


async def close_unanswered(caller: Caller) -> None:
    await caller.ask()


async def reset_unanswered(caller: Caller) -> None:
    await caller.ask()
    caller.reset()


async def half_a_head(caller: Caller) -> None:
    await caller.ask()
    await caller.say(b"HTTP/1.1 200 OK\r\ncontent-type: appl")


async def garbage(caller: Caller) -> None:
    """Something that is not HTTP."""
    await caller.ask()
    await caller.say(b"\x16\x03\x01\x02\x00 what is this?\r\n\r\n")
    await caller.wait()


async def huge_header(caller: Caller) -> None:
    await caller.ask()
    await caller.answer("x-large: " + "a" * 1_000_000)


async def many_headers(caller: Caller) -> None:
    await caller.ask()
    await caller.answer(*(f"x-{number}: {number}" for number in range(10_000)))


async def lone_line_end(caller: Caller) -> None:
    """A header with a carriage return in its middle, as when somebody smuggles one."""
    await caller.ask()
    await caller.answer("x-evil: a\rset-cookie: b=c")


async def two_lengths(caller: Caller) -> None:
    """A length and chunks at once: where the answer ends is a matter of opinion."""
    await caller.ask()
    await caller.answer("transfer-encoding: chunked")


async def bad_chunk(caller: Caller) -> None:
    await caller.ask()
    await caller.begin()
    await caller.say(b"zz\r\nhello\r\n")
    await caller.wait()


async def head_then_nothing(caller: Caller) -> None:
    await caller.ask()
    await caller.begin()
    await caller.wait()


async def head_then_reset(caller: Caller) -> None:
    await caller.ask()
    await caller.begin()
    caller.reset()


async def endless_line(caller: Caller) -> None:
    """A 200 whose first line never ends."""
    await caller.ask()
    await caller.begin()
    while True:
        await caller.chunk(_NOISE)


async def inflates(caller: Caller) -> None:
    """A few kilobytes that become sixty-four megabytes."""
    await caller.ask()
    await caller.begin("content-encoding: gzip")
    await caller.chunk(_bomb())
    await caller.wait()


async def endless_line_after_content(caller: Caller) -> None:
    await caller.ask()
    await caller.begin()
    await caller.chunk(WITH_CONTENT)
    while True:
        await caller.chunk(_NOISE)


async def reset_after_content(caller: Caller) -> None:
    await caller.ask()
    await caller.begin()
    await caller.chunk(WITH_CONTENT)
    caller.reset()


async def talkative(caller: Caller) -> None:
    """A good answer with headers that are nobody's business, after two interim ones."""
    await caller.ask()
    await caller.say(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n")
    await caller.answer("set-cookie: a=b", "x-evil: yes", "request-id: req_theirs", "via: 1.1 somebody")


async def until_closed(caller: Caller) -> None:
    """A good answer without length or chunks: its end is the connection's."""
    await caller.ask()
    kind = b"text/event-stream" if caller.stream else b"application/json"
    await caller.say(b"HTTP/1.1 200 OK\r\ncontent-type: %s\r\n\r\n" % kind)
    await caller.say(b"".join(EVENTS) if caller.stream else json.dumps(MESSAGE).encode())


async def once_per_connection(caller: Caller) -> None:
    """Answer the first request well, and close instead of answering the second."""
    await caller.ask()
    await caller.answer()
    await caller.ask()


@lru_cache(maxsize=1)
def _bomb() -> bytes:
    pack = zlib.compressobj(9, wbits=31)
    return b"".join(pack.compress(bytes(1 << 20)) for _ in range(64)) + pack.flush()
