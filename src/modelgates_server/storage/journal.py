"""Settlements on this machine's disk while the store is away: a completed answer is booked before its end is sent, also then.

One file per serving process, of a fixed size that is taken when it is opened: a full disk cannot refuse it. Records are JSON lines;
the first NUL ends them. A record says everything that is needed to book it again, and booking twice is the same as once, so the
file is only ever emptied when all that it holds has reached the store.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import msgspec

from modelgates_server.errors import StoreUnavailable
from modelgates_server.storage.hot import Row

SIZE_BYTES: Final = 16 * 1024 * 1024
"""About 4,000 receipts: minutes of a busy process's running streams. When it is full, clients wait for the store."""

PATTERN: Final = "journal-*.jsonl"

_PIECE_BYTES: Final = 64 * 1024
"""Read at a time: a journal that was left behind is nearly always empty, and always of full size."""


class JournalFile:
    """This process's journal, locked while the process lives. Raises StoreUnavailable when there is no room for it."""

    def __init__(self, folder: Path, name: str) -> None:
        self._path = folder / f"journal-{name}.jsonl"
        with _alone(folder, waits=True):
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            _reserve(self._descriptor)
        except OSError as error:
            self._path.unlink(missing_ok=True)
            os.close(self._descriptor)
            raise StoreUnavailable(
                f"there is no room for the journal in {folder}: {error.strerror}",
                remedy=f"free {SIZE_BYTES // 1024 // 1024} MiB for each serving process",
            ) from error
        self._at = 0
        self._open_records = 0
        self._broken = False
        self._thread = ThreadPoolExecutor(1, "journal")

    def write(self, records: Sequence[Row]) -> asyncio.Future[None]:
        """Append the records and wait for the disk, in a thread; the future fails when they do not fit or the disk refuses."""
        data = b"".join(msgspec.json.encode(record) + b"\n" for record in records)
        self._open_records += len(records)
        start, self._at = self._at, self._at + len(data)
        written = asyncio.get_running_loop().run_in_executor(self._thread, self._append, start, data)
        written.add_done_callback(lambda done: self._missed(done, len(records)))
        return written

    def settled(self, count: int) -> None:
        """So many records reached the store. When none is left open, the file begins anew."""
        self._open_records -= count
        if self._open_records <= 0 and self._at:
            self._open_records, self._at = 0, 0
            self._thread.submit(self._clear)

    def close(self) -> None:
        """Let the file go; one that holds nothing is removed."""
        self._thread.shutdown()
        if self._open_records <= 0:
            self._path.unlink(missing_ok=True)
        os.close(self._descriptor)

    def _missed(self, done: asyncio.Future[None], count: int) -> None:
        if done.cancelled() or done.exception() is not None:
            self.settled(count)

    def _append(self, start: int, data: bytes) -> None:
        if self._broken or start + len(data) >= SIZE_BYTES:
            raise OSError("the journal is full, or its disk failed")
        try:
            os.pwrite(self._descriptor, data + b"\0", start)
            os.fdatasync(self._descriptor)
        except OSError:
            self._broken = True  # what follows a gap would never be read again
            raise

    def _clear(self) -> None:
        self._broken = False
        os.pwrite(self._descriptor, b"\0", 0)
        os.fdatasync(self._descriptor)


def left_behind(folder: Path) -> Iterator[tuple[list[Row], Callable[[], None]]]:
    """Journals of processes that died: their records, and what to call when all of them are booked. Others' live ones are passed over."""
    for path in sorted(folder.glob(PATTERN)):
        descriptor = _abandoned(folder, path)
        if descriptor is None:
            continue
        try:
            yield list(_records(_written(descriptor))), lambda path=path: path.unlink(missing_ok=True)  # type: ignore[misc]
        finally:
            os.close(descriptor)


@contextmanager
def _alone(folder: Path, *, waits: bool) -> Iterator[None]:
    """One process at a time: a journal that was just made, and is not locked yet, must not be taken for a dead process's.

    Raises BlockingIOError for who does not wait: a process may stand still just here, and must not stop others from serving.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if waits else fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _abandoned(folder: Path, path: Path) -> int | None:
    """A journal whose process died, opened and locked; None when it lives, or when somebody else was faster."""
    with suppress(BlockingIOError), _alone(folder, waits=False):
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return None
        return descriptor
    return None


def _written(descriptor: int) -> bytes:
    """Everything up to the first piece with a NUL in it."""
    pieces = []
    while piece := os.read(descriptor, _PIECE_BYTES):
        pieces.append(piece)
        if b"\0" in piece:
            break
    return b"".join(pieces)


def _records(data: bytes) -> Iterator[Row]:
    """A line that was cut off by the end of the process was never promised to anybody."""
    for line in data.partition(b"\0")[0].split(b"\n"):
        if not line:
            continue
        try:
            yield msgspec.json.decode(line, type=dict)
        except msgspec.DecodeError:
            return


def _reserve(descriptor: int) -> None:
    """Take the space now, with an empty beginning."""
    os.pwrite(descriptor, b"\0", 0)
    if os.fstat(descriptor).st_size < SIZE_BYTES:
        os.posix_fallocate(descriptor, 0, SIZE_BYTES)
    os.fdatasync(descriptor)
