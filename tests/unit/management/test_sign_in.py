"""Signing in with links and passwords: who comes in, and which sessions that ends. On both stores."""

from __future__ import annotations

import dataclasses
import threading

import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from tests.unit.management.estate import Estate

from modelgates_server.accounts import sessions
from modelgates_server.accounts.guesses import Guesses
from modelgates_server.accounts.passwords import Passwords
from modelgates_server.errors import (
    BadRequest,
    Conflict,
    Forbidden,
    ModelGatesError,
    NotFound,
    RateRefused,
    Unauthenticated,
)
from modelgates_server.management.members import (
    NewMember,
    add_member,
    change_member,
    get_member,
    is_last_admin,
    remove_member,
    set_member_role,
)
from modelgates_server.management.sign_in import (
    Claim,
    NewPassword,
    Reception,
    credentials_of,
    end_one_session,
    enter_by_link,
    enter_by_password,
    new_link,
    reset_sign_in,
    sessions_of,
    set_password,
    sign_out,
    sign_out_everywhere,
)
from modelgates_server.storage import schema
from modelgates_server.storage.engine import reading, transaction

GOOD, OTHER = "correct horse battery staple", "seven purple elephants dance"
HERE, ELSEWHERE = "192.0.2.1", "198.51.100.1"
EMAIL = "ann@example.com"


def reception(estate: Estate, **changes: object) -> Reception:
    made = Reception(estate.engine, Guesses(estate.house.pepper), Passwords())
    return dataclasses.replace(made, **changes)


def by_link(estate: Estate, member_id: str) -> str:
    return enter_by_link(
        estate.engine, new_link(estate.engine, estate.org, member_id, "test", estate.now_s), estate.now_s
    )


def choose(estate: Estate, member_id: str, password: str = GOOD, current: str = "") -> str:
    new = NewPassword(current, password, HERE)
    return set_password(reception(estate), estate.org, member_id, new, estate.now_s)


def enter(estate: Estate, password: str = GOOD, email: str = EMAIL, **more: str) -> str:
    return enter_by_password(reception(estate), Claim(email, password, **({"network": HERE} | more)), estate.now_s)


def lives(estate: Estate, session: str) -> bool:
    with reading(estate.engine) as connection:
        return sessions.find_session(connection, session, estate.now_s) is not None


def ann(estate: Estate, password: str | None = GOOD, role: str = "member") -> str:
    """A member, with a password unless told otherwise; their id."""
    member_id = estate.member("Ann", email=EMAIL, role=role).id
    if password is not None:
        choose(estate, member_id, password)
    return member_id


def test_an_address_and_its_password_open_a_session(either: Estate) -> None:
    """In any case and with spaces around the address; each time with a new token."""
    member_id = ann(either)
    tokens = {enter(either), enter(either, email="  Ann@Example.COM ")}
    assert len(tokens) == 2
    assert all(lives(either, token) for token in tokens)
    with reading(either.engine) as connection:
        session = sessions.find_session(connection, tokens.pop(), either.now_s)
    assert session is not None
    assert (session.member.id, session.member.role) == (member_id, "member")
    assert either.noted()[-2:] == ["sign_in", "sign_in"]


def test_whatever_is_wrong_is_refused_with_the_same_words_after_the_same_work(either: Estate) -> None:
    """A wrong password, no password, an unknown address, a removed member, a foreign one: each is one hash, and says the same."""
    ann(either)
    either.member("Bob", email="bob@example.com")
    gone = either.member("Cem", email="cem@example.com").id
    choose(either, gone)
    remove_member(either.engine, either.org, gone, "test", either.now_s)
    desk, told = reception(either), set()
    claims = [
        (EMAIL, OTHER),
        ("bob@example.com", GOOD),
        ("nobody@example.com", GOOD),
        ("cem@example.com", GOOD),
        ("", ""),
        ("x" * 999, GOOD),
    ]
    for number, (email, password) in enumerate(claims):
        checked = desk.passwords.checked
        with pytest.raises(Unauthenticated) as refused:
            enter_by_password(desk, Claim(email, password, f"10.0.0.{number}"), either.now_s)
        told.add((refused.value.message, refused.value.remedy))
        assert desk.passwords.checked == checked + 1
    assert len(told) == 1


def test_guesses_wait_alike_for_known_and_unknown_addresses(either: Estate) -> None:
    """The fourth is not looked at, and what is said does not tell whether there is such a member."""
    ann(either)
    told = []
    for email in (EMAIL, "nobody@example.com"):
        desk = reception(either)
        for _ in range(3):
            with pytest.raises(Unauthenticated):
                enter_by_password(desk, Claim(email, OTHER, ELSEWHERE), either.now_s)
        with pytest.raises(RateRefused) as hasty:
            enter_by_password(desk, Claim(email, GOOD, ELSEWHERE), either.now_s)
        told.append((hasty.value.message, hasty.value.retry_after_s, desk.passwords.checked))
    assert told[0] == told[1]
    assert told[0][2] == 3
    assert "5 seconds" in told[0][0]


def test_a_link_works_while_a_password_must_wait(either: Estate) -> None:
    """Whoever is guessed at is not locked out."""
    member_id = ann(either)
    for _ in range(3):
        with pytest.raises(Unauthenticated):
            enter(either, OTHER, network=ELSEWHERE)
    with pytest.raises(RateRefused):
        enter(either, network=ELSEWHERE)
    assert lives(either, by_link(either, member_id))


def test_signing_in_ends_the_session_that_was_there(either: Estate) -> None:
    """A session that somebody planted is not taken over (fixation); the new one has another token."""
    planted = by_link(either, either.member("Eve").id)
    ann(either)
    session = enter(either, replaces=planted)
    assert session != planted
    assert (lives(either, session), lives(either, planted)) == (True, False)
    link = new_link(either.engine, either.org, either.member("Fay").id, "test", either.now_s)
    assert lives(either, enter_by_link(either.engine, link, either.now_s, session))
    assert not lives(either, session)


def test_a_new_password_ends_every_other_session(either: Estate) -> None:
    """At once, on every replica: they are read from the database each time."""
    member_id = ann(either, None)
    before = [by_link(either, member_id) for _ in range(3)]
    session = choose(either, member_id)
    assert [lives(either, one) for one in (*before, session)] == [False, False, False, True]
    again = choose(either, member_id, OTHER, current=GOOD)
    assert (lives(either, session), lives(either, again)) == (False, True)
    with pytest.raises(Unauthenticated):
        enter(either, GOOD)
    assert lives(either, enter(either, OTHER))


def test_a_new_password_needs_the_current_one(either: Estate) -> None:
    """A browser that was left open does not change it; guesses at it wait like others."""
    member_id = ann(either)
    for _ in range(3):
        with pytest.raises(BadRequest, match="current password is wrong"):
            choose(either, member_id, OTHER, current="")
    with pytest.raises(RateRefused):
        choose(either, member_id, OTHER, current=GOOD)
    either.house.clock.advance(5)
    assert choose(either, member_id, OTHER, current=GOOD)


def test_poor_passwords_and_people_without_address_are_refused(either: Estate) -> None:
    """Before anything is hashed."""
    member_id = ann(either, None)
    for poor in ("short", "password", "annexample"):
        with pytest.raises(BadRequest):
            choose(either, member_id, poor)
    with pytest.raises(BadRequest, match="mail address"):
        choose(either, either.member("Bob").id)
    with pytest.raises(NotFound):
        choose(either, either.foreign.admin.id)
    assert credentials_of(either.engine, either.org, member_id).password_set_at_s is None


def test_passwords_can_be_switched_off(either: Estate) -> None:
    """Then those that are there open nothing, and none is set."""
    member_id = ann(either)
    closed = reception(either, with_password=False)
    with pytest.raises(Forbidden):
        enter_by_password(closed, Claim(EMAIL, GOOD, HERE), either.now_s)
    with pytest.raises(Forbidden):
        set_password(closed, either.org, member_id, NewPassword(GOOD, OTHER, HERE), either.now_s)


def test_two_changes_of_one_password_do_not_pass_each_other(either: Estate) -> None:
    """Both knew the current one; the second to write is told."""
    member_id, start, told = ann(either), threading.Barrier(2), []

    def work(password: str) -> None:
        desk = reception(either)
        start.wait()
        try:
            set_password(desk, either.org, member_id, NewPassword(GOOD, password, HERE), either.now_s)
            told.append("done")
        except (Conflict, BadRequest):
            told.append("refused")
        except ModelGatesError as error:  # nothing else is meant to happen, so it is told
            told.append(error.message)

    threads = [threading.Thread(target=work, args=(word,)) for word in (OTHER, OTHER + "!")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(told) == ["done", "refused"]


def test_a_weak_hash_is_made_anew_at_the_next_sign_in(either: Estate) -> None:
    """The password stays the same, and the sessions live on."""
    member_id = ann(either, None)
    weak = Argon2id(salt=bytes(16), length=32, iterations=1, lanes=1, memory_cost=8 * 1024).derive_phc_encoded(
        GOOD.encode()
    )
    with transaction(either.engine) as connection:
        connection.execute(sa.update(schema.members).where(schema.members.c.id == member_id).values(password_hash=weak))
    first = enter(either)
    with reading(either.engine) as connection:
        query = sa.select(schema.members.c.password_hash).where(schema.members.c.id == member_id)
        assert connection.execute(query).scalar_one().startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert enter(either)
    assert lives(either, first)


def test_role_and_removal_end_sessions_at_once(either: Estate) -> None:
    """And the password of somebody who was removed is gone with them."""
    member_id = ann(either, role="admin")
    session = enter(either)
    set_member_role(either.engine, either.org, member_id, "member", "test", either.now_s)
    assert not lives(either, session)
    session = enter(either)
    link = new_link(either.engine, either.org, member_id, "test", either.now_s)
    remove_member(either.engine, either.org, member_id, "test", either.now_s)
    assert not lives(either, session)
    for way in (lambda: enter(either), lambda: enter_by_link(either.engine, link, either.now_s)):
        with pytest.raises(Unauthenticated):
            way()
    with reading(either.engine) as connection:
        left = sa.select(schema.members.c.password_hash).where(schema.members.c.id == member_id)
        assert connection.execute(left).scalar_one() is None


def test_a_reset_leaves_one_way_in(either: Estate) -> None:
    """Password, provider's account, sessions and older links are gone; the new link works, once."""
    member_id = ann(either)
    session = enter(either)
    older = new_link(either.engine, either.org, member_id, "test", either.now_s)
    with transaction(either.engine) as connection:
        bound = sa.update(schema.members).where(schema.members.c.id == member_id)
        connection.execute(bound.values(oidc_subject="https://login.example.com u1"))
    assert credentials_of(either.engine, either.org, member_id).identity
    link = reset_sign_in(either.engine, either.org, member_id, "test", either.now_s)
    found = credentials_of(either.engine, either.org, member_id)
    assert (found.password_set_at_s, found.identity, lives(either, session)) == (None, False, False)
    for way in (lambda: enter(either), lambda: enter_by_link(either.engine, older, either.now_s)):
        with pytest.raises(Unauthenticated):
            way()
    assert lives(either, enter_by_link(either.engine, link, either.now_s))


def test_sessions_are_listed_and_ended(either: Estate) -> None:
    """One by one, or all with the links that were not used; nobody sees or ends another's."""
    member_id, other = ann(either, None), either.member("Bob").id
    mine, second, theirs = by_link(either, member_id), by_link(either, member_id), by_link(either, other)
    rows = sessions_of(either.engine, either.org, member_id, mine, either.now_s)
    assert sorted(row.current for row in rows) == [False, True]
    assert not any(token.startswith(row.id) for row in rows for token in (mine, second))
    (another,) = [row.id for row in rows if not row.current]
    for stranger in (other, either.foreign.admin.id):
        with pytest.raises(NotFound):
            end_one_session(either.engine, either.org, stranger, another, either.now_s)
    for odd in ("", "%", another[:-1]):
        with pytest.raises(NotFound):
            end_one_session(either.engine, either.org, member_id, odd, either.now_s)
    end_one_session(either.engine, either.org, member_id, another, either.now_s)
    assert (lives(either, mine), lives(either, second)) == (True, False)
    link = new_link(either.engine, either.org, member_id, "test", either.now_s)
    sign_out_everywhere(either.engine, either.org, member_id, "test", either.now_s)
    assert (lives(either, mine), lives(either, theirs)) == (False, True)
    with pytest.raises(Unauthenticated):
        enter_by_link(either.engine, link, either.now_s)
    sign_out(either.engine, theirs)
    assert not lives(either, theirs)


def test_another_organization_can_do_nothing_to_them(either: Estate) -> None:
    """Links, resets and sessions of a member are their own organisation's."""
    member_id, org = ann(either), either.foreign.organization.id
    for act in (new_link, reset_sign_in, sign_out_everywhere):
        with pytest.raises(NotFound):
            act(either.engine, org, member_id, "test", either.now_s)
    with pytest.raises(NotFound):
        sessions_of(either.engine, org, member_id, "", either.now_s)
    with pytest.raises(NotFound):
        credentials_of(either.engine, org, member_id)


def test_one_address_in_two_organizations_leads_into_each_by_its_own_password(either: Estate) -> None:
    """Both passwords are somebody's; each opens its own place."""
    ann(either)
    org = either.foreign.organization.id
    there = add_member(either.engine, org, NewMember("Ann", EMAIL), "test", either.now_s + 1).id
    set_password(reception(either), org, there, NewPassword("", OTHER, HERE), either.now_s)
    found = []
    for password in (GOOD, OTHER):
        with reading(either.engine) as connection:
            session = sessions.find_session(connection, enter(either, password), either.now_s)
        assert session is not None
        found.append(session.member.organization_id)
    assert found == [either.org, org]


def test_name_and_address_are_changed(either: Estate) -> None:
    """Checked as for a new member; an address that is somebody's is refused, and what stays the same is no change."""
    member_id = ann(either, None)
    either.member("Bob", email="bob@example.com")
    act = lambda **changes: change_member(either.engine, either.org, member_id, changes, "test", either.now_s)  # noqa: E731
    assert act(name=" Ann Smith ", email="Ann.Smith@example.com").email == "ann.smith@example.com"
    noted = len(either.noted())
    assert act(name="Ann Smith").name == "Ann Smith"
    assert len(either.noted()) == noted
    for bad in ({"email": "bob@example.com"}, {"email": "nonsense"}, {"name": " "}):
        with pytest.raises(BadRequest):
            act(**bad)
    assert act(email=None).email is None
    with pytest.raises(NotFound):
        change_member(either.engine, either.foreign.organization.id, member_id, {"name": "x"}, "test", either.now_s)
    assert get_member(either.engine, either.org, member_id).name == "Ann Smith"


def test_the_last_admin_is_known(either: Estate) -> None:
    """As long as there is no other."""
    (first,) = [row.id for row in [get_member(either.engine, either.org, find_admin(either))]]
    assert is_last_admin(either.engine, either.org, first)
    ann(either, None, role="admin")
    assert not is_last_admin(either.engine, either.org, first)


def find_admin(estate: Estate) -> str:
    members = schema.members.c
    with reading(estate.engine) as connection:
        query = sa.select(members.id).where(members.organization_id == estate.org, members.role == "admin")
        return str(connection.execute(query).scalars().first())
