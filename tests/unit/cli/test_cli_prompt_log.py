"""Opting a workspace in to storing prompts, and out again, in the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.unit.cli.terminal import Terminal


def test_a_workspace_opts_in_and_out(home: Terminal) -> None:
    """Off at first; what is given is changed and the rest stays; the sentence says what holds and who can read."""
    off = home.run("workspaces", "prompt-log", "default").out
    made = home.json("keys", "create", "--name", "watched").data
    on = home.json(
        "workspaces", "prompt-log", "default", "--on", "--days", "30", "--key", "watched", "--sampling", "0.25"
    ).data["data"]
    told = home.run("workspaces", "prompt-log", "default").out
    home.json("workspaces", "prompt-log", "default", "--key", "all", "--days", "1")
    again = home.run("workspaces", "prompt-log", "default").out
    out = home.run("workspaces", "prompt-log", "default", "--off").out

    assert off == "Prompts and answers of default are not stored. None are stored now.\n"
    assert (on["enabled"], on["retention_days"], on["sampling_rate"]) == (True, 30, 0.25)
    assert on["key_hashes"] == [made["data"]["hash"]]
    assert told.startswith("Prompts and answers of default are stored for 30 days, of 1 of its keys, 25 % of the")
    assert "for 1 day, of all its keys" in again
    assert out == off


def test_forgetting_says_how_much(home: Terminal) -> None:
    """Nothing here; it is noted all the same."""
    assert (
        home.run("workspaces", "forget", "default").out
        == "0 stored prompts of default, with the answers, are deleted.\n"
    )
    assert "content.delete" in home.run("audit", "list", "--limit", "1").out


@pytest.mark.parametrize(
    "words",
    [("--days", "0"), ("--sampling", "x"), ("--sampling", "2"), ("--sampling", "1e999999"), ("--key", "nobody")],
)
def test_what_cannot_be_is_refused(home: Terminal, words: tuple[str, ...]) -> None:
    """With a sentence, and nothing is switched on by it."""
    assert home.run("workspaces", "prompt-log", "default", "--on", *words).code in {1, 2, 4}
    assert "are not stored" in home.run("workspaces", "prompt-log", "default").out
