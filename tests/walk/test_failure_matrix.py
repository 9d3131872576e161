"""The catalogue of upstream faults (reliability 3.1), row by row: as first and as last candidate, streaming and not.

One gateway has two simulated providers and one for each way to misbehave below HTTP; a request names the two that it is for.
What each cell looks at is in `Cell`: what the client got, who was asked how often, what was booked, and who is out of service.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Final
from uuid import uuid4

import pytest
import pytest_asyncio
from tests.support import raw
from tests.support.gateway import Gateway, Told, ask, open_gateway
from tests.support.raw import RawUpstream
from tests.support.upstream import Upstream

from modelgates_server.edge.context import EdgeSettings
from modelgates_server.routing.health import State
from modelgates_server.routing.verdict import FaultClass

pytestmark = pytest.mark.asyncio(loop_scope="session")

LIMIT_S: Final = 0.6
"""Every clock of an attempt. A good answer takes milliseconds; a machine that does something else as well may need many."""

QUICK: Final = {
    "first_byte_s": LIMIT_S,
    "answer_s": LIMIT_S,
    "idle_s": LIMIT_S,
    "connect_s": LIMIT_S / 2,
    "retry_pause_s": 0.01,
}

ODD, SOUND = "odd", "sound"
"""The simulated provider that fails, and the one beside it."""

TWIN: Final = "-twin"
"""What is behind the name of a raw provider that does the same as the one before it."""

SLUG: Final = "anthropic/claude-opus-4.8"
SAID: Final = "Hello there, world"

RAW: Final[dict[str, raw.Act]] = {
    "hangs-up": raw.hang_up_at_once,
    "silent": raw.silent,
    "closes": raw.close_unanswered,
    "resets": raw.reset_unanswered,
    "half-a-head": raw.half_a_head,
    "garbage": raw.garbage,
    "huge-header": raw.huge_header,
    "many-headers": raw.many_headers,
    "lone-line-end": raw.lone_line_end,
    "two-lengths": raw.two_lengths,
    "bad-chunk": raw.bad_chunk,
    "head-only": raw.head_then_nothing,
    "head-then-reset": raw.head_then_reset,
    "endless-line": raw.endless_line,
    "bomb": raw.inflates,
    "endless-later": raw.endless_line_after_content,
    "reset-later": raw.reset_after_content,
    "talkative": raw.talkative,
    "until-closed": raw.until_closed,
    "once": raw.once_per_connection,
}


@dataclass
class House:
    """A gateway, and its raw providers by slug; those that cannot be reached have none."""

    gateway: Gateway
    raw: dict[str, RawUpstream]

    def asked(self, slug: str) -> int:
        """How often a provider was asked until now."""
        if slug in {ODD, SOUND}:
            return len(self.gateway.simulators[slug == SOUND].log)
        return self.raw[slug].asked if slug in self.raw else 0

    def condition(self, slug: str) -> Any:
        router = self.gateway.application.relay.router
        return router.health.condition(slug, SLUG, router.clock.monotonic_s())

    def failures(self, slug: str) -> int:
        """How many failures in a row the breaker counts, for the provider or for the model there."""
        standings = self.gateway.application.relay.router.health._standings
        return max((standings[key].failures for key in ((slug, ""), (slug, SLUG)) if key in standings), default=0)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    """One house for the whole matrix; in the end its books are in order, and nothing is left open."""
    folder = tmp_path_factory.mktemp("matrix")
    async with AsyncExitStack() as stack:
        serve = stack.enter_async_context
        listening = {f"{slug}{twin}": await serve(raw.raw(act)) for slug, act in RAW.items() for twin in ("", TWIN)}
        unknown = raw.unknown_certificate(folder)
        urls = {
            "closed-port": raw.closed_port(),
            "no-such-name": "http://nothing.invalid",
            "black-hole": stack.enter_context(raw.black_hole()),
            "bad-certificate": (await serve(raw.raw(raw.silent, unknown))).url,
            "tls-reset": (await serve(raw.raw(raw.hang_up_at_once))).url.replace("http:", "https:"),
            "no-tls": (await serve(raw.raw(raw.plain_words))).url.replace("http:", "https:"),
        }
        urls |= {f"{slug}{TWIN}": url for slug, url in urls.items()}
        urls |= {slug: upstream.url for slug, upstream in listening.items()}
        upstreams = [Upstream(slug, url) for slug, url in urls.items()]
        both = {ODD: "anthropic", SOUND: "anthropic"}
        gateway = await serve(open_gateway(folder / "g", simulators=both, upstreams=upstreams, routing=QUICK))
        yield House(gateway, listening)
        await gateway.quiet()
        provider: Any = gateway.application.relay.speakers.shared[ODD]
        assert not [open_ for open_ in provider._outbound._open if open_._exchange is not None]
        assert (gateway.problems(), gateway.overspent()) == ([], [])


@pytest.fixture
def house(running: House) -> House:
    """Everybody is in service, and nobody is told what to do."""
    running.gateway.forget()
    for simulator in running.gateway.simulators:
        simulator.script.clear()
    return running


@dataclass
class Cell:
    """One request to two providers, and what came of it."""

    house: House
    told: Told
    asked: tuple[int, int]
    receipt: dict[str, Any]

    @property
    def attempts(self) -> list[tuple[str, str | None]]:
        return [(attempt["provider"], attempt["fault"]) for attempt in json.loads(self.receipt["attempts"])]

    @property
    def booked(self) -> dict[str, int]:
        return self.house.gateway.entries(self.told.id)

    def is_one_clean_answer(self, text: str = SAID) -> None:
        """The client cannot tell that anything went wrong: one message, whole, under the gateway's own name for it."""
        told = self.told
        assert told.status == 200
        assert told.headers["request-id"] == told.id == self.receipt["id"]
        if told.headers["content-type"].startswith("text/event-stream"):
            meaning = told.meaning
            started = json.loads(dict(told.events)["message_start"])["message"]
            deltas = [json.loads(data)["delta"] for name, data in told.events if name == "content_block_delta"]
            assert (meaning[0], meaning.count("message_start"), meaning[-1]) == ("message_start", 1, "message_stop")
            assert "error" not in meaning
            assert (started["id"], "".join(delta.get("text", "") for delta in deltas)) == (told.id, text)
        else:
            assert (told.json["id"], told.json["content"][0]["text"]) == (told.id, text)

    def is_paid_for(self, usage: dict[str, Any]) -> None:
        """The client pays what its answer's provider says that it generated, and nothing for what went before."""
        cost = 5_000 * usage["input_tokens"] + 25_000 * usage["output_tokens"]
        assert (self.receipt["outcome"], self.receipt["estimated"]) == ("completed", 0)
        assert (self.receipt["cost_nusd"], self.booked["charge"]) == (cost, cost)

    def is_uncertain(self, slug: str) -> bool:
        """Whether the operator keeps account of what an attempt of unknown fate may have cost: at most the hold."""
        found = "SELECT debit, credit, amount_nusd FROM entries WHERE generation_id = :id AND kind = 'uncertain'"
        rows = self.house.gateway.rows(found, id=self.told.id)
        for row in rows:
            assert (row["debit"], row["credit"]) == ("operator:uncertain", f"provider:{slug}")
            assert 0 < row["amount_nusd"] <= self.receipt["held_nusd"]
        assert len(rows) <= 1
        return bool(rows)

    def is_refused(self, status: int, error_type: str) -> None:
        """An error of that kind, whoever made it; nothing is charged for it."""
        assert (self.told.status, self.told.error["type"]) == (status, error_type)
        assert self.told.status not in {401, 402, 403}
        assert (self.receipt["outcome"], self.receipt["cost_nusd"]) == ("failed", 0)
        assert self.told.headers["request-id"] == self.told.id


async def play(house: House, first: tuple[str, Any], second: tuple[str, Any], *, stream: bool) -> Cell:
    """Ask `first` and then `second`, each with what it is to do: a simulator's control, or None for what it always does."""
    slugs = [first[0], second[0]]
    for slug, control in (first, second):
        if control is not None:
            house.gateway.simulators[slug == SOUND].script.extend([control] * 5)
    before = [house.asked(slug) for slug in slugs]
    wishes = {"order": slugs, "only": slugs}
    told = await house.gateway.send(ask(f"{uuid4()} [[say:{SAID}]]", stream=stream, provider=wishes))
    asked = [house.asked(slug) - count for slug, count in zip(slugs, before, strict=True)]
    for simulator in house.gateway.simulators:
        simulator.script.clear()
    return Cell(house, told, (asked[0], asked[1]), await house.gateway.receipt(told.id))


@dataclass(frozen=True)
class Row:
    """One fault before the commit point, by its row of the catalogue.

    `does` is a simulator's control or the name of a raw provider. `alone` is what the client is told when both providers fail in
    this way. `asks` says how often a last candidate is asked, `first_asks` a first one, each of them at most `reached` times as far as
    the upstream can tell. `passes` is false for what no other provider could do better. `rests` is false when the provider itself
    asks for no pause.
    """

    row: int
    does: dict[str, Any] | str
    kind: FaultClass
    alone: tuple[int, str]
    form: str = "stream JSON"
    asks: int = 1
    first_asks: int = 1
    reached: int = 9
    passes: bool = True
    rests: bool = True

    @property
    def slug(self) -> str:
        return self.does if isinstance(self.does, str) else ODD

    @property
    def twin(self) -> str:
        """Another provider that does the same."""
        return f"{self.does}{TWIN}" if isinstance(self.does, str) else SOUND

    @property
    def control(self) -> dict[str, Any] | None:
        return None if isinstance(self.does, str) else self.does

    @property
    def after_overload(self) -> tuple[int, str]:
        """What the client is told when the provider before refused with a 529."""
        return self.alone if self.kind in MORE_USEFUL else BUSY


F = FaultClass
UNKNOWN: Final = {F.RESET, F.TIMEOUT, F.BROKEN}
"""Perhaps accepted: tried once more and not twice, and kept account of (R1)."""

COUNTED: Final = {F.UNREACHABLE, F.RESET, F.TIMEOUT, F.BROKEN, F.UPSTREAM, F.OVERLOADED}
"""Failures for the breaker."""

COOLED: Final = {F.OVERLOADED, F.RATE_LIMIT, F.RAMP, F.MISCONFIGURED, F.ACCOUNT, F.ABSENT, F.NOT_OFFERED}
"""Out of service at once, for a while."""

MORE_USEFUL: Final = {F.RATE_LIMIT, F.RAMP, F.CONTEXT, F.CLIENT}
"""What is told rather than an overload; that a provider lacks something is not: the one that was overloaded may have it."""

DOWN, SLOW = (503, "api_error"), (504, "timeout_error")
BAD, BUSY, FULL = (502, "api_error"), (529, "overloaded_error"), (429, "rate_limit_error")
YOURS = (400, "invalid_request_error")


def coded(status: int, error_type: str, code: str) -> dict[str, Any]:
    """An error with Anthropic's finer word for it."""
    error = {"type": error_type, "message": "No.", "details": {"error_code": code}}
    return {"status": status, "body": json.dumps({"type": "error", "error": error, "request_id": "req_1"})}


FAULTS: Final[dict[str, Row]] = {
    # Never sent: R0, without any doubt.
    "connect refused": Row(1, "closed-port", F.UNREACHABLE, DOWN, reached=0),
    "no such name": Row(2, "no-such-name", F.UNREACHABLE, DOWN, reached=0),
    "certificate of nobody": Row(3, "bad-certificate", F.UNREACHABLE, DOWN, reached=0),
    "reset in the handshake": Row(3, "tls-reset", F.UNREACHABLE, DOWN, reached=0),
    "no TLS at all": Row(3, "no-tls", F.UNREACHABLE, DOWN, reached=0),
    "black hole": Row(4, "black-hole", F.UNREACHABLE, DOWN, reached=0),
    # Sent, and its fate unknown: R1.
    "reset unread": Row(6, "hangs-up", F.RESET, BAD, reached=0),
    "never answers": Row(6, "silent", F.TIMEOUT, SLOW),
    "closed without an answer": Row(6, "closes", F.RESET, BAD),
    "reset without an answer": Row(6, "resets", F.RESET, BAD),
    "half a head": Row(6, "half-a-head", F.RESET, BAD),
    "head, then silence": Row(7, "head-only", F.TIMEOUT, SLOW),
    "slow first content": Row(7, {"first_event_delay_s": 300}, F.TIMEOUT, SLOW),
    "stalls before content": Row(7, {"stall_after_event": 1}, F.TIMEOUT, SLOW),
    "head, then reset": Row(10, "head-then-reset", F.RESET, BAD),
    "cut before content": Row(10, {"cut_after_event": 1}, F.RESET, BAD),
    "reset before content": Row(10, {"cut_after_event": 2, "reset": True}, F.RESET, BAD),
    "cut in the first event": Row(13, {"cut_at_byte": 40}, F.RESET, BAD),
    "ends before content": Row(11, {"end_after_event": 2}, F.BROKEN, BAD, "stream"),
    "JSON half sent, then silence": Row(9, {"stall_after_event": 5}, F.TIMEOUT, SLOW, "JSON"),
    "JSON half sent, then cut": Row(10, {"cut_after_event": 5}, F.RESET, BAD, "JSON"),
    "JSON half sent, then over": Row(11, {"malformed_at_event": 5}, F.BROKEN, BAD, "JSON"),
    "malformed first event": Row(12, {"malformed_at_event": 0}, F.BROKEN, BAD, "stream"),
    "endless line": Row(14, "endless-line", F.BROKEN, BAD, "stream"),
    "chunks that are none": Row(12, "bad-chunk", F.RESET, BAD),
    "web page": Row(12, {"html_200": True}, F.BROKEN, BAD),
    "nothing": Row(12, {"empty_200": True}, F.BROKEN, BAD),
    "JSON for a stream": Row(12, {"json_for_stream": True}, F.BROKEN, BAD, "stream"),
    "redirect": Row(30, {"redirect": "/v1/models"}, F.BROKEN, BAD),
    "bomb": Row(31, "bomb", F.RESET, BAD),
    "not HTTP": Row(32, "garbage", F.RESET, BAD),
    "header of a megabyte": Row(32, "huge-header", F.RESET, BAD),
    "ten thousand headers": Row(32, "many-headers", F.RESET, BAD),
    "line end in a header": Row(32, "lone-line-end", F.RESET, BAD),
    "length and chunks": Row(32, "two-lengths", F.RESET, BAD),
    # Refused: a complete answer that is no 200 says that nothing was accepted (design decision 3).
    "overloaded at once": Row(8, {"error_at_event": 0}, F.OVERLOADED, BUSY, "stream", asks=2),
    "overloaded before content": Row(8, {"error_at_event": 2}, F.OVERLOADED, BUSY, "stream", asks=2),
    "error event: api_error": Row(
        8, {"error_at_event": 0, "error_type": "api_error"}, F.UPSTREAM, BAD, "stream", asks=2
    ),
    "error event: our key": Row(
        8, {"error_at_event": 0, "error_type": "authentication_error"}, F.MISCONFIGURED, DOWN, "stream"
    ),
    "400": Row(20, {"status": 400, "message": "messages: nope"}, F.CLIENT, YOURS, passes=False),
    "422": Row(20, {"status": 422, "message": "nope"}, F.CLIENT, (422, "invalid_request_error"), passes=False),
    "400 capability": Row(
        20, {"status": 400, "message": "x: Extra inputs are not permitted"}, F.CAPABILITY, YOURS, passes=False
    ),
    "400 signature": Row(
        20, {"status": 400, "message": "messages.1: Invalid `signature` in `thinking` block"}, F.PORTABILITY, YOURS
    ),
    "401": Row(21, {"status": 401}, F.MISCONFIGURED, DOWN),
    "402": Row(21, {"status": 402}, F.ACCOUNT, DOWN),
    "403": Row(21, {"status": 403}, F.MISCONFIGURED, DOWN),
    "404 model": Row(22, {"status": 404, "message": "model: claude-opus-4-8"}, F.ABSENT, (404, "not_found_error")),
    "404 file": Row(
        22, {"status": 404, "message": "File not found: file_1"}, F.CLIENT, (404, "not_found_error"), passes=False
    ),
    "405": Row(22, {"status": 405}, F.NOT_OFFERED, BAD),
    "501": Row(22, {"status": 501}, F.NOT_OFFERED, BAD),
    "413": Row(23, {"status": 413}, F.TOO_LARGE, (413, "request_too_large")),
    "context too long": Row(
        23, {"status": 400, "message": "prompt is too long: 2 tokens > 1 maximum"}, F.CONTEXT, YOURS, passes=False
    ),
    "429 for a while": Row(24, {"status": 429, "retry_after": 30}, F.RATE_LIMIT, FULL),
    "429 for a moment": Row(24, {"status": 429, "retry_after": 0}, F.RATE_LIMIT, FULL, asks=2, rests=False),
    "429 without a word": Row(24, {"status": 429}, F.RATE_LIMIT, FULL),
    "429 ramp": Row(24, coded(429, "rate_limit_error", "ramp_limit_exceeded"), F.RAMP, FULL),
    "429 spend limit": Row(25, coded(429, "rate_limit_error", "enforced_spend_limit_reached"), F.ACCOUNT, DOWN),
    "400 usage limits": Row(
        25, {"status": 400, "message": "You have reached your specified API usage limits."}, F.ACCOUNT, DOWN
    ),
    "400 on hold": Row(25, coded(400, "invalid_request_error", "organization_on_hold"), F.ACCOUNT, DOWN),
    "408": Row(26, {"status": 408}, F.UPSTREAM, BAD, asks=2),
    "409": Row(26, {"status": 409}, F.CONFLICT, (409, "conflict_error"), asks=2, first_asks=2),
    "424": Row(26, {"status": 424}, F.UPSTREAM, BAD, asks=2),
    "500": Row(26, {"status": 500}, F.UPSTREAM, BAD, asks=2),
    "502": Row(26, {"status": 502}, F.UPSTREAM, BAD, asks=2),
    "503": Row(26, {"status": 503}, F.UPSTREAM, DOWN, asks=2),
    "504": Row(26, {"status": 504}, F.UPSTREAM, (504, "api_error"), asks=2),
    "520": Row(26, {"status": 520}, F.UPSTREAM, BAD, asks=2),
    "529": Row(27, {"status": 529}, F.OVERLOADED, BUSY, asks=2),
}

CELLS: Final = [(name, form) for name, row in FAULTS.items() for form in row.form.split()]


@pytest.mark.parametrize(("name", "form"), CELLS)
async def test_as_the_first_candidate_it_is_not_noticed(house: House, name: str, form: str) -> None:
    """The next one answers, and only that answer is paid. What was the client's own mistake is told at once."""
    row = FAULTS[name]
    cell = await play(house, (row.slug, row.control), (SOUND, None), stream=form == "stream")

    failed = [(row.slug, row.kind)] * row.first_asks
    if row.passes:
        cell.is_one_clean_answer()
        cell.is_paid_for(house.gateway.simulators[1].log[-1].usage)
    else:
        cell.is_refused(*row.alone)
    assert cell.attempts == ([*failed, (SOUND, None)] if row.passes else failed)
    assert cell.asked == (min(row.first_asks, row.reached), 1 if row.passes else 0)
    assert cell.is_uncertain(row.slug) == (row.kind in UNKNOWN)
    assert house.failures(row.slug) == (row.first_asks if row.kind in COUNTED else 0)
    assert (house.condition(row.slug).state is State.OUT) == (row.rests and row.kind in COOLED)
    assert house.condition(SOUND).state is State.OK


@pytest.mark.parametrize("before", ["a refusal", "the same"])
@pytest.mark.parametrize(("name", "form"), CELLS)
async def test_as_the_last_candidate_it_is_told(house: House, name: str, form: str, before: str) -> None:
    """When nobody is left the most useful fault is told, nothing is paid, and a hiccup of the last one gets a second chance."""
    row, refused = FAULTS[name], before == "a refusal"
    first = (SOUND, {"status": 529}) if refused else (row.twin, row.control)
    cell = await play(house, first, (row.slug, row.control), stream=form == "stream")

    attempts = [(SOUND, F.OVERLOADED)] if refused else [(row.twin, row.kind)] * row.first_asks
    asked = 0
    if refused or row.passes:
        attempts += [(row.slug, row.kind)] * row.asks
        asked = min(row.asks, row.reached)
    cell.is_refused(*(row.after_overload if refused else row.alone))
    assert (cell.attempts, cell.asked[1]) == (attempts, asked)
    assert set(cell.booked) == ({"uncertain"} if row.kind in UNKNOWN else set())


@dataclass(frozen=True)
class Broken:
    """One fault after the commit point: R2. `says` is the type of the error event that ends the stream."""

    row: int
    does: dict[str, Any] | str
    says: str = "api_error"


BREAKS: Final[dict[str, Broken]] = {
    "stalls": Broken(9, {"stall_after_event": 5}, "timeout_error"),
    "closed": Broken(10, {"cut_after_event": 5}),
    "reset": Broken(10, {"cut_after_event": 5, "reset": True}),
    "reset at once": Broken(10, "reset-later"),
    "cut in an event": Broken(13, {"cut_at_byte": 800}),
    "ends early": Broken(11, {"end_after_event": 5}),
    "ends without message_stop": Broken(11, {"no_message_stop": True}),
    "malformed message_delta": Broken(12, {"malformed_at_event": 9, "event_delay_s": 0.01}),
    "endless line": Broken(14, "endless-later"),
    "error event": Broken(15, {"error_at_event": 5}, "overloaded_error"),
    "error event: our key": Broken(15, {"error_at_event": 5, "error_type": "authentication_error"}, "api_error"),
}


@pytest.mark.parametrize("name", BREAKS)
async def test_after_content_the_stream_ends_with_an_error(house: House, name: str) -> None:
    """Never a retry, never a splice, never a silent success; nothing is charged, the breaker counts it."""
    broken = BREAKS[name]
    slug, control = (broken.does, None) if isinstance(broken.does, str) else (ODD, broken.does)
    cell = await play(house, (slug, control), (SOUND, None), stream=True)

    meaning = cell.told.meaning
    error = json.loads(cell.told.events[-1][1])
    assert cell.told.status == 200
    assert (meaning[0], meaning.count("message_start"), meaning[-1]) == ("message_start", 1, "error")
    assert "content_block_delta" in meaning
    assert "message_stop" not in meaning
    assert error["error"]["type"] == broken.says
    assert cell.asked == (1, 0)
    assert (cell.receipt["outcome"], cell.receipt["cost_nusd"]) == ("broken", 0)
    assert set(cell.booked) == {"overrun"}
    assert house.failures(slug) == 1


GOOD: Final[dict[str, tuple[int, dict[str, Any] | str]]] = {
    "slow, within the limit": (7, {"first_event_delay_s": LIMIT_S / 4}),
    "byte by byte": (13, {"chunk_bytes": 1}),
    "CRLF": (13, {"crlf": True}),
    "compressed": (31, {"gzip": True}),
    "an unknown event": (13, {"unknown_event_at": 4}),
    "talks of itself": (32, "talkative"),
    "ends with its connection": (32, "until-closed"),
    "another model": (19, {"usage": {"service_tier": "batchy"}}),
    "no usage": (16, {"omit_usage": True}),
    "zero usage": (17, {"usage": {"input_tokens": 0, "output_tokens": 0}}),
    "negative usage": (18, {"usage": {"output_tokens": -5}}),
    "huge usage": (18, {"usage": {"output_tokens": 10**12}}),
    "usage in words": (18, {"usage": {"output_tokens": "many"}}),
    "usage in parts": (18, {"usage": {"output_tokens": 1.5}}),
}


@pytest.mark.parametrize("form", ["stream", "JSON"])
@pytest.mark.parametrize("name", GOOD)
async def test_what_is_odd_but_good_is_the_answer(house: House, name: str, form: str) -> None:
    """It is passed on as any other; the next provider is not asked; what is charged lies between nothing and the hold."""
    row, does = GOOD[name]
    slug, control = (does, None) if isinstance(does, str) else (ODD, does)
    cell = await play(house, (slug, control), (SOUND, None), stream=form == "stream")

    cell.is_one_clean_answer("hi there" if control is None else SAID)
    assert (cell.asked, cell.attempts) == ((1, 0), [(slug, None)])
    assert 0 <= cell.receipt["cost_nusd"] <= cell.receipt["held_nusd"]
    assert (cell.receipt["estimated"] == 1) == (row in {16, 18})
    assert (cell.receipt["cost_nusd"] == 0) == (name == "zero usage")
    assert not {"set-cookie", "x-evil", "via", "link"} & {header.lower() for header in cell.told.headers}
    assert house.failures(slug) == 0


async def test_hidden_thinking_is_an_answer_and_is_paid(house: House) -> None:
    """Row 35: a provider that thinks for long and shows nothing has begun, and its tokens count."""
    fields = {"thinking": {"type": "enabled", "budget_tokens": 1024, "display": "omitted"}, "max_tokens": 2000}
    wishes = {"order": [ODD, SOUND], "only": [ODD, SOUND]}
    told = await house.gateway.send(ask(f"{uuid4()}", stream=True, provider=wishes, **fields))

    usage = house.gateway.simulators[0].log[-1].usage
    row = house.gateway.generation(told.id)
    assert (row["provider"], told.meaning[-1]) == (ODD, "message_stop")
    assert row["cost_nusd"] == 5_000 * usage["input_tokens"] + 25_000 * usage["output_tokens"]


@pytest.mark.parametrize("form", ["stream", "JSON"])
@pytest.mark.parametrize("place", ["first", "last"])
async def test_a_connection_that_closes_on_reuse_is_renewed(house: House, form: str, place: str) -> None:
    """Row 34: nothing of an answer came on a kept connection, so the same provider is asked again at once; it is nobody's fault."""
    stream = form == "stream"
    await play(house, ("once", None), (SOUND, None), stream=stream)  # leaves a connection behind
    first, second = ("once", None), (SOUND, None)
    if place == "last":
        first, second = (SOUND, {"status": 529}), ("once", None)
    cell = await play(house, first, second, stream=stream)

    cell.is_one_clean_answer("hi there")
    assert cell.attempts[-2:] == [("once", F.STALE), ("once", None)]
    assert set(cell.booked) == {"charge"}
    assert house.failures("once") == 0


@pytest.mark.parametrize("cut", range(10, 460, 37))
async def test_a_cut_before_content_is_invisible_at_any_byte(house: House, cut: int) -> None:
    """Row 13: however much of `message_start` came, the client sees one clean stream, of the second provider."""
    cell = await play(house, (ODD, {"cut_at_byte": cut, "reset": cut % 2 == 1}), (SOUND, None), stream=True)

    cell.is_one_clean_answer()
    cell.is_paid_for(house.gateway.simulators[1].log[-1].usage)


PAUSES: Final = {
    "7": "7",
    "0.2": "1",
    "soon": None,
    "-5": "1",
    "99999999999": "600",
    "Fri, 31 Dec 9999 23:59:59 GMT": "600",
}
"""What a provider asks for, and what the client is told when nobody else is left (row 24)."""


@pytest.mark.parametrize("asked", PAUSES)
async def test_the_smallest_pause_is_told_and_capped(house: House, asked: str) -> None:
    """A 429 of all names the shortest wait, in whole seconds; dates, garbage and ten years do no harm."""
    patient = {"status": 429, "retry_after": "1000"}
    cell = await play(house, (SOUND, patient), (ODD, {"status": 429, "retry_after": asked}), stream=False)

    cell.is_refused(429, "rate_limit_error")
    assert cell.told.headers["retry-after"] == (PAUSES[asked] or "600")
    until_s = house.condition(SOUND).until_s - house.gateway.application.relay.clock.monotonic_s()
    assert 0 < until_s <= house.gateway.config.routing.cool_s_max


OPENING: Final = [name for name, row in FAULTS.items() if row.kind in COUNTED - {F.TIMEOUT}]


@pytest.mark.parametrize("name", OPENING)
async def test_five_failures_in_a_row_take_it_out_of_service(house: House, name: str) -> None:
    """The sixth request goes to the other one at once; alone, the provider is asked all the same."""
    row = FAULTS[name]
    form = "stream" in row.form
    for _ in range(5):
        await play(house, (row.slug, row.control), (SOUND, None), stream=form)
    condition = house.condition(row.slug)
    sixth = await play(house, (row.slug, row.control), (SOUND, None), stream=form)

    assert condition.state is State.OUT
    sixth.is_one_clean_answer()
    assert (sixth.attempts, sixth.asked) == ([(SOUND, None)], (0, 1))
    assert row.kind in condition.why


@pytest.fixture
def hasty(house: House) -> Any:
    """The first ping goes out long before a provider is given up."""
    context = house.gateway.application.context
    before, context.settings = context.settings, EdgeSettings(first_ping_s=LIMIT_S / 6, ping_s=LIMIT_S / 6)
    yield house
    context.settings = before


async def test_failover_stays_invisible_after_a_ping(hasty: House) -> None:
    """A 200 and pings have gone out while the first provider was silent: the second one's answer follows."""
    cell = await play(hasty, ("silent", None), (SOUND, None), stream=True)

    cell.is_one_clean_answer()
    assert cell.told.names[0] == "ping"
    assert cell.attempts == [("silent", F.TIMEOUT), (SOUND, None)]


async def test_a_total_failure_after_a_ping_is_an_event(hasty: House) -> None:
    """It carries the error that would have been the status."""
    cell = await play(hasty, ("silent", None), (ODD, {"status": 529}), stream=True)

    error = json.loads(cell.told.events[-1][1])
    assert (cell.told.status, set(cell.told.names[:-1]), cell.told.names[-1]) == (200, {"ping"}, "error")
    assert error["error"]["type"] == "overloaded_error"
    assert (cell.receipt["outcome"], cell.receipt["cost_nusd"]) == ("failed", 0)


async def test_when_all_are_down_the_house_still_answers(house: House) -> None:
    """Row 28: a 503 at once for the work; health, models and the key's own page are as always."""
    cell = await play(house, ("closed-port", None), ("no-such-name", None), stream=False)
    key = house.gateway.headers()
    pages = ["/livez", "/readyz", "/api/v1/models", "/api/v1/key"]
    told = await asyncio.gather(*(house.gateway.request("GET", page, key) for page in pages))

    cell.is_refused(503, "api_error")
    assert [page.status for page in told] == [200] * len(pages)
