"""The API key itself: how one is made, told from other text without a look-up, and turned into what is stored.

Format (reliability-security 1.3): a prefix that names the class, 43 base62 characters (256 random bits) and 6 of CRC-32
over all before. Only base62 follows the prefix, so a double click selects it. The checksum lets a scanner, and us,
refuse without a store.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field

from modelgates_server.accounts.values import KeyClass

PREFIXES = {KeyClass.INFERENCE: "sk-mg-v1-", KeyClass.MANAGEMENT: "sk-mg-mgmt-v1-"}
RANDOM_BITS = 256
RANDOM_LETTERS = 43
CHECKSUM_LETTERS = 6
PATTERN = r"sk-mg-(?:mgmt-)?v1-[0-9A-Za-z]{49}"
"""For secret scanners; `well_formed` checks the checksum too."""

_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_SHAPE = re.compile(PATTERN, re.ASCII)


@dataclass(frozen=True, slots=True)
class MintedKey:
    """A new key: its secret, shown once and never stored, and the masked form that people see from then on."""

    secret: str = field(repr=False)
    label: str


def mint(key_class: KeyClass) -> MintedKey:
    """Make a key from 256 random bits."""
    body = PREFIXES[key_class] + _base62(secrets.randbits(RANDOM_BITS), RANDOM_LETTERS)
    secret = body + _checksum(body)
    return MintedKey(secret, f"{PREFIXES[key_class]}...{secret[-4:]}")


def well_formed(text: str) -> KeyClass | None:
    """Tell the class of a key whose shape and checksum are right; None for any other text. Looks nothing up."""
    if not _SHAPE.fullmatch(text) or text[-CHECKSUM_LETTERS:] != _checksum(text[:-CHECKSUM_LETTERS]):
        return None
    return KeyClass.MANAGEMENT if text.startswith(PREFIXES[KeyClass.MANAGEMENT]) else KeyClass.INFERENCE


def presented(headers: Iterable[tuple[bytes, bytes]]) -> list[str]:
    """Every key that a request's headers carry, without repeats (client-protocol A-1 to A-3).

    `Bearer` says nothing about what kind of token follows. Names must be in lower case, as ASGI gives them.
    """
    found: list[str] = []
    for name, value in headers:
        if name == b"authorization":
            scheme, _, token = value.decode("latin-1").partition(" ")
            if scheme.lower() == "bearer" and token.strip():
                found.append(token.strip())
        elif name == b"x-api-key" and value:
            found.append(value.decode("latin-1").strip())
    return list(dict.fromkeys(found))


def digest(pepper: bytes, text: str) -> str:
    """Compute what is stored instead of the key: HMAC-SHA256 in hex, 64 characters, the key's public `hash`.

    A fast function is right for 256 random bits; the pepper lies outside the database (reliability-security 1.3).
    """
    return hmac.digest(pepper, text.encode(), hashlib.sha256).hex()


def _checksum(body: str) -> str:
    return _base62(zlib.crc32(body.encode()), CHECKSUM_LETTERS)


def _base62(value: int, letters: int) -> str:
    out = []
    for _ in range(letters):
        value, digit = divmod(value, 62)
        out.append(_BASE62[digit])
    return "".join(reversed(out))
