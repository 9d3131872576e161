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
from modelgates_server.storage.engine import reading, transaction
from modelgates_server.vault.envelope import Vault, prefix
from modelgates_server.vault.ring import add_kek, drop_keks, open_vault

BATCH_ROWS: Final = 100
"""About ten milliseconds of work: so long other writers may wait."""

PAUSE_S: Final = 0.03
"""After each batch. SQLite's writers look every 25 ms at first whether they may: who takes no breath lets nobody in."""

CONTENTS_AT_ONCE: Final = 10
"""Of prompts and answers each may be a megabyte, and the database writes all of it anew."""

KNOWN_S: Final = 1.0
"""Within this time every serving process seals contents under the new key-encryption key: it polls the policy four times a second."""

SEALED_TABLES: Final = (schema.provider_credentials, schema.alert_channels, schema.contents)
"""Every table that keeps secrets for long. Answers under an idempotency key live for a day, under a key of their own."""

_HEAD_LETTERS: Final = 200
"""More than the version, a key-encryption key's id and a wrapped key take, at the beginning of a sealed text."""

_CONTENTS = schema.contents


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
    """Make a new key-encryption key, wrap everything by it, and destroy the old ones. Raises StoreUnavailable.

    A process that is cut off from the database meanwhile for longer than `KNOWN_S` may seal prompts under an old one: those are lost.
    """
    with change(engine, now_s) as changing:
        kek_id = add_kek(changing.connection)
        changing.bump_policy()
        _note(changing, actor, "secrets.rotate", kek_id, {})
    wrapped = broken = 0
    for table in SEALED_TABLES:
        if table is _CONTENTS and _keeps_contents(engine):
            time.sleep(KNOWN_S)
        for done, failed in _wrap_all(engine, secret, table):
            wrapped, broken = wrapped + done, broken + failed
    kept = _under(engine)
    with change(engine, now_s) as changing:
        changing.bump_policy()
        vault = open_vault(changing.connection, secret, sealing=True)
        old = [one for one in vault.ring.salts if one != vault.ring.current]
        retired = tuple(
            sorted((one for one in old if one not in kept and not _in_use(changing.connection, one)), key=int)
        )
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
            large = table is _CONTENTS
            text = sa.func.substr(table.c.sealed, 1, _HEAD_LETTERS) if large else table.c.sealed
            old = _CONTENTS.c.kek_id != vault.ring.current if large else _old(table, vault.ring.current)
            query = sa.select(*table.primary_key.columns, text).where(old)
            query = query if last is None else query.where(key > sa.tuple_(*last))
            query = query.order_by(*table.primary_key.columns).limit(CONTENTS_AT_ONCE if large else BATCH_ROWS)
            rows = connection.execute(query).all()
            failed = sum(not _wrap(connection, vault, table, row) for row in rows)
        if not rows:
            return
        last = tuple(rows[-1][:-1])
        yield len(rows) - failed, failed
        time.sleep(PAUSE_S)


def _wrap(connection: sa.Connection, vault: Vault, table: sa.Table, row: Sequence[Any]) -> bool:
    """Wrap one row, unless somebody has just stored another secret there. False when it cannot be opened.

    Of a content only the head is read, up to the dot before the ciphertext; the database puts the two together.
    """
    ids, text = row[:-1], row[-1]
    head = text[: text.rfind(".") + 1] if table is _CONTENTS else text
    try:
        sealed = vault.rewrap(head)
    except SealBroken:
        return False
    mine = [column == value for column, value in zip(table.primary_key.columns, ids, strict=True)]
    if table is _CONTENTS:
        whole = sa.literal(sealed.text).concat(sa.func.substr(table.c.sealed, len(head) + 1))
        connection.execute(sa.update(table).where(*mine).values(sealed=whole, kek_id=sealed.kek_id))
        return True
    values = {"sealed": sealed.text, "kek_id": sealed.kek_id}
    connection.execute(sa.update(table).where(*mine, table.c.sealed == text).values(values))
    return True


def _old(table: sa.Table, kek_id: str) -> sa.ColumnElement[bool]:
    """Whether a row is wrapped by another key-encryption key."""
    return table.c.sealed.is_not(None) & ~table.c.sealed.startswith(prefix(kek_id), autoescape=True)


def _keeps_contents(engine: sa.Engine) -> bool:
    """Whether anybody may be sealing prompts and answers right now."""
    spaces = schema.workspaces.c
    query = sa.select(spaces.id).where(spaces.settings.like('%"rule"%'), spaces.deleted_at_s.is_(None))
    with reading(engine) as connection:
        return connection.execute(query).first() is not None


def _under(engine: sa.Engine) -> set[str]:
    """By which key-encryption keys contents are wrapped. It looks at all of them, so it takes no lock."""
    with reading(engine) as connection:
        return set(connection.execute(sa.select(_CONTENTS.c.kek_id).distinct()).scalars())


def _in_use(connection: sa.Connection, kek_id: str) -> bool:
    used = [
        sa.select(sa.literal(1)).where(table.c.sealed.startswith(prefix(kek_id), autoescape=True)).limit(1)
        for table in SEALED_TABLES
        if table is not _CONTENTS
    ]
    return any(connection.execute(query).first() is not None for query in used)


def _note(changing: Change, actor: str, action: str, kek_id: str, details: dict[str, Any]) -> None:
    """It concerns the whole installation: it stands in the books of the organisation that was there first."""
    query = sa.select(schema.organizations.c.id).order_by(
        schema.organizations.c.created_at_s, schema.organizations.c.id
    )
    organization_id = changing.connection.execute(query.limit(1)).scalar_one_or_none() or "installation"
    changing.note(Note(organization_id, actor, action, f"kek:{kek_id}", details))
