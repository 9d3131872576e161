"""Starts and kills lives of the ledger (`life.py`) on one database, and asks the witness after each death."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import sqlalchemy as sa
from tests.crash import life
from tests.crash.witness import Witness, told
from tests.support.eyes import pass_time
from tests.support.postgres import Postgres
from tests.support.process import SOURCE, environment

from modelgates_server.ledger import credit
from modelgates_server.storage import schema
from modelgates_server.storage.engine import database_of, open_engine, transaction
from modelgates_server.storage.maintenance import upgrade

ROOT = Path(__file__).parents[2]

GRANT_NUSD = 10_000_000
"""Each life may spend this much more: about thirty requests, so that the limit bites in every longer life."""

GRANT_EVERY_S = 1.0

READY_S = 60.0
"""A start takes a twentieth of a second on an idle machine."""


class Life(NamedTuple):
    number: int
    pid: int
    acks: Path


class Nursery:
    """A process that forks lives on demand; what they say on standard error stands in `log`."""

    def __init__(self, folder: Path, variables: Mapping[str, str]) -> None:
        self.log = folder / "nursery.log"
        variables = environment(PYTHONPATH=f"{SOURCE}{os.pathsep}{ROOT}", **variables)
        with self.log.open("wb") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", life.__name__],
                cwd=ROOT,
                env=variables,
                text=True,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
            )

    def start(self, **job: object) -> int:
        """Begin a life; its process id."""
        return self._ask(job)

    def ended(self, pid: int) -> int:
        """Wait for the end of a life; its exit code, or minus the signal that killed it."""
        return self._ask({"ended": pid})

    def close(self) -> None:
        with self._process:
            self._process.kill()

    def _ask(self, order: dict[str, object]) -> int:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, self.log.read_text()
        return int(line)


@contextmanager
def open_nursery(folder: Path, **variables: str) -> Iterator[Nursery]:
    running = Nursery(folder, variables)
    try:
        yield running
    finally:
        running.close()


@dataclass
class Graveyard:
    """One database on which lives begin and are killed, `together` of them at a time. Their files lie in `folder`/data."""

    nursery: Nursery
    url: str
    folder: Path
    dice: random.Random
    together: int = 1
    journals: bool = False
    living: list[Life] = field(default_factory=list)
    number: int = 0

    def __post_init__(self) -> None:
        (self.folder / "data").mkdir()
        upgrade(database_of(self.url))
        self._engine = open_engine(database_of(self.url))
        with transaction(self._engine) as connection:
            connection.execute(sa.insert(schema.policy).values(id=1, version=1))
        self.witness = Witness(self.url, shared=self.together > 1, journals=self.journals)

    def begin(self, seats: int = life.SEATS, **more: object) -> Life:
        acks, data = self.folder / f"acks-{self.number}", str(self.folder / "data")
        job = {"url": self.url, "folder": data, "acks": str(acks), "number": self.number, "seats": seats}
        pid = self.nursery.start(**job, **more)
        born = Life(self.number, pid, acks)
        self.number += 1
        return born

    def populate(self) -> None:
        """So many lives as are wanted at a time."""
        while len(self.living) < self.together:
            self.living.append(self.begin())

    def grant(self) -> None:
        """Add credit as the CLI does, beside the running processes."""
        with transaction(self._engine) as connection:
            credit.grant(connection, life.ORG, GRANT_NUSD, "test", "test", time.time())

    def choose(self) -> Life:
        """Who dies next."""
        return self.living.pop(self.dice.randrange(len(self.living)))

    def watch(self, victim: Life, life_s: float) -> None:
        """Look at the books all the time until a life's last moment: most have worked for a while, some do not get to it."""
        if self.dice.random() < 0.8:
            give_up_s = time.monotonic() + READY_S
            while not (victim.acks.exists() and victim.acks.stat().st_size):
                self._look(0.003)
                assert time.monotonic() < give_up_s, self.nursery.log.read_text()
        end_s = time.monotonic() + self.dice.uniform(0, life_s)
        while (left_s := end_s - time.monotonic()) > 0:
            self._look(left_s)

    def _look(self, left_s: float) -> None:
        time.sleep(min(left_s, 0.003))
        self.witness.look()

    def kill(self, victim: Life) -> None:
        """End a life in the middle of whatever it does."""
        os.kill(victim.pid, signal.SIGKILL)
        assert self.nursery.ended(victim.pid) in {-signal.SIGKILL, 0}, self.nursery.log.read_text()

    def bury(self, victim: Life) -> None:
        """Hold the books to what a dead life said, and let its lease run out."""
        if self.witness.eyes.postgres:
            pass_time(self.witness.eyes, victim.pid)
        self.witness.after(victim.number, victim.acks, self.number)
        victim.acks.unlink(missing_ok=True)

    def let_live(self, one: Life) -> None:
        """Wait until a life ends by itself."""
        assert self.nursery.ended(one.pid) == 0, self.nursery.log.read_text()
        self.bury(one)

    def disaster(self, postgres: Postgres, victim: Life, away_s: float) -> None:
        """Every process of PostgreSQL is killed, for a while; perhaps a life dies before it is back."""
        postgres.kill()
        time.sleep(away_s)
        if self.dice.random() < 0.6:
            self.kill(victim)
            postgres.start()
        else:
            postgres.start()
            self.kill(victim)
        self.witness.count["disasters"] += 1

    def disaster_with_a_promise(self, postgres: Postgres, victim: Life, away_s: float) -> None:
        """The same, and one more life settles meanwhile, and dies too: what it acknowledged stands in its journal, and nowhere else."""
        promising = self.begin(seats=1, patient=True)
        self._await(promising, "held", postgres)
        postgres.kill()
        os.kill(promising.pid, signal.SIGUSR1)
        self._await(promising, "noted", postgres)
        self.kill(promising)
        self.disaster(postgres, victim, away_s)
        self.bury(promising)

    def _await(self, one: Life, what: str, postgres: Postgres) -> None:
        """Look at the books, where there are any, until a life has said something. Credit is added now and then: others use it up."""
        give_up_s, grant_s = time.monotonic() + READY_S, time.monotonic() + GRANT_EVERY_S
        while not any(ack["what"] == what for ack in told(one.acks)):
            assert time.monotonic() < give_up_s, (what, told(one.acks), self.nursery.log.read_text())
            if postgres.running:
                self._look(0.003)
                if time.monotonic() > grant_s:
                    self.grant()
                    grant_s += GRANT_EVERY_S
            else:
                time.sleep(0.003)

    def close(self) -> None:
        """Kill what lives, let one last life recover everything, and check the books."""
        while self.living:
            victim = self.choose()
            self.kill(victim)
            self.bury(victim)
        self.let_live(self.begin(seats=0))
        self.witness.at_the_end()
        self.witness.check()
        self.witness.close()
        self._engine.dispose()
