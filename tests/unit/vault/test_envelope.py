"""Envelopes: what opens, what does not, and that nothing of a secret can be seen from outside."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelgates_server.errors import SealBroken
from modelgates_server.vault.envelope import Ring, Sealed, Vault

SALTS = {"1": b"a" * 32, "2": b"b" * 32}
PLACE = {"organization_id": "org-1", "record_id": "byok-1", "destination": "https://api.anthropic.com"}


def vault(current: str = "1", secret: bytes = b"s" * 32, **salts: bytes) -> Vault:
    return Vault(secret, Ring(current, salts or SALTS))


def flipped(text: str, at: int) -> str:
    """The same text with one bit of its `at`th part turned."""
    words = text.split(".")
    raw = bytearray(base64.urlsafe_b64decode(words[at] + "==="))
    raw[-1] ^= 1
    words[at] = base64.urlsafe_b64encode(raw).decode().rstrip("=")
    return ".".join(words)


@given(st.binary(max_size=300))
def test_what_was_sealed_opens_again(plain: bytes) -> None:
    """Any bytes, in the place that they were sealed for."""
    assert vault().open(vault().seal(plain, **PLACE).text, **PLACE) == plain


@pytest.mark.parametrize("word", PLACE)
def test_a_secret_opens_only_in_its_own_place(word: str) -> None:
    """Another organisation, record or destination makes it worthless: rows that were swapped open nothing."""
    sealed = vault().seal(b"sk-secret", **PLACE)

    with pytest.raises(SealBroken):
        vault().open(sealed.text, **PLACE | {word: PLACE[word] + "x"})


def test_words_cannot_flow_into_each_other() -> None:
    """The same letters, divided another way, are another place."""
    sealed = vault().seal(b"sk-secret", organization_id="ab", record_id="c", destination="d")

    with pytest.raises(SealBroken):
        vault().open(sealed.text, organization_id="a", record_id="bc", destination="d")


@pytest.mark.parametrize("at", [2, 3])
def test_a_changed_bit_is_noticed(at: int) -> None:
    """In the wrapped key and in the ciphertext."""
    with pytest.raises(SealBroken):
        vault().open(flipped(vault().seal(b"sk-secret", **PLACE).text, at), **PLACE)


@pytest.mark.parametrize(
    "text", ["", "v1", "v1.1.x.y", "v2.1.AAAA.AAAA", "v1.1.!!.!!", "v1.9.AAAA.AAAA", "v1.1..", "é" * 9]
)
def test_what_is_no_envelope_is_refused(text: str) -> None:
    """Whatever stands in the column: the same error, never another one."""
    for act in (lambda: vault().open(text, **PLACE), lambda: vault().rewrap(text)):
        with pytest.raises(SealBroken):
            act()


def test_another_installation_opens_nothing() -> None:
    """Neither another secret nor another salt will do: a dump alone is worthless, and so is the secret alone."""
    text = vault().seal(b"sk-secret", **PLACE).text

    for other in (
        vault(secret=b"t" * 32),
        Vault(b"s" * 32, Ring("1", {"1": b"z" * 32})),
        Vault(b"s" * 32, Ring("1", {})),
    ):
        with pytest.raises(SealBroken):
            other.open(text, **PLACE)


def test_wrapping_anew_changes_the_key_and_not_the_secret() -> None:
    """The ciphertext stays as it is; afterwards the old key-encryption key is not needed any more."""
    old = vault().seal(b"sk-secret", **PLACE)
    new = vault("2").rewrap(old.text)

    assert (old.kek_id, new.kek_id) == ("1", "2")
    assert new.text.split(".")[3] == old.text.split(".")[3]
    assert Vault(b"s" * 32, Ring("2", {"2": SALTS["2"]})).open(new.text, **PLACE) == b"sk-secret"


def test_a_wrapped_key_names_its_wrapping() -> None:
    """An envelope that claims another key-encryption key than it has does not open."""
    text = vault().seal(b"sk-secret", **PLACE).text

    with pytest.raises(SealBroken):
        vault().open(text.replace("v1.1.", "v1.2.", 1), **PLACE)


def test_two_seals_of_one_secret_have_nothing_in_common() -> None:
    """Every record has a key and nonces of its own."""
    one, two = (vault().seal(b"sk-secret", **PLACE).text.split(".")[2:] for _ in range(2))

    assert all(first[:16] != second[:16] and first[16:] != second[16:] for first, second in zip(one, two, strict=True))


def test_nothing_secret_is_printed() -> None:
    """Neither the vault, nor what it seals, nor the error shows secret, salt or plain text."""
    made = vault()
    sealed = made.seal(b"sk-secret", **PLACE)
    with pytest.raises(SealBroken) as raised:
        made.open(flipped(sealed.text, 3), **PLACE)
    shown = f"{made!r} {made.ring!r} {sealed!r} {raised.value!r} {raised.value.__cause__!r} {raised.value.remedy}"

    assert isinstance(sealed, Sealed)
    assert not any(word in shown for word in ("ssss", "aaaa", "bbbb", "sk-secret"))
