"""Carrying a request: one endpoint after another until one has content. Nothing that happens here is visible to the client.

Which comes next is decided anew after every fault: by the plan's order, by what the fault's verdict permits, and by how the
providers are doing at that moment. A retry budget keeps a storm from being multiplied.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from modelgates_server.activity.generation import Attempt
from modelgates_server.catalogue import price
from modelgates_server.catalogue.models import Endpoint
from modelgates_server.dialects.faults import retry_after_s
from modelgates_server.dialects.meter import UsageMeter
from modelgates_server.privacy import unquoted, visible
from modelgates_server.providers.base import Fault, Outgoing
from modelgates_server.relay.answers import Answer, StreamAnswer, WholeAnswer
from modelgates_server.relay.course import Course
from modelgates_server.relay.exchange import Exchange
from modelgates_server.relay.failures import Failed, most_useful, told_by
from modelgates_server.relay.opening import Opened, Opening, open_answer
from modelgates_server.relay.outgoing import outgoing
from modelgates_server.relay.own import Speakers
from modelgates_server.relay.report import report
from modelgates_server.relay.router import Router
from modelgates_server.relay.values import Incoming, Settings
from modelgates_server.routing.health import State
from modelgates_server.routing.plan import Considered
from modelgates_server.routing.verdict import VERDICTS, FaultClass, Signal, classify

LONG_INPUT_TOKENS: Final = 200_000
"""A prompt beyond this takes a model longer to read than the usual limit allows (providers 6.3)."""


@dataclass(frozen=True, slots=True)
class Carrier:
    """Carries requests to providers. `spread` gives numbers from 0 to 1, so that pauses differ."""

    router: Router
    speakers: Speakers
    settings: Settings
    live: dict[str, StreamAnswer]
    spread: Callable[[], float]

    async def carry(self, exchange: Exchange, incoming: Incoming) -> Answer:
        """A committed answer. Raises UpstreamFailed when every endpoint failed."""
        run = Course(exchange, incoming)
        self.router.health.asked(run.budget)
        step = self._next(run)
        while step is not None:
            started_s = exchange.clock.monotonic_s()
            try:
                return await self._attempt(run, step)
            except Fault as fault:
                exchange.dispatched = False  # it ended in a fault: nothing is charged for it
                failed = self._note(run, step.endpoint, fault, started_s)
            except BaseException:
                self.router.left(step.endpoint)  # its client went away: nothing is known about the provider
                raise
            step = step if await self._once_more(run, step, failed) else self._next(run)
        self._tell_skipped(run)
        raise most_useful(run.failed, exchange.origin.id)

    # Which one is next.

    def _next(self, run: Course) -> Considered | None:
        health = self.router.health
        if run.unknown_fates > 1 or len(run.exchange.attempts) >= self.settings.attempts_max:
            return None
        left = [step for step in run.exchange.plan.steps if id(step) not in run.tried and run.admits(step.endpoint)]
        out: list[Considered] = []
        for step in left:
            account, model = step.endpoint.account, step.endpoint.model.slug
            now_s = run.exchange.clock.monotonic_s()
            state = self.router.condition(step.endpoint).state
            if state is State.OUT or (state is State.TRIAL and not health.begin_trial(account, model, now_s)):
                out.append(step)
            elif not run.failed or not health.doubtful(account, model, now_s) or health.may_retry(run.budget):
                return self._chosen(run, step)
            else:
                self.router.left(step.endpoint)
        for step in out:
            account, model = step.endpoint.account, step.endpoint.model.slug
            turn = health.begin_trial(account, model, run.exchange.clock.monotonic_s())
            if not run.failed or (turn and health.may_retry(run.budget)):
                return self._chosen(run, step)  # the last candidate is never cooled away
        return None

    def _chosen(self, run: Course, step: Considered) -> Considered:
        run.tried.add(id(step))
        return step

    async def _once_more(self, run: Course, step: Considered, failed: Failed) -> bool:
        """Whether to ask the same endpoint again: at once, after mending the request, or after a pause when nobody else is left."""
        verdict, mark = VERDICTS[failed.kind], id(step)
        if len(run.exchange.attempts) >= self.settings.attempts_max:
            return False
        if failed.kind in {FaultClass.CAPABILITY, FaultClass.PORTABILITY}:
            if (mark, "mend") in run.again or not run.mend(self.router, step, failed):
                return False
            run.again.add((mark, "mend"))
            return True
        if verdict.again and (mark, "again") not in run.again:
            run.again.add((mark, "again"))
            return True
        if not verdict.patient or (mark, "patient") in run.again or self._others(run):
            return False
        pause_s = self.settings.retry_pause_s * (0.6 + 1.4 * self.spread())
        if failed.kind is FaultClass.RATE_LIMIT:
            pause_s = failed.retry_after_s if failed.retry_after_s is not None else self.settings.patience_s + 1
        elif failed.retry_after_s is not None:
            pause_s = max(pause_s, failed.retry_after_s)
        if pause_s > self.settings.patience_s or not self.router.health.may_retry(run.budget):
            return False
        run.again.add((mark, "patient"))
        await asyncio.sleep(pause_s)
        return True

    def _others(self, run: Course) -> bool:
        """Whether somebody who is in service has not been asked yet."""
        return any(
            id(step) not in run.tried
            and run.admits(step.endpoint)
            and self.router.condition(step.endpoint).state is not State.OUT
            for step in run.exchange.plan.steps
        )

    # One attempt.

    async def _attempt(self, run: Course, step: Considered) -> Answer:
        exchange, endpoint = run.exchange, step.endpoint
        started_s = exchange.clock.monotonic_s()
        exchange.endpoint = endpoint
        exchange.dispatched = True
        request = outgoing(exchange.ask, endpoint, run.adaptation(step), run.incoming, clamped=exchange.clamped)
        opened = await self._opened(run, endpoint, request, started_s)
        return self._committed(run, endpoint, opened, started_s)

    async def _opened(self, run: Course, endpoint: Endpoint, request: Outgoing, started_s: float) -> Opened:
        exchange = run.exchange
        limit_s = self._limit_s(exchange, stream=request.stream)
        speaker = self.speakers.find(endpoint, exchange.route.credentials)
        meter = UsageMeter if exchange.record is None else exchange.record.meter
        work = open_answer(speaker, endpoint, request, limit_s, meter)
        if endpoint.cancel == "stops" or exchange.spawn is None:
            return await work
        # It bills the whole answer whoever listens: the attempt goes on when the client leaves (design decision 5).
        task: asyncio.Task[Opened] = exchange.spawn(work, f"attempt {exchange.origin.id}")
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if not task.cancelled():
                exchange.draining = True
                exchange.spawn(self._read_out(run, endpoint, task, started_s), f"drain {exchange.origin.id}")
            raise

    def _limit_s(self, exchange: Exchange, *, stream: bool) -> float:
        limit_s = self.settings.first_byte_s if stream else self.settings.answer_s
        if stream and exchange.input_estimate > LONG_INPUT_TOKENS:
            limit_s *= 2
        left_s = exchange.started_s + self.settings.total_s - exchange.clock.monotonic_s()
        return max(0.001, min(limit_s, left_s))

    async def _read_out(self, run: Course, endpoint: Endpoint, task: asyncio.Task[Opened], started_s: float) -> None:
        """The client left before the provider began: read the answer to its end and book it exactly."""
        exchange = run.exchange
        try:
            opened = await task
        except (Fault, asyncio.CancelledError) as error:
            exchange.draining = False
            if isinstance(error, Fault):
                self._note(run, endpoint, error, started_s)
            exchange.abandon(free=True)
            return
        answer = self._committed(run, endpoint, opened, started_s)
        if isinstance(answer, StreamAnswer):
            await answer.read_out()
        else:
            answer.close("cancelled")

    def _committed(
        self, run: Course, endpoint: Endpoint, opened: Opened, started_s: float
    ) -> StreamAnswer | WholeAnswer:
        """The answer has content: from here on there is no way back."""
        exchange = run.exchange
        exchange.request_id = opened.reply.request_id
        exchange.latency_ms = exchange.since_ms(exchange.started_s)
        ms = exchange.since_ms(started_s)
        self.router.began(endpoint, exchange.route.conversation, ms)
        exchange.attempts.append(_attempt(endpoint, 200, None, ms, opened.reply.request_id, run.mended_how()))
        self._tell_skipped(run)
        extra = report(exchange) if run.incoming.report else None
        if isinstance(opened.content, Opening):
            answer = StreamAnswer(exchange, opened.reply, opened.content, self.settings, extra)
            self.live[exchange.origin.id] = answer
            return answer
        body, reading = opened.content
        exchange.upstream_id = reading.upstream_id
        return WholeAnswer(exchange, body, reading, extra)

    def _note(self, run: Course, endpoint: Endpoint, fault: Fault, started_s: float) -> Failed:
        """Class a failed attempt, write it into the receipt, tell health, and see what it rules out."""
        exchange = run.exchange
        told = told_by(fault)
        kind = classify(Signal(fault.signal), fault.status, told.type, told.code, told.message)
        pause_s = retry_after_s(fault.retry_after, exchange.clock.now_s())
        verdict = VERDICTS[kind]
        self.router.failed(endpoint, kind, pause_s)
        run.closed_by(endpoint, verdict)
        if verdict.unknown:
            run.unknown_fates += 1
            if endpoint.own is None:  # what an own account may be asked for it is nothing that we owe
                exchange.uncertain.append((endpoint.provider, self._at_most_nusd(exchange, endpoint)))
        said = unquoted(told.message, exchange.ask.body) if fault.status else fault.detail
        detail = "; ".join(filter(None, (run.mended_how(), said)))
        ms = exchange.since_ms(started_s)
        exchange.attempts.append(_attempt(endpoint, fault.status, kind, ms, fault.request_id, visible(detail, 500)))
        failed = Failed(kind, told, fault, pause_s, endpoint.model.slug, own=endpoint.own is not None)
        run.failed.append(failed)
        return failed

    def _at_most_nusd(self, exchange: Exchange, endpoint: Endpoint) -> int:
        """The most that an attempt of unknown fate can have cost."""
        ask = exchange.ask
        input_tokens = price.input_bound_tokens(ask.shape, endpoint.model)
        output_tokens = exchange.clamped or ask.max_tokens or 0
        when_s = exchange.origin.created_at_ms / 1000
        return min(exchange.hold.amount_nusd, price.ceiling_nusd(endpoint, ask, input_tokens, output_tokens, when_s))

    def _tell_skipped(self, run: Course) -> None:
        """Note whom the plan had and who was passed over while the request ran."""
        for step in run.exchange.plan.steps:
            if id(step) not in run.tried and run.failed:
                condition = self.router.condition(step.endpoint)
                if condition.state is State.OUT:
                    run.exchange.skipped[step.endpoint.place] = condition.why


def _attempt(
    endpoint: Endpoint, status: int, fault: str | None, ms: int, request_id: str | None, detail: str
) -> Attempt:
    own = "" if endpoint.own is None else endpoint.own.id
    return Attempt(
        endpoint.provider, endpoint.upstream_model, status, fault, ms, request_id, detail, endpoint.model.slug, own
    )
