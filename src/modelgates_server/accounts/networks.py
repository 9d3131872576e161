"""Where a client comes from: its address, also behind the operator's proxies, and the network that it counts as. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Final

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

UNKNOWN: Final = "unknown"
"""A client without an address, on a local socket: all of these are one network."""

IPV6_PREFIX: Final = 64
"""What one subscriber is given, who may change the rest at will. Of IPv4 an address is one subscriber already, or many."""

FORWARDED_MAX: Final = 20
"""More proxies in a row than that are nobody's."""


def client_address(peer: str, forwarded: Sequence[str], proxies: Sequence[Network]) -> str:
    """Whose request this is: `peer` is who connected, `forwarded` the values of its ``X-Forwarded-For`` headers in their order.

    Only a proxy of ours is believed. The last address that is not a proxy's is the client's; whatever stands before it was
    written by the client itself.
    """
    if not _among(peer, proxies):
        return peer
    named = [part.strip() for value in forwarded for part in value.split(",")]
    client = peer
    for text in reversed(named[-FORWARDED_MAX:]):
        address = _plain(text)
        if address is None:
            return client
        client = address
        if not _among(client, proxies):
            break
    return client


def network_of(address: str) -> str:
    """The network that an address counts as when guesses are slowed down: an IPv4 address, an IPv6 /64."""
    plain = _plain(address)
    if plain is None:
        return UNKNOWN
    parsed = ipaddress.ip_address(plain)
    if parsed.version == 4:
        return plain
    return str(ipaddress.ip_network((parsed, IPV6_PREFIX), strict=False))


def _among(address: str, networks: Sequence[Network]) -> bool:
    plain = _plain(address)
    if plain is None:
        return False
    parsed = ipaddress.ip_address(plain)
    return any(parsed.version == network.version and parsed in network for network in networks)


def _plain(text: str) -> str | None:
    """An address without port, brackets and zone; an IPv4 address that is written as an IPv6 one is the IPv4 one."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        parsed = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    return str(parsed)
