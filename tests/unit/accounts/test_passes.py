"""A pass is its key in everything, for a minute."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa
from tests.unit.accounts.house import House
from tests.unit.accounts.test_directory import make

from modelgates_server import upkeep
from modelgates_server.accounts import keys
from modelgates_server.accounts.values import KeyClass
from modelgates_server.errors import BadRequest, NotFound, Unauthenticated
from modelgates_server.management import delete_key, set_key_disabled, update_key_limit
from modelgates_server.management.passes import PASS_LIFE_S, make_pass
from modelgates_server.storage import schema
from modelgates_server.storage.engine import reading, transaction
from modelgates_server.storage.reader import Reader, open_reader


def pass_for(house: House, key_hash: str) -> str:
    return make_pass(house.engine, house.pepper, house.made.organization_id, key_hash, "test", house.clock.now_s())


async def test_a_pass_is_its_key_in_everything(house: House) -> None:
    """The caller is that of the key: the same meters, policy and name; only its end is nearer."""
    secret, key_hash = make(house, limit_nusd=5 * 10**9, requests_per_minute=7)
    directory = house.directory()
    by_key, by_pass = await directory.identify([secret]), await directory.identify([pass_for(house, key_hash)])
    assert by_pass == replace(by_key, expires_at_s=int(house.clock.now_s()) + PASS_LIFE_S)
    assert by_key.expires_at_s is None


async def test_the_key_outlives_its_pass(house: House) -> None:
    """What a pass ends is the pass: the key goes on, also in a directory that met the pass first."""
    secret, key_hash = make(house)
    directory, text = house.directory(), pass_for(house, key_hash)
    await directory.identify([text])
    house.clock.advance(PASS_LIFE_S)
    with pytest.raises(Unauthenticated, match="expired"):
        await directory.identify([text])
    assert (await directory.identify([secret])).expires_at_s is None


async def test_a_pass_ends_with_a_key_that_ends_sooner(house: House) -> None:
    """A key's own expiry holds for its passes."""
    ends_at_s = int(house.clock.now_s()) + 10
    _, key_hash = make(house, expires_at_s=ends_at_s)
    assert (await house.directory().identify([pass_for(house, key_hash)])).expires_at_s == ends_at_s


@pytest.mark.parametrize("kill", [delete_key, lambda *which: set_key_disabled(*which[:3], True, *which[3:])])
async def test_a_dead_key_has_dead_passes(house: House, kill: Any) -> None:
    """A pass that is under way dies with its key, in a process that has met it."""
    _, key_hash = make(house)
    directory, text = house.directory(), pass_for(house, key_hash)
    await directory.identify([text])
    kill(house.engine, house.made.organization_id, key_hash, "test", house.clock.now_s())
    await directory.refresh()
    with pytest.raises(Unauthenticated):
        await directory.identify([text])


async def test_a_changed_key_is_a_changed_pass(house: House) -> None:
    """A limit that is set while a pass lives holds for it."""
    _, key_hash = make(house)
    directory, text = house.directory(), pass_for(house, key_hash)
    await directory.identify([text])
    update_key_limit(house.engine, house.made.organization_id, key_hash, 10**9, None, "test", house.clock.now_s())
    await directory.refresh()
    assert 10**9 in [meter.limit for meter in (await directory.identify([text])).meters]


class CountingReader(Reader):
    """Remembers what was asked of the passes."""

    def __init__(self, inner: Reader) -> None:
        self._inner = inner
        self.asked = 0

    async def one(self, statement: str, values: Any = None) -> Any:
        self.asked += "FROM passes" in statement
        return await self._inner.one(statement, values or {})

    async def all(self, statement: str, values: Any = None) -> Any:
        return await self._inner.all(statement, values or {})

    async def close(self) -> None:
        await self._inner.close()


async def test_a_key_asks_nothing_about_passes(house: House) -> None:
    """The look-up among the passes costs only what is no key, and only once a request."""
    secret, key_hash = make(house)
    reader = CountingReader(open_reader(house.database))
    house.readers.append(reader)
    directory = type(house.directory())(reader, house.pepper, house.clock)
    for _ in range(3):
        await directory.identify([secret])
    assert reader.asked == 0
    await directory.identify([pass_for(house, key_hash)])
    assert reader.asked == 1


def test_only_a_live_inference_key_of_the_organisation_gets_one(house: House) -> None:
    """A management key, a disabled key, an expired one and a stranger's are refused with the reason."""
    _, managing = make(house, key_class=KeyClass.MANAGEMENT)
    _, off = make(house)
    _, old = make(house, expires_at_s=int(house.clock.now_s()) + 1)
    set_key_disabled(house.engine, house.made.organization_id, off, True, "test", house.clock.now_s())
    house.clock.advance(5)
    for key_hash, told in ((managing, "management key"), (off, "disabled"), (old, "expired")):
        with pytest.raises(BadRequest, match=told):
            pass_for(house, key_hash)
    with pytest.raises(NotFound):
        make_pass(house.engine, house.pepper, "org-elsewhere", off, "test", house.clock.now_s())


def test_a_pass_leaves_an_audit_row_and_no_secret(house: House) -> None:
    """Who made it, and for which key; its text is nowhere in the database, only its digest."""
    _, key_hash = make(house)
    text = pass_for(house, key_hash)
    assert keys.well_formed(text) is KeyClass.INFERENCE
    with reading(house.engine) as connection:
        query = sa.select(schema.audit).where(schema.audit.c.action == "pass.make")
        (noted,) = connection.execute(query).mappings()
        (kept,) = connection.execute(sa.select(schema.passes)).mappings()
    assert (noted["actor"], noted["target"]) == ("test", key_hash)
    assert text not in json.dumps([dict(noted), dict(kept)])
    assert kept["hash"] == keys.digest(house.pepper, text)


def test_passes_that_are_over_are_removed(house: House) -> None:
    """Upkeep takes away those that have ended, and no other."""
    _, key_hash = make(house)
    pass_for(house, key_hash)
    house.clock.advance(PASS_LIFE_S + 1)
    fresh = keys.digest(house.pepper, pass_for(house, key_hash))
    with transaction(house.engine) as connection:
        for statement, row in upkeep.prune(house.clock):
            connection.execute(sa.text(statement), row)
        assert list(connection.execute(sa.select(schema.passes.c.hash)).scalars()) == [fresh]
