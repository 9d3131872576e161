"""`credits` and `keys` as people type them: every change, and what is said when it cannot be."""

from __future__ import annotations

from decimal import Decimal

import pytest
from tests.unit.cli.terminal import Terminal


def test_credit_is_adjusted_and_the_list_says_so(home: Terminal) -> None:
    """Up and down, with a note; newest first, signed and exact."""
    home.json("credits", "grant", "0.5", "--note", "a present")
    down = home.json("credits", "adjust", "30.000000001", "--down", "--note", "typed twice")
    assert down.data["balance"] == Decimal("70.499999999")
    listed = home.json("credits", "list").data
    assert [(row["type"], row["amount"], row["note"]) for row in listed["data"]] == [
        ("adjustment", Decimal("-30.000000001"), "typed twice"),
        ("grant", Decimal("0.5"), "a present"),
        ("grant", 100, "initial grant"),
    ]
    told = home.run("credits", "list").out + home.run("audit", "list").out
    assert ("typed twice" in told, "credits.adjustment" in told, "correction" in told) == (True, True, False)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("adjust", "500", "--down", "--note", "more than ever was"), 2),
        (("adjust", "5"), 2),
        (("adjust", "5", "--note", " "), 2),
        (("refund", "gen-none", "--note", "n"), 4),
        (("transfer", "5", "--to", "org-none", "--note", "n"), 4),
        (("topup", "--on"), 2),
        (("topup", "--threshold", "5", "--amount", "0"), 2),
    ],
)
def test_what_cannot_be_done_with_credit_is_told(home: Terminal, words: tuple[str, ...], code: int) -> None:
    """With the exit code of design section 6, and the credit as before."""
    ran = home.json("credits", *words)
    assert ran.code == code
    assert ran.error["message"]
    assert home.json("credits", "show").data["balance"] == 100


def test_the_rule_for_topups_is_shown_and_changed(home: Terminal) -> None:
    """None at first; a part of it may change; the month's bound can be taken away."""
    assert home.json("credits", "topup").data == {"data": None}
    made = home.json("credits", "topup", "--threshold", "5", "--amount", "20.5", "--monthly-max", "100").data["data"]
    assert made == {"enabled": True, "threshold": 5, "amount": Decimal("20.5"), "monthly_max": 100}
    changed = home.json("credits", "topup", "--off", "--monthly-max", "none").data["data"]
    assert changed == made | {"enabled": False, "monthly_max": None}
    assert home.json("credits", "topup").data["data"] == changed


def test_a_key_is_changed_by_name(home: Terminal) -> None:
    """What is not named stays; the word none takes a limit away."""
    home.json(
        "keys", "create", "--name", "ci", "--limit", "5", "--limit-reset", "daily", "--rpm", "9", "--parallel", "2"
    )
    changed = home.json("keys", "update", "ci", "--limit", "none", "--rpm", "none", "--tpm", "1000").data["data"]
    assert (changed["limit"], changed["limit_reset"], changed["requests_per_minute"]) == (None, None, None)
    assert (changed["tokens_per_minute"], changed["parallel_max"], changed["name"]) == (1000, 2, "ci")
    assert home.json("keys", "update", "ci").code == 2
    assert home.json("keys", "update", "ci", "--rpm", "many").code == 2
    assert home.json("keys", "update", "nobody", "--rpm", "5").code == 4


def test_a_key_is_made_for_somebody_somewhere(home: Terminal) -> None:
    """A workspace by its slug; strangers and places that are not there are refused."""
    made = home.json("keys", "create", "--name", "x", "--workspace", "default", "--include-byok", "--limit", "1")
    assert made.data["data"]["include_byok_in_limit"] is True
    assert home.json("keys", "create", "--name", "x", "--workspace", "nowhere").code == 4
    assert home.json("keys", "create", "--name", "x", "--member", "mem-none").code == 4
