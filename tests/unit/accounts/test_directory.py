"""From presented keys to callers: who is let in, who is refused and with which sentence."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import sqlalchemy as sa
from tests.unit.accounts.house import House

from modelgates_server.accounts import keys
from modelgates_server.accounts.directory import Directory
from modelgates_server.accounts.values import KeyClass
from modelgates_server.errors import Unauthenticated
from modelgates_server.limits import Scope, Unit, Window
from modelgates_server.management import NewKey, create_key, delete_key, set_key_disabled, update_key_limit
from modelgates_server.management.budgets import Budget, set_budget
from modelgates_server.storage import schema
from modelgates_server.storage.engine import transaction
from modelgates_server.storage.reader import Reader, open_reader


def make(house: House, name: str = "k", **wanted: object) -> tuple[str, str]:
    secret, row = create_key(
        house.engine, house.pepper, house.made.organization_id, NewKey(name, **wanted), "test", house.clock.now_s()
    )
    return secret, row.hash


async def test_a_live_key_is_its_caller(house: House) -> None:
    """The hash, the class and the organisation come from its row."""
    caller = await house.directory().identify([house.made.api_key or ""])
    assert caller.key_hash == keys.digest(house.pepper, house.made.api_key or "")
    assert (caller.key_class, caller.organization_id) == (KeyClass.INFERENCE, house.made.organization_id)
    assert caller.member_id is not None


async def test_the_first_live_key_wins(house: House) -> None:
    """A client that sends a foreign token and one of our keys is let in by ours, in either order."""
    secret, key_hash = make(house)
    directory = house.directory()
    for presented in (["sk-ant-oat01-x", secret], [secret, "sk-ant-oat01-x"], ["", secret]):
        assert (await directory.identify(presented)).key_hash == key_hash


@pytest.mark.parametrize(
    ("presented", "told"),
    [
        ([], "No API key was sent"),
        (["sk-ant-api03-abc"], "not keys of a provider"),
        (["sk-mg-v1-short"], "cut off or mistyped"),
        ([keys.mint(KeyClass.INFERENCE).secret], "belongs to this gateway"),
        (["sk-ant-x", keys.mint(KeyClass.INFERENCE).secret], "belongs to this gateway"),
        (["\udcff\x00é" * 9], "not keys of a provider"),
    ],
)
async def test_what_is_no_key_of_ours_is_refused_without_an_echo(house: House, presented: list[str], told: str) -> None:
    """The refusal says what to do and repeats nothing."""
    with pytest.raises(Unauthenticated, match=told) as refused:
        await house.directory().identify(presented)
    assert not any(text in refused.value.message for text in presented)


async def test_a_stored_digest_is_no_key(house: House) -> None:
    """Whoever reads the database cannot present what is in it (pass-the-hash)."""
    _, key_hash = make(house)
    for stolen in (key_hash, "sk-mg-v1-" + key_hash[:49]):
        with pytest.raises(Unauthenticated):
            await house.directory().identify([stolen])


async def test_a_row_planted_under_another_pepper_opens_nothing(house: House) -> None:
    """Without the secret outside the database, a key that was written into it is unknown."""
    secret, _ = make(house)
    with pytest.raises(Unauthenticated, match="belongs to this gateway"):
        await house.directory(pepper=b"x" * 32).identify([secret])


async def test_disabling_bites_in_another_process_after_its_refresh(house: House) -> None:
    """Another directory remembers the key until it refreshes; enabling works the same way."""
    secret, key_hash = make(house)
    here, there = house.directory(), house.directory()
    caller = await there.identify([secret])
    set_key_disabled(house.engine, house.made.organization_id, key_hash, True, "test", house.clock.now_s())
    assert await there.identify([secret]) is caller
    await there.refresh()
    for directory in (here, there):
        with pytest.raises(Unauthenticated, match="disabled"):
            await directory.identify([secret])
    set_key_disabled(house.engine, house.made.organization_id, key_hash, False, "test", house.clock.now_s())
    assert (await there.identify([secret])).policy_version > caller.policy_version


async def test_reload_refuses_a_dead_key_at_once(house: House) -> None:
    """After a hold said stale, the caller is read again, refresh or not."""
    secret, key_hash = make(house)
    directory = house.directory()
    caller = await directory.identify([secret])
    delete_key(house.engine, house.made.organization_id, key_hash, "test", house.clock.now_s())
    with pytest.raises(Unauthenticated, match="belongs to this gateway"):
        await directory.reload(caller)


async def test_a_store_that_forgot_the_newest_policy_is_followed(house: House) -> None:
    """After a failover that lost a change, callers are read again under the version that is there: a hold would refuse all others."""
    directory = house.directory()

    def set_version(version: int) -> None:
        with transaction(house.engine) as connection:
            connection.execute(sa.update(schema.policy).values(version=version))

    set_version(10)
    caller = await directory.identify([house.made.api_key or ""])
    set_version(9)
    reloaded = await directory.reload(caller)

    assert (caller.policy_version, reloaded.policy_version) == (10, 9)
    assert (await directory.identify([house.made.api_key or ""])).policy_version == 9


async def test_a_deleted_key_reads_like_an_unknown_one(house: House) -> None:
    """Nobody learns that a key once existed."""
    secret, key_hash = make(house)
    delete_key(house.engine, house.made.organization_id, key_hash, "test", house.clock.now_s())
    told = []
    for presented in (secret, keys.mint(KeyClass.INFERENCE).secret):
        with pytest.raises(Unauthenticated) as refused:
            await house.directory().identify([presented])
        told.append(refused.value.message)
    assert told[0] == told[1]


async def test_expiry_is_looked_at_every_time(house: House) -> None:
    """A key in memory dies to the second."""
    secret, _ = make(house, expires_at_s=int(house.clock.now_s()) + 60)
    directory = house.directory()
    house.clock.advance(59)
    await directory.identify([secret])
    house.clock.advance(1)
    with pytest.raises(Unauthenticated, match="expired"):
        await directory.identify([secret])


async def test_meters_stand_in_the_order_of_refusals(house: House) -> None:
    """Rates, member, workspace, the key's window, its lifetime, and last the organisation's credit."""
    now_s = house.clock.now_s()
    first = await house.directory().identify([house.made.api_key or ""])
    set_budget(
        house.engine,
        house.made.organization_id,
        Budget(Scope.WORKSPACE, first.workspace_id, Window.MONTH, 7),
        "test",
        now_s,
    )
    set_budget(
        house.engine,
        house.made.organization_id,
        Budget(Scope.MEMBER, first.member_id or "", Window.DAY, 8),
        "test",
        now_s,
    )
    secret, key_hash = make(
        house, member_id=first.member_id, limit_nusd=9, limit_reset="daily", requests_per_minute=2, tokens_per_minute=3
    )
    meters = (await house.directory().identify([secret])).meters
    assert [(ref.scope, ref.unit, ref.window, ref.limit) for ref in meters] == [
        (Scope.KEY, Unit.REQUESTS, Window.MINUTE, 2),
        (Scope.KEY, Unit.TOKENS, Window.MINUTE, 3),
        (Scope.MEMBER, Unit.NUSD, Window.DAY, 8),
        (Scope.WORKSPACE, Unit.NUSD, Window.MONTH, 7),
        (Scope.KEY, Unit.NUSD, Window.DAY, 9),
        (Scope.KEY, Unit.NUSD, Window.LIFE, None),
        (Scope.ORGANIZATION, Unit.NUSD, Window.LIFE, None),
    ]
    assert meters[-1].limit_from_row
    assert meters[-2].scope_id == key_hash


async def test_a_limit_that_never_resets_stands_on_the_lifetime_meter(house: House) -> None:
    """One meter carries it; lifting the limit leaves a meter that only counts."""
    secret, key_hash = make(house, limit_nusd=5)
    directory = house.directory()
    assert [ref.limit for ref in (await directory.identify([secret])).meters] == [5, None]
    update_key_limit(house.engine, house.made.organization_id, key_hash, None, None, "test", house.clock.now_s())
    assert [ref.limit for ref in (await directory.reload(await directory.identify([secret]))).meters] == [None, None]


class SlowReader:
    """Another process's reader whose answers take their time, as over a network; it counts the reads of keys."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self.keys_read = 0

    async def all(self, statement: str, values: Any = None) -> list[Any]:
        self.keys_read += "FROM api_keys" in statement
        found = await self._reader.all(statement, values)
        await asyncio.sleep(0)
        return found

    async def one(self, statement: str, values: Any = None) -> Any:
        rows = await self.all(statement, values)
        return rows[0] if rows else None

    async def close(self) -> None:
        await self._reader.close()


async def test_a_thousand_requests_that_miss_a_caller_read_it_once(house: House) -> None:
    """After a change of policy nobody's database is stormed; an older version never comes back."""
    secret, key_hash = make(house)
    reader = SlowReader(open_reader(house.database))
    directory = Directory(reader, house.pepper, house.clock)
    await asyncio.gather(*(directory.identify([secret]) for _ in range(1000)))
    assert reader.keys_read == 1
    caller = await directory.identify([secret])
    update_key_limit(house.engine, house.made.organization_id, key_hash, 5, None, "test", house.clock.now_s())
    fresh = await asyncio.gather(*(directory.reload(caller) for _ in range(1000)))
    assert reader.keys_read == 2
    assert {one.policy_version for one in fresh} == {caller.policy_version + 1}
    await reader.close()


@pytest.mark.parametrize("gone", ["member", "workspace"])
async def test_a_key_whose_owner_or_place_is_gone_is_refused(house: House, gone: str) -> None:
    """Whatever the key's own row says."""
    first = await house.directory().identify([house.made.api_key or ""])
    table, row_id, column = {
        "member": (schema.members, first.member_id, "removed_at_s"),
        "workspace": (schema.workspaces, first.workspace_id, "deleted_at_s"),
    }[gone]
    with transaction(house.engine) as connection:
        connection.execute(sa.update(table).where(table.c.id == row_id).values({column: 1}))
    with pytest.raises(Unauthenticated):
        await house.directory().identify([house.made.api_key or ""])
