"""Secrets at rest, each in an envelope of its own (reliability-security 1.3).

A random key (DEK) encrypts one secret, bound to the organisation, the record and the destination that it is for; a key-encryption
key (KEK), named by its id, wraps the DEK. Rotation wraps DEKs anew and never touches what they encrypt. Both are AES-256-GCM with
random 96-bit nonces. KEKs are derived from the installation's secret and a random salt in the database: without either nothing
opens, and once a salt is gone, what was wrapped under it cannot be opened by anybody. Pure; `vault/ring.py` keeps the salts.
"""

from __future__ import annotations

import base64
import binascii
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, NamedTuple, NoReturn

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from modelgates_server.errors import SealBroken

VERSION: Final = "v1"
NONCE_BYTES: Final = 12
KEY_BYTES: Final = 32
SALT_BYTES: Final = 32

_PURPOSE: Final = "modelgates: key-encryption key "
_WRAPPED_BYTES: Final = NONCE_BYTES + KEY_BYTES + 16


class Sealed(NamedTuple):
    """What is stored: `text` is ``v1.<kek id>.<wrapped key>.<ciphertext>``; `kek_id` is in it too, for tables that ask by it."""

    text: str
    kek_id: str


@dataclass(frozen=True, slots=True)
class Ring:
    """The KEKs that exist, as id → salt. New secrets are sealed under `current`; the others only open."""

    current: str
    salts: Mapping[str, bytes] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Vault:
    """Seals and opens under the KEKs of one installation. Make it anew for each change: `ring.open_vault`."""

    secret: bytes = field(repr=False)
    ring: Ring

    def seal(self, plain: bytes, *, organization_id: str, record_id: str, destination: str) -> Sealed:
        """Encrypt a secret for one place. It opens again only with all three words the same."""
        kek_id = self.ring.current
        dek = secrets.token_bytes(KEY_BYTES)
        body = _encrypt(dek, plain, _bound(organization_id, record_id, destination))
        return Sealed(_joined(kek_id, self._wrap(kek_id, dek), body), kek_id)

    def open(self, text: str, *, organization_id: str, record_id: str, destination: str) -> bytes:
        """Decrypt. Raises SealBroken when the text, or any of the three words, is not what was sealed."""
        kek_id, wrapped, body = _parts(text)
        dek = _decrypt(self._kek(kek_id), wrapped, _wrapped_for(kek_id))
        return _decrypt(dek, body, _bound(organization_id, record_id, destination))

    def rewrap(self, text: str) -> Sealed:
        """The same secret under the current KEK; what it encrypts is not looked at. Raises SealBroken."""
        kek_id, wrapped, body = _parts(text)
        dek = _decrypt(self._kek(kek_id), wrapped, _wrapped_for(kek_id))
        current = self.ring.current
        return Sealed(_joined(current, self._wrap(current, dek), body), current)

    def _wrap(self, kek_id: str, dek: bytes) -> bytes:
        return _encrypt(self._kek(kek_id), dek, _wrapped_for(kek_id))

    def _kek(self, kek_id: str) -> bytes:
        salt = self.ring.salts.get(kek_id)
        if salt is None:
            _broken()
        return _derived(self.secret, salt, kek_id)


def prefix(kek_id: str) -> str:
    """How every text that is wrapped by a KEK begins."""
    return f"{VERSION}.{kek_id}."


@lru_cache(maxsize=16)
def _derived(secret: bytes, salt: bytes, kek_id: str) -> bytes:
    return HKDF(SHA256(), KEY_BYTES, salt, f"{_PURPOSE}{kek_id}".encode()).derive(secret)


def _bound(*words: str) -> bytes:
    """What the ciphertext is bound to: a JSON array, so that no two lists of words look alike."""
    return json.dumps([VERSION, *words]).encode()


def _wrapped_for(kek_id: str) -> bytes:
    return _bound("key", kek_id)


def _encrypt(key: bytes, plain: bytes, bound: bytes) -> bytes:
    nonce = secrets.token_bytes(NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, plain, bound)


def _decrypt(key: bytes, sealed: bytes, bound: bytes) -> bytes:
    try:
        return AESGCM(key).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], bound)
    except (InvalidTag, ValueError):
        _broken()


def _joined(kek_id: str, wrapped: bytes, body: bytes) -> str:
    return ".".join(
        (VERSION, kek_id, *(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in (wrapped, body)))
    )


def _parts(text: str) -> tuple[str, bytes, bytes]:
    """KEK id, wrapped DEK and ciphertext of a sealed text."""
    words = text.split(".")
    if len(words) != 4 or words[0] != VERSION:
        _broken()
    try:
        wrapped, body = (base64.b64decode(_padded(word), altchars=b"-_", validate=True) for word in words[2:])
    except (binascii.Error, ValueError):
        _broken()
    if len(wrapped) != _WRAPPED_BYTES:
        _broken()
    return words[1], wrapped, body


def _padded(word: str) -> str:
    return word + "=" * (-len(word) % 4)


def _broken() -> NoReturn:
    """One answer for every way to fail, without what led to it: nothing of a secret stands in a trace."""
    raise SealBroken(remedy="store the secret again") from None
