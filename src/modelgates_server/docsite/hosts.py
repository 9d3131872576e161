"""Whose a Host header is, and which address a visitor is told. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

_PORTS: Final = {"http": 80, "https": 443}


def trusted(host: str, origin: str) -> bool:
    """Whether a Host is this gateway's: that of its public address, or one that no foreign name can be made to mean.

    A page that rebinds its own name to this machine (DNS rebinding) sends that name; addresses of digits and ``localhost`` cannot be
    rebound.
    """
    try:
        asked, own = urlsplit(f"//{host}"), urlsplit(origin)
        name, port = asked.hostname or "", asked.port
    except ValueError:
        return False
    if asked.username is not None or asked.path or asked.query or asked.fragment:
        return False
    usual = _PORTS.get(own.scheme)
    if name == own.hostname and (port or usual) == (own.port or usual):
        return True
    return name == "localhost" or _is_address(name)


def reached_at(host: str, origin: str) -> str:
    """The address to tell a visitor: where nobody configured a public one, that is the one by which they came."""
    own = urlsplit(origin)
    if trusted(own.netloc, "") and trusted(host, origin):
        return f"{own.scheme}://{host}"
    return origin


def host_of(headers: Sequence[tuple[bytes, bytes]]) -> str:
    """The Host among the headers of a request."""
    return dict(headers).get(b"host", b"").decode("latin-1")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
