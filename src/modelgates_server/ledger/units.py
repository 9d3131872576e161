"""The ledger's changes as units of the writer: take a hold, settle it. Each is decided on locked rows, all or nothing.

Invariants, at every commit: `posted + held` of a meter never rises above its limit through an admission; `held` is the sum of the
open holds' lines; every hold is settled at most once; every nano-USD posted to a budget has an entry.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from modelgates_server.ledger.values import Bill, Hold, HoldRequest, Line, Refusal, Settled, Stale
from modelgates_server.limits import MONEY, MeterRef, Unit
from modelgates_server.storage import schema
from modelgates_server.storage.hot import Lockable, Row, Statement, insert
from modelgates_server.storage.writer import Rows

POLICY = Lockable(schema.policy)
METERS = Lockable(schema.meters, changes=("limit", "posted", "held", "closed"))
HOLDS = Lockable(schema.holds, reads=("id",))
GENERATIONS = Lockable(schema.generations, changes=("cost_nusd", "upstream_cost_nusd", "estimated", "outcome"))
TABLES = (POLICY, METERS, HOLDS, GENERATIONS)

ADD_ENTRY = insert(schema.entries)
CHECKPOINT = (
    "UPDATE holds SET progress_nusd = pair.value ->> 1 FROM json_each(:pairs) AS pair WHERE holds.id = pair.value ->> 0"
)

_CORRECT_HOUR = """
    UPDATE activity_hours SET cost_nusd = cost_nusd + :change
    WHERE hour_s = :hour_s AND key_hash = :key_hash AND model = :model AND provider = :provider
"""

Write = tuple[Statement | str, Row]
"""A statement and the row to run it with, opaque to the ledger: it commits together with the settlement."""


def customer(organization_id: str) -> str:
    """The account of an organisation's prepaid credit."""
    return f"customer:{organization_id}"


def provider(slug: str) -> str:
    """The clearing account of a provider: what we believe we owe it."""
    return f"provider:{slug}"


OPERATOR_LOSS = "operator:loss"
UNCERTAIN = "operator:uncertain"
GRANTS = "operator:grants"


class TakeHold:
    """Reserve on every meter, or on none. Gives a Hold, a Refusal or Stale."""

    keep = False

    def __init__(self, request: HoldRequest, epoch: int, release: Callable[[Hold], None]) -> None:
        self._request = request
        self._epoch = epoch
        self._release = release
        self._ids = [ref.row_id(request.now_s) for ref in request.meters]
        spend_nusd = request.amount_nusd if request.spend_nusd is None else request.spend_nusd
        self._asks: dict[str, int] = {
            "nusd": request.amount_nusd,
            "spend": spend_nusd,
            "tokens": request.tokens,
            "requests": 1,
            "parallel": 1,
        }  # by `limits.Unit`

    def needs(self) -> Mapping[str, Iterable[Any]]:
        return {"policy": (1,), "meters": self._ids}

    def decide(self, rows: Rows) -> Hold | Refusal | Stale:
        request = self._request
        version = rows.get("policy", 1)
        if version is None or version["version"] != request.policy_version:
            return Stale()
        found = [self._meter(rows, ref, row_id) for ref, row_id in zip(request.meters, self._ids, strict=True)]
        if any(row["closed"] for row in found):
            return Stale()
        refused = first_refusal([(row, self._asks[row["unit"]]) for row in found])
        if refused is not None:
            index, refusal = refused
            label = request.meters[index].label
            return msgspec.structs.replace(refusal, label=label) if label else refusal
        return self._take(rows, found)

    def abandoned(self, result: Any) -> None:
        """Whoever asked is gone, but the hold is committed: give it back."""
        if isinstance(result, Hold):
            self._release(result)

    def _meter(self, rows: Rows, ref: MeterRef, row_id: str) -> Row:
        row = rows.get("meters", row_id) or new_meter(ref, row_id, self._request.organization_id, self._request.now_s)
        if not ref.limit_from_row:
            row["limit"] = ref.limit  # the policy's version was checked, so this is the limit in force
        return row

    def _take(self, rows: Rows, found: Sequence[Row]) -> Hold:
        request = self._request
        lines = []
        for row in found:
            if row["unit"] == Unit.REQUESTS:
                row["posted"] += 1  # an attempt counts, whatever becomes of it
            else:
                asked = self._asks[row["unit"]]
                row["held"] += asked
                lines.append(Line(row["id"], row["unit"], asked))
            rows.save("meters", row)
        rows.save(
            "holds",
            {
                "id": request.id,
                "organization_id": request.organization_id,
                "epoch": self._epoch,
                "created_at_s": int(request.now_s),
                "amount_nusd": request.amount_nusd,
                "floor_nusd": min(request.floor_nusd, request.amount_nusd),
                "progress_nusd": None,
                "lines": msgspec.json.encode(lines).decode(),
                "context": request.context,
            },
        )
        return Hold(request.id, request.organization_id, request.amount_nusd, tuple(lines))


def new_meter(ref: MeterRef, row_id: str, organization_id: str, now_s: float) -> Row:
    """A meter's row for the window that contains `now_s`, with nothing on it."""
    starts_at_s, ends_at_s = ref.window.bounds_s(now_s)
    return {
        "id": row_id,
        "organization_id": organization_id,
        "scope": str(ref.scope),
        "scope_id": ref.scope_id,
        "unit": str(ref.unit),
        "window": str(ref.window),
        "starts_at_s": starts_at_s,
        "ends_at_s": ends_at_s,
        "limit": 0 if ref.limit_from_row else ref.limit,
        "posted": 0,
        "held": 0,
        "closed": 0,
    }


def first_refusal(asked: Sequence[tuple[Row, int]]) -> tuple[int, Refusal] | None:
    """The first meter, in the caller's order, that cannot take what is asked of it, with its place. Pure.

    A token meter with an empty window admits any request, however large: otherwise a prompt above the limit could never run.
    """
    for index, (row, amount) in enumerate(asked):
        limit, taken = row["limit"], row["posted"] + row["held"]
        if limit is None or taken + amount <= limit or (row["unit"] == Unit.TOKENS and not taken):
            continue
        kin = MONEY if row["unit"] in MONEY else {row["unit"]}
        peers = [peer for peer, _ in asked if peer["unit"] in kin and peer["limit"] is not None]
        return index, Refusal(
            scope=row["scope"],
            scope_id=row["scope_id"],
            unit=row["unit"],
            limit=limit,
            available=max(0, min(peer["limit"] - peer["posted"] - peer["held"] for peer in peers)),
            unheld=max(0, min(peer["limit"] - peer["posted"] for peer in peers)),
            resets_at_s=row["ends_at_s"],
        )
    return None


class _Closing:
    """What closing a hold and correcting one that was closed have in common."""

    keep = True

    def __init__(self, hold: Hold, bill: Bill, now_s: float) -> None:
        self._hold = hold
        self._bill = bill
        self._now_s = int(now_s)

    def abandoned(self, result: Any) -> None:
        """It is settled: nobody needs to be told."""

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

    Gives Settled, with `late` when somebody else closed the hold before: then nothing is changed, and `Correct` is due.
    """

    def __init__(self, hold: Hold, bill: Bill, also: Sequence[Write], now_s: float) -> None:
        super().__init__(hold, bill, now_s)
        self._also = also

    def needs(self) -> Mapping[str, Iterable[Any]]:
        return {"holds": (self._hold.id,), "meters": [line.meter_id for line in self._hold.lines]}

    def decide(self, rows: Rows) -> Settled:
        hold = self._hold
        if rows.get("holds", hold.id) is None:
            return Settled(0, 0, late=True)
        meters = [rows.get("meters", line.meter_id) for line in hold.lines]
        for line, row in zip(hold.lines, meters, strict=True):
            if row is None or row["held"] < line.held:
                raise AssertionError(f"meter {line.meter_id} does not carry the hold {hold.id}")
        charged, overrun = hold.split(self._bill.charged_nusd)
        overrun += self._bill.operator_nusd
        posted = {"nusd": charged, "spend": charged + self._bill.byok_nusd, "tokens": self._bill.tokens, "parallel": 0}
        for line, row in zip(hold.lines, filter(None, meters), strict=True):
            row["held"] -= line.held
            row["posted"] += posted[line.unit]
            rows.save("meters", row)
        rows.delete("holds", hold.id)
        self._book(rows, "charge", customer(hold.organization_id), provider(self._bill.provider), charged)
        self._book(rows, "overrun", OPERATOR_LOSS, provider(self._bill.provider), overrun)
        for slug, amount_nusd in self._bill.uncertain:
            self._book(rows, "uncertain", UNCERTAIN, provider(slug), amount_nusd)
        for statement, row in self._also:
            rows.write(statement, row)
        return Settled(charged, overrun)


class Correct(_Closing):
    """A sweeper settled the hold as an estimate: make it the truth by one adjustment, within what the budgets have left."""

    def needs(self) -> Mapping[str, Iterable[Any]]:
        return {"generations": (self._hold.id,), "meters": [line.meter_id for line in self._hold.lines]}

    def decide(self, rows: Rows) -> Settled:
        generation = rows.get("generations", self._hold.id)
        if generation is None or not generation["estimated"]:
            return Settled(0, 0, late=True)
        difference = self._hold.split(self._bill.charged_nusd)[0] - generation["cost_nusd"]
        meters = [rows.get("meters", line.meter_id) for line in self._hold.lines if line.unit == Unit.NUSD]
        left = [row["limit"] - row["posted"] - row["held"] for row in meters if row and row["limit"] is not None]
        charged = min([difference, *(max(0, amount) for amount in left)])
        for row in filter(None, meters):
            row["posted"] += charged
            rows.save("meters", row)
        self._book(rows, "adjustment", customer(self._hold.organization_id), provider(self._bill.provider), charged)
        self._book(rows, "overrun", OPERATOR_LOSS, provider(self._bill.provider), difference - charged)
        rows.write(
            _CORRECT_HOUR,
            {
                "change": charged,
                "hour_s": generation["created_at_ms"] // 3_600_000 * 3600,
                "key_hash": generation["key_hash"],
                "model": generation["model"],
                "provider": generation["provider"] or "",
            },
        )
        generation["cost_nusd"] += charged
        generation["upstream_cost_nusd"] = self._bill.charged_nusd + self._bill.operator_nusd
        generation["estimated"] = 0
        rows.save("generations", generation)
        return Settled(charged, difference - charged, late=True)
