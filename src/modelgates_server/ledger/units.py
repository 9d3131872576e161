"""The ledger's changes as units of the writer: take a hold, settle it. Each is decided on locked rows, all or nothing.

Invariants, at every commit: `posted + held` of a meter never rises above its limit through an admission; `held` is the sum of the
open holds' lines; every hold is settled at most once; every nano-USD posted to a budget has an entry.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from modelgates_server.ledger.room import rooms
from modelgates_server.ledger.values import Fenced, Hold, HoldRequest, Line, Refusal, Stale
from modelgates_server.limits import MONEY, MeterRef, Unit
from modelgates_server.storage import schema
from modelgates_server.storage.hot import Lockable, Row, Statement, Text, insert
from modelgates_server.storage.rows import Rows
from modelgates_server.storage.writer import Plain

POLICY = Lockable(schema.policy, lock="SHARE")
PROCESSES = Lockable(schema.processes, lock="SHARE")
METERS = Lockable(schema.meters, changes=("limit", "posted", "held", "closed"))
HOLDS = Lockable(schema.holds, reads=("id",), lock="UPDATE")
GENERATIONS = Lockable(
    schema.generations,
    changes=("cost_nusd", "upstream_cost_nusd", "byok_cost_nusd", "estimated", "outcome"),
    reads=(
        "id", "outcome", "created_at_ms", "key_hash", "model", "provider", "app", "organization_id",
        "cost_nusd", "upstream_cost_nusd", "byok_cost_nusd", "estimated",
    ),
)  # fmt: skip
TABLES = (POLICY, PROCESSES, METERS, HOLDS, GENERATIONS)
"""In the order in which every process locks them."""

ADD_ENTRY = insert(schema.entries)
CHECKPOINT = Text(
    "checkpoint",
    "UPDATE holds SET progress_nusd = pair.value ->> 1 FROM json_each(:pairs) AS pair WHERE holds.id = pair.value ->> 0",
    "UPDATE holds SET progress_nusd = CAST(pair.value ->> 1 AS BIGINT)"
    " FROM json_array_elements(CAST(:pairs AS json)) AS pair(value) WHERE holds.id = pair.value ->> 0",
)
OWN = Text("own a hold", "UPDATE holds SET epoch = :epoch WHERE id = :id")

CORRECT_HOUR = Text(
    "correct an hour",
    """
    UPDATE activity_hours SET cost_nusd = cost_nusd + :change, byok_cost_nusd = byok_cost_nusd + :byok_change
    WHERE hour_s = :hour_s AND organization_id = :organization_id AND key_hash = :key_hash AND model = :model
        AND provider = :provider
    """,
)
CORRECT_DAY = Text(
    "correct a day",
    """
    UPDATE activity_days SET cost_nusd = cost_nusd + :change, byok_cost_nusd = byok_cost_nusd + :byok_change
    WHERE organization_id = :organization_id AND day_s = :day_s AND key_hash = :key_hash AND model = :model
        AND provider = :provider AND app = :app
    """,
)

Write = tuple[Statement | Text | str, Row]
"""A statement and the row to run it with, opaque to the ledger: it commits together with the settlement."""


def customer(organization_id: str) -> str:
    """The account of an organisation's prepaid credit."""
    return f"customer:{organization_id}"


def provider(slug: str) -> str:
    """The clearing account of a provider: what we believe we owe it."""
    return f"provider:{slug}"


_REQUESTS = Unit.REQUESTS.value

OPERATOR_LOSS = "operator:loss"
UNCERTAIN = "operator:uncertain"
GRANTS = "operator:grants"


class TakeHold(Plain):
    """Reserve on every meter, or on none. Gives a Hold, a Refusal, Stale or Fenced.

    `life` gives this process's epoch, asked anew by each batch: one that is tried again on a fresh connection stands in a new life.
    """

    def __init__(self, request: HoldRequest, life: Callable[[], int], release: Callable[[Hold], None]) -> None:
        self._request = request
        self._life = life
        self._epoch = 0
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
        self._epoch = self._life()
        return {"policy": (1,), "processes": (self._epoch,), "meters": self._ids}

    def seed(self, table: str, key: Any) -> Row | None:
        if table != "meters" or key not in self._ids:
            return None
        request = self._request
        return new_meter(request.meters[self._ids.index(key)], key, request.organization_id, request.now_s)

    def decide(self, rows: Rows) -> Hold | Refusal | Stale | Fenced:
        request = self._request
        owner = rows.get("processes", self._epoch)
        if owner is not None and owner["ended_at_s"] is not None:
            return Fenced()
        version = rows.get("policy", 1)
        if version is None or version["version"] != request.policy_version:
            return Stale()
        found, fits, asks = self._meters(rows), True, self._asks
        for row in found:
            if row["closed"]:
                return Stale()
            limit = row["limit"]
            if limit is not None and row["posted"] + row["held"] + asks[row["unit"]] > limit:
                fits = False
        if not fits and (refused := first_refusal([(row, asks[row["unit"]]) for row in found])) is not None:
            index, refusal = refused
            label = request.meters[index].label
            return msgspec.structs.replace(refusal, label=label) if label else refusal
        return self._take(rows, found)

    def abandoned(self, result: Any) -> None:
        """Whoever asked is gone, but the hold is committed: give it back."""
        if isinstance(result, Hold):
            self._release(result)

    unsure = abandoned

    def _meters(self, rows: Rows) -> list[Row]:
        request, known, found = self._request, rows.of("meters"), []
        for ref, row_id in zip(request.meters, self._ids, strict=True):
            row = known.get(row_id) or new_meter(ref, row_id, request.organization_id, request.now_s)
            if not ref.limit_from_row and row["limit"] != ref.limit:
                # the policy's version was checked, so this is in force; the row itself changes only if it admits
                row = row | {"limit": ref.limit}
            found.append(row)
        return found

    def _take(self, rows: Rows, found: Sequence[Row]) -> Hold:
        request, asks = self._request, self._asks
        lines = []
        for row in found:
            unit = row["unit"]
            if unit == _REQUESTS:
                row["posted"] += 1  # an attempt counts, whatever becomes of it
            else:
                asked = asks[unit]
                row["held"] += asked
                lines.append(Line(row["id"], unit, asked))
                if not asked and row["limit"] is not None:  # it may have been lowered, and this asks nothing of it
                    row["limit"] = max(row["limit"], row["posted"] + row["held"])
        rows.save_all("meters", found)
        rows.save("holds", hold_row(request, self._epoch, lines))
        return Hold(request.id, request.organization_id, request.amount_nusd, tuple(lines), *rooms(found))


def hold_row(request: HoldRequest, epoch: int, lines: Sequence[Line]) -> Row:
    """A hold as it is stored."""
    return {
        "id": request.id,
        "organization_id": request.organization_id,
        "epoch": epoch,
        "created_at_s": int(request.now_s),
        "amount_nusd": request.amount_nusd,
        "floor_nusd": min(request.floor_nusd, request.amount_nusd),
        "progress_nusd": None,
        "lines": msgspec.json.encode(lines).decode(),
        "context": request.context,
    }


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

    A token meter with an empty window admits any request, however large: otherwise a prompt above the limit could never run. Of a
    meter that nothing is asked of, nothing can be refused: a request on own provider keys needs no credit.
    """
    for index, (row, amount) in enumerate(asked):
        limit, taken = row["limit"], row["posted"] + row["held"]
        if limit is None or not amount or taken + amount <= limit or (row["unit"] == Unit.TOKENS and not taken):
            continue
        kin = MONEY if row["unit"] in MONEY else {row["unit"]}
        peers = [peer for peer, asking in asked if peer["unit"] in kin and peer["limit"] is not None and asking]
        spend = [peer for peer in peers if peer["unit"] == Unit.SPEND]
        return index, Refusal(
            scope=row["scope"],
            scope_id=row["scope_id"],
            unit=row["unit"],
            limit=limit,
            available=max(0, min(peer["limit"] - peer["posted"] - peer["held"] for peer in peers)),
            unheld=max(0, min(peer["limit"] - peer["posted"] for peer in peers)),
            resets_at_s=row["ends_at_s"],
            spend_available=max(0, min(peer["limit"] - peer["posted"] - peer["held"] for peer in spend))
            if spend
            else None,
            left=max(0, limit - taken),
        )
    return None
