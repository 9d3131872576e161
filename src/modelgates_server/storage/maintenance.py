"""What is done to a whole database: create, upgrade, check, and tell whether it belongs to this installation.

Copies are in `backups.py`, moving to another kind of database in `moving.py`, and how a schema comes about in `upgrades.py`.
"""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path

import sqlalchemy as sa

from modelgates_server.errors import StoreMismatch, StoreUnavailable
from modelgates_server.storage import checks, schema
from modelgates_server.storage.checks import Problem
from modelgates_server.storage.engine import Database, reading
from modelgates_server.storage.upgrades import State, as_database, looking, schema_state, upgrade

FINGERPRINT = "secret_fingerprint"
MOVED_TO = "moved_to"
"""What `meta` says of a database whose rows are served elsewhere now: the address, without its password."""


def check(where: Database | Path) -> list[Problem]:
    """Compare every sum in the books with what it is the sum of; works while a server runs. Empty when all is well.

    Raises StoreUnavailable.
    """
    database = as_database(where)
    if database.kind == "sqlite" and not database.path.exists():
        raise StoreUnavailable(
            f"there is no database at {database.path}", remedy="run modelgates init, or name another --data-dir"
        )
    with looking(database) as connection:
        return checks.problems(connection)


def fingerprint(secret: bytes) -> str:
    """Give what the database remembers of its secret: enough to know it again, useless for anything else."""
    return hmac.digest(secret, b"modelgates: fingerprint of the secret", hashlib.sha256).hex()


def adopt_secret(connection: sa.Connection, secret: bytes) -> None:
    """Tie a database to its secret, in the transaction that initialises it."""
    connection.execute(sa.insert(schema.meta).values(key=FINGERPRINT, value=fingerprint(secret)))


def refuse_other_secret(connection: sa.Connection, secret: bytes) -> None:
    """Raise StoreMismatch for a database made with another secret, or moved away; one without any is nobody's yet and passes."""
    query = sa.select(schema.meta.c.key, schema.meta.c.value).where(schema.meta.c.key.in_([FINGERPRINT, MOVED_TO]))
    known = {row.key: row.value for row in connection.execute(query)}
    if MOVED_TO in known:
        raise StoreMismatch(
            f"this database was moved to {known[MOVED_TO]}",
            remedy="set [database] url or MODELGATES_DATABASE_URL to it; what is spent here would be counted nowhere else",
        )
    if FINGERPRINT in known and not hmac.compare_digest(known[FINGERPRINT], fingerprint(secret)):
        raise StoreMismatch(
            "the database was made with another secret, so no key in it would work",
            remedy="restore the secret.key that belongs to it, or set MODELGATES_SECRET to it",
        )


def verify_secret(engine: sa.Engine, secret: bytes) -> None:
    """Raise StoreMismatch for a database made with another secret, StoreUnavailable for one that cannot be read."""
    with reading(engine) as connection:
        refuse_other_secret(connection, secret)


__all__ = [
    "Problem",
    "State",
    "adopt_secret",
    "check",
    "fingerprint",
    "refuse_other_secret",
    "schema_state",
    "upgrade",
    "verify_secret",
]
