"""The first start: once per database, whoever starts together."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa
from tests.unit.accounts.house import House

from modelgates_server.accounts.keys import well_formed
from modelgates_server.accounts.values import KeyClass
from modelgates_server.errors import StoreMismatch
from modelgates_server.ledger.credit import standing
from modelgates_server.management.setup import initialise, new_sign_in_link
from modelgates_server.storage import schema
from modelgates_server.storage.engine import open_engine, reading
from modelgates_server.storage.maintenance import upgrade

PEPPER = bytes(range(32))


def test_the_first_start_gives_one_key_of_each_class(house: House) -> None:
    """Both are well formed, and the inference key belongs to the first administrator."""
    assert well_formed(house.made.api_key or "") is KeyClass.INFERENCE
    assert well_formed(house.made.management_key or "") is KeyClass.MANAGEMENT
    assert (house.made.api_key or "") not in repr(house.made)
    assert not house.made.already


def test_a_second_start_gives_no_keys_but_a_fresh_link(house: House) -> None:
    """Keys are shown once; a way in is always given."""
    again = initialise(house.engine, house.pepper, 100 * 10**9, house.clock.now_s())
    assert (again.api_key, again.management_key, again.already) == (None, None, True)
    assert again.organization_id == house.made.organization_id
    assert again.sign_in_token != house.made.sign_in_token
    assert new_sign_in_link(house.engine, again.organization_id, "test", house.clock.now_s()) != again.sign_in_token


def test_another_secret_is_refused(house: House) -> None:
    """The database keeps belonging to the secret that it was made with."""
    with pytest.raises(StoreMismatch):
        initialise(house.engine, b"z" * 32, 0, house.clock.now_s())


def test_without_a_grant_there_is_no_credit_and_no_entry(tmp_path: Path) -> None:
    """An initial grant of zero is a choice."""
    upgrade(tmp_path / "m.db")
    engine = open_engine(tmp_path / "m.db")
    made = initialise(engine, PEPPER, 0, 1_800_000_000)
    with reading(engine) as connection:
        assert standing(connection, made.organization_id).granted_nusd == 0
        assert connection.execute(sa.select(schema.entries)).all() == []
    engine.dispose()
