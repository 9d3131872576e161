"""Credentials that expire: fetched once for all who wait, replaced in time, and never a storm on the token server."""

from __future__ import annotations

import asyncio
import threading

import pytest

from modelgates_server.clock import ManualClock
from modelgates_server.providers.tokens import AFTER_FAILURE_S, EARLY_S, PAUSE_S, Granted, Refreshing
from modelgates_server.providers.wire import CredentialError


class Issuer:
    """Gives numbered tokens that live an hour, or fails. A closed `gate` keeps fetches waiting in their threads."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.asked: list[bool] = []
        self.gate = threading.Event()
        self.gate.set()
        self.failing = False
        self.lives_s = 3600.0
        self.tokens = Refreshing("a token", self.fetch, self.clock)

    def fetch(self, forced: bool) -> Granted[str]:
        self.asked.append(forced)
        number = len(self.asked)
        assert self.gate.wait(10)
        if self.failing:
            raise OSError("no answer for sk-ant-api03-aaaaaaaaaaaa\nBearer abcdefgh12345678")
        return Granted(f"token {number}", self.clock.now_s() + self.lives_s)

    async def settled(self) -> None:
        """Let a fetch in the background come to its end."""
        if self.tokens._coming is not None:
            await asyncio.wait([self.tokens._coming])
            await asyncio.sleep(0)  # its callbacks


async def test_a_hundred_waiters_cause_one_fetch() -> None:
    """Whoever comes while a token is fetched gets that one; whoever leaves takes nothing from the others."""
    issuer = Issuer()
    issuer.gate.clear()
    async with asyncio.TaskGroup() as group:
        waiters = [group.create_task(issuer.tokens.get()) for _ in range(100)]
        await asyncio.sleep(0)
        waiters[0].cancel()
        await asyncio.sleep(0)
        issuer.gate.set()

    assert {waiter.result() for waiter in waiters[1:]} == {"token 1"}
    assert issuer.asked == [False]


async def test_the_old_one_serves_while_the_new_one_comes() -> None:
    """Five minutes before the end a new one is fetched, in the background; nobody waits for it."""
    issuer = Issuer()
    await issuer.tokens.get()
    issuer.clock.advance(3600 - EARLY_S)
    issuer.gate.clear()

    assert [await issuer.tokens.get() for _ in range(10)] == ["token 1"] * 10
    issuer.gate.set()
    await issuer.settled()
    assert issuer.asked == [False, False]
    assert await issuer.tokens.get() == "token 2"


async def test_a_failure_keeps_the_old_one_until_its_end() -> None:
    """The token server is away: we go on as long as what we have is valid, then say so; no secret in the words."""
    issuer = Issuer()
    await issuer.tokens.get()
    issuer.failing = True
    issuer.clock.advance(3600 - EARLY_S)
    for _ in range(5):
        assert await issuer.tokens.get() == "token 1"
        await issuer.settled()
        issuer.clock.advance(PAUSE_S)
    issuer.clock.advance(EARLY_S)

    with pytest.raises(CredentialError, match="cannot get a token: OSError: no answer for") as failed:
        await issuer.tokens.get()
    assert "aaaa" not in str(failed.value)
    assert "abcdefgh" not in str(failed.value)
    assert len(issuer.asked) == 7


async def test_a_failure_stands_for_a_moment() -> None:
    """Requests fail at once instead of each waiting for a timeout; after a moment the next one asks again."""
    issuer = Issuer()
    issuer.failing = True
    for _ in range(3):
        with pytest.raises(CredentialError):
            await issuer.tokens.get()
    assert issuer.asked == [False]
    issuer.failing = False
    issuer.clock.advance(AFTER_FAILURE_S)

    assert await issuer.tokens.get() == "token 2"


async def test_a_server_that_gives_what_is_nearly_over_is_not_stormed() -> None:
    """Google's metadata server keeps a token until four minutes before its end: one look every half minute is enough."""
    issuer = Issuer()
    issuer.lives_s = EARLY_S - 60
    for _ in range(50):
        await issuer.tokens.get()
        await issuer.settled()
        issuer.clock.advance(1)

    assert len(issuer.asked) == 2


async def test_a_refused_token_is_replaced_once_for_all() -> None:
    """A storm of refusals of one token fetches one other; those who come late find it there."""
    issuer = Issuer()
    old = await issuer.tokens.get()
    renewed = await asyncio.gather(*(issuer.tokens.renew(lambda token: token == old) for _ in range(50)))

    assert renewed == [True] * 50
    assert issuer.asked == [False, True]
    assert await issuer.tokens.renew(lambda token: token == old)
    assert await issuer.tokens.get() == "token 2"


async def test_a_server_that_refuses_every_token_is_asked_twice_a_minute() -> None:
    """When the new one is refused too, the credential is not what is wrong."""
    issuer = Issuer()
    await issuer.tokens.get()
    for _ in range(20):
        held = await issuer.tokens.get()
        await issuer.tokens.renew(lambda token, held=held: token == held)
        issuer.clock.advance(3)

    assert len(issuer.asked) == 3


async def test_a_renewal_that_fails_leaves_the_old_one() -> None:
    """It was refused once, which need not be its fault."""
    issuer = Issuer()
    old = await issuer.tokens.get()
    issuer.failing = True

    with pytest.raises(CredentialError):
        await issuer.tokens.renew(lambda token: token == old)
    assert await issuer.tokens.get() == old
