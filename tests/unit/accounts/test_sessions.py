"""Signing in by link, and the sessions that follow."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from tests.unit.accounts.house import House

from modelgates_server.accounts import sessions
from modelgates_server.errors import Unauthenticated
from modelgates_server.storage import schema
from modelgates_server.storage.engine import transaction

HOUR_S = 3600


def sign_in(house: House) -> str:
    with transaction(house.engine) as connection:
        return sessions.redeem_link(connection, house.made.sign_in_token, house.clock.now_s())


def member(house: House, token: str) -> sessions.Member | None:
    with transaction(house.engine) as connection:
        session = sessions.find_session(connection, token, house.clock.now_s())
        if session is not None and session.due:
            sessions.note_seen(connection, token, house.clock.now_s())
    return None if session is None else session.member


def test_a_link_works_once(house: House) -> None:
    """The second use is refused, and so is a token that was never given."""
    session = sign_in(house)
    found = member(house, session)
    assert found is not None
    assert found.role == "admin"
    for token in (house.made.sign_in_token, session, "", "\udcff"):
        with transaction(house.engine) as connection, pytest.raises(Unauthenticated, match="sign-in link"):
            sessions.redeem_link(connection, token, house.clock.now_s())


def test_a_link_lives_for_a_day(house: House) -> None:
    """After 24 hours it is dead."""
    house.clock.advance(24 * HOUR_S)
    with pytest.raises(Unauthenticated):
        sign_in(house)


def test_a_session_ends_after_twelve_idle_hours_or_seven_days(house: House) -> None:
    """Use keeps it alive, but not for ever."""
    session = sign_in(house)
    for _ in range(15):
        house.clock.advance(11 * HOUR_S)
        assert member(house, session) is not None
    house.clock.advance(11 * HOUR_S)
    assert member(house, session) is None
    idle_from = sessions.SESSION_IDLE_S
    with transaction(house.engine) as connection:
        link = sessions.create_link(connection, first_member(connection), house.clock.now_s())
        other = sessions.redeem_link(connection, link, house.clock.now_s())
    house.clock.advance(idle_from)
    assert member(house, other) is None


def first_member(connection: sa.Connection) -> str:
    return str(connection.execute(sa.select(schema.members.c.id)).scalar_one())


def test_signing_out_ends_the_session_at_once(house: House) -> None:
    """The token means nothing afterwards, here or elsewhere."""
    session = sign_in(house)
    with transaction(house.engine) as connection:
        sessions.end_session(connection, session)
    assert member(house, session) is None


def test_no_token_is_stored(house: House) -> None:
    """The tables hold digests only."""
    session = sign_in(house)
    house.engine.dispose()
    stored = b"".join(path.read_bytes() for path in house.path.parent.iterdir())
    for token in (session, house.made.sign_in_token, house.made.api_key or "", house.made.management_key or ""):
        assert len(token) > 40
        assert token.encode() not in stored
