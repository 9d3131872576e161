"""Watches a ledger's database from outside, and compares it with what its processes acknowledged. Uses no code of the ledger.

Only at the end the product's own check is asked too.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.eyes import Eyes

from modelgates_server.storage.engine import database_of
from modelgates_server.storage.maintenance import check

_USED = """
    SELECT (SELECT posted FROM meters WHERE scope = 'organization') AS meter,
        (SELECT posted FROM meters WHERE scope = 'key' AND unit = 'nusd') AS key_meter,
        (SELECT CAST(SUM(cost_nusd) AS BIGINT) FROM generations) AS generations,
        (SELECT CAST(SUM(CASE WHEN debit = 'customer:org-crash' THEN amount_nusd ELSE -amount_nusd END) AS BIGINT)
            FROM entries WHERE kind <> 'grant' AND 'customer:org-crash' IN (debit, credit)) AS entries,
        (SELECT CAST(SUM(upstream_cost_nusd) AS BIGINT) FROM generations) AS owed,
        (SELECT CAST(SUM(CASE WHEN credit LIKE 'provider:%' THEN amount_nusd ELSE -amount_nusd END) AS BIGINT)
            FROM entries WHERE kind <> 'grant') AS booked_as_owed
"""

_LIVING = "SELECT id FROM holds WHERE epoch IN (SELECT epoch FROM processes WHERE ended_at_s IS NULL)"

Row = dict[str, Any]


class Orphan(NamedTuple):
    """A hold that a dead life left open; lives from number `swept_by` on recover it before they begin."""

    hold: Row
    swept_by: int


class Promise(NamedTuple):
    """A settlement that was acknowledged from the journal of a life that is dead: until it is booked, the journal is there."""

    ack: Row
    journal: Path


class Witness:
    """Keeps what was acknowledged and what dead lives left open, and holds the database to it.

    `shared` says that other lives go on while one dies, `journals` that a settlement may stand in one when its process dies.
    """

    def __init__(self, url: str, *, shared: bool = False, journals: bool = False) -> None:
        self.eyes = Eyes(url)
        self._shared = shared
        self._journals = journals
        self._journal = Path()
        self._orphans: dict[str, Orphan] = {}
        self._promises: dict[str, Promise] = {}
        self.count: Counter[str] = Counter()
        self.ready_s: list[float] = []

    def look(self) -> None:
        """At any moment, also in the middle of the work: no limit is exceeded."""
        assert self.eyes.overspent() == []

    def after(self, life: int, acks: Path, following: int) -> None:
        """After the end of a life: nothing that it acknowledged is lost, every open hold is held, no hold is forgotten.

        `following` is the number of the first life that will begin after this moment.
        """
        said = told(acks)
        with self.eyes.snapshot():
            self.look()
            self._check_held_sums()
            booked = self._by_id("SELECT * FROM generations WHERE id >= :low AND id < :high", life)
            open_ = self._by_id("SELECT * FROM holds WHERE id >= :low AND id < :high", life)
            recovered = life if said and said[0]["what"] == "recovered" else -1
            for ack in said:
                getattr(self, f"_check_{ack['what']}")(ack, booked, open_)
            self._check_orphans(recovered)
        self._check_promises()
        self._orphans |= {id_: Orphan(hold, following) for id_, hold in open_.items()}
        self.count.update(ack["what"] for ack in said)

    def at_the_end(self) -> None:
        """After the last recovery: nothing is held, and meters, receipts and entries are one sum."""
        sums = self.eyes.one(_USED)
        self._check_promises()
        assert self._promises == {}
        self._check_orphans(10**9)

        open_ = self.eyes.rows("SELECT id FROM holds") + self.eyes.rows("SELECT id FROM meters WHERE held <> 0")
        self.count["open holds"] += len(open_)
        assert open_ == []
        assert sums["meter"] == sums["key_meter"] == sums["generations"] == sums["entries"] > 0
        assert sums["owed"] == sums["booked_as_owed"] > sums["meter"]

    def close(self) -> None:
        self.eyes.close()

    def check(self) -> None:
        """Ask the product whether every sum agrees."""
        problems = check(database_of(self.eyes.url))
        self.count["unbalanced"] += len(problems)
        assert problems == []

    def _require(self, true: bool, otherwise: str, complaint: str) -> None:
        self.count[otherwise] += not true
        assert true, complaint

    # What each acknowledgement promises.

    def _check_recovered(self, ack: Row, *_: object) -> None:
        self._journal = Path(ack["journal"])
        self.ready_s.append(ack["ready_s"])
        self.count["swept"] += ack["swept"]
        self.count["booked from journals"] += ack["booked"]

    def _check_refused(self, ack: Row, booked: Row, open_: Row) -> None:
        assert ack["id"] not in booked.keys() | open_.keys(), f"refused and booked: {ack}"

    def _check_held(self, ack: Row, booked: Row, open_: Row) -> None:
        self._require(ack["id"] in booked.keys() | open_.keys(), "missing", f"an acknowledged hold is lost: {ack}")

    def _check_settled(self, ack: Row, booked: Row, open_: Row) -> None:
        row = booked.get(ack["id"], {})
        self._require(bool(row), "missing", f"an acknowledged settlement is lost: {ack}")
        assert (row["cost_nusd"], row["outcome"], row["estimated"]) == (ack["cost"], "completed", 0)
        assert ack["id"] not in open_

    def _check_noted(self, ack: Row, *_: object) -> None:
        self._promises[ack["id"]] = Promise(ack, self._journal)

    def _check_away(self, *_: object) -> None:
        """The store was away and said so: nothing was promised."""

    _check_unsettled = _check_away

    def _check_calls(self, ack: Row, *_: object) -> None:
        self.count["calls"] = ack["count"]

    def _check_expired(self, *_: object) -> None:
        raise AssertionError("a life was not killed in time: the test is too slow")

    # What follows from them.

    def _check_promises(self) -> None:
        """What stood in a dead life's journal is in the books to the nano-dollar, or still in the journal."""
        for id_, (ack, journal) in list(self._promises.items()):
            left = journal.exists()
            found = self._found(id_)
            if not found or (found["outcome"], found["estimated"]) == ("lost", 1):
                self._require(left, "missing", f"a settlement that stood in a journal is lost: {ack}")
                continue
            assert found["upstream_cost_nusd"] == ack["owed"]
            assert found["cost_nusd"] <= ack["cost"]
            assert (found["cost_nusd"] == ack["cost"]) or found["outcome"] == "lost"
            del self._promises[id_]

    def _check_orphans(self, recovered: int) -> None:
        """A dead life's holds are settled once, as estimates between floor and hold; all of them, once a later life is ready."""
        living = {row["id"] for row in self.eyes.rows(_LIVING)} if self._shared else set()
        for id_, (hold, swept_by) in list(self._orphans.items()):
            found = self._found(id_)
            if not found:
                assert recovered < swept_by or id_ in living, f"a dead life's hold was not swept: {id_}"
                continue
            if id_ not in self._promises:
                self._check_estimate(hold, found)
            del self._orphans[id_]
            self.count["lost"] += 1

    def _check_estimate(self, hold: Row, found: Row) -> None:
        """Its own settlement may have been on its way to PostgreSQL, or to its journal, when the process died: then that counts."""
        if (self._shared or self._journals) and not found["estimated"]:
            assert found["outcome"] in {"completed", "lost"}
            assert found["cost_nusd"] <= hold["amount_nusd"]
            return
        least, progress = hold["floor_nusd"], hold["progress_nusd"] or 0
        assert (found["outcome"], found["estimated"]) == ("lost", 1)
        assert least <= found["cost_nusd"] <= hold["amount_nusd"]
        assert self._shared or found["cost_nusd"] == max(least, progress)

    def _check_held_sums(self) -> None:
        """What a meter holds is what open holds reserve on it."""
        held: Counter[str] = Counter()
        for hold in self.eyes.rows("SELECT lines FROM holds"):
            held.update({meter: amount for meter, _, amount in json.loads(hold["lines"])})
        meters = self.eyes.rows("SELECT id, held FROM meters WHERE held <> 0")

        assert {row["id"]: row["held"] for row in meters} == {id_: amount for id_, amount in held.items() if amount}

    def _found(self, id_: str) -> Row:
        found = self.eyes.rows("SELECT * FROM generations WHERE id = :id", id=id_)
        return found[0] if found else {}

    def _by_id(self, statement: str, life: int) -> dict[str, Row]:
        found = self.eyes.rows(statement, low=f"gen-{life:06d}", high=f"gen-{life + 1:06d}")
        return {row["id"]: row for row in found}


def told(acks: Path) -> list[Row]:
    """Everything that a life said. What it was saying when it was killed, it has not said."""
    said = acks.read_bytes().splitlines(keepends=True) if acks.exists() else []
    return [json.loads(line) for line in said if line.endswith(b"\n")]
