"""Where a server on this machine is. Pure."""

from __future__ import annotations

from typing import Final, NamedTuple

_WILDCARDS: Final = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1", "localhost": "127.0.0.1"}
"""What a client on this machine can use instead of an address that only a server can listen on."""


class Addresses(NamedTuple):
    """Where a server is for `clients`, and where its `console` and management API are; without final slashes."""

    clients: str
    console: str

    @property
    def apart(self) -> bool:
        """Whether they are two."""
        return self.console != self.clients


def local_origin(host: str, port: int, *, tls: bool) -> str:
    """Give the address of a server on this machine: ``127.0.0.1`` for every spelling of it."""
    shown = _WILDCARDS.get(host, host)
    return f"{'https' if tls else 'http'}://{f'[{shown}]' if ':' in shown else shown}:{port}"
