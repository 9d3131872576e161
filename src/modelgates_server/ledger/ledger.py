"""The ledger as the relay sees it: hold, settle, void, checkpoint, sweep.

One hold per request, made durable before anything is sent upstream, in every scope at once (design decision 4). Settling is
enqueued synchronously, between knowing the charge and the first await, so that no cancellation can lose it (decision 5).
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final

from modelgates_server.clock import Clock
from modelgates_server.errors import StoreUnavailable
from modelgates_server.ledger import owner
from modelgates_server.ledger.closing import Reassert, Settle
from modelgates_server.ledger.units import CHECKPOINT, TakeHold, Write, hold_row
from modelgates_server.ledger.values import Bill, Fenced, Hold, HoldRequest, Line, Refusal, Settled, Stale
from modelgates_server.storage.hot import NAMED, Row
from modelgates_server.storage.reader import Reader
from modelgates_server.storage.rows import Unit
from modelgates_server.storage.writer import Distributed, Refused, Simple, Writer

log = logging.getLogger(__name__)

WAKE_S: Final = 0.02
"""Least pause between two rounds of waking those who wait for open holds: a thousand waiters must not retry per settlement."""

ELSEWHERE_S: Final = 0.25
"""Other processes' holds are given back unheard: whoever waits for them looks again after this long."""

Receipt = Callable[[Row, Bill], Sequence[Write]]
"""The rows that record a lost request, from its stored hold and its bill."""


PlainReceipt = Callable[[Row, Bill, Sequence[Write], str], Sequence[Write]]
"""The rows that record a request with certainty: from its stored hold, its bill, the rows that the database refused, and why it did."""


class Ledger:
    """Money and rates for the serving process. `epoch` names this life of the process: its holds carry it.

    `distributed` says that other processes take holds in the same database. `plain` makes the receipt of a settlement whose own receipt
    the database refuses; without it such a settlement is given up.
    """

    def __init__(
        self, writer: Writer, clock: Clock, epoch: int, *, name: str = "", distributed: bool = False,
        plain: PlainReceipt | None = None,
    ) -> None:  # fmt: skip
        self._writer = writer
        self._clock = clock
        self._epoch = epoch
        self._name = name
        self._distributed = distributed
        self._plain = plain
        self._plainly = self._plain_writes  # bound once, not with every settlement
        self._waiting: dict[asyncio.Future[None], None] = {}
        self._wake_planned = False
        self._open: dict[str, tuple[Hold, HoldRequest]] = {}
        self.fenced = False

    @property
    def epoch(self) -> int:
        """This life's number."""
        return self._epoch

    @property
    def open_holds(self) -> int:
        """How many holds of this process are not settled in the store."""
        return len(self._open)

    async def hold(self, request: HoldRequest) -> Hold | Refusal | Stale:
        """Reserve in every scope, durably, or say which meter refused. Never waits for other holds: see `released`.

        Raises StoreUnavailable. If the awaiting task is cancelled, a hold that was committed all the same is given back.
        """
        if self.fenced:
            raise StoreUnavailable
        taking = self._writer.submit(TakeHold(request, lambda: self._epoch, self._give_back))
        try:
            result = await taking
        except asyncio.CancelledError:
            # committed, but cancelled before it could be handed over: the writer does not know that nobody took it
            if (
                taking.done()
                and not taking.cancelled()
                and taking.exception() is None
                and isinstance(taking.result(), Hold)
            ):
                self._give_back(taking.result())
            raise
        if isinstance(result, Fenced):
            self.fenced = True  # upkeep renews it within a second
            raise StoreUnavailable
        if isinstance(result, Hold):
            self._open[result.id] = (result, request)
        return result  # type: ignore[no-any-return]

    def settle(self, hold: Hold, bill: Bill, also: Sequence[Write] = (), *, size_bytes: int = 0) -> asyncio.Future[Any]:
        """Close a hold at `bill` and run the writes of `also` in the same transaction.

        Enqueued before this returns; the future resolves when it is durable: in the store, or (while that is away) in the journal of
        this machine. Settling the same hold twice changes nothing. `size_bytes` is that of what is large in `also`.
        """
        stored = self._stored if hold.id in self._open else None
        unit = Settle(
            hold, bill, also, self._clock.now_s(), stored=stored, told=self._settled, size_bytes=size_bytes,
            plainly=self._plainly,
        )  # fmt: skip
        return self._writer.submit(unit)

    async def released(self, limit_s: float) -> bool:
        """Wait until some hold may have been settled; False when `limit_s` passed first."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[waiter] = None
        patience_s = min(limit_s, ELSEWHERE_S) if self._distributed else limit_s
        try:
            async with asyncio.timeout(patience_s):
                await waiter
                return True
        except TimeoutError:
            return patience_s < limit_s
        finally:
            self._waiting.pop(waiter, None)  # who settles nothing wakes nobody, and would keep them all

    def checkpoint(self, progress: Iterable[tuple[str, int]]) -> None:
        """Note how far running streams have come, as nano-USD, in one statement: what is billed if this process dies now."""
        pairs = json.dumps(list(progress))
        unit = Simple(lambda rows: rows.write(CHECKPOINT, {"pairs": pairs}))
        self._submit(unit)

    # This life and others'.

    def renew_lease(self) -> None:
        """Say that this process lives."""
        statement, row = owner.renewal(self._epoch, self._clock.now_s())
        self._submit(Simple(lambda rows: rows.write(statement, row)))

    async def sweep(self, reader: Reader, receipt: Receipt) -> int:
        """Settle the holds of dead owners at the larger of their input cost and their last checkpoint; count them.

        Several processes may sweep at once: a hold is settled once, and the second is told that it came late.
        """
        now_s = self._clock.now_s()

        def end(rows: Any) -> None:
            for statement, row in owner.obituaries(self._epoch, now_s, distributed=self._distributed):
                rows.write(statement, row)

        await self._writer.submit(Simple(end))
        swept = 0
        while found := await owner.orphans(reader, self._epoch, now_s, distributed=self._distributed):
            pending = [self._writer.submit(unit) for row in found if (unit := self._lost(row, receipt)) is not None]
            results = await asyncio.gather(*pending, return_exceptions=True)
            for result in results:  # one that is refused stays open, and must not stop the others, nor this process
                if isinstance(result, BaseException) and not isinstance(result, Refused):
                    raise result
            settled = sum(1 for result in results if isinstance(result, Settled) and not result.late)
            swept += settled
            if not settled:
                break
        return swept

    async def come_back(self, run: Callable[[Sequence[Unit]], Awaitable[list[Any]]], reader: Reader) -> None:
        """Take a new epoch and every open hold under it, through `run`; then this process may admit again (design decision 14).

        The store may have lost its newest commits, or this process may have been taken for dead.
        """

        async def one(unit: Unit) -> Any:
            return (await run([unit]))[0]

        epoch = await owner.begin(one, reader, self._name, self._clock.now_s())
        kept = [Reassert(hold, hold_row(request, epoch, hold.lines), epoch) for hold, request in self._open.values()]
        for start in range(0, len(kept), 256):
            await run(kept[start : start + 256])
        log.warning("epoch_taken", extra={"epoch": epoch, "before": self._epoch, "holds": len(kept)})
        self._epoch = epoch
        self.fenced = False

    async def rejoin(self, reader: Reader) -> None:
        """The same for a process that was only stopped: the store is there.

        A writer that comes back by itself does it in its own turn: a hold taken between two new lives would belong to neither.
        """
        if isinstance(self._writer, Distributed):
            await self._writer.return_anew()
            return

        async def run(units: Sequence[Unit]) -> list[Any]:
            return list(await asyncio.gather(*[self._writer.submit(unit) for unit in units]))

        await self.come_back(run, reader)

    async def replay(self, records: Sequence[Row]) -> int:
        """Book what the journal of a dead process says, each exactly once; gives how many were not in the store yet."""
        reasserts, settles = [], []
        for record in records:
            hold = _hold(record["row"])
            uncertain = tuple((slug, amount) for slug, amount in record["bill"].pop("uncertain", ()))
            bill = Bill(uncertain=uncertain, **record["bill"])
            also = [(NAMED[name], row) for name, row in record["also"]]
            reasserts.append(Reassert(hold, record["row"], self._epoch))
            plainly = partial(self._written_plainly, record["row"])
            settles.append(Settle(hold, bill, also, record["now_s"], plainly=plainly))
        await asyncio.gather(*map(self._writer.submit, reasserts))
        settled = await asyncio.gather(*map(self._writer.submit, settles))
        return sum(not one.late for one in settled)

    def farewell(self) -> None:
        """This process ends in order."""
        statement, row = owner.farewell(self._epoch, self._clock.now_s())
        self._submit(Simple(lambda rows: rows.write(statement, row)))

    def _lost(self, row: Row, receipt: Receipt) -> Settle | None:
        """The end of a lost hold; None when its row cannot be read, which is told and left to people."""
        try:
            bill = _bill_of_lost(row)
            return Settle(_hold(row), bill, receipt(row, bill), self._clock.now_s(), corrects=False)
        except Exception:
            log.exception("lost_hold_unreadable", extra={"hold": row["id"]})
            return None

    def _give_back(self, hold: Hold) -> None:
        self.settle(hold, Bill())

    def _submit(self, unit: Simple) -> None:
        with suppress(StoreUnavailable):
            self._writer.submit(unit).add_done_callback(_noted)

    def _stored(self, hold: Hold) -> Row | None:
        known = self._open.get(hold.id)
        return None if known is None else hold_row(known[1], self._epoch, hold.lines)

    def _plain_writes(self, hold: Hold, bill: Bill, also: Sequence[Write], why: str) -> Sequence[Write] | None:
        row = self._stored(hold)
        return None if row is None else self._written_plainly(row, hold, bill, also, why)

    def _written_plainly(
        self, row: Row, _hold: Hold, bill: Bill, also: Sequence[Write], why: str
    ) -> Sequence[Write] | None:
        return None if self._plain is None or not also else self._plain(row, bill, also, why)

    def _settled(self, hold_id: str) -> None:
        self._open.pop(hold_id, None)
        if self._waiting and not self._wake_planned:
            self._wake_planned = True
            asyncio.get_running_loop().call_later(WAKE_S, self._wake)

    def _wake(self) -> None:
        self._wake_planned = False
        waiting, self._waiting = self._waiting, {}
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)


def _bill_of_lost(row: Row) -> Bill:
    """The larger of what the input costs and the last checkpoint.

    A checkpoint below zero says that an own key served, and so does `byok` of the context, which is what the input costs there, for
    a hold that has no checkpoint yet: neither moves credit.
    """
    context, progress = json.loads(row["context"]), row["progress_nusd"]
    provider = context.get("provider") or "none"
    own_nusd = context.get("byok") or 0 if progress is None else max(0, -progress)
    if own_nusd:
        return Bill(byok_nusd=own_nusd, provider=provider)
    return Bill(min(row["amount_nusd"], max(row["floor_nusd"], progress or 0)), provider=provider)


def _hold(row: Row) -> Hold:
    lines = tuple(Line(*line) for line in json.loads(row["lines"]))
    return Hold(row["id"], row["organization_id"], row["amount_nusd"], lines)


def _noted(done: asyncio.Future[Any]) -> None:
    if not done.cancelled() and done.exception() is not None:
        log.warning("ledger_write_missed", extra={"reason": str(done.exception())})


__all__ = ["Bill", "Hold", "HoldRequest", "Ledger", "Refusal", "Settled", "Stale"]
