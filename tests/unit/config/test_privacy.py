"""Nothing that opens a door, and nothing that steers a terminal, passes the one door to the logs."""

from __future__ import annotations

import logging
import sys

import pytest

from modelgates_server.accounts import keys
from modelgates_server.accounts.values import KeyClass
from modelgates_server.errors import BadRequest, StoreUnavailable
from modelgates_server.privacy import RedactingFormatter, loggable_headers, unquoted, visible


def line(message: str, **fields: object) -> str:
    record = logging.makeLogRecord({"name": "test", "msg": message, "levelname": "INFO", "created": 0.0, **fields})
    return RedactingFormatter().format(record)


def test_an_event_is_one_line_of_fields() -> None:
    """Plain values stand bare, others in quotes."""
    assert (
        line("started", port=8787, note="two words")
        == '1970-01-01T00:00:00.000Z info test started port=8787 note="two words"'
    )


@pytest.mark.parametrize(
    "secret",
    [
        keys.mint(KeyClass.INFERENCE).secret,
        keys.mint(KeyClass.MANAGEMENT).secret,
        "sk-ant-api03-abcdefghijkl",
        "sk-proj-abcdefghijklmnopqrst",
        "AKIAABCDEFGHIJKLMNOP",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl",
    ],
)
def test_keys_are_hidden_wherever_they_stand(secret: str) -> None:
    """In the message, in a field, in an address, in an exception, and where a long value is cut."""
    try:
        int(secret)
    except ValueError:
        written = line(
            "a %s b", args=(secret,), field=f"x={secret}", long="y" * 1990 + " " + secret, exc_info=sys.exc_info()
        )
    assert secret not in written
    assert secret[:14] not in written
    assert written.count("[hidden]") >= 3


@pytest.mark.parametrize(
    "text",
    ["Bearer opaque-token-1", "bearer  opaque-token-1", "x-api-key: opaque-token-1", "https://u:opaque-token-1@host/"],
)
def test_credentials_of_any_form_are_hidden_by_what_announces_them(text: str) -> None:
    """A token that looks like nothing is known by the word before it."""
    assert "opaque-token-1" not in line("event", field=text)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ValueError("CANARY"), "ValueError: (its words are not shown)"),
        (KeyError("CANARY"), "KeyError: (its words are not shown)"),
        (BadRequest("model: CANARY"), "BadRequest: (its words are not shown)"),
        (UnicodeDecodeError("utf-8", b"CANARY\xff", 6, 7, "CANARY"), "UnicodeDecodeError: (its words are not shown)"),
        (StoreUnavailable("the disk is full"), "StoreUnavailable: the disk is full"),
        (OSError(28, "No space left on device"), "OSError: [Errno 28] No space left on device"),
        (ExceptionGroup("CANARY", [KeyError("CANARY")]), "KeyError: (its words are not shown)"),
    ],
)
def test_an_exception_is_told_by_its_place_and_not_by_what_it_quotes(error: Exception, told: str) -> None:
    """Its own words and those of what led to it; where it was raised is always told."""
    first = ValueError("CANARY")
    try:
        try:
            raise first
        except ValueError as before:
            raise error from before
    except Exception:  # noqa: BLE001 - any of them
        written = line("failed", exc_info=sys.exc_info())

    assert "CANARY" not in written
    assert told in written
    assert written.count("test_privacy.py") >= 2


SENT = '{"messages":[{"content":"My colleague Ann Lee earns 93250 \\u00fcber Zw\\u00f6lf at Wayne Enterprises, call +49 171 5551234"}]}'


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        (
            "max_tokens: 300000 > 128000, which is the maximum allowed",
            "max_tokens: 300000 > 128000, which is the maximum allowed",
        ),
        (
            "messages.0.content: the text 'Ann Lee earns 93250' is not allowed",
            "messages.0.content: the text '…' is not allowed",
        ),
        ("blocked: WAYNE ENTERPR", "blocked: …"),
        ("blocked: über Zwölf", "blocked: …"),
        ("do not call 5551234 or +49 171", "do not … or +49 …"),
        ("key sk-ant-abcdefgh12345678 is invalid", "key [hidden] is invalid"),
        ("no access to deployment 0f9c3aa1b2c3d4e5f6a7b8c9", "no access to deployment …"),
        ("overloaded", "overloaded"),
    ],
)
def test_of_what_a_provider_says_nothing_is_kept_that_stands_in_the_request(said: str, kept: str) -> None:
    """Whole words and the beginnings of words, in any letters, also as JSON escapes them; common words and foreign numbers pass."""
    assert unquoted(said, SENT.encode()) == kept


def test_of_what_is_said_about_a_very_long_request_only_common_words_are_kept() -> None:
    """It is not looked through: that would hold up everybody else."""
    assert unquoted("prompt is too long: 1234567 tokens, Ann", b"x" * 2_000_000) == "prompt is too long: … tokens, …"


def test_no_value_begins_a_new_line_or_moves_the_cursor() -> None:
    """Line breaks, escape sequences and text direction marks are written as escapes."""
    written = line("e\r\nvent", field="a\x1b[31mb\u2028c\u202ed\x85e", **{"odd name\n": 1})
    assert written.isprintable()
    assert len(written.splitlines()) == 1
    assert "\\u001b[31m" in written


def test_an_object_that_cannot_describe_itself_loses_nothing_else() -> None:
    """A log line never fails."""

    class Broken:
        def __str__(self) -> str:
            raise RuntimeError

    assert "port=1" in line("event %d", args=("no number",), broken=Broken(), port=1)


def test_only_listed_headers_may_be_logged() -> None:
    """Whatever is not known to be harmless stays out."""
    headers = {
        "Authorization": "Bearer x",
        "X-Api-Key": "k",
        "Cookie": "c",
        "X-New": "n",
        "User-Agent": "claude\x1b[0m",
    }
    assert loggable_headers(headers) == {"user-agent": "claude[0m"}


def test_visible_text_is_short_and_printable() -> None:
    """Foreign text is cut and stripped before it is stored."""
    assert visible("  a\x00b\nc\u202e ", 10) == "abc"
    assert visible("x" * 50, 10) == "x" * 9 + "…"
