"""Closing holds, as units of the writer: settle, correct what somebody else settled, and take up again what a store lost."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from modelgates_server.ledger.units import (
    ADD_ENTRY,
    CORRECT_DAY,
    CORRECT_HOUR,
    OPERATOR_LOSS,
    OWN,
    UNCERTAIN,
    Write,
    customer,
    provider,
)
from modelgates_server.ledger.values import Bill, Hold, Settled
from modelgates_server.limits import MONEY, Unit, Window
from modelgates_server.storage.hot import Row, Statement
from modelgates_server.storage.rows import Rows
from modelgates_server.storage.rows import Unit as Change
from modelgates_server.storage.writer import Plain

Stored = Callable[[Hold], Row | None]
"""Gives the row of a hold as it was stored; None when that is not known."""

Told = Callable[[str], None]

Plainly = Callable[[Hold, Bill, Sequence[Write], str], Sequence[Write] | None]
"""Writes that say less, for a hold, its bill, the writes that the database refused, and why it did; None when nobody can make them."""

LOST = "lost"
"""The outcome of a generation that a sweeper settled for its dead owner."""


_Kind = TypeVar("_Kind", bound="_Closing")


class _Closing(Plain):
    """What closing a hold and correcting one that was closed have in common.

    `stored` gives the hold as it was stored: what the journal needs to make it anew. `told` hears the hold's id when all of it is in
    the store. `plainly` makes other writes of `also`, which the database takes also when it refuses those.
    """

    keep = True

    def __init__(  # noqa: PLR0913 - what there is to know about an end
        self, hold: Hold, bill: Bill, also: Sequence[Write], now_s: float, *,
        stored: Stored | None = None, told: Told | None = None, plainly: Plainly | None = None,
    ) -> None:  # fmt: skip
        self._hold = hold
        self._bill = bill
        self._also = also
        self._now_s = int(now_s)
        self._stored = stored
        self._told = told
        self._plainly = plainly

    def _as(self, kind: type[_Kind]) -> _Kind:
        """The same end of the same hold, done in another way."""
        return kind(
            self._hold, self._bill, self._also, self._now_s,
            stored=self._stored, told=self._told, plainly=self._plainly,
        )  # fmt: skip

    def follow(self, _result: Any) -> Change | None:
        if self._told is not None:
            self._told(self._hold.id)
        return None

    def record(self) -> Row | None:
        row = None if self._stored is None else self._stored(self._hold)
        if row is None or not all(isinstance(statement, Statement) for statement, _ in self._also):
            return None
        also = [[one.name, values] for one, values in self._also if isinstance(one, Statement) and one.journaled]
        return {
            "row": row,
            "bill": msgspec.to_builtins(self._bill),
            "also": also,
            "now_s": self._now_s,
        }

    def _book(self, rows: Rows, kind: str, debit: str, credit: str, amount_nusd: int) -> None:
        if amount_nusd < 0:
            debit, credit, amount_nusd = credit, debit, -amount_nusd
        if amount_nusd == 0:
            return
        rows.write(
            ADD_ENTRY,
            {
                "organization_id": self._hold.organization_id,
                "created_at_s": self._now_s,
                "kind": kind,
                "debit": debit,
                "credit": credit,
                "amount_nusd": amount_nusd,
                "generation_id": self._hold.id,
                "note": None,
                "author": None,
            },
        )


class Settle(_Closing):
    """Close a hold with what the request cost, write its receipt, book the entries. Exactly once, by id.

    Gives Settled, with `late` when somebody else closed the hold before; then `Correct` follows, unless this is a sweeper's own
    estimate (`corrects`). `size_bytes` is that of what is large in `also`.
    """

    def __init__(  # noqa: PLR0913 - what there is to know about an end
        self, hold: Hold, bill: Bill, also: Sequence[Write], now_s: float, *,
        stored: Stored | None = None, told: Told | None = None, corrects: bool = True, size_bytes: int = 0,
        plainly: Plainly | None = None,
    ) -> None:  # fmt: skip
        super().__init__(hold, bill, also, now_s, stored=stored, told=told, plainly=plainly)
        self.size_bytes = size_bytes
        self._corrects = corrects

    def needs(self) -> Mapping[str, Iterable[Any]]:
        return {"holds": (self._hold.id,), "meters": [line.meter_id for line in self._hold.lines]}

    def decide(self, rows: Rows) -> Settled:
        hold, bill = self._hold, self._bill
        if rows.get("holds", hold.id) is None:
            return Settled(0, 0, late=True)
        known, found = rows.of("meters"), []
        for line in hold.lines:
            row = known.get(line.meter_id)
            if row is None or row["held"] < line.held:
                raise AssertionError(f"meter {line.meter_id} does not carry the hold {hold.id}")
            found.append(row)
        charged, overrun = hold.split(bill.charged_nusd)
        overrun += bill.operator_nusd
        posted = {"nusd": charged, "spend": charged + bill.byok_nusd, "tokens": bill.tokens, "parallel": 0}
        for line, row in zip(hold.lines, found, strict=True):
            row["held"] -= line.held
            row["posted"] += posted[line.unit]
        rows.save_all("meters", found)
        rows.delete("holds", hold.id)
        self._book(rows, "charge", customer(hold.organization_id), provider(bill.provider), charged)
        self._book(rows, "overrun", OPERATOR_LOSS, provider(bill.provider), overrun)
        for slug, amount_nusd in bill.uncertain:
            self._book(rows, "uncertain", UNCERTAIN, provider(slug), amount_nusd)
        for statement, row in self._also:
            rows.write(statement, row)
        return Settled(charged, overrun)

    def follow(self, result: Any) -> Change | None:
        if result.late and self._corrects:
            return self._as(Correct)
        return super().follow(result)

    def plainer(self, why: str) -> Settle | None:
        """The same money with a receipt that says only what is certain to be storable."""
        also = None if self._plainly is None else self._plainly(self._hold, self._bill, self._also, why)
        if also is None:
            return None
        return Settle(self._hold, self._bill, also, self._now_s, stored=self._stored, told=self._told)


class Correct(_Closing):
    """A sweeper settled the hold as an estimate: make it the truth by one adjustment, within what the budgets have left.

    A store that lost the sweeper's commit has the hold again: then it is settled once more.
    """

    _reopened = False

    def needs(self) -> Mapping[str, Iterable[Any]]:
        id_ = self._hold.id
        return {"holds": (id_,), "generations": (id_,), "meters": [line.meter_id for line in self._hold.lines]}

    def follow(self, result: Any) -> Change | None:
        if self._reopened:
            return self._as(Settle)
        return super().follow(result)

    def decide(self, rows: Rows) -> Settled:
        generation, hold, bill = rows.get("generations", self._hold.id), self._hold, self._bill
        self._reopened = rows.get("holds", hold.id) is not None
        if self._reopened or generation is None or generation["outcome"] != LOST or not generation["estimated"]:
            return Settled(0, 0, late=True)
        within, beyond = hold.split(bill.charged_nusd)
        difference = within - generation["cost_nusd"]
        own = bill.byok_nusd - generation["byok_cost_nusd"]
        meters = [(line.unit, rows.get("meters", line.meter_id)) for line in hold.lines if line.unit in MONEY]
        left = [row["limit"] - row["posted"] - row["held"] for _, row in meters if row and row["limit"] is not None]
        charged = min([difference, *(max(0, amount) for amount in left)])
        for unit, row in meters:
            if row is not None:
                row["posted"] = max(0, row["posted"] + charged + (own if unit == Unit.SPEND else 0))
                rows.save("meters", row)
        self._book(rows, "adjustment", customer(hold.organization_id), provider(bill.provider), charged)
        overrun = difference - charged + beyond + bill.operator_nusd
        self._book(rows, "overrun", OPERATOR_LOSS, provider(bill.provider), overrun)
        for slug, amount_nusd in bill.uncertain:
            self._book(rows, "uncertain", UNCERTAIN, provider(slug), amount_nusd)
        share = _share(generation, charged, own)
        rows.write(CORRECT_HOUR, share)
        rows.write(CORRECT_DAY, share)
        generation["cost_nusd"] += charged
        generation["byok_cost_nusd"] += own
        generation["upstream_cost_nusd"] = bill.charged_nusd + bill.operator_nusd
        generation["estimated"] = 0
        rows.save("generations", generation)
        return Settled(charged, overrun, late=True)


class Reassert(Plain):
    """Take up an open hold again under a new epoch, after the store was away: it may have lost the newest commits.

    A hold that is there changes its owner; one that a sweeper settled stays settled; one that is nowhere is made anew, whatever the
    limits say: its money is being spent. Gives whether the hold is open.
    """

    keep = True

    def __init__(self, hold: Hold, row: Row, epoch: int) -> None:
        self._hold = hold
        self._row = row
        self._epoch = epoch

    def needs(self) -> Mapping[str, Iterable[Any]]:
        hold = self._hold
        return {"holds": (hold.id,), "generations": (hold.id,), "meters": [line.meter_id for line in hold.lines]}

    def seed(self, table: str, key: Any) -> Row | None:
        if table != "meters" or not any(line.meter_id == key for line in self._hold.lines):
            return None
        return _meter_of(key, self._hold.organization_id)

    def decide(self, rows: Rows) -> bool:
        hold = self._hold
        if rows.get("holds", hold.id) is not None:
            rows.write(OWN, {"id": hold.id, "epoch": self._epoch})
            return True
        if rows.get("generations", hold.id) is not None:
            return False
        for line in hold.lines:
            meter = rows.get("meters", line.meter_id) or _meter_of(line.meter_id, hold.organization_id)
            meter["held"] += line.held
            rows.save("meters", meter)
        rows.save("holds", self._row | {"epoch": self._epoch})
        return True


def _meter_of(row_id: str, organization_id: str) -> Row:
    """A meter's row from its id alone, for a store that lost it; the next admission writes its limit."""
    scope, _, rest = row_id.partition(":")
    parts = rest.rsplit(":", 3)
    started = parts[-1].isdigit()
    scope_id, unit, window = (parts[0], parts[1], parts[2]) if started else rest.rsplit(":", 2)
    starts_at_s, ends_at_s = Window(window).bounds_s(int(parts[3])) if started else (0, None)
    return {
        "id": row_id, "organization_id": organization_id, "scope": scope, "scope_id": scope_id, "unit": unit,
        "window": window, "starts_at_s": starts_at_s, "ends_at_s": ends_at_s, "limit": None, "posted": 0, "held": 0,
        "closed": 0,
    }  # fmt: skip


def _share(generation: Row, change: int, byok_change: int) -> Row:
    return {
        "change": change,
        "byok_change": byok_change,
        "hour_s": generation["created_at_ms"] // 3_600_000 * 3_600,
        "day_s": generation["created_at_ms"] // 86_400_000 * 86_400,
        "organization_id": generation["organization_id"],
        "key_hash": generation["key_hash"],
        "model": generation["model"],
        "provider": generation["provider"] or "",
        "app": generation["app"] or "",
    }
