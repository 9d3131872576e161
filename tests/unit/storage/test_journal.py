"""The journal on this machine's disk: what was promised is read again, what was not is left out, and no two processes share one."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from modelgates_server.errors import StoreUnavailable
from modelgates_server.storage.hot import Row
from modelgates_server.storage.journal import SIZE_BYTES, JournalFile, left_behind
from modelgates_server.storage.rows import Rows
from modelgates_server.storage.writer import NOTED, Simple, Writer


def found(folder: Path) -> list[list[dict[str, object]]]:
    return [records for records, _ in left_behind(folder)]


def files(folder: Path) -> list[Path]:
    return list(folder.iterdir())


async def test_records_of_a_dead_process_are_read_in_order(tmp_path: Path) -> None:
    """What was written twice in a row is there, the file has its full size, and nobody reads it while its process lives."""
    journal = JournalFile(tmp_path, "one")
    await journal.write([{"n": 1}, {"n": 2}])
    await journal.write([{"n": 3}])
    while_it_lives = found(tmp_path)
    journal.close()

    assert while_it_lives == []
    assert found(tmp_path) == [[{"n": 1}, {"n": 2}, {"n": 3}]]
    assert (tmp_path / "journal-one.jsonl").stat().st_size == SIZE_BYTES


async def test_a_record_that_was_cut_off_was_never_promised(tmp_path: Path) -> None:
    """The process died while it wrote: whole records before it count."""
    journal = JournalFile(tmp_path, "one")
    await journal.write([{"n": 1}, {"n": 2}])
    journal.close()
    (path,) = files(tmp_path)
    data = path.read_bytes()
    path.write_bytes(data.replace(b'{"n":2}\n', b'{"n":\0\0\0'))

    assert found(tmp_path) == [[{"n": 1}]]


async def test_when_all_has_reached_the_store_the_journal_begins_anew(tmp_path: Path) -> None:
    """Old records are not read again behind new ones, however short these are; an empty journal goes with its process."""
    journal = JournalFile(tmp_path, "one")
    await journal.write([{"n": 1, "text": "x" * 100}, {"n": 2}])
    journal.settled(2)
    await journal.write([{"n": 3}])
    kept = (tmp_path / "journal-one.jsonl").read_bytes().partition(b"\0")[0]
    journal.settled(1)
    journal.close()

    assert kept == b'{"n":3}\n'
    assert files(tmp_path) == []


async def test_a_record_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    """The file does not grow; what was in it stays, and it takes records again when it was emptied."""
    journal = JournalFile(tmp_path, "one")
    await journal.write([{"n": 1}])
    with pytest.raises(OSError, match="full"):
        await journal.write([{"text": "x" * SIZE_BYTES}])
    journal.settled(1)
    await journal.write([{"n": 2}])
    journal.close()

    assert found(tmp_path) == [[{"n": 2}]]


async def test_processes_that_start_together_do_not_take_each_others_journals(tmp_path: Path) -> None:
    """Workers of one server look for the journals of the dead while others make theirs, in the same folder."""
    rounds, dead = 6, []

    def look() -> None:
        for _ in range(rounds * 20):
            for records, forget in left_behind(tmp_path):
                dead.append(records)
                forget()

    def make(place: int) -> list[JournalFile]:
        return [JournalFile(tmp_path, f"{place}-{number}") for number in range(rounds)]

    with ThreadPoolExecutor(6) as pool:
        looking = [pool.submit(look) for _ in range(3)]
        journals = [
            journal for making in [pool.submit(make, place) for place in range(3)] for journal in making.result()
        ]
        [done.result() for done in looking]
    there = len(files(tmp_path))
    for journal in journals:
        journal.close()

    assert dead == []
    assert there == len(journals) == 3 * rounds


def test_no_room_for_the_journal_is_told(tmp_path: Path) -> None:
    """A process that could not keep its promises on a full disk does not start, and says what it needs."""
    full = Path("/dev/full")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "journal-one.jsonl").symlink_to(full)

    with pytest.raises(StoreUnavailable) as refused:
        JournalFile(folder, "one")

    assert "16 MiB" in str(refused.value.remedy)
    assert files(folder) == []


async def test_closing_waits_for_what_is_being_written(tmp_path: Path) -> None:
    """A record that was handed over just before the end is there."""
    journal = JournalFile(tmp_path, "one")
    writing = journal.write([{"n": 1}])
    journal.close()
    await asyncio.wait([writing])

    assert found(tmp_path) == [[{"n": 1}]]


class Kept(Simple):
    """A unit that must not be lost, with something to say to the journal."""

    def __init__(self, record: Row) -> None:
        super().__init__(nothing, keep=True)
        self.said = record

    def record(self) -> Row:
        return self.said


def nothing(_rows: Rows) -> None:
    """Change nothing."""


class Away(Writer):
    """A writer whose store is away until `come` says which units it took."""

    def __init__(self, folder: Path) -> None:
        super().__init__(())
        self.away = True
        self.journal = JournalFile(folder, "one")

    def come(self) -> None:
        self._committed(self._take())

    def _start(self) -> None:
        """Nobody works on the queue but the test."""


async def test_a_write_that_failed_is_counted_out_once(tmp_path: Path) -> None:
    """The store took a unit before the journal said that it could not: what others were promised stays in the file."""
    writer = Away(tmp_path)
    writer.submit(Kept({"text": "x" * SIZE_BYTES}))
    writer.come()
    await asyncio.sleep(0.1)
    promised = writer.submit(Kept({"n": 1}))
    assert await promised is NOTED
    (waiting,) = writer._take()  # the store takes a later one first
    assert await writer.submit(Kept({"n": 2})) is NOTED
    writer.come()
    await asyncio.sleep(0.1)
    assert isinstance(writer.journal, JournalFile)
    writer.journal.close()

    assert waiting.future is promised
    assert found(tmp_path) == [[{"n": 1}, {"n": 2}]]
