"""Below the messages: connections, odd HTTP, and what a provider's headers may do (reliability rows 24, 32, 47, 55; E-10)."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import pytest
from tests.support.gateway import Gateway, ask, events, open_gateway

pytestmark = pytest.mark.asyncio(loop_scope="session")


class Line:
    """A raw connection to the gateway."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway

    async def __aenter__(self) -> Self:
        parts = urlsplit(self.gateway.url)
        self.reader, self.writer = await asyncio.open_connection(parts.hostname, parts.port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.close()

    def request(self, body: bytes, *more: str, version: str = "1.1") -> bytes:
        """A whole Messages request as bytes."""
        lines = [f"POST /v1/messages HTTP/{version}", "host: x", f"x-api-key: {self.gateway.key}", *more]
        return "\r\n".join([*lines, f"content-length: {len(body)}", "", ""]).encode("latin-1") + body

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        """Read one response: status, headers, body."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
        if "content-length" in headers:
            return int(head[0].split()[1]), headers, await self.reader.readexactly(int(headers["content-length"]))
        body = b""
        while size := int(await self.reader.readline(), 16):
            body += await self.reader.readexactly(size)
            await self.reader.readline()
        await self.reader.readline()
        return int(head[0].split()[1]), headers, body


SMALL = json.dumps(ask(max_tokens=5)).encode()
STREAM = json.dumps(ask(max_tokens=5, stream=True)).encode()


async def test_one_connection_carries_many_requests(gateway: Gateway) -> None:
    """Streams, JSON and refusals follow each other on one connection, which stays open (E-10)."""
    async with Line(gateway) as line:
        found = []
        for body in (STREAM, SMALL, b"[]", STREAM):
            line.writer.write(line.request(body))
            found.append(await line.answer())

    assert [status for status, _, _ in found] == [200, 200, 400, 200]
    assert events(found[3][2])[-1][0] == "message_stop"
    assert len({headers["request-id"] for _, headers, _ in found}) == 4


async def test_pipelined_requests_are_answered_in_order(gateway: Gateway) -> None:
    """Requests that do not wait for answers get them all, in their order, each once."""
    before = len(gateway.simulator.log)
    async with Line(gateway) as line:
        line.writer.write(line.request(STREAM) + line.request(SMALL) + line.request(b"{}"))
        found = [await line.answer() for _ in range(3)]

    assert [headers["content-type"].split(";")[0] for _, headers, _ in found] == [
        "text/event-stream", "application/json", "application/json",
    ]  # fmt: skip
    assert [status for status, _, _ in found] == [200, 200, 400]
    assert len(gateway.simulator.log) == before + 2


async def test_a_client_may_wait_for_leave_to_send(gateway: Gateway) -> None:
    """`Expect: 100-continue` is answered before the body comes."""
    whole = Line(gateway).request(SMALL, "expect: 100-continue")
    async with Line(gateway) as line:
        line.writer.write(whole[: -len(SMALL)])
        interim = await line.reader.readuntil(b"\r\n\r\n")
        line.writer.write(SMALL)
        status, _, _ = await line.answer()

    assert interim.startswith(b"HTTP/1.1 100")
    assert status == 200


async def test_old_http_is_served(gateway: Gateway) -> None:
    """An HTTP/1.0 client gets its answer and the end of the connection."""
    async with Line(gateway) as line:
        line.writer.write(line.request(SMALL, version="1.0"))
        status, _, body = await line.answer()
        rest = await line.reader.read()

    assert (status, json.loads(body)["type"], rest) == (200, "message", b"")


BROKEN = {
    "noise": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "no such version": b"GET / HTTP/9.9\r\n\r\n",
    "bare text": b"hello there\r\n\r\n",
    "two lengths": b"POST /v1/messages HTTP/1.1\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n12345",
    "length and chunks": b"POST /v1/messages HTTP/1.1\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "negative length": b"POST /v1/messages HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
    "bad chunk": b"POST /v1/messages HTTP/1.1\r\nx-api-key: KEY\r\ntransfer-encoding: chunked\r\n\r\nZZ\r\n",
    "nul in a header": b"GET /livez HTTP/1.1\r\nhost: x\r\nx: a\x00b\r\n\r\n",
    "space in a header's name": b"GET /livez HTTP/1.1\r\nhost: x\r\nx y: b\r\n\r\n",
}


@pytest.mark.parametrize("name", BROKEN)
async def test_bytes_that_are_no_http_get_the_envelope(gateway: Gateway, name: str) -> None:
    """What cannot be read is a 400 in the envelope and the end of the connection, with nothing sent upstream."""
    before = len(gateway.simulator.log)
    async with Line(gateway) as line:
        line.writer.write(BROKEN[name].replace(b"KEY", gateway.key.encode()))
        async with asyncio.timeout(5):
            status, headers, body = await line.answer()
            rest = await line.reader.read()

    assert (status, headers["connection"], rest) == (400, "close", b"")
    assert json.loads(body)["error"]["type"] == "invalid_request_error"
    assert len(gateway.simulator.log) == before


HEADERS: dict[str, dict[str, Any]] = {
    "cookies": {"headers": {"set-cookie": "a=b", "server": "evil", "x-internal": "1"}},
    "many": {"headers": {f"x-{number}": "v" * 50 for number in range(90)}},
    "long": {"headers": {"x-long": "v" * 20_000}},
    "a lying type": {"headers": {"content-type": "application/json; charset=latin-1"}},
}


@pytest.mark.parametrize("name", HEADERS)
async def test_a_providers_headers_stay_with_us(gateway: Gateway, name: str) -> None:
    """Only headers of our own reach the client, whatever the provider sends along (row 32)."""
    told = await gateway.send(ask(max_tokens=5), simulate=HEADERS[name])

    budget = {f"x-modelgates-budget-{what}" for what in ("remaining", "limit", "scope")}
    own = {"date", "request-id", "x-generation-id", "content-type", "content-length", *budget}
    assert told.status == 200
    assert {header.lower() for header in told.headers} == own


@pytest.mark.parametrize(
    ("value", "shown"),
    [("3", "3"), ("0", "1"), ("2.5", "3"), ("Wed, 21 Oct 2026 07:28:00 GMT", "1"), ("soon", None), ("-1", "1"),
     ("999999999", "600"), ("nan", None), ("", None)],
)  # fmt: skip
async def test_any_retry_after_of_a_provider_is_survived(gateway: Gateway, value: str, shown: str | None) -> None:
    """A provider's 429 is a 429 whatever it writes into retry-after; clients get whole seconds, at most ten minutes (row 24)."""
    told = await gateway.send(ask(), simulate={"status": 429, "retry_after": value, "message": "slow down"})

    assert (told.status, told.error["message"]) == (429, "slow down")
    assert told.headers.get("retry-after") == shown


@pytest.mark.parametrize("status", [400, 500])
async def test_an_endless_error_page_is_cut_off(gateway: Gateway, status: int) -> None:
    """An error of ten megabytes is neither kept nor passed on."""
    told = await gateway.send(ask(), simulate={"status": status, "body": "<html>" + "x" * 10_000})
    large = {"status": status, "body": "x"}
    gateway.simulator.script.extend([large | {"body": "y" * 10_000_000}] * 2)
    huge = await gateway.send(ask())

    assert (told.status, huge.status) == ((400, 400) if status == 400 else (502, 502))
    assert len(huge.body) < 5_000
    gateway.simulator.script.clear()


async def test_no_request_takes_longer_than_the_total(tmp_path: Path) -> None:
    """A stream that trickles on for ever is ended at the total limit with a timeout error."""
    async with open_gateway(tmp_path / "g", routing={"total_s": 0.3}) as gateway:
        told = await gateway.send(ask(stream=True), simulate={"event_delay_s": 0.02, "tokens": 190})
        row = await gateway.receipt(told.id)

    assert json.loads(told.events[-1][1])["error"]["type"] == "timeout_error"
    assert (row["outcome"], row["cost_nusd"]) == ("broken", 0)
