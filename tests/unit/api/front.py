"""The management API over a real database, called without a socket."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from tests.support.asgi import Told, call
from tests.unit.accounts.house import House, open_house

from modelgates_server.accounts.values import KeyClass
from modelgates_server.api.app import build_api
from modelgates_server.api.house import House as ApiHouse
from modelgates_server.catalogue.load import bundled, load_catalogue
from modelgates_server.clock import new_id
from modelgates_server.ledger import credit
from modelgates_server.management import NewKey, create_key
from modelgates_server.storage import schema
from modelgates_server.storage.engine import Database, transaction


@dataclass
class Front:
    """The application and a management key of its first organisation."""

    house: House
    app: Any
    key: str

    @property
    def organization_id(self) -> str:
        return self.house.made.organization_id

    async def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Told:
        """Send a request below /api/v1; `body` is written as JSON unless it is bytes. An empty key sends none."""
        raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        sent = {"content-type": "application/json"} if raw else {}
        key = self.key if key is None else key
        if key:
            sent["authorization"] = f"Bearer {key}"
        return await call(self.app, method, f"/api/v1{path}", {**sent, **(headers or {})}, raw)

    def another(self) -> tuple[str, str]:
        """Make a second organisation with a workspace and credit; give its id and a management key."""
        now_s = int(self.house.clock.now_s())
        organization_id = new_id("org", now_s)
        own = {"organization_id": organization_id, "created_at_s": now_s}
        with transaction(self.house.engine) as connection:
            connection.execute(sa.insert(schema.organizations).values(id=organization_id, name="B", created_at_s=now_s))
            connection.execute(
                sa.insert(schema.workspaces).values(id=new_id("ws", now_s), slug="default", name="Default", **own)
            )
            credit.grant(connection, organization_id, 10**9, "first", "test", now_s)
        wanted = NewKey("other's", KeyClass.MANAGEMENT)
        secret, _ = create_key(self.house.engine, self.house.pepper, organization_id, wanted, "test", now_s)
        return organization_id, secret


@contextmanager
def open_front(where: Path | Database, *, api_grants: bool = True) -> Iterator[Front]:
    """An initialised database (a path means SQLite) and the application over it."""
    with open_house(where) as house:
        catalogue = load_catalogue(bundled(), None)
        parts = ApiHouse(
            engine=house.engine,
            pepper=house.pepper,
            clock=house.clock,
            catalogue=catalogue,
            origin="http://test",
            api_grants=api_grants,
        )
        yield Front(house, build_api(parts), house.made.management_key or "")
