"""The destination guard: a corpus of addresses that must not be reached, and the road of one that may."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.tls import Tls, certified

from modelgates_server.errors import BadRequest
from modelgates_server.outbound.guard import Guard
from modelgates_server.outbound.http import Outbound, OutboundError, _target

IANA_V4 = (
    "0.0.0.0/8", "0.0.0.0/32", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
    "192.0.0.0/24", "192.0.0.0/29", "192.0.0.8/32", "192.0.0.9/32", "192.0.0.10/32", "192.0.0.170/31", "192.0.2.0/24",
    "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.88.99.2/32", "192.168.0.0/16", "192.175.48.0/24",
    "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4", "255.255.255.255/32",
)  # fmt: skip
"""The IPv4 Special-Purpose Address Registry row by row, with multicast."""

IANA_V6 = (
    "::1/128", "::/128", "::ffff:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "100:0:0:1::/64", "2001::/23",
    "2001::/32", "2001:1::1/128", "2001:1::2/128", "2001:1::3/128", "2001:2::/48", "2001:3::/32", "2001:4:112::/48",
    "2001:10::/28", "2001:20::/28", "2001:30::/28", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20",
    "5f00::/16", "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8",
)  # fmt: skip
"""The IPv6 registry row by row, with multicast and what was site-local."""

INNER = ("127.0.0.1", "10.0.0.1", "169.254.169.254", "192.168.1.1", "100.100.100.200", "168.63.129.16")


def edges(blocks: Iterable[str]) -> list[str]:
    """First, second, middle and last address of each block."""
    networks = [ipaddress.ip_network(block) for block in blocks]
    found = [str(one[at]) for one in networks for at in {0, min(1, one.num_addresses - 1), one.num_addresses // 2, -1}]
    return list(dict.fromkeys(found))


def other_spellings(address: str) -> list[str]:
    """How else an IPv4 address has been written to get past a guard."""
    number = int(ipaddress.IPv4Address(address))
    a, b, c, d = address.split(".")
    six = ipaddress.IPv6Address(number)
    return [
        str(number), hex(number), f"0{number:o}", f"{a}.{number % 2**24}", f"{a}.{b}.{number % 2**16}", f"{a}.{b}.{c}.0x{int(d):x}",
        f"0x{int(a):02x}.{b}.{c}.{d}", f"0{int(a):o}.0{int(b):o}.0{int(c):o}.0{int(d):o}", f"00{a}.{b}.{c}.{d}", f"{address}.",
        f"{a}.{b}.{c}.{d}%00", f"%3{a[0]}{a[1:]}.{b}.{c}.{d}", f"[::ffff:{address}]", f"[::{address}]", f"[{six}]",
        f"[64:ff9b::{address}]", f"[2002:{number >> 16:x}:{number & 0xffff:x}::1]", f"[::ffff:{number >> 16:x}:{number & 0xffff:x}]",
        f"[::ffff:0:{address}]", "[fe80::1%25eth0]", f"{a}。{b}。{c}。{d}", address.translate({48 + n: 0xFF10 + n for n in range(10)}),
    ]  # fmt: skip


SHAPES = (
    "http://good.org/", "HTTP://good.org/", "ftp://good.org/", "file:///etc/passwd", "gopher://good.org:70/", "//good.org/",
    "good.org", "https:good.org", "https:/good.org", "https:///good.org", "https:\\\\good.org/", "https://good.org\\@127.0.0.1/",
    "https://user@good.org/", "https://user:pass@good.org/", "https://good.org@127.0.0.1/", "https://127.0.0.1@good.org/",
    "https://good.org#@127.0.0.1/", "https://good.org/#x", "https://good.org/?x#y", "https://good.org /", " https://good.org/",
    "https://good.org/\n", "https://good.org/\r\nHost: x", "https://good.org/\t", "https://go\tod.org/", "https://good.org/ x",
    "https://good.org:0/", "https://good.org:22/", "https://good.org:80/", "https://good.org:6379/", "https://good.org:65536/",
    "https://good.org:443443/", "https://good.org:/", "https://good.org:-1/", "https://good.org:4 43/", "https://good.org:443:443/",
    "https://good.org./", "https://good..org/", "https://.good.org/", "https://-good.org/", "https://good-.org/", "https://goo_d.org/",
    f"https://{'a' * 64}.org/", f"https://{'a.' * 130}org/", f"https://good.org/{'a' * 2000}", "https://", "https://?", "", "\0",
    "https://localhost/", "https://LOCALHOST/", "https://localhost./", "https://x.localhost/", "https://localhost.localdomain.local/",
    "https://printer.local/", "https://metadata.google.internal/", "https://db.internal/", "https://intranet/", "https://router.lan/",
    "https://nas.home/", "https://nas.home.arpa/", "https://dc.corp/", "https://x.test/", "https://x.example/", "https://x.invalid/",
    "https://abc.onion/", "https://1.0.0.127.in-addr.arpa/", "https://good.org%2f@127.0.0.1/", "https://good%2eorg/",
    "https://g\u043e\u043ed.org/", "https://bücher.org/", "https://ⓔⓧⓐⓜⓟⓛⓔ.com/", "https://127。0。0。1/", "https://good.org\uff0f/", "https://good.org\u2028/",
    "https://[::1/", "https://::1/", "https://[::1]x/", "https://[]/", "https://[g::1]/", "https://[::1]:22/", "https://[v1.x]/",
    "https://[::1]@good.org/", "https://[127.0.0.1]/", "https://1/", "https://1.2/", "https://1.2.3/", "https://1.2.3.4.5/",
    "https://256.1.1.1/", "https://999999999999/", "https://0/", "https://0x/", "https://0x7f/", "https://a.0x7f000001/", "https://x.1/",
    "https://good.org/<script>", 'https://good.org/"', "https://good.org/`id`", "https://good.org/{x}", "https://good.org/a|b",
    "https://good.org?a[]=1", "javascript:alert(1)", "data:text/html,x", "unix:/var/run/docker.sock", "https+unix://x/",
)  # fmt: skip

CORPUS = [
    *(f"https://{address}/" for address in edges(IANA_V4)),
    *(f"https://[{address}]/" for address in edges(IANA_V6)),
    *(f"https://{spelling}/" for address in INNER for spelling in (address, *other_spellings(address))),
    *SHAPES,
]


def test_the_remedy_promises_only_what_the_operator_may_permit() -> None:
    """A private address may be permitted; http never."""
    for url, permitted in (("http://10.0.0.1/", False), ("https://10.0.0.1/", True), ("https://good.org:22/", True)):
        with pytest.raises(BadRequest) as refused:
            Guard().read(url)
        assert ("outbound_allow" in str(refused.value.remedy)) is permitted


def test_the_corpus_is_large() -> None:
    """At least 400 different addresses, as reliability-security 1.3 asks for."""
    assert len(set(CORPUS)) >= 400


@pytest.mark.parametrize("url", CORPUS)
def test_nothing_of_the_corpus_is_accepted(url: str) -> None:
    """Each is refused when it is typed in, before any name is looked up."""
    with pytest.raises(BadRequest):
        Guard().read(url)


@pytest.mark.parametrize("address", [*edges(IANA_V4), *edges(IANA_V6), "::ffff:8.8.8.8", "fe80::1%eth0", *INNER])
async def test_no_name_leads_to_a_reserved_address(address: str) -> None:
    """Alone or behind a public one: every address that a name has is looked at."""
    for found in ([address], ["8.8.8.8", address], [address, "2606:4700::1111"]):
        with pytest.raises(OutboundError, match="private or reserved"):
            await Guard(resolve=resolving([found])).addresses("good.org", 443)


@pytest.mark.parametrize(
    ("url", "read"),
    [
        ("https://hooks.example.com", "https://hooks.example.com/"),
        ("HTTPS://Hooks.Example.com:443/A/b%20c?d=e&f", "https://hooks.example.com/A/b%20c?d=e&f"),
        ("https://xn--bcher-kva.example.org:8443/?", "https://xn--bcher-kva.example.org:8443/?"),
        ("https://8.8.8.8/x", "https://8.8.8.8/x"),
        ("https://[2606:4700::1111]/x", "https://[2606:4700::1111]/x"),
        ("https://1.example.com/", "https://1.example.com/"),
    ],
)
def test_a_usual_address_is_accepted(url: str, read: str) -> None:
    """It is written anew from what was read."""
    assert Guard().read(url).url == read


PIECES = [
    "https://",
    "http://",
    "good.org",
    "127.0.0.1",
    "[::1]",
    "@",
    ":",
    "443",
    "8443",
    "/",
    "\\",
    "#",
    "?",
    "%",
    ".",
    "a",
    "é",
    " ",
    "\t",
]


@given(st.lists(st.sampled_from(PIECES), max_size=9).map("".join))
def test_the_guard_reads_what_the_client_connects_to(url: str) -> None:
    """Host, port and path of an accepted address are the same to both: there is no second opinion about a URL."""
    try:
        read = Guard().read(url)
    except BadRequest:
        return
    target = _target(read.url)

    assert (target.secure, target.host, target.port) == (True, read.host, read.port)
    assert read.url == f"https://{target.authority}{target.path}"


def test_the_operator_may_permit_more() -> None:
    """A network, on any port; and a name, whatever it leads to. Everything else stays shut."""
    guard = Guard(["10.1.0.0/16", "fd00:1::/32", "hooks.internal"])
    for url in (
        "https://10.1.2.3:9000/",
        "https://[fd00:1::5]/",
        "https://hooks.internal:9443/x",
        "https://HOOKS.internal/",
    ):
        assert guard.read(url)
    for url in (
        "https://10.2.0.1/",
        "https://db.internal/",
        "https://x.hooks.internal/",
        "http://hooks.internal/",
        "https://a@hooks.internal/",
    ):
        with pytest.raises(BadRequest):
            guard.read(url)


def resolving(answers: Iterable[list[str]]) -> object:
    """A name service that gives each question the next answer."""
    left = iter(answers)

    async def resolve(host: str, port: int) -> list[str]:
        return next(left)

    return resolve


@asynccontextmanager
async def hook(folder: Path, answer: bytes) -> AsyncIterator[tuple[int, Tls, list[bytes]]]:
    """A TLS server on this machine that calls itself hooks.internal; gives its port and the heads that it got."""
    tls, heads = certified(folder, "hooks.internal"), list[bytes]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls.server)
    try:
        yield server.sockets[0].getsockname()[1], tls, heads
    finally:
        server.close()


EMPTY = b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n"
MOVED = b"HTTP/1.1 302 Found\r\nlocation: https://127.0.0.1/\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


async def test_the_checked_address_is_connected_to_under_the_name(tmp_path: Path) -> None:
    """The connection goes to an address, the first that can be reached; certificate and `host` are those of the name."""
    guard = Guard(["hooks.internal"], resolving([["127.0.0.99", "127.0.0.1"]]))
    async with hook(tmp_path, EMPTY) as (port, tls, heads):
        outbound = Outbound(connect_s=2, verify=tls.client, guard=guard)
        reply = await outbound.request("POST", f"https://hooks.internal:{port}/x?y", [], b"{}")
        await outbound.close()

    assert reply.status == 204
    assert heads[0].startswith(b"POST /x?y HTTP/1.1\r\nhost: hooks.internal:%d\r\n" % port)


async def test_a_redirect_is_an_answer_and_not_followed(tmp_path: Path) -> None:
    """Wherever it points to."""
    guard = Guard(["hooks.internal"], resolving([["127.0.0.1"]]))
    async with hook(tmp_path, MOVED) as (port, tls, heads):
        outbound = Outbound(connect_s=2, verify=tls.client, guard=guard)
        reply = await outbound.request("GET", f"https://hooks.internal:{port}/", [])
        await outbound.close()

    assert (reply.status, len(heads)) == (302, 1)


async def test_a_name_that_changes_its_mind_gains_nothing() -> None:
    """It is asked once for each connection, and what it said is what is looked at: of two thousand, none is made."""
    flips = [found for n in range(1000) for found in (["127.0.0.1"], ["93.184.216.34", f"10.0.{n // 250}.{n % 250}"])]
    outbound = Outbound(connect_s=2, guard=Guard(resolve=resolving(flips)))
    for _ in flips:
        with pytest.raises(OutboundError, match="private or reserved"):
            await outbound.request("GET", "https://hooks.example.com/", [])
    await outbound.close()


async def test_a_name_without_an_address_cannot_be_reached() -> None:
    """Nor one that the name service knows nothing sensible about."""

    async def fail(host: str, port: int) -> list[str]:
        raise OSError("no such name")

    for resolve in (fail, resolving([[]]), resolving([["not an address"]])):
        with pytest.raises(OutboundError):
            await Guard(resolve=resolve).addresses("good.org", 443)
