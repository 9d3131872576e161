"""`credentials` and `secrets` on a real database: what they print, and what they keep to themselves."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from tests.unit.cli.terminal import Ran, Terminal, command, environment

if TYPE_CHECKING:
    from pathlib import Path

KEY = "sk-ant-canary-0123456789abcdefgh"
CONFIG = """
[[providers]]
slug = "anthropic"
kind = "anthropic"
api_key = "env:NOT_HERE"

[[providers]]
slug = "google"
kind = "vertex"
project = "p-1"
region = "global"
"""


@pytest.fixture
def place(home: Terminal) -> Terminal:
    """A folder with two providers, whose own keys are not to be had here."""
    (home.folder / "modelgates.toml").write_text(CONFIG)
    return home


def add(place: Terminal, *words: str) -> dict[str, Any]:
    ran = place.json("credentials", "add", "--provider", "anthropic", "--key-from", "env:MINE", *words, MINE=KEY)
    assert ran.code == 0, ran.err
    data: dict[str, Any] = ran.data["data"]
    return data


def everything(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_a_credential_is_added_listed_switched_and_removed(place: Terminal) -> None:
    """By its name or its id; the key is masked in every answer and stands in no file."""
    made = add(place, "--name", "ours", "--fallback", "--order", "7", "--model", "claude-opus-4-8")
    listed = place.json("credentials", "list").data["data"]
    off = place.json("credentials", "disable", "ours").data["data"]
    on = place.json("credentials", "enable", made["id"]).data["data"]
    shown = place.run("credentials", "list")
    gone = place.json("credentials", "remove", "ours")

    assert (made["label"], made["is_fallback"], made["sort_order"]) == ("sk-ant...efgh", True, 7)
    assert made["allowed_models"] == ["anthropic/claude-opus-4.8"]
    assert listed == [made]
    assert (off["disabled"], on["disabled"], gone.data["deleted"]) == (True, False, True)
    assert ("ours" in shown.out, "canary" in shown.out) == (True, False)
    assert place.json("credentials", "list").data["data"] == []
    assert b"canary" not in everything(place.folder)


def test_a_key_may_come_from_standard_input_or_a_file(place: Terminal) -> None:
    """Never from the command line, where others can see it."""
    (place.folder / "key.txt").write_text(KEY + "\n")
    filed = place.json("credentials", "add", "--provider", "anthropic", "--key-from", "file:key.txt")
    words = command("credentials", "add", "--provider", "anthropic", "--json")
    done = subprocess.run(
        words, cwd=place.folder, env=environment(), input=KEY, capture_output=True, text=True, timeout=60, check=False
    )
    piped = Ran(done.returncode, done.stdout, done.stderr)

    assert (filed.code, piped.code) == (0, 0)
    assert filed.data["data"]["label"] == piped.data["data"]["label"] == "sk-ant...efgh"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("add", "--provider", "nobody", "--key-from", "env:MINE"), 2, "not configured here"),
        (("add", "--provider", "google", "--key-from", "env:MINE"), 2, "takes no API key"),
        (("add", "--provider", "anthropic", "--key-from", "env:NOBODY"), 2, "is not set"),
        (("add", "--provider", "anthropic", "--key-from", "file:nowhere"), 2, "cannot read"),
        (("add", "--provider", "anthropic", "--key-from", KEY), 2, "env:NAME or file:PATH"),
        (("add", "--provider", "anthropic", "--key-from", "env:MINE", "--model", "gpt-9"), 2, "gpt-9"),
        (("add", "--provider", "anthropic", "--key-from", "env:MINE", "--workspace", "elsewhere"), 4, "workspace"),
        (("remove", "nobody"), 4, "no such credential"),
    ],
)
def test_what_cannot_be_is_refused(place: Terminal, words: tuple[str, ...], code: int, said: str) -> None:
    """With the exit code of its kind, a sentence, and never the key."""
    ran = place.json("credentials", *words, MINE=KEY)

    assert (ran.code, said in ran.error["message"]) == (code, True)
    assert "canary" not in ran.err


def test_two_of_one_name_are_told_apart_by_their_ids(place: Terminal) -> None:
    """Nothing is removed by a guess."""
    one, two = add(place, "--name", "same"), add(place, "--name", "same")
    ran = place.json("credentials", "remove", "same")

    assert ran.code == 2
    assert one["id"] in ran.error["message"]
    assert two["id"] in ran.error["message"]


def test_rotation_says_what_it_did(place: Terminal) -> None:
    """How many secrets were wrapped, by which key, and which are destroyed; what was stored stays as it is."""
    made = add(place)
    first = place.json("secrets", "rotate")
    again = place.run("secrets", "rotate")

    assert (first.code, first.data) == (0, {"kek": "2", "wrapped": 1, "broken": 0, "retired": ["1"]})
    assert again.out == "Key 3 seals what is stored now; wrapped anew: 1. Destroyed: key 2.\n"
    assert place.json("credentials", "list").data["data"] == [made]
