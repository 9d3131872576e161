"""Telling whose a database is."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from tests.unit.accounts.house import House

from modelgates_server.errors import StoreMismatch, StoreUnavailable
from modelgates_server.storage import maintenance, schema
from modelgates_server.storage.engine import database_of, transaction
from modelgates_server.storage.upgrades import as_database


def test_a_database_belongs_to_its_secret(house: House) -> None:
    """Another secret is refused, before any key silently stops working; the secret itself is not stored."""
    maintenance.verify_secret(house.engine, house.pepper)
    with pytest.raises(StoreMismatch, match="another secret"):
        maintenance.verify_secret(house.engine, b"y" * 32)
    assert house.pepper.hex() not in maintenance.fingerprint(house.pepper)


def test_a_database_that_was_moved_is_served_no_more(house: House) -> None:
    """It says where its rows are now."""
    with transaction(house.engine) as connection:
        connection.execute(sa.insert(schema.meta).values(key=maintenance.MOVED_TO, value="postgresql://h/d"))
    with pytest.raises(StoreMismatch, match="moved to postgresql://h/d"):
        maintenance.verify_secret(house.engine, house.pepper)


def test_what_is_not_there_is_not_checked(tmp_path: object) -> None:
    """A missing file and a server that is away are told, not made or reported as sound."""
    path = as_database(tmp_path / "missing.db")  # type: ignore[operator]
    for database in (path, database_of("postgresql://u@127.0.0.1:1/d")):
        with pytest.raises(StoreUnavailable):
            maintenance.check(database)
    assert not path.path.exists()
