"""Whether a PostgreSQL can be reached, and in words why not: what a driver says is for those who know its protocol."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from modelgates_server.errors import StoreMismatch, StoreUnavailable
from modelgates_server.storage.maintenance import schema_state

if TYPE_CHECKING:
    from modelgates_server.storage.engine import Database

_REASONS: Final = (
    (
        r"password authentication failed",
        "the server does not take this user with this password",
        "write both as the server knows them, with %40 for @ and %2F for /",
    ),
    (r"no password supplied", "the server asks for a password", "write it into the address, or set PGPASSWORD"),
    (
        r"no pg_hba\.conf entry",
        "the server does not let this user in from this machine",
        "permit it in pg_hba.conf, or try ?sslmode=require",
    ),
    (r"refused", "nothing listens at this host and port", "check both, and that the server runs"),
    (r"resolve|translate host name", "there is no such host", "check its name"),
    (r"database .* does not exist", "the server has no database of this name", "make it first, or name another"),
    (r"time(d )?out", "it does not answer", "check host and port, and what stands between"),
    (r"SSL|certificate", "the two do not agree about TLS", "check sslmode and sslrootcert"),
    (r"connection option", "the address has a parameter that libpq does not know", "take it out"),
)
"""Words of the driver or the server, what they mean, and what to do about it."""

_OTHER: Final = "check the address, and that the server runs and takes this user"


def reach(database: Database, named: str) -> None:
    """Raise StoreUnavailable with a remedy unless the database can be read; `named` is where its address is written.

    A file is left to whoever opens it.
    """
    if database.kind == "sqlite":
        return
    try:
        with suppress(StoreMismatch):  # whose tables are in it is a question for later
            schema_state(database)
    except StoreUnavailable as error:
        why, what = _meaning(" ".join(_driver(error).split()))
        raise StoreUnavailable(
            f"cannot reach {database.shown}: {why}", remedy=f"{what}; the address stands in {named}"
        ) from error


def _meaning(said: str) -> tuple[str, str]:
    found = ((why, what) for words, why, what in _REASONS if re.search(words, said))
    return next(found, (said, _OTHER))


def _driver(error: BaseException) -> str:
    """What the driver said, below everybody who passed it on."""
    while error.__cause__ is not None and not hasattr(error, "orig"):
        error = error.__cause__
    return str(getattr(error, "orig", error))
