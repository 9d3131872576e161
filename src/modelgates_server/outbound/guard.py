"""The destination guard: which addresses that somebody typed into the API or the console may be connected to.

An operator's file is trusted; a URL that arrives later is not (design section 6, reliability-security 1.3 "SSRF"). It is https, written
plainly, on a known port, and every address that its name has is a public one. Names are resolved for each connection and the
connection goes to the address that was checked, so that a name cannot change its mind in between. Redirects are never followed.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Final

from modelgates_server.errors import BadRequest
from modelgates_server.outbound.connection import OutboundError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Resolve = Callable[[str, int], Awaitable[Iterable[str]]]
"""Name and port to addresses, written as text. Raises OSError."""

PORTS: Final = (443, 8443)
"""Where https is served; other ports of a public machine are nobody's webhook."""

URL_CHARACTERS_MAX: Final = 2000

_PLAIN: Final = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+)(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<path>/[!$&'()*+,\-./0-9:;=@A-Z_a-z~%]*)?(?:\?(?P<query>[!$&'()*+,\-./0-9:;=?@A-Z_a-z~%]*))?"
)
"""The part of RFC 3986 that every parser reads alike: no user, no fragment, no backslash, nothing but ASCII."""

_LABEL: Final = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)")
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
"""A name that ends in one of these is an address to some parsers, and a name to others."""

LOCAL_NAMES: Final = (
    "localhost", "local", "internal", "intranet", "lan", "home", "corp", "private", "home.arpa", "onion", "alt",
    "test", "example", "invalid", "arpa",
)  # fmt: skip
"""Endings that mean nothing, or something else, outside the network that uses them (RFC 6761, 6762, 8375, 9476; ICANN's collisions)."""

SPECIAL: Final[tuple[Network, ...]] = tuple(
    ipaddress.ip_network(block)
    for block in (
        # IANA IPv4 Special-Purpose Address Registry, and multicast
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
        "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24",
        "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
        "168.63.129.16/32",  # Azure's own services on each of its machines: public by number only
        # IANA IPv6 Special-Purpose Address Registry, within the global unicast space
        "2001::/23",  # protocol assignments: Teredo, benchmarking, ORCHID and their kind
        "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20",
    )
)  # fmt: skip

GLOBAL_V6: Final = ipaddress.ip_network("2000::/3")
"""All of IPv6 that is given out for the Internet. Loopback, mapped, NAT64, unique-local, site-local, link-local, multicast and
what is not assigned at all lie outside."""


@dataclass(frozen=True, slots=True)
class Destination:
    """A URL that is fit to be connected to, once its addresses are. `url` is written anew from what was read."""

    url: str
    host: str
    port: int


class Guard:
    """Checks destinations. `allow` are the operator's exceptions: networks, and names whose addresses are not looked at."""

    def __init__(self, allow: Iterable[str] = (), resolve: Resolve | None = None) -> None:
        self._networks: list[Network] = []
        self._names: set[str] = set()
        for entry in allow:
            try:
                self._networks.append(ipaddress.ip_network(entry))
            except ValueError:
                self._names.add(entry.lower())
        self._resolve = resolve or _resolve

    def read(self, text: str) -> Destination:
        """Read a URL as somebody wrote it. Raises BadRequest with the reason; looks no name up."""
        found = _PLAIN.fullmatch(text) if len(text) <= URL_CHARACTERS_MAX else None
        if found is None:
            raise _bad("is not a plain https address")
        if found["scheme"].lower() != "https":
            raise _bad("must begin with https://")
        host, port = found["host"].lower(), int(found["port"] or 443)
        literal = _literal(host)
        known = self._known(literal) if literal is not None else host in self._names
        if not known:
            if port not in PORTS:
                raise _barred(f"must use port {' or '.join(map(str, PORTS))}")
            if literal is not None and is_special(literal):
                raise _barred("leads to a private or reserved address")
            if literal is None:
                _check_name(host)
        elif not 0 < port < 65536:
            raise _bad("has an impossible port")
        rest = (found["path"] or "/") + (f"?{found['query']}" if found["query"] is not None else "")
        return Destination(f"https://{host}{'' if port == 443 else f':{port}'}{rest}", host.strip("[]"), port)

    async def addresses(self, host: str, port: int) -> list[str]:
        """The addresses of a destination, every one of them checked, to be connected to as they stand.

        Raises OutboundError when there is none, or when any of them may not be connected to.
        """
        try:
            found = [ipaddress.ip_address(text) for text in await self._resolve(host, port)]
        except (OSError, ValueError) as error:
            raise OutboundError("connect", f"the name {host} cannot be resolved") from error
        if not found:
            raise OutboundError("connect", f"the name {host} has no address")
        if host not in self._names and any(is_special(one) and not self._known(one) for one in found):
            raise OutboundError("connect", f"{host} leads to a private or reserved address")
        return [str(one) for one in dict.fromkeys(found)]

    def _known(self, address: Address) -> bool:
        return any(address.version == network.version and address in network for network in self._networks)


def is_special(address: Address) -> bool:
    """Whether an address is anything but a public host of the Internet."""
    if address.version == 6 and address not in GLOBAL_V6:
        return True
    return any(address.version == block.version and address in block for block in SPECIAL)


def _literal(host: str) -> Address | None:
    """The address that a host is written as; None for a name. Raises BadRequest for one in an unusual form."""
    if host.startswith("["):
        try:
            return ipaddress.IPv6Address(host[1:-1])
        except ValueError as error:
            raise _bad("holds a wrong IPv6 address") from error
    if not _NUMBER.fullmatch(host.removesuffix(".").rpartition(".")[2]):
        return None
    try:
        return ipaddress.IPv4Address(host)  # four decimal numbers without leading zeros, and nothing else
    except ValueError as error:
        raise _bad("holds an address in an unusual form") from error


def _check_name(host: str) -> None:
    labels = host.split(".")
    if len(host) > 253 or not all(map(_LABEL.fullmatch, labels)):
        raise _barred("holds a name that cannot be")
    if len(labels) < 2 or host.endswith(tuple(f".{ending}" for ending in LOCAL_NAMES)):
        raise _barred("names a machine of the local network")


def _bad(reason: str) -> BadRequest:
    return BadRequest(f"the URL {reason}", remedy=_LIKE)


def _barred(reason: str) -> BadRequest:
    """Refuse what the operator may permit."""
    return BadRequest(
        f"the URL {reason}", remedy=f"{_LIKE}; the operator may permit other hosts in [server] outbound_allow"
    )


_LIKE: Final = "write it like https://hooks.example.com/path"


async def _resolve(host: str, port: int) -> list[str]:
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]
