"""Wrong passwords slow down the account and the network, on both stores, however many come at once."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from tests.unit.accounts.house import House, open_house

from modelgates_server import upkeep
from modelgates_server.accounts.guesses import ACCOUNT, FORGET_S, KNOWN_S, NETWORK, Attempt, Guesses
from modelgates_server.storage import schema
from modelgates_server.storage.engine import database_of, reading, transaction

TEN_MINUTES_S = 600


@pytest.fixture
def either(store_url: str) -> Iterator[House]:
    with open_house(database_of(store_url)) as opened:
        yield opened


def guess(house: House, account: str = "ann@x.de", network: str = "192.0.2.1") -> Attempt | None:
    """Book a guess; None when it must wait."""
    guesses = Guesses(house.pepper)
    with house.engine.connect() as connection, connection.begin() as turn:
        attempt = guesses.book(connection, account, network, house.clock.now_s())
        if attempt is None:
            turn.rollback()
        return attempt


def wait_s(house: House, account: str = "ann@x.de", network: str = "192.0.2.1") -> int:
    with reading(house.engine) as connection:
        return Guesses(house.pepper).wait_s(connection, account, network, house.clock.now_s())


def sign_in(house: House, account: str = "ann@x.de", network: str = "192.0.2.1") -> None:
    attempt = guess(house, account, network)
    assert attempt is not None
    with transaction(house.engine) as connection:
        Guesses(house.pepper).forgive(connection, attempt, house.clock.now_s())


@pytest.mark.parametrize("addresses", [1, 1000])
def test_ten_thousand_guesses_in_ten_minutes_are_few(either: House, addresses: int) -> None:
    """On one account, from one address or from a thousand: at most 20 of them are looked at (reliability 1.3)."""
    looked_at, count = 0, 10_000 if either.database.kind == "sqlite" else 1_000
    for number in range(count):
        network = f"10.0.{number % addresses // 250}.{number % addresses % 250}"
        if wait_s(either, network=network) == 0:
            looked_at += guess(either, network=network) is not None
        either.clock.advance(TEN_MINUTES_S / count)
    assert 5 <= looked_at <= 20


def test_a_known_network_does_not_add_many(either: House) -> None:
    """Somebody who guesses from where the person signs in, too, gets no more than 20 in both ways together."""
    sign_in(either, network="192.0.2.9")
    looked_at = 0
    for number in range(600):
        looked_at += guess(either, network=("192.0.2.9", "198.51.100.1")[number % 2]) is not None
        either.clock.advance(1)
    assert looked_at <= 20


def test_looking_first_lets_nobody_through(either: House) -> None:
    """Thirty at the same moment are counted before any of them is looked at."""
    start, let_in, lock = threading.Barrier(30), [], threading.Lock()

    def work(number: int) -> None:
        start.wait()
        attempt = guess(either, network=f"10.1.0.{number}")
        with lock:
            let_in.append(attempt is not None)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(let_in), sum(let_in)) == (30, ACCOUNT.free)


def test_each_failure_doubles_the_wait_up_to_its_end(either: House) -> None:
    """And a wait that is over lets one through."""
    waits = []
    for _ in range(14):
        assert guess(either) is not None
        waits.append(wait_s(either))
        either.clock.advance(max(0, waits[-1] - 1))
        assert waits[-1] == 0 or guess(either) is None
        either.clock.advance(min(1, waits[-1]))
    assert waits == [0, 0, 5, 10, 20, 40, 80, 160, 320, 640, 900, 900, 900, 900]


def test_the_person_comes_in_while_others_guess(either: House) -> None:
    """From a network that they signed in from before, only their own failures count there."""
    sign_in(either, network="192.0.2.9")
    for number in range(40):
        guess(either, network=f"10.2.0.{number}")
    assert wait_s(either, network="203.0.113.1") > 0
    assert wait_s(either, network="192.0.2.9") == 0
    sign_in(either, network="192.0.2.9")
    assert wait_s(either, network="203.0.113.1") > 0  # which does not give the others new guesses
    either.clock.advance(KNOWN_S)
    assert guess(either, network="203.0.113.1") is not None
    sign_in(either, account="other@x.de", network="192.0.2.9")


def test_the_right_password_begins_anew(either: House) -> None:
    """The account's failures are forgiven, and the network keeps those that were somebody else's."""
    for _ in range(2):
        guess(either)
    sign_in(either)
    for _ in range(ACCOUNT.free):
        assert guess(either) is not None
    assert guess(either) is None


def test_a_network_that_tries_many_accounts_waits(either: House) -> None:
    """Also when it signs in to one of its own in between."""
    let_in = 0
    for number in range(100):
        let_in += guess(either, f"user{number}@x.de", "192.0.2.66") is not None
        if number == 10:
            sign_in(either, "own@x.de", "192.0.2.66")
    assert let_in <= NETWORK.free + 1
    assert wait_s(either, "user1000@x.de", "192.0.2.66") > 0
    assert wait_s(either, "user1000@x.de", "192.0.2.67") == 0


def test_failures_are_forgotten(either: House) -> None:
    """After half a day: whoever gave up in the evening begins anew."""
    for _ in range(10):
        guess(either)
        either.clock.advance(wait_s(either))
    either.clock.advance(FORGET_S)
    for _ in range(ACCOUNT.free):
        assert guess(either) is not None


def test_the_table_tells_nobody_who_tried(either: House) -> None:
    """Accounts and addresses are keyed digests; another installation's are others."""
    guess(either)
    with reading(either.engine) as connection:
        subjects = set(connection.execute(sa.select(schema.sign_in_failures.c.subject)).scalars())
    assert len(subjects) == 2
    assert all(len(subject) == 64 for subject in subjects)
    with transaction(either.engine) as connection:
        other = Guesses(b"another").book(connection, "ann@x.de", "192.0.2.1", either.clock.now_s())
    assert other is not None
    assert {other.own, other.network} & subjects == set()


def test_upkeep_forgets_failures_and_keeps_known_networks(either: House) -> None:
    """Failures of two days ago go; where somebody signed in from stays for as long as it counts."""
    guess(either, "nobody@x.de", "198.51.100.1")
    sign_in(either, network="192.0.2.9")
    either.clock.advance(3 * 24 * 3600)
    guess(either, "other@x.de", "198.51.100.2")
    assert (pruned(either), wait_s(either, network="192.0.2.9")) == (5, 0)
    either.clock.advance(KNOWN_S)
    assert pruned(either) == 0


def pruned(house: House) -> int:
    """Run upkeep; how many rows are left."""
    with transaction(house.engine) as connection:
        for statement, row in upkeep.prune(house.clock):
            connection.execute(sa.text(statement), row)
        return int(connection.execute(sa.select(sa.func.count()).select_from(schema.sign_in_failures)).scalar_one())
