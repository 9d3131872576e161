"""Changes of keys and limits that meet requests in flight: the money is counted where it was spent, on either store."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from tests.support.gateway import Gateway, Told, ask, open_gateway, until
from tests.support.own import own
from tests.support.store import USD
from tests.walk.managing import done
from tests.walk.test_budgets import Ruler

from modelgates_server.errors import BadRequest, NotFound
from modelgates_server.limits import Scope, Window
from modelgates_server.management.assignments import assign_keys, unassign_keys
from modelgates_server.management.budgets import Budget, set_budget
from modelgates_server.management.credits import adjust_credits
from modelgates_server.management.guardrails import default_guardrail_id, update_guardrail
from modelgates_server.management.keys import update_key
from modelgates_server.management.prompt_log import PromptLog, set_prompt_log
from modelgates_server.management.workspaces import NewWorkspace, create_workspace


@pytest.fixture
async def gateway(tmp_path: Path, store_url: str) -> AsyncIterator[Gateway]:
    routing = {"hold_wait_s": 0.2, "clamp": False}
    async with open_gateway(tmp_path, database_url=store_url, routing=routing) as opened:
        yield opened
        await opened.quiet()
        assert (opened.problems(), opened.rows("SELECT id FROM meters WHERE held <> 0")) == ([], [])


@pytest.fixture
def ruler(gateway: Gateway) -> Ruler:
    return Ruler(gateway)


@pytest.fixture
def places(ruler: Ruler) -> tuple[str, str]:
    """Two workspaces."""
    return tuple(ruler.do(create_workspace, NewWorkspace(name)).id for name in ("First", "Second"))  # type: ignore[return-value]


async def send(gateway: Gateway, key: str, times: int = 1, **control: Any) -> None:
    for told in await asyncio.gather(*(gateway.send(ask(), key=key, simulate=control) for _ in range(times))):
        assert told.status == 200, told.body


def spent(gateway: Gateway, scope: str) -> dict[str, int]:
    """What the meters of a scope carry, by whose they are; all of an owner carry the same."""
    rows = gateway.rows("SELECT DISTINCT scope_id, posted FROM meters WHERE scope = :s AND posted <> 0", s=scope)
    found = {row["scope_id"]: row["posted"] for row in rows}
    assert len(found) == len(rows)
    return found


def costs(gateway: Gateway) -> dict[str, int]:
    """What the receipts say, by workspace."""
    rows = gateway.rows("SELECT workspace_id AS id, SUM(cost_nusd) AS cost FROM generations GROUP BY 1")
    return {row["id"]: row["cost"] for row in rows}


async def test_budgets_count_what_was_spent_in_their_own_workspace(
    gateway: Gateway, ruler: Ruler, places: tuple[str, str]
) -> None:
    """A key moves while some of its requests run; those that came before it settle last. Budgets that are set then know whose is what."""
    first, second = places
    ann = ruler.member()
    key, key_hash = gateway.new_key_row(workspace_id=first, member_id=ann.id)
    running = asyncio.create_task(send(gateway, key, 3, delay_s=1.0))
    await until(lambda: len(gateway.rows("SELECT id FROM holds")) == 3, "the requests are not held")
    ruler.do(update_key, key_hash, {"workspace_id": second})
    await gateway.application.context.directory.refresh()
    await send(gateway, key, 2)
    await running
    await gateway.settled()
    for place in places:
        ruler.budget(Scope.WORKSPACE, place, Window.DAY, USD)
        ruler.budget(Scope.WORKSPACE, place, Window.LIFE, 2 * USD)
        ruler.do(update_guardrail, default_guardrail_id(place), {"limit_nusd": USD, "reset_interval": "daily"})

    (each,) = {row["cost_nusd"] for row in gateway.rows("SELECT cost_nusd FROM generations")}
    assert costs(gateway) == {first: 3 * each, second: 2 * each}
    assert spent(gateway, "workspace") == costs(gateway)
    assert spent(gateway, "seat") == {f"{place}/{ann.id}": cost for place, cost in costs(gateway).items()}


async def test_the_first_request_after_a_move_belongs_to_the_new_workspace(
    gateway: Gateway, ruler: Ruler, places: tuple[str, str]
) -> None:
    """It was planned for a caller that is remembered; its receipt, its meters and what is kept of it follow the move all the same."""
    first, second = places
    ruler.do(set_prompt_log, first, PromptLog(enabled=True))
    for place in places:
        ruler.budget(Scope.WORKSPACE, place, Window.DAY, USD)
    for number in range(3):
        key, key_hash = gateway.new_key_row(f"key {number}", workspace_id=first)
        await gateway.application.context.directory.refresh()
        assert (await gateway.request("GET", "/api/v1/key", {"x-api-key": key})).status == 200
        ruler.do(update_key, key_hash, {"workspace_id": second})
        await send(gateway, key)
    await gateway.settled()

    assert list(costs(gateway)) == [second]
    assert spent(gateway, "workspace") == costs(gateway)
    assert gateway.rows("SELECT workspace_id FROM contents") == []


async def test_a_limit_that_is_set_once_more_counts_what_was_open(gateway: Gateway) -> None:
    """As docs/budgets.md promises: whoever sets it while requests run may set it again afterwards."""
    key, key_hash = gateway.new_key_row()
    running = asyncio.create_task(send(gateway, key, delay_s=0.8))
    await until(lambda: gateway.rows("SELECT id FROM holds") != [], "the request is not held")
    limit = {"limit": 1, "limit_reset": "daily"}
    await done(gateway, "PATCH", f"/keys/{key_hash}", limit)
    await running
    await gateway.settled()
    cost = gateway.rows("SELECT cost_nusd FROM generations")[0]["cost_nusd"]
    shown = (await done(gateway, "PATCH", f"/keys/{key_hash}", limit))["data"]

    assert round((1 - shown["limit_remaining"]) * USD) == cost


async def test_limits_below_what_was_used_are_no_damage(gateway: Gateway, ruler: Ruler) -> None:
    """A key's limit, met by a request that asks nothing of it, and the credit: `db check` finds nothing wrong, nothing more is admitted."""
    key, key_hash = gateway.new_key_row(limit_nusd=USD)
    await send(gateway, key)
    ruler.do(update_key, key_hash, {"limit_nusd": 1})
    async with own(gateway):
        await send(gateway, key)
        await gateway.settled()
        assert gateway.problems() == []
    ruler.do(adjust_credits, -100 * USD, "less")

    refused = await gateway.send(ask())
    assert refused.status == 402


class Restless:
    """Somebody who changes everything that limits requests, at random, while these run."""

    def __init__(self, ruler: Ruler, places: tuple[str, str], keys: list[str], dice: random.Random) -> None:
        self.ruler, self.places, self.keys, self.dice = ruler, places, keys, dice
        self.member = ruler.member().id
        self.rails = [ruler.guardrail(f"Guardrail {number}", 50 * USD) for number in range(2)]

    def change_something(self) -> None:
        """One change; some are refused, because they make no sense together."""
        with suppress(BadRequest, NotFound):
            self.dice.choice(
                (self._limit, self._move, self._switch, self._budget, self._guardrail, self._assign, self._rates)
            )()

    def _limit(self) -> None:
        limit, reset = self.dice.choice(((None, None), (20 * USD, None), (20 * USD, "daily"), (30 * USD, "weekly")))
        self._key(limit_nusd=limit, limit_reset=reset, include_byok_in_limit=self.dice.random() < 0.5)

    def _move(self) -> None:
        self._key(workspace_id=self.dice.choice(self.places))

    def _switch(self) -> None:
        self._key(disabled=self.dice.random() < 0.2)

    def _budget(self) -> None:
        scope, owner = self.dice.choice(
            (
                (Scope.WORKSPACE, self.dice.choice(self.places)),
                (Scope.MEMBER, self.member),
                (Scope.ORGANIZATION, self.ruler.org),
            )
        )
        limit, mode = self.dice.choice((None, 40 * USD)), self.dice.choice(("hard", "soft"))
        window = self.dice.choice((Window.DAY, Window.WEEK, Window.MONTH))
        self.ruler.do(set_budget, Budget(scope, owner, window, limit, mode, self.dice.random() < 0.5))

    def _guardrail(self) -> None:
        which = self.dice.choice((*self.rails, *map(default_guardrail_id, self.places)))
        said = {"limit_nusd": 40 * USD, "reset_interval": self.dice.choice(("daily", "weekly", "monthly"))}
        self.ruler.do(update_guardrail, which, said | {"mode": self.dice.choice(("hard", "soft"))})

    def _assign(self) -> None:
        whom = self.dice.choice((assign_keys, unassign_keys))
        self.ruler.do(whom, self.dice.choice(self.rails), [self.dice.choice(self.keys)])

    def _rates(self) -> None:
        self._key(parallel_max=self.dice.choice((None, 2, 8)), requests_per_minute=self.dice.choice((None, 500)))

    def _key(self, **changes: Any) -> None:
        self.ruler.do(update_key, self.dice.choice(self.keys), changes)


async def test_whatever_changes_meanwhile_the_books_agree(
    gateway: Gateway, ruler: Ruler, places: tuple[str, str]
) -> None:
    """A hundred requests, some of which fail or are left, under changes of everything: meters, receipts and roll-ups say the same."""
    dice = random.Random(20261126)
    keys = [gateway.new_key_row(f"key {number}") for number in range(4)]
    restless = Restless(ruler, places, [key_hash for _, key_hash in keys], dice)
    running = []
    for _ in range(100):
        control = dice.choice(({"delay_s": 0.1}, {"delay_s": 0.4}, {}, {"status": 500}, {"status": 529}))
        body = ask(stream=dice.random() < 0.5)
        one = asyncio.create_task(gateway.send(body, key=dice.choice(keys)[0], simulate=control))
        running.append(one)
        if dice.random() < 0.1:
            asyncio.get_running_loop().call_later(dice.random() * 0.3, one.cancel)
        await asyncio.sleep(dice.random() * 0.02)
        await asyncio.to_thread(restless.change_something)
    told = [one for one in await asyncio.gather(*running, return_exceptions=True) if isinstance(one, Told)]
    await gateway.settled()

    assert {one.status for one in told} <= {200, 401, 402, 429, 500, 502, 503, 529}
    assert sum(one.status == 200 for one in told) > 10
    assert gateway.rows("SELECT id FROM meters WHERE posted < 0 OR unit = 'parallel' AND posted <> 0") == []
