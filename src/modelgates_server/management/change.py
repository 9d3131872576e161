"""What every change has in common: one transaction, one audit row in a chain, and a policy version that rises.

Changes come one after the other: on SQLite a transaction holds the write lock from its beginning, on PostgreSQL it begins by locking
the policy's row. Everybody locks in one order, so that nobody waits in a circle: policy, meters by id, holds.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from modelgates_server import clock
from modelgates_server.storage import chain, schema
from modelgates_server.storage.engine import transaction
from modelgates_server.storage.portable import upsert

AUDIT_HEAD = "audit_head"
"""The digest of the newest audit row stands in `meta` too: cutting rows off the end does not go unseen."""


@dataclass(frozen=True, slots=True)
class Note:
    """What the audit log says about a change: who did what to whom, and details that hold no secret."""

    organization_id: str
    actor: str
    action: str
    target: str
    details: dict[str, Any] = field(default_factory=dict)


@contextmanager
def change(engine: sa.Engine, now_s: float) -> Iterator[Change]:
    """One change, all or nothing. Raises StoreUnavailable; an error inside undoes everything."""
    with transaction(engine) as connection:
        connection.execute(_TURN)
        yield Change(connection, int(now_s), now_s)


_TURN = sa.select(schema.policy.c.version).with_for_update()


@dataclass(frozen=True, slots=True)
class Change:
    """An open change: the connection to make it on, and the time that it carries (Unix seconds).

    Rows keep the whole seconds of `now_s`; ids are made of the moment itself, `time_s`.
    """

    connection: sa.Connection
    now_s: int
    time_s: float

    def new_id(self, prefix: str) -> str:
        """An id in the order of time, so that lists are in it too where several rows were made within one second."""
        return clock.new_id(prefix, self.time_s)

    def note(self, note: Note) -> None:
        """Add the audit row."""
        known = schema.meta.c.value
        query = sa.select(known).where(schema.meta.c.key == AUDIT_HEAD).with_for_update()
        previous = self.connection.execute(query).scalar_one_or_none() or chain.START
        row = {
            "organization_id": note.organization_id,
            "created_at_s": self.now_s,
            "actor": note.actor,
            "action": note.action,
            "target": note.target,
            "details": json.dumps(note.details, sort_keys=True),
            "previous": previous,
        }
        row["digest"] = chain.link(previous, row)
        self.connection.execute(sa.insert(schema.audit).values(row))
        head = upsert(self.connection, schema.meta).values(key=AUDIT_HEAD, value=row["digest"])
        self.connection.execute(head.on_conflict_do_update(index_elements=["key"], set_={"value": head.excluded.value}))

    def bump_policy(self) -> None:
        """Make every process read its callers again: whatever it remembers is no longer the policy."""
        self.connection.execute(sa.update(schema.policy).values(version=schema.policy.c.version + 1))

    def lock_meters(self, *which: sa.ColumnElement[bool]) -> list[str]:
        """Lock meters before several of them are changed at once, in the order in which everybody does; gives their ids."""
        meters = schema.meters
        locked = sa.select(meters.c.id).where(*which).order_by(meters.c.id).with_for_update()
        return list(self.connection.execute(locked).scalars())
