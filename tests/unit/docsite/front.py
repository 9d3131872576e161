"""The docs over a real database, called without a socket."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa
from tests.support.asgi import Told, call
from tests.unit.accounts.house import House, open_house
from tests.unit.console.planted import receipt

from modelgates_server.activity.generation import rows
from modelgates_server.catalogue.load import bundled, load_catalogue
from modelgates_server.clock import new_id
from modelgates_server.docsite.app import build_docs
from modelgates_server.docsite.house import DocsHouse
from modelgates_server.docsite.library import Library
from modelgates_server.management import NewKey, create_key
from modelgates_server.management.members import NewMember, add_member
from modelgates_server.storage import schema
from modelgates_server.storage.engine import Database, transaction
from modelgates_server.storage.reader import open_reader
from modelgates_server.tasks import Tasks

ORIGIN = "http://127.0.0.1:8787"
OPUS = "anthropic/claude-opus-4.8"


@dataclass
class Front:
    """The application and what it stands on."""

    house: House
    docs: DocsHouse
    app: Any

    @property
    def organization_id(self) -> str:
        return self.house.made.organization_id

    async def get(self, path: str, method: str = "GET", **headers: str) -> Told:
        """Ask for a path as it is written, with its query."""
        return await self.send(method, path, b"", {name.replace("_", "-"): value for name, value in headers.items()})

    async def send(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> Told:
        """Send a request."""
        return await call(self.app, method, path, {"host": "127.0.0.1:8787"} | dict(headers), body)

    def key(self, name: str = "one", organization_id: str | None = None, **settings: Any) -> tuple[str, str]:
        """Make a key; give its text and its hash."""
        now_s = self.house.clock.now_s()
        secret, row = create_key(
            self.house.engine, self.house.pepper, organization_id or self.organization_id, NewKey(name, **settings), "test", now_s
        )  # fmt: skip
        return secret, row.hash

    def member(self, name: str) -> str:
        """Make a member; give the id."""
        wanted = NewMember(name, f"{name.lower()}@example.com")
        return add_member(self.house.engine, self.organization_id, wanted, "test", self.house.clock.now_s()).id

    def another(self) -> str:
        """Make a second organisation with a workspace; give its id."""
        now_s = int(self.house.clock.now_s())
        organization_id = new_id("org", now_s)
        own = {"organization_id": organization_id, "created_at_s": now_s}
        with transaction(self.house.engine) as connection:
            connection.execute(sa.insert(schema.organizations).values(id=organization_id, name="B", created_at_s=now_s))
            connection.execute(
                sa.insert(schema.workspaces).values(id=new_id("ws", now_s), slug="default", name="Default", **own)
            )
        return organization_id

    def book(self, id_: str, key_hash: str, organization_id: str | None = None, **changes: Any) -> None:
        """Write a receipt; `changes` may be of its origin."""
        made = receipt(organization_id or self.organization_id, key_hash)
        own = {name: changes.pop(name) for name in list(changes) if name in type(made.origin).__struct_fields__}
        made = msgspec.structs.replace(made, origin=msgspec.structs.replace(made.origin, id=id_, **own), **changes)
        _, row = next(iter(rows(made)))
        with transaction(self.house.engine) as connection:
            connection.execute(sa.insert(schema.generations).values(**row))


@asynccontextmanager
async def open_front(where: Path | Database, library: Library | None = None) -> AsyncIterator[Front]:
    """An initialised database (a path means SQLite) and the docs over it; everything ends with the context."""
    tasks = Tasks()
    with open_house(where) as house:
        docs = DocsHouse(
            origin=ORIGIN,
            library=library or Library(),
            directory=house.directory(),
            reader=open_reader(house.database),
            engine=house.engine,
            catalogue=load_catalogue(bundled(), None),
            clock=house.clock,
            served=lambda slug: "haiku" not in slug,
            spawn=tasks.spawn,
        )
        try:
            yield Front(house, docs, build_docs(docs))
        finally:
            await tasks.close()
            await docs.reader.close()
