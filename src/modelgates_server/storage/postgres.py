"""PostgreSQL's side of the hot path: connections that never wait long, and sums that are integers. Loads the driver."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from decimal import Decimal
from functools import partial
from typing import Any, Final

import psycopg
from psycopg.adapt import Buffer, Loader
from psycopg.types.string import StrDumperUnknown

from modelgates_server.storage.engine import CONNECT_S, Database

LOCK_MS: Final = 250
"""Longest wait for rows that another process is deciding on; its batches take milliseconds. Then units that need none of them go on."""

SILENT_S: Final = 1.4
"""A batch that has no answer for so long means that the store is away. More than the longest wait for rows: whoever keeps them
(people's changes, a migration, a replica that stands still) must not be mistaken for that."""

STATEMENT_MS: Final = 2_000
IDLE_MS: Final = 2_000
"""A process that stops in the middle of a batch (SIGSTOP, a dead machine) loses its locks after this long."""

STEP_S: Final = 0.1
"""How finely a countdown tells the time in which this process stood still from that in which the database did."""

SERVING: Final = "modelgates serve"
"""How the connections of serving processes are called in the database's own views."""

_STALLED: Final = f"""
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND usename = current_user AND application_name = '{SERVING}'
        AND wait_event = 'ClientRead' AND xact_start < clock_timestamp() - interval '{IDLE_MS} milliseconds'
"""  # noqa: S608 - constants

_HOT: Final = (
    f"-c timezone=UTC -c lock_timeout={LOCK_MS} -c statement_timeout={STATEMENT_MS}"
    f" -c idle_in_transaction_session_timeout={IDLE_MS} -c synchronous_commit=on -c jit=off"
)

AWAY: Final = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    psycopg.errors.ReadOnlySqlTransaction,
    TimeoutError,
    OSError,
)
"""What a database that cannot be reached, does not answer in time, or takes no changes (a standby, a full disk), raises."""

TOO_MUCH: Final = (psycopg.errors.ProgramLimitExceeded,)
"""Among them, but said of one row: too large a value for an index, too large a text."""

AGAIN: Final = (
    psycopg.errors.DeadlockDetected,
    psycopg.errors.SerializationFailure,
    psycopg.errors.LockNotAvailable,
)
"""The transaction was rolled back for the sake of another: nothing is wrong, run it once more."""


class _Whole(Loader):
    """``numeric`` as an int when it is whole: the sum of 64-bit columns is one."""

    def load(self, data: Buffer) -> int | Decimal:
        text = bytes(data).decode()
        return Decimal(text) if "." in text or "N" in text else int(text)


class _WithoutNul(StrDumperUnknown):
    """Text, with a sign in place of NUL, which PostgreSQL knows nowhere: what a client makes up is not found, instead of an error."""

    def dump(self, obj: str) -> Buffer | None:
        return super().dump(obj.replace("\0", "\ufffd") if "\0" in obj else obj)


logging.getLogger("psycopg").setLevel(logging.ERROR)  # it warns of a pipeline that failed, which it raises as well


def prepare(connection: Any) -> None:
    """Make a new connection read sums as integers, and take any text."""
    connection.adapters.register_loader("numeric", _Whole)
    connection.adapters.register_dumper(str, _WithoutNul)


async def connect(database: Database) -> psycopg.AsyncConnection[Any]:
    """Open a connection for the serving process, in autocommit mode: every transaction is spelled out. Raises one of AWAY."""
    async with awake_for(CONNECT_S):
        connection = await psycopg.AsyncConnection.connect(
            database.conninfo,
            autocommit=True,
            connect_timeout=CONNECT_S,
            application_name=SERVING,
            options=_HOT,
        )
    prepare(connection)
    return connection


async def end_stalled(connection: psycopg.AsyncConnection[Any]) -> None:
    """End sessions of serving processes that stand still in the middle of a batch, and keep its locks. Raises one of AWAY.

    Their own limits do not end them: between two messages of one pipeline no statement runs, and the transaction is not idle.
    """
    with Deadline(connection, CONNECT_S):
        await connection.execute(_STALLED)


class Countdown:
    """``with Countdown(limit_s, act):`` calls `act` when what is awaited inside takes longer.

    The limit runs only while this process does: what it did not listen to, because it stood still itself, says nothing about others.
    """

    def __init__(self, limit_s: float, act: Callable[[], None]) -> None:
        self._left_s = limit_s
        self._act = act
        self.passed = False

    def __enter__(self) -> None:
        self._wait()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._handle.cancel()

    def _wait(self) -> None:
        """One step of the limit. However late it ends, it counts as one step."""
        if self._left_s <= 0:
            self.passed = True
            self._act()
            return
        step_s = min(STEP_S, self._left_s)
        self._left_s -= step_s
        self._handle = asyncio.get_running_loop().call_later(step_s, self._wait)


@asynccontextmanager
async def awake_for(limit_s: float) -> AsyncIterator[None]:
    """As `asyncio.timeout`, of the time in which this process runs. Raises TimeoutError."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(None) as limit:
        with Countdown(limit_s, lambda: limit.reschedule(loop.time())):
            yield


class Deadline(Countdown):
    """``with Deadline(connection, limit_s):`` ends what is awaited inside by breaking the connection, and raises TimeoutError then.

    Cancelling instead would make the driver ask the server to cancel, and wait for a server that does not answer.
    """

    def __init__(self, connection: psycopg.AsyncConnection[Any], limit_s: float) -> None:
        super().__init__(limit_s, partial(cut, connection))

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        super().__exit__(kind, error, trace)
        if self.passed and isinstance(error, AWAY):
            raise TimeoutError("the database did not answer in time") from error


def cut(connection: psycopg.AsyncConnection[Any]) -> None:
    """Break the connection under whoever waits for it."""
    with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(connection.pgconn.socket)) as line:
        line.shutdown(socket.SHUT_RDWR)


def drop(connection: psycopg.AsyncConnection[Any]) -> None:
    """Close at once, without a word to the server, whatever is on its way."""
    with suppress(Exception):
        connection.pgconn.finish()
