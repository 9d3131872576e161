"""Rotation: a new key-encryption key, and everything that is sealed wrapped by it, while the gateway works.

Nothing waits for it but other changes, for milliseconds at a time; requests never do, because serving processes keep what they need
to open what they have read. When nothing is wrapped by an old key-encryption key any more, its salt is destroyed: whoever has only an
old copy of a row, or only the secret, opens nothing. Stopped halfway, it is finished by running it again.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from modelgates_server.errors import SealBroken
from modelgates_server.management.change import Change, Note, change
from modelgates_server.storage import schema
from modelgates_server.storage.engine import transaction
from modelgates_server.vault.envelope import Vault, prefix
from modelgates_server.vault.ring import add_kek, drop_keks, open_vault

BATCH_ROWS: Final = 100
"""About ten milliseconds of work: so long other writers may wait."""

PAUSE_S: Final = 0.03
"""After each batch. SQLite's writers look every 25 ms at first whether they may: who takes no breath lets nobody in."""

SEALED_TABLES: Final = (schema.provider_credentials, schema.alert_channels)
"""Every table that keeps secrets for long. Answers under an idempotency key live for a day, under a key of their own."""


@dataclass(frozen=True, slots=True)
class Rotated:
    """The key-encryption key that is current now, how many secrets were wrapped by it, and how many could not be opened.

    `retired` are the ids of those that are gone. A broken secret keeps its own one, and has to be stored again.
    """

    kek_id: str
    wrapped: int
    broken: int
    retired: tuple[str, ...]


def rotate_secrets(engine: sa.Engine, secret: bytes, actor: str, now_s: float) -> Rotated:
    """Make a new key-encryption key, wrap everything by it, and destroy the old ones. Raises StoreUnavailable."""
    with change(engine, now_s) as changing:
        kek_id = add_kek(changing.connection)
        _note(changing, actor, "secrets.rotate", kek_id, {})
    wrapped = broken = 0
    for table in SEALED_TABLES:
        for done, failed in _wrap_all(engine, secret, table):
            wrapped, broken = wrapped + done, broken + failed
    with change(engine, now_s) as changing:
        changing.bump_policy()
        vault = open_vault(changing.connection, secret, sealing=True)
        old = [one for one in vault.ring.salts if one != vault.ring.current]
        retired = tuple(sorted((one for one in old if not _in_use(changing.connection, one)), key=int))
        drop_keks(changing.connection, retired)
        details = {"wrapped": wrapped, "broken": broken, "retired": list(retired)}
        _note(changing, actor, "secrets.retire", vault.ring.current, details)
    return Rotated(kek_id, wrapped, broken, retired)


def _wrap_all(engine: sa.Engine, secret: bytes, table: sa.Table) -> Iterator[tuple[int, int]]:
    """Wrap a table batch by batch, in the order of its primary key; how many were wrapped and how many could not be."""
    key = sa.tuple_(*table.primary_key.columns)
    last: tuple[Any, ...] | None = None
    while True:
        with transaction(engine) as connection:
            vault = open_vault(connection, secret, sealing=True)
            query = sa.select(*table.primary_key.columns, table.c.sealed).where(
                table.c.sealed.is_not(None), ~table.c.sealed.startswith(prefix(vault.ring.current), autoescape=True)
            )
            query = query if last is None else query.where(key > sa.tuple_(*last))
            rows = connection.execute(query.order_by(*table.primary_key.columns).limit(BATCH_ROWS)).all()
            failed = sum(not _wrap(connection, vault, table, row) for row in rows)
        if not rows:
            return
        last = tuple(rows[-1][:-1])
        yield len(rows) - failed, failed
        time.sleep(PAUSE_S)


def _wrap(connection: sa.Connection, vault: Vault, table: sa.Table, row: Sequence[Any]) -> bool:
    """Wrap one row, unless somebody has just stored another secret there. False when it cannot be opened."""
    ids, text = row[:-1], row[-1]
    try:
        sealed = vault.rewrap(text)
    except SealBroken:
        return False
    mine = [column == value for column, value in zip(table.primary_key.columns, ids, strict=True)]
    values = {"sealed": sealed.text, "kek_id": sealed.kek_id}
    connection.execute(sa.update(table).where(*mine, table.c.sealed == text).values(values))
    return True


def _in_use(connection: sa.Connection, kek_id: str) -> bool:
    used = [
        sa.select(sa.literal(1)).where(table.c.sealed.startswith(prefix(kek_id), autoescape=True)).limit(1)
        for table in SEALED_TABLES
    ]
    return any(connection.execute(query).first() is not None for query in used)


def _note(changing: Change, actor: str, action: str, kek_id: str, details: dict[str, Any]) -> None:
    """It concerns the whole installation: it stands in the books of the organisation that was there first."""
    query = sa.select(schema.organizations.c.id).order_by(
        schema.organizations.c.created_at_s, schema.organizations.c.id
    )
    organization_id = changing.connection.execute(query.limit(1)).scalar_one_or_none() or "installation"
    changing.note(Note(organization_id, actor, action, f"kek:{kek_id}", details))
