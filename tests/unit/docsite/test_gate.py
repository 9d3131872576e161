"""Who may talk to the MCP server."""

from __future__ import annotations

import json

import pytest
from tests.unit.docsite.front import ORIGIN, Front

from modelgates_server.docsite.gate import PATH
from modelgates_server.docsite.hosts import reached_at, trusted
from modelgates_server.docsite.server import BODY_BYTES_MAX

INITIALIZE = json.dumps(
    {
        "jsonrpc": "2.0", "id": 1, "method": "initialize",
        "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}},
    }
).encode()  # fmt: skip
HEADERS = {"content-type": "application/json", "accept": "application/json, text/event-stream"}


@pytest.mark.parametrize(
    ("host", "origin", "is_ours"),
    [
        ("gate.example", "https://gate.example", True),
        ("gate.example:443", "https://gate.example", True),
        ("GATE.example", "https://gate.example", True),
        ("gate.example:8443", "https://gate.example", False),
        ("gate.example", "https://gate.example:8443", False),
        ("evil.example", "https://gate.example", False),
        ("gate.example.evil.example", "https://gate.example", False),
        ("evil.example:8787", ORIGIN, False),
        ("127.0.0.1:8787", "https://gate.example", True),
        ("127.0.0.1:9999", ORIGIN, True),
        ("localhost", ORIGIN, True),
        ("localhost.evil.example", ORIGIN, False),
        ("127.0.0.1.evil.example", ORIGIN, False),
        ("[::1]:8787", ORIGIN, True),
        ("192.168.1.20:8787", ORIGIN, True),
        ("", ORIGIN, False),
        ("user@gate.example", "https://gate.example", False),
        ("gate.example/x", "https://gate.example", False),
        ("gate.example:99999", "https://gate.example", False),
        ("[::1", ORIGIN, False),
    ],
)
def test_names_that_could_be_rebound_are_not_ours(host: str, origin: str, is_ours: bool) -> None:
    """The public address, loopback, and addresses of digits: a foreign name cannot be made to mean them."""
    assert trusted(host, origin) is is_ours


@pytest.mark.parametrize(
    ("host", "origin", "told"),
    [
        ("192.168.1.20:8787", ORIGIN, "http://192.168.1.20:8787"),
        ("localhost:9000", ORIGIN, "http://localhost:9000"),
        ("127.0.0.1:8787", "https://gate.example", "https://gate.example"),
        ("gate.example", "https://gate.example", "https://gate.example"),
        ("evil.example", ORIGIN, ORIGIN),
        ('"><script>', ORIGIN, ORIGIN),
        ("", ORIGIN, ORIGIN),
    ],
)
def test_visitors_are_told_the_address_by_which_they_came(host: str, origin: str, told: str) -> None:
    """Unless a public one is configured, or it is none of ours."""
    assert reached_at(host, origin) == told


async def test_another_name_is_refused_with_the_remedy(front: Front) -> None:
    """A page that rebound its own name sends that name."""
    told = await front.send("POST", PATH, INITIALIZE, HEADERS | {"host": "evil.example:8787"})

    assert told.status == 421
    assert ORIGIN in told.text
    assert "public_url" in told.text


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://evil.example:8787", "file://", "http://127.0.0.1.evil.example"]
)
async def test_pages_of_other_sites_are_refused(front: Front, origin: str) -> None:
    """Whatever Host they reach it by."""
    assert (await front.send("POST", PATH, INITIALIZE, HEADERS | {"origin": origin})).status == 403


async def test_our_own_pages_and_programs_are_answered(front: Front) -> None:
    """Without an Origin, and with ours; in JSON, kept by no cache."""
    for more in ({}, {"origin": ORIGIN}):
        told = await front.send("POST", PATH, INITIALIZE, HEADERS | more)

        assert told.status == 200
        assert json.loads(told.body)["result"]["serverInfo"]["name"] == "modelgates"
        assert told.headers["content-type"] == "application/json"
        assert told.headers["cache-control"] == "no-store"
        assert "mcp-session-id" not in told.headers


@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT", "HEAD"])
async def test_no_stream_is_kept_open(front: Front, method: str) -> None:
    """Only POST is answered; a GET is told how to use it."""
    told = await front.get(PATH, method, accept="text/event-stream")

    assert (told.status, told.headers["allow"]) == (405, "POST")
    assert "claude mcp add" in told.text


async def test_a_large_body_is_refused(front: Front) -> None:
    """By what it says of itself, and by what comes."""
    body = b" " * (BODY_BYTES_MAX + 1)

    assert (await front.send("POST", PATH, body, HEADERS)).status == 413
    assert (await front.send("POST", PATH, body, HEADERS | {"content-length": str(len(body))})).status == 413


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b'{"jsonrpc":"2.0"}', b"\xff\xfe", b'{"jsonrpc":"2.0","id":1,"method":"no/such"}'],
)
async def test_what_is_no_message_is_refused(front: Front, body: bytes) -> None:
    """With a status or an error of the protocol, never a failure of ours."""
    told = await front.send("POST", PATH, body, HEADERS)

    assert told.status in {200, 202, 400}
    assert told.status != 200 or "error" in json.loads(told.body)
    assert b"Traceback" not in told.body
