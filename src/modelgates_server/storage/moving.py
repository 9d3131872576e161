"""From SQLite to PostgreSQL: every row, proven equal, or nothing at all. The secret stays the same."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from modelgates_server.errors import ConfigError, StoreMismatch
from modelgates_server.storage import checks, schema
from modelgates_server.storage.copying import Copied, fill, read_all
from modelgates_server.storage.engine import Database, open_engine, transaction, translated
from modelgates_server.storage.lock import serving_lock
from modelgates_server.storage.maintenance import MOVED_TO, refuse_other_secret
from modelgates_server.storage.upgrades import alone, schema_state

_STOP: Final = "stop the server first: it must not spend on the old database while its rows are moved"


def move(source: Database, target: Database, secret: bytes) -> Copied:
    """Copy everything to an empty database, prove both equal, and mark the old one, so that nobody spends there by mistake.

    Nobody can change the old one meanwhile. Whatever goes wrong, the new one is left as it was. Raises ConfigError for another pair
    of kinds or a target that is not empty, StoreMismatch when the source is not at this version, was made with another secret or
    moved before, or anything differs, a finding of the books included; StoreUnavailable also when a server runs.
    """
    if (source.kind, target.kind) != ("sqlite", "postgresql"):
        raise ConfigError(
            "only from SQLite to PostgreSQL can a database be moved",
            remedy="for any other way, stop the server, then use db backup and db restore",
        )
    if schema_state(source) != "current":
        raise StoreMismatch(f"{source.shown} is not at this version", remedy="run modelgates db upgrade first")
    engine = open_engine(source)
    try:
        with serving_lock(source, _STOP), transaction(engine) as old:  # its write lock keeps everybody's changes out
            refuse_other_secret(old, secret)
            known = {problem.kind for problem in checks.problems(old)}
            with alone(target) as new, translated(), new.begin():
                copied = fill(new, target, schema.SCHEMA_VERSION, read_all(old))
                if fresh := [problem for problem in copied.problems if problem.kind not in known]:
                    raise StoreMismatch(f"the books differ: {fresh[0].kind}: {fresh[0].detail}")
            old.execute(sa.insert(schema.meta).values(key=MOVED_TO, value=target.shown))
            return copied
    finally:
        engine.dispose()
