"""Several serving processes behind the same listening sockets: started together, replaced when one dies, stopped together.

The parent serves nothing. It forks before any thread or event loop exists; the children inherit the sockets, so a connection that
a dead child did not accept is taken by another.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, NoReturn

from modelgates_server.clock import Clock

log = logging.getLogger(__name__)

RESTART_S: Final = 1.0
"""Least time between two starts of the same place: a worker that cannot start must not spin."""

READY: Final = b"r"

ASKED: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)
"""What the parent listens to; children do not, until they serve."""

Work = Callable[[Callable[[], None], int], int]
"""Serves in a child until told to stop, and gives the exit code. It calls the first argument when it is ready; the second is a file
descriptor that becomes readable when the parent is gone."""


@dataclass(slots=True)
class _Worker:
    pid: int
    place: int
    told: int
    """Where its word that it is ready can be read."""
    started_s: float
    ready: bool = False


@dataclass(slots=True)
class Crew:
    """Runs `count` workers. `ready` is called once, when all of them are."""

    count: int
    work: Work
    ready: Callable[[], None]
    clock: Clock
    _workers: dict[int, _Worker] = field(default_factory=dict)
    _stopping: bool = False
    _announced: bool = False
    _failed: int = 0

    def run(self) -> int:
        """Give 0 after a stop that was asked for, and the exit code of a worker that failed before all were ready."""
        alive_read, alive_write = os.pipe()
        wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        old = {number: signal.signal(number, self._asked) for number in ASKED}
        old_wake = signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        try:
            for place in range(self.count):
                self._start(place, alive_read, alive_write)
            while self._workers:
                self._turn(wake_read, alive_read, alive_write)
            return self._failed
        finally:
            signal.set_wakeup_fd(old_wake)
            for number, handler in old.items():
                signal.signal(number, handler)
            for descriptor in (alive_read, alive_write, wake_read, wake_write):
                os.close(descriptor)

    def _asked(self, number: int, _frame: object) -> None:
        if number == signal.SIGCHLD:
            return  # it only wakes the parent
        self._stopping = True
        self._stop_all()  # also after Ctrl-C, which the terminal sends to the workers too: a second one would cut their answers

    def _stop_all(self) -> None:
        for pid in list(self._workers):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)

    def _turn(self, wake_read: int, alive_read: int, alive_write: int) -> None:
        """Wait for a word of a worker, a death or a signal, and act on it."""
        waiting = [worker.told for worker in self._workers.values() if not worker.ready]
        readable, _, _ = select.select([wake_read, *waiting], [], [], 1.0)
        if wake_read in readable:
            os.read(wake_read, 512)
        for worker in self._workers.values():
            if worker.told in readable and not worker.ready:
                worker.ready = os.read(worker.told, 1) == READY
        if not self._announced and len(self._workers) == self.count and all(w.ready for w in self._workers.values()):
            self._announced = True
            self.ready()
        for worker in self._dead():
            self._after(worker, alive_read, alive_write)

    def _dead(self) -> list[_Worker]:
        dead = []
        for pid in list(self._workers):
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                worker = self._workers.pop(pid)
                os.close(worker.told)
                code = os.waitstatus_to_exitcode(status)
                if not self._stopping:
                    log.error("worker_died", extra={"worker": worker.place, "pid": pid, "code": code})
                    self._failed = 0 if self._announced else code or 1
                dead.append(worker)
        return dead

    def _after(self, worker: _Worker, alive_read: int, alive_write: int) -> None:
        """Replace a worker that died; before all were ready, give up instead: the others would fail alike."""
        if self._stopping:
            return
        if not self._announced:
            self._stopping = True
            self._stop_all()
            return
        pause_s = worker.started_s + RESTART_S - self.clock.monotonic_s()
        if pause_s > 0:
            select.select([], [], [], pause_s)
        if self._stopping:
            return
        self._start(worker.place, alive_read, alive_write)
        if self._stopping:  # asked just now, before the new one was known
            self._stop_all()

    def _start(self, place: int, alive_read: int, alive_write: int) -> None:
        told_read, told_write = os.pipe()
        # a child that is asked too early would take it for the parent's
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, ASKED)
        pid = os.fork()
        if pid == 0:
            self._child(told_read, told_write, alive_read, alive_write)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        os.close(told_write)
        self._workers[pid] = _Worker(pid, place, told_read, self.clock.monotonic_s())

    def _child(self, told_read: int, told_write: int, alive_read: int, alive_write: int) -> NoReturn:
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            for number in ASKED:
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, ASKED)
            os.close(told_read)
            os.close(alive_write)  # only the parent holds it: its death closes it
            code = self.work(lambda: _say(told_write), alive_read)
        except BaseException:  # noqa: BLE001 - a child never returns into its parent's code
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)


def _say(told_write: int) -> None:
    os.write(told_write, READY)
    os.close(told_write)
