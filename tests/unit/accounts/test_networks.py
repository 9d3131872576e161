"""Where a client comes from, with and without proxies in between."""

from __future__ import annotations

import ipaddress

import pytest

from modelgates_server.accounts.networks import client_address, network_of

OURS = [ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("::1/128")]


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("", "unknown"),
        ("/run/socket", "unknown"),
    ],
)
def test_a_subscriber_is_one_network(address: str, network: str) -> None:
    """One IPv4 address, or the 64 bits that one subscriber of IPv6 is given."""
    assert network_of(address) == network


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("203.0.113.7", [], "203.0.113.7"),
        ("203.0.113.7", ["198.51.100.1"], "203.0.113.7"),  # not a proxy of ours: not believed
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("::1", ["198.51.100.1"], "198.51.100.1"),
        ("::ffff:10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["6.6.6.6, 198.51.100.1, 10.0.0.2"], "198.51.100.1"),  # the first was written by the client
        ("10.0.0.1", ["6.6.6.6", "198.51.100.1", "10.0.0.2"], "198.51.100.1"),
        ("10.0.0.1", ["198.51.100.1:4711"], "198.51.100.1"),
        ("10.0.0.1", ["[2001:db8::1]:4711"], "2001:db8::1"),
        ("10.0.0.1", ["unknown"], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1, nonsense"], "10.0.0.1"),
        ("10.0.0.1", ["10.0.0.9"], "10.0.0.9"),
        ("", ["198.51.100.1"], ""),
    ],
)
def test_only_our_proxies_are_believed(peer: str, forwarded: list[str], client: str) -> None:
    """The last address that is not a proxy's counts; what stands before it anybody can write."""
    assert client_address(peer, forwarded, OURS) == client


def test_without_proxies_nobody_is_believed() -> None:
    """As it is unless the operator says otherwise."""
    assert client_address("10.0.0.1", ["198.51.100.1"], []) == "10.0.0.1"
