"""A limit on how long a report may take: the database itself is stopped, so nothing goes on behind the caller's back."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import sqlalchemy as sa

from modelgates_server.clock import Clock
from modelgates_server.errors import TookTooLong
from modelgates_server.storage.portable import is_postgres

STEPS: Final = 100_000
"""SQLite asks after so many steps of its machine whether to go on: about every three milliseconds."""

CANCELLED: Final = "57014"
"""How PostgreSQL calls a statement that ran into its limit."""


@contextmanager
def within(connection: sa.Connection, limit_s: float, clock: Clock) -> Iterator[None]:
    """Stop what runs on `connection` after `limit_s` seconds, with TookTooLong. Fetch all rows inside.

    `connection` is one that `engine.reading` gave. On PostgreSQL each statement has the limit, on SQLite all of them together.
    """
    if is_postgres(connection):
        limit = sa.select(sa.func.set_config("statement_timeout", f"{int(limit_s * 1000)}ms", sa.true()))
        connection.execute(limit)
        yield from _postgres(limit_s)
    else:
        yield from _sqlite(connection, limit_s, clock)


def _postgres(limit_s: float) -> Iterator[None]:
    try:
        yield
    except sa.exc.DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) == CANCELLED:
            raise _took_too_long(limit_s) from error
        raise


def _sqlite(connection: sa.Connection, limit_s: float, clock: Clock) -> Iterator[None]:
    raw = connection.connection.driver_connection
    if not isinstance(raw, sqlite3.Connection):
        raise TypeError("not a connection to SQLite")
    give_up_s = clock.monotonic_s() + limit_s
    stopped = False

    def enough() -> bool:
        nonlocal stopped
        stopped = clock.monotonic_s() >= give_up_s
        return stopped

    raw.set_progress_handler(enough, STEPS)
    try:
        yield
    except sa.exc.OperationalError as error:
        if stopped:
            raise _took_too_long(limit_s) from error
        raise
    finally:
        raw.set_progress_handler(None, 0)


def _took_too_long(limit_s: float) -> TookTooLong:
    return TookTooLong(
        f"This took longer than {limit_s:g} seconds and was stopped.",
        remedy="ask for less: a shorter time range, or fewer breakdowns",
    )
