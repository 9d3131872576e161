"""Which passwords are taken, how they are hashed, and that hashing cannot keep the machine busy."""

from __future__ import annotations

import threading
import unicodedata
from contextlib import ExitStack

import pytest
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from modelgates_server.accounts import passwords
from modelgates_server.accounts.passwords import Hasher, Passwords, check_password, is_stale
from modelgates_server.errors import BadRequest, RateRefused

GOOD = "correct horse battery staple"


def hashed(password: str) -> str:
    with Passwords().place() as hasher:
        return hasher.hash(password)


def check(password: str, encoded: str | None) -> passwords.Checked:
    with Passwords().place() as hasher:
        return hasher.check(password, encoded)


def test_a_password_is_known_by_its_hash_alone() -> None:
    """Argon2id with the parameters that the specification asks for, a salt of its own each time."""
    encoded = hashed(GOOD)
    assert encoded.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert encoded != hashed(GOOD)
    assert check(GOOD, encoded) == passwords.Checked(right=True, stale=False)
    for wrong in ("", GOOD[:-1], GOOD + " ", GOOD.upper(), encoded):
        assert not check(wrong, encoded).right


def test_nobody_has_a_password_and_it_takes_as_long_to_say_so() -> None:
    """The same function runs with the same parameters; no text is the right one."""
    assert not is_stale(passwords.NOBODYS)
    for text in ("", GOOD, passwords.NOBODYS):
        assert not check(text, None).right
    shared = Passwords()
    with shared.place() as hasher:
        hasher.check(GOOD, None)
        hasher.check(GOOD, hasher.hash("x"))
    assert shared.checked == 2


def test_weaker_hashes_are_told() -> None:
    """They are right all the same, and are to be made anew."""
    weak = Argon2id(salt=bytes(16), length=32, iterations=1, lanes=1, memory_cost=8 * 1024)
    assert check(GOOD, weak.derive_phc_encoded(GOOD.encode())) == passwords.Checked(right=True, stale=True)
    assert is_stale("$2b$12$something")


def test_a_full_line_sends_away_at_once() -> None:
    """Whoever comes then is asked to come again, and holds no thread; when one has gone there is room."""
    shared = Passwords(passwords.IN_LINE_MAX)
    with ExitStack() as stack:
        for _ in range(passwords.IN_LINE_MAX):
            stack.enter_context(shared.place())
        with pytest.raises(RateRefused), shared.place():
            pass
    with shared.place() as hasher:
        assert isinstance(hasher, Hasher)


def test_the_places_hold_among_threads() -> None:
    """Twenty threads at the same moment: never more than four work, some wait for them, and each of the others is refused."""
    shared, start = Passwords(passwords.AT_ONCE_MAX), threading.Barrier(20)
    lock, now, most, refused = threading.Lock(), [0], [0], [0]

    def work() -> None:
        start.wait()
        try:
            with shared.place() as hasher:
                with lock:
                    now[0] += 1
                    most[0] = max(most[0], now[0])
                hasher.check(GOOD, None)
                with lock:
                    now[0] -= 1
        except RateRefused:
            with lock:
                refused[0] += 1

    threads = [threading.Thread(target=work) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most[0] <= passwords.AT_ONCE_MAX
    assert shared.checked >= passwords.AT_ONCE_MAX
    assert shared.checked + refused[0] == 20


@pytest.mark.parametrize(
    ("password", "told"),
    [
        ("", "at least 8"),
        ("sh0rt!!", "at least 8"),
        ("x" * 257, "at most 256 bytes"),
        ("é" * 129, "at most 256 bytes"),
        ("aaaaaaaaaaaaaaaaaa", "different characters"),
        ("abababababab", "different characters"),
        ("password", "tried first"),
        ("PassWord", "tried first"),
        ("sunshine", "tried first"),
        ("1qaz2wsx", "tried first"),
        ("qwertyuiop", "tried first"),
        ("modelgates1", "little more than"),
        ("ModelGates2026", "little more than"),
        ("annsmith99", "little more than"),
        ("ann.smith@example", "little more than"),
    ],
)
def test_what_others_would_guess_is_refused(password: str, told: str) -> None:
    """Short, common, or made of what everybody knows about the person."""
    with pytest.raises(BadRequest, match=told):
        check_password(password, ("Ann Annsmith", "ann.smith@example.com"))


@pytest.mark.parametrize(
    "password",
    [
        GOOD, "x7$kQp!2", "пароль-который-никто-не-знает", "a b c d e f g h", "😀😃😄😁😆 lol",
        "correct-modelgates-horse-battery", "0" * 10 + "abcdef", "".join(chr(33 + index) for index in range(64)),
    ],
)  # fmt: skip
def test_any_other_password_is_taken(password: str) -> None:
    """Whatever its characters are, spaces included; 64 characters and more."""
    check_password(password, ("Ann", "ann@example.com"))
    assert check(password, hashed(password)).right


def test_accents_may_be_typed_in_either_way() -> None:
    """Keyboards compose them differently; it is the same password."""
    composed, apart = (unicodedata.normalize(form, "Füße und Hände") for form in ("NFC", "NFD"))
    assert composed != apart
    assert check(apart, hashed(composed)).right


def test_a_lone_surrogate_breaks_nothing() -> None:
    """It cannot be encoded, and is no password of anybody."""
    assert not check("\udcff" * 20, None).right


def test_the_list_of_common_passwords_is_long_enough() -> None:
    """3,000 that are as long as a password must be (ASVS 6.2.4)."""
    assert len(passwords._common()) == 3000
    assert {len(digest) for digest in passwords._common()} == {passwords.DIGEST_CHARACTERS}
