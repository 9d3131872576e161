"""One of two providers is sick (reliability rows 1, 4, 6, 7, 29 and R10): clients notice nothing, and soon it costs nothing.

Conversations stay where they are held, move when they must, and stay there then (design decision 12).
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from statistics import median
from typing import Any, Final
from uuid import uuid4

import pytest
import pytest_asyncio
from tests.support import raw
from tests.support.gateway import Gateway, Told, ask, open_gateway, until
from tests.support.upstream import Upstream

from modelgates_server.routing.health import State
from modelgates_server.routing.verdict import FaultClass

pytestmark = pytest.mark.asyncio(loop_scope="session")

LIMIT_S: Final = 1.0
QUICK: Final = {"first_byte_s": LIMIT_S, "answer_s": LIMIT_S, "connect_s": LIMIT_S / 2, "retry_pause_s": 0.01}
SLUG: Final = "anthropic/claude-opus-4.8"

REQUESTS, CLIENTS = 800, 16
SUCCESS_MIN: Final = 0.9995
SLOWER_MAX: Final = 2.0
"""Once a provider is passed over, a request takes as long as without it. Twice as long is the machine's noise."""

SICK: Final[dict[str, dict[str, Any] | None]] = {
    "dead": None,
    "black-hole": None,
    "silent": None,
    "flapping": {"status": 500},
    "slow": {"first_event_delay_s": 300},
}
"""Who is sick, and what a simulated one does when it is: the flapping one every second time, by chance."""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def ward(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    """A gateway over one sound provider and all the sick ones; a request names its two."""
    folder = tmp_path_factory.mktemp("ward")
    async with AsyncExitStack() as stack:
        urls = {
            "dead": raw.closed_port(),
            "black-hole": stack.enter_context(raw.black_hole()),
            "silent": (await stack.enter_async_context(raw.raw(raw.silent))).url,
        }
        gateway = await stack.enter_async_context(
            open_gateway(
                folder / "g",
                simulators={"sound": "anthropic", "flapping": "anthropic", "slow": "anthropic"},
                upstreams=[Upstream(slug, url) for slug, url in urls.items()],
                routing=QUICK,
                credit_usd="1000",
            )
        )
        yield gateway
        await gateway.quiet()
        assert (gateway.problems(), gateway.overspent()) == ([], [])


async def one(gateway: Gateway, *slugs: str, stream: bool = False) -> Told:
    wishes = {"order": slugs, "only": slugs}
    return await gateway.send(ask(f"hello {uuid4()}", max_tokens=5, stream=stream, provider=wishes))


def whole(told: Told, *, stream: bool) -> bool:
    return told.status == 200 and (told.names[-1] == "message_stop" if stream else told.json["id"] == told.id)


def script(gateway: Gateway, sick: str) -> None:
    """Tell a simulated sick provider what to do, for as long as the test takes."""
    control = SICK[sick]
    if control is not None:
        chance = random.Random(7)
        always = sick != "flapping"
        simulator = gateway.simulators[1 if sick == "flapping" else 2]
        simulator.script.extend(control if always or chance.random() < 0.5 else {} for _ in range(2 * REQUESTS))


async def seconds_for(gateway: Gateway, *slugs: str) -> float:
    loop = asyncio.get_running_loop()
    begun_s = loop.time()
    await one(gateway, *slugs)
    return loop.time() - begun_s


@pytest.mark.parametrize("sick", SICK)
async def test_clients_do_not_notice_a_sick_provider(ward: Gateway, sick: str) -> None:
    """All are answered; the sick one is soon passed over, and from then on it adds nothing that could be measured."""
    ward.forget()
    script(ward, sick)
    numbers = iter(range(REQUESTS))
    answered: list[bool] = []
    ids: list[str] = []

    async def client() -> None:
        for number in numbers:
            stream = number % 2 == 0
            told = await one(ward, sick, "sound", stream=stream)
            answered.append(whole(told, stream=stream))
            ids.append(told.id)

    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    router = ward.application.relay.router
    condition = router.health.condition(sick, SLUG, router.clock.monotonic_s())
    receipts = [ward.generation(id_) for id_ in ids]
    touched = [row for row in receipts if any(a["provider"] == sick for a in json.loads(row["attempts"]))]
    pairs = [(await seconds_for(ward, sick, "sound"), await seconds_for(ward, "sound")) for _ in range(100)]
    ratio = median(with_sick for with_sick, _ in pairs) / median(alone for _, alone in pairs)
    print(f"\n{sick}: {sum(answered)}/{len(answered)} answered, {len(touched)} touched it, then {ratio:.2f} x")

    assert sum(answered) >= SUCCESS_MIN * REQUESTS
    assert condition.state is State.OUT, condition
    assert len(touched) <= REQUESTS // 10
    assert ratio < SLOWER_MAX


CONVERSATIONS: Final = {
    "by its session": ({"x_claude_code_session_id": "{}"}, "hello"),
    "by its opening": ({}, "hello {}"),
}


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("known", CONVERSATIONS)
async def test_a_conversation_stays_moves_and_stays(pair: Gateway, known: str, stream: bool) -> None:
    """Whoever holds a conversation is asked first, also after a restart; when it fails another one takes over and holds it."""
    headers, text = CONVERSATIONS[known]
    name = str(uuid4())
    headers = {header: value.format(name) for header, value in headers.items()}
    turns: list[dict[str, Any]] = [{"role": "user", "content": text.format(name)}]

    async def turn(failing: int | None = None) -> str:
        if failing is not None:
            pair.simulators[failing].script.append({"status": 500})
        told = await pair.send(ask(stream=stream, messages=turns), **headers)
        assert whole(told, stream=stream)
        turns.extend([{"role": "assistant", "content": "And?"}, {"role": "user", "content": "More."}])
        pair.application.relay.router.health.forget()  # what follows is not for fear of one that failed
        return str(pair.generation(told.id)["provider"])

    served = [await turn(), await turn(), await turn(failing=0), await turn(), await turn()]
    pair.application.relay.router.stickiness.forget()
    served += [await turn(), await turn(failing=1), await turn()]
    pair.forget()
    served += [await turn()]

    first, second = "anthropic", "backup-1"
    assert served == [first, first, second, second, second, second, first, first, first]


async def test_another_conversation_goes_its_own_way(pair: Gateway) -> None:
    """One that moved takes no other along."""
    pair.simulators[0].script.append({"status": 500})
    moved = await pair.send(ask(), x_claude_code_session_id=str(uuid4()))
    other = await pair.send(ask(), x_claude_code_session_id=str(uuid4()))

    assert [pair.generation(told.id)["provider"] for told in (moved, other)] == ["backup-1", "anthropic"]


async def test_a_trial_at_a_black_hole_has_one_victim(tmp_path: Path) -> None:
    """While one request waits on trial, all others are answered elsewhere; when its client leaves, the next may try."""
    async with open_gateway(tmp_path / "g", simulators=2) as gateway:
        health = gateway.application.relay.router.health
        now_s = gateway.application.context.clock.monotonic_s()
        for _ in range(5):
            health.failed("anthropic", "anthropic/claude-opus-4.8", FaultClass.UPSTREAM, now_s - 31)
        gateway.simulator.script.append({"delay_s": 300})
        victim = asyncio.get_running_loop().create_task(gateway.send(ask("victim")))
        await until(lambda: gateway.simulator.log, "nobody is on trial")
        others = [await gateway.send(ask(f"other {number}")) for number in range(5)]
        held = len(gateway.simulator.log)
        victim.cancel()
        await until(lambda: gateway.simulator.log[0].outcome == "cancelled", "the provider was not let go")
        after = await gateway.send(ask("after"))

    assert [told.status for told in (*others, after)] == [200] * 6
    assert (held, len(gateway.simulator.log)) == (1, 2)
