"""The installation's key-encryption keys as the database knows them: a salt for each, and which one is current.

Both stand in `meta`. The first one is made when the first secret is sealed; `management.rotate_secrets` makes the others.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from typing import Any, Final

import sqlalchemy as sa

from modelgates_server.storage import schema
from modelgates_server.storage.portable import upsert
from modelgates_server.vault.envelope import SALT_BYTES, Ring, Vault

CURRENT: Final = "kek"
"""The row of `meta` that names the current KEK."""

SALT: Final = "kek:"
"""How the names of the rows with salts begin; the KEK's id follows."""

FIRST: Final = "1"

_META = schema.meta


def open_vault(connection: sa.Connection, secret: bytes, *, sealing: bool = False) -> Vault:
    """The vault as of this transaction.

    Whoever is going to store what it seals says `sealing`: then there is a KEK, no rotation ends before the transaction does, and
    none misses that record. Without it the vault only opens, and needs a transaction that sees one moment, or a second try.
    """
    if sealing:
        _keep_current(connection)
    rows = connection.execute(sa.select(_META.c.key, _META.c.value).where(_META.c.key.startswith(CURRENT)))
    return Vault(secret, ring_of(rows.all()))


def ring_of(rows: Iterable[Any]) -> Ring:
    """The ring that rows of `meta`, as (key, value), describe. Rows about other things are passed over."""
    values = {row[0]: row[1] for row in rows}
    salts = {key.removeprefix(SALT): bytes.fromhex(value) for key, value in values.items() if key.startswith(SALT)}
    return Ring(values.get(CURRENT, FIRST), salts)


def add_kek(connection: sa.Connection) -> str:
    """Make a new KEK the current one; give its id. Waits for everybody who is sealing."""
    _keep_current(connection, alone=True)
    ring = open_vault(connection, b"").ring
    kek_id = str(max(map(int, ring.salts)) + 1)
    _add_salt(connection, kek_id)
    connection.execute(sa.update(_META).where(_META.c.key == CURRENT).values(value=kek_id))
    return kek_id


def drop_keks(connection: sa.Connection, kek_ids: Iterable[str]) -> None:
    """Destroy the salts of KEKs: whatever is still wrapped by them is lost for good."""
    names = [f"{SALT}{kek_id}" for kek_id in kek_ids]
    connection.execute(sa.delete(_META).where(_META.c.key.in_(names)))


def _keep_current(connection: sa.Connection, *, alone: bool = False) -> None:
    """Hold the row that names the current KEK until the transaction ends: with others who seal, or `alone`.

    SQLite knows no locks of rows; there a change has the whole file.
    """
    query = sa.select(_META.c.value).where(_META.c.key == CURRENT).with_for_update(read=not alone)
    if connection.execute(query).one_or_none() is not None:
        return
    first = upsert(connection, _META).values(key=CURRENT, value=FIRST).on_conflict_do_nothing()
    connection.execute(first)
    connection.execute(query)
    _add_salt(connection, FIRST)


def _add_salt(connection: sa.Connection, kek_id: str) -> None:
    salt = secrets.token_bytes(SALT_BYTES).hex()
    connection.execute(upsert(connection, _META).values(key=f"{SALT}{kek_id}", value=salt).on_conflict_do_nothing())
