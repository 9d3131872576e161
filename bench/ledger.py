"""The ledger alone: what hold and settle cost on SQLite, and how many a second four processes do on one PostgreSQL."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
import sqlalchemy as sa
from process import ROOT, SUBJECT_CORE, pinned

from modelgates_server.ledger import credit
from modelgates_server.storage import schema
from modelgates_server.storage.engine import Database, database_of, open_engine, transaction
from modelgates_server.storage.maintenance import upgrade

PAIRS = Path(__file__).with_name("pairs.py")
ORG = "org-bench"
IN_FLIGHT, PROCESSES = 32, 4
YARDSTICK_S = 1.5


def sqlite_cost_us(pairs: int) -> float:
    """CPU of one hold with its settlement and receipt, on a core of its own, by a process that does nothing else."""
    with TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/bench.db"
        furnish(database_of(url))
        (found,) = _run(url, folder, pairs, IN_FLIGHT, count=1, core=SUBJECT_CORE)
    return found["cpu_us"]


def postgres_rates(pairs: int) -> tuple[float, float]:
    """Pairs a second of four processes on one hot organisation; and, as a yardstick, single commits a second of one connection."""
    sys.path.insert(0, str(ROOT))
    from tests.support.postgres import Postgres  # noqa: PLC0415 - the tests' way to a real server

    server = Postgres()
    try:
        url = server.fresh_database()
        furnish(database_of(url))
        single = _commits_per_s(database_of(url))
        with TemporaryDirectory() as folder:
            found = _run(url, folder, pairs, 2 * IN_FLIGHT, count=PROCESSES, core=None)
    finally:
        server.close()
    took_s = max(one["ended_s"] for one in found) - min(one["began_s"] for one in found)
    return PROCESSES * pairs / took_s, single


def furnish(database: Database) -> None:
    """One organisation with credit."""
    upgrade(database)
    engine = open_engine(database)
    with transaction(engine) as connection:
        connection.execute(sa.insert(schema.policy).values(id=1, version=1))
        connection.execute(sa.insert(schema.organizations).values(id=ORG, name="Bench", created_at_s=0))
        credit.grant(connection, ORG, 10**14, "bench", "bench", 0)
    engine.dispose()


def _run(
    url: str, folder: str, pairs: int, in_flight: int, *, count: int, core: int | None
) -> Sequence[dict[str, float]]:
    command = [sys.executable, str(PAIRS), url, folder, str(pairs), str(in_flight)]
    pin = None if core is None else pinned(core)
    started = [
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, preexec_fn=pin)  # noqa: PLW1509 - no threads here
        for _ in range(count)
    ]
    return [json.loads(process.communicate()[0]) for process in started]


def _commits_per_s(database: Database) -> float:
    done, began_s = 0, time.perf_counter()
    with closing(psycopg.connect(database.conninfo, autocommit=True)) as connection:
        while (took_s := time.perf_counter() - began_s) < YARDSTICK_S:
            connection.execute("UPDATE meters SET posted = posted + 1")
            done += 1
        connection.execute("UPDATE meters SET posted = 0")
    return done / took_s
