"""What the docs and their MCP server are given."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol

import sqlalchemy as sa

from modelgates_server.accounts.directory import Directory
from modelgates_server.catalogue.load import Catalogue
from modelgates_server.clock import Clock
from modelgates_server.docsite.library import Library
from modelgates_server.storage.reader import Reader


class Spawn(Protocol):
    """Starts a task that somebody owns and ends."""

    def __call__(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]: ...


@dataclass(frozen=True, slots=True)
class DocsHouse:
    """The parts of the application that the docs need. The pages themselves ask nothing but the library.

    `origin` is the address that people use, without a final slash. `stylesheet` is the console's, which the docs share.
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
