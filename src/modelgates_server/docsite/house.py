"""What the docs and their MCP server are given."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol

import sqlalchemy as sa

from modelgates_server.accounts.directory import Directory
from modelgates_server.addresses import AdminAddress
from modelgates_server.catalogue.load import Catalogue
from modelgates_server.clock import Clock
from modelgates_server.docsite.hosts import reached_at, trusted
from modelgates_server.docsite.library import Library
from modelgates_server.storage.reader import Reader


class Spawn(Protocol):
    """Starts a task that somebody owns and ends."""

    def __call__(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]: ...


@dataclass(frozen=True, slots=True)
class DocsHouse:
    """The parts of the application that the docs need. The pages themselves ask nothing but the library.

    `origin` is the address that clients use, without a final slash. `stylesheet` is the console's, which the docs share.
    `with_console` says whether the console is at the same address. `admin` is given where the docs are read at the console's own.
    `served(slug)` says whether some provider serves a model. `spawn` owns the task that the MCP server lives in.
    """

    origin: str
    library: Library
    directory: Directory
    reader: Reader
    engine: sa.Engine
    catalogue: Catalogue
    clock: Clock
    served: Callable[[str], bool]
    spawn: Spawn
    stylesheet: str = "/assets/console.css"
    with_console: bool = True
    admin: AdminAddress | None = None

    def knows(self, host: str) -> bool:
        """Whether a Host is this gateway's."""
        return trusted(host, self.origin) or (self.admin is not None and trusted(host, self.admin.origin))

    def told(self, host: str) -> str:
        """The address of clients, for somebody who came by a Host."""
        if self.admin is None:
            return reached_at(host, self.origin)
        return self.admin.clients_at(host) if self.knows(host) else self.origin
