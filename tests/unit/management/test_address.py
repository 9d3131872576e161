"""Where the gateway was served last stands in the database itself."""

from __future__ import annotations

from tests.unit.accounts.house import House

from modelgates_server.management.address import note_served_url, served_admin_url, served_url
from modelgates_server.storage.maintenance import check


def test_the_last_address_counts(house: House) -> None:
    """None before the first start; a later one replaces it; the audit chain and the books know nothing of it."""
    assert served_url(house.engine) is None
    for url in ("http://127.0.0.1:8901", "https://gates.example.com"):
        note_served_url(house.engine, url)
        assert served_url(house.engine) == url
    assert check(house.database) == []


def test_the_address_of_management_goes_with_its_server(house: House) -> None:
    """It is known while the last server that started had one of its own, and forgotten with the next that has none."""
    assert served_admin_url(house.engine) is None
    note_served_url(house.engine, "http://127.0.0.1:1", "http://127.0.0.1:2")
    assert (served_url(house.engine), served_admin_url(house.engine)) == ("http://127.0.0.1:1", "http://127.0.0.1:2")
    note_served_url(house.engine, "http://127.0.0.1:1")
    assert served_admin_url(house.engine) is None
