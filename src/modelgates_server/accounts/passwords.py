"""Passwords: which are good enough, and their argon2id hashes. The numbers are those of reliability-security 1.3 (OWASP's floor).

A password can be guessed, so its hash is slow and takes memory; that makes checking one a way to keep a machine busy. Hence at
most four are hashed at once in a process, and whoever comes beyond is asked to try again (`accounts/guesses.py` slows down sooner).
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
import secrets
import threading
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from typing import Final

from cryptography.exceptions import InvalidKey
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from modelgates_server.errors import BadRequest, RateRefused

CHARACTERS_MIN: Final = 8
CHARACTERS_ADVISED: Final = 15
BYTES_MAX: Final = 256
"""64 characters of any script fit."""

DIFFERENT_MIN: Final = 5
"""Fewer different characters than that are a key held down, or two in turn."""

MEMORY_KIB: Final = 19 * 1024
ITERATIONS: Final = 2
LANES: Final = 1
AT_ONCE_MAX: Final = 4
"""76 MiB, and at most half of the cores: while somebody guesses, requests are served with the others."""

IN_LINE_MAX: Final = 8
"""How many may work or wait for their turn, for two seconds at most: each holds a thread of the pages, and there are forty."""

WAIT_S: Final = 2.0

DIGEST_CHARACTERS: Final = 12
"""How much of a common password's digest the list keeps."""

OURS: Final = "modelgates"
"""The word that people here think of first."""

NOBODYS: Final = "$argon2id$v=19$m=19456,t=2,p=1$wXNDtyrirSyrq9e5IUtulQ$9rRUJe8KLK9Xj22f0TanSb8zb75yJHWiT3EOn5lpgYY"
"""The hash of 32 random bytes that nobody knows: checked for those who have no password, so that they take as long as others."""

_PARAMETERS: Final = re.compile(r"\$argon2id\$v=19\$m=(\d+),t=(\d+),p=(\d+)\$")


@dataclass(frozen=True, slots=True)
class Checked:
    """What a check found. `stale`: the hash was made with weaker parameters than today's, and should be made anew."""

    right: bool
    stale: bool


class Passwords:
    """The places in which passwords are hashed. One per process. `checked` counts the checks that were made."""

    def __init__(self, at_once: int | None = None) -> None:
        self._line = threading.BoundedSemaphore(IN_LINE_MAX)
        self._places = threading.BoundedSemaphore(at_once or max(1, min(AT_ONCE_MAX, (os.cpu_count() or 1) // 2)))
        self._counting = threading.Lock()
        self.checked = 0

    @contextmanager
    def place(self) -> Iterator[Hasher]:
        """Take a place, after a short wait if need be; raises RateRefused when too many stand in line already.

        For threads: each piece of work takes a twentieth of a second.
        """
        if not self._line.acquire(blocking=False):
            raise _busy()
        try:
            if not self._places.acquire(timeout=WAIT_S):
                raise _busy()
            try:
                yield Hasher(self._count)
            finally:
                self._places.release()
        finally:
            self._line.release()

    def _count(self) -> None:
        with self._counting:
            self.checked += 1


class Hasher:
    """Makes and checks hashes, for whoever has a place."""

    def __init__(self, count: Callable[[], None]) -> None:
        self._count = count

    def hash(self, password: str) -> str:
        """Make a password's hash, in the PHC string format, with a salt of its own."""
        salt = secrets.token_bytes(16)
        argon = Argon2id(salt=salt, length=32, iterations=ITERATIONS, lanes=LANES, memory_cost=MEMORY_KIB)
        return argon.derive_phc_encoded(_bytes(password))

    def check(self, password: str, encoded: str | None) -> Checked:
        """Compare a password with a hash, in constant time; without a hash the answer is no, after the same work."""
        self._count()
        try:
            Argon2id.verify_phc_encoded(_bytes(password), encoded or NOBODYS)
        except InvalidKey:
            return Checked(right=False, stale=False)
        return Checked(right=encoded is not None, stale=is_stale(encoded or NOBODYS))


def _busy() -> RateRefused:
    message = "Many people are signing in at this moment. Try again in a few seconds."
    return RateRefused(message, scope="sign_in", retry_after_s=int(WAIT_S))


def is_stale(encoded: str) -> bool:
    """Whether a hash was made with weaker parameters than today's."""
    found = _PARAMETERS.match(encoded)
    if found is None:
        return True
    memory_kib, iterations, lanes = (int(number) for number in found.groups())
    return memory_kib < MEMORY_KIB or iterations < ITERATIONS or lanes < LANES


def check_password(password: str, known: Iterable[str] = ()) -> None:
    """Refuse what others would guess, with BadRequest. `known` are words that belong to the person: name, mail address."""
    plain = _normal(password)
    if len(plain) < CHARACTERS_MIN:
        raise BadRequest(
            f"a password has at least {CHARACTERS_MIN} characters; {CHARACTERS_ADVISED} or more are better",
            remedy="four or five random words are easy to remember",
        )
    if len(_bytes(password)) > BYTES_MAX:
        raise BadRequest(f"a password has at most {BYTES_MAX} bytes")
    if len(set(plain.casefold())) < DIFFERENT_MIN:
        raise BadRequest(f"that password has fewer than {DIFFERENT_MIN} different characters", remedy=_REMEDY)
    if _digest(plain) in _common():
        raise BadRequest("that password is one of those that are tried first", remedy=_REMEDY)
    left = plain.casefold()
    for word in _words(known):
        left = left.replace(word, "")
    if len(left) < CHARACTERS_MIN and left != plain.casefold():
        raise BadRequest(
            "that password is little more than your name, your address or the name of this product", remedy=_REMEDY
        )


_REMEDY: Final = "take one that nobody else would think of, such as four or five random words"


def _words(known: Iterable[str]) -> list[str]:
    """The words that must not make a password, longest first; very short ones are in everything."""
    parts = [OURS, "modelgate"]
    for text in known:
        parts += re.split(r"[^\w]+", _normal(text).casefold())
    return sorted({part for part in parts if len(part) > 3}, key=len, reverse=True)


def _normal(password: str) -> str:
    """One spelling for what looks alike: keyboards compose accents in different ways."""
    return unicodedata.normalize("NFC", password)


def _bytes(password: str) -> bytes:
    """What is hashed; never more of it than a password may have, so that a long text costs nothing."""
    return _normal(password[: 2 * BYTES_MAX]).encode(errors="surrogatepass")[: BYTES_MAX + 1]


def _digest(plain: str) -> str:
    return hashlib.sha256(plain.casefold().encode(errors="surrogatepass")).hexdigest()[:DIGEST_CHARACTERS]


@functools.cache
def _common() -> frozenset[str]:
    """Digests of the most common passwords (requirements/common_passwords.py)."""
    file = resources.files("modelgates_server.accounts").joinpath("data", "common_passwords.json")
    return frozenset(json.loads(file.read_bytes())["digests"])
