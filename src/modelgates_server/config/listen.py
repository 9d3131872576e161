"""``host:port``: where a socket listens."""

from __future__ import annotations

import ipaddress
import re
from typing import Any, Final

from modelgates_server.config.values import Listen

PORT_MAX: Final = 65_535

_NAME: Final = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?")
_FORM: Final = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<host>[^\[\]:]+)):(?P<port>[0-9]{1,5})", re.ASCII)


def listen_address(value: Any) -> Listen:
    """Check an address to listen on; port 0 takes any free one. Raises ValueError."""
    found = _FORM.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None or int(found["port"]) > PORT_MAX or not _is_host(found["six"], found["host"]):
        raise ValueError("host:port, such as 127.0.0.1:8788 or [::1]:8788")
    return Listen(found["six"] or found["host"], int(found["port"]))


def _is_host(six: str | None, host: str | None) -> bool:
    """An IPv6 address stands in brackets; what is all digits and dots is an IPv4 address or a mistake."""
    try:
        if six is not None:
            return ipaddress.ip_address(six).version == 6
        if host is not None and not re.fullmatch(r"[0-9.]+", host):
            return _NAME.fullmatch(host) is not None
        ipaddress.IPv4Address(host or "")
    except ValueError:
        return False
    return True
