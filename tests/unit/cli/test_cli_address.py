"""Addresses as people paste them and as clients need them."""

from __future__ import annotations

import pytest

from modelgates_server.cli.address import local_origin
from modelgates_server.doctor.address import base_url, read_address
from modelgates_server.errors import BadRequest
from modelgates_server.management.address import sign_in_url


@pytest.mark.parametrize(
    ("host", "tls", "origin"),
    [
        ("127.0.0.1", False, "http://127.0.0.1:8787"),
        ("localhost", False, "http://127.0.0.1:8787"),
        ("0.0.0.0", False, "http://127.0.0.1:8787"),
        ("::", True, "https://[::1]:8787"),
        ("gw.example.com", True, "https://gw.example.com:8787"),
    ],
)
def test_a_server_is_named_by_an_address_that_works(host: str, tls: bool, origin: str) -> None:
    """Wildcards and localhost become a literal loopback address, IPv6 gets its brackets."""
    assert local_origin(host, 8787, tls=tls) == origin


@pytest.mark.parametrize(
    ("pasted", "base", "notes"),
    [
        ("http://127.0.0.1:8787/api", "http://127.0.0.1:8787/api", 0),
        ("http://127.0.0.1:8787", "http://127.0.0.1:8787/api", 0),
        (" http://127.0.0.1:8787/api/ ", "http://127.0.0.1:8787/api", 0),
        ("http://127.0.0.1:8787/api/v1", "http://127.0.0.1:8787/api", 1),
        ("http://127.0.0.1:8787/v1/v1/", "http://127.0.0.1:8787/api", 1),
        ("https://gw.example.com/anthropic", "https://gw.example.com/anthropic", 0),
        ("http://gw.example.com/api/v1", "http://gw.example.com/api", 2),
        ("http://localhost:8787/api", "http://localhost:8787/api", 1),
    ],
)
def test_a_pasted_base_url_is_read_and_judged(pasted: str, base: str, notes: int) -> None:
    """Slashes and /v1 are removed; what would trouble a client is noted, with a remedy."""
    address = read_address(pasted)

    assert address.base == base
    assert len(address.notes) == notes
    assert all(remedy for _, remedy in address.notes)


@pytest.mark.parametrize(
    "pasted", ["", "127.0.0.1:8787", "ftp://x/api", "http://", "http://x:99999999/", "http://[::1"]
)
def test_what_is_no_http_url_is_refused(pasted: str) -> None:
    """The refusal shows how a base URL looks."""
    with pytest.raises(BadRequest) as refused:
        read_address(pasted)

    assert "http://127.0.0.1:8787/api" in (refused.value.remedy or "")


def test_links_are_built_from_the_origin() -> None:
    """A token is quoted; a final slash of the origin is not doubled."""
    assert sign_in_url("http://127.0.0.1:8787/", "a+b/c") == "http://127.0.0.1:8787/sign-in?token=a%2Bb%2Fc"
    assert base_url("https://gw.example.com/") == "https://gw.example.com/api"
