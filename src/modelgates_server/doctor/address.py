"""Addresses as people and clients must write them. Pure.

Claude Desktop wants https, and plain http only for a literal loopback address (client-protocol E-11); ``/v1`` is added
by the clients themselves (E-8).
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

from modelgates_server.errors import BadRequest

PLAIN_HTTP = "Claude Desktop refuses plain http off loopback"
PLAIN_HTTP_REMEDY = "give serve --tls-cert and --tls-key, or put a TLS proxy in front and set [server] public_url"


@dataclass(frozen=True, slots=True)
class Address:
    """Where a gateway is: `base` is the base URL for clients, `origin` the part before its path; no final slash."""

    origin: str
    base: str
    notes: tuple[tuple[str, str], ...] = ()
    """What is wrong with the URL as it was written, each with its remedy."""


def base_url(origin: str) -> str:
    """Give the Anthropic-style base URL that clients are given."""
    return f"{origin.rstrip('/')}/api"


def is_loopback(host: str) -> bool:
    """Whether a host name means this machine only."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def read_address(url: str) -> Address:
    """Read a base URL as somebody pasted it. Raises BadRequest when it is no http URL at all."""
    written = url.strip().rstrip("/")
    try:
        parts = urlsplit(written)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise BadRequest(f"{url!r} is not a URL: {error}", remedy="write it like http://127.0.0.1:8787/api") from error
    if parts.scheme not in {"http", "https"} or not host:
        raise BadRequest(f"{url!r} is not an http URL", remedy="write it like http://127.0.0.1:8787/api")
    notes = []
    path = parts.path
    while path.endswith("/v1"):
        path = path.removesuffix("/v1").rstrip("/")
    if path != parts.path:
        notes.append(("the base URL ends in /v1", f"remove it: {parts.scheme}://{parts.netloc}{path or '/api'}"))
    if parts.scheme == "http" and not is_loopback(host):
        notes.append((PLAIN_HTTP, PLAIN_HTTP_REMEDY))
    if host == "localhost":
        notes.append(("localhost may mean an address that the gateway does not listen on", "write 127.0.0.1 instead"))
    origin = f"{parts.scheme}://{parts.netloc}"
    return Address(origin, origin + (path or "/api"), tuple(notes))
