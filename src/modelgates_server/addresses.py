"""Two planes: where the console is when it has an address of its own, and what clients are told there. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

_HOST: Final = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9.-]{1,253})(?::[0-9]{1,5})?")


@dataclass(frozen=True, slots=True)
class AdminAddress:
    """The address of management and console. Addresses have no final slash.

    `origin` is what people call it, `local_url` where it listens itself. `named` says that the operator gave it a name. `clients` is
    the address of clients; `any_host` says that it has no name, and listens at every interface.
    """

    origin: str
    local_url: str
    clients: str
    named: bool = False
    any_host: bool = False

    def clients_at(self, host: str) -> str:
        """Where clients find this gateway, for somebody who came here by a Host: by the same name, where any name will do."""
        found = _HOST.fullmatch(host) if self.any_host else None
        if found is None:
            return self.clients
        clients = urlsplit(self.clients)
        name = "127.0.0.1" if found[1] == "localhost" else found[1]  # it may mean an address that nobody listens on
        return f"{clients.scheme}://{name}:{clients.port}"
