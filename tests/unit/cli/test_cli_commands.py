"""The commands on a real database: what they print, and that it is true."""

from __future__ import annotations

import sqlite3
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from tests.unit.console.planted import GENERATION_ID, receipt

from modelgates_server.accounts.keys import well_formed
from modelgates_server.accounts.values import KeyClass
from modelgates_server.activity.generation import Attempt, Cost, rows

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.cli.terminal import Terminal


def database(home: Terminal) -> sqlite3.Connection:
    return sqlite3.connect(home.folder / "modelgates-data" / "modelgates.db", isolation_level=None)


def plant(home: Terminal, **changes: Any) -> None:
    """Book one request under the first key, as the gateway does."""
    connection = database(home)
    organization_id, key_hash = connection.execute(
        "SELECT organization_id, hash FROM api_keys WHERE class = 'inference'"
    ).fetchone()
    for statement, row in rows(receipt(organization_id, key_hash, **changes)):
        connection.execute(statement.sql, statement.values(row))
    connection.close()


def test_init_makes_keys_and_credit_once(initialised: tuple[Path, dict[str, Any]], home: Terminal) -> None:
    """The first `init` gives both keys; the second gives none, but a fresh link for the same organisation."""
    first, again = initialised[1], home.json("init").data

    assert well_formed(first["api_key"]) is KeyClass.INFERENCE
    assert well_formed(first["management_key"]) is KeyClass.MANAGEMENT
    assert first["already_initialised"] is False
    assert again | {"sign_in_url": ""} == {
        "api_key": None, "management_key": None, "already_initialised": True, "sign_in_url": "",
        "organization_id": first["organization_id"],
    }  # fmt: skip
    assert again["sign_in_url"] != first["sign_in_url"]
    assert again["sign_in_url"].startswith("http://127.0.0.1:8787/sign-in?token=")


def test_init_shows_what_to_paste(terminal: Terminal) -> None:
    """People get the addresses, the key and the set-up of both clients."""
    ran = terminal.run("init")

    assert ran.code == 0
    assert "Base URL     http://127.0.0.1:8787/api" in ran.out
    assert 'export ANTHROPIC_AUTH_TOKEN="sk-mg-v1-' in ran.out
    assert 'export ANTHROPIC_API_KEY=""' in ran.out


def test_credits_are_exact(home: Terminal) -> None:
    """The initial grant is 100 USD; a nano-dollar more is told digit by digit, and too much precision is refused."""
    home.json("credits", "grant", "0.000000001", "--note", "a coin")
    ran = home.json("credits", "show")

    assert ran.data == {
        "total_credits": Decimal("100.000000001"), "total_usage": 0, "balance": Decimal("100.000000001"), "held": 0,
    }  # fmt: skip
    assert home.json("credits", "grant", "0.0000000001", "--note", "x").code == 2
    assert home.json("credits", "grant", "-5", "--note", "x").code == 2


def test_keys_are_created_with_their_limits(home: Terminal) -> None:
    """The answer has the key, this once, and its limits as numbers."""
    ran = home.json("keys", "create", "--name", "ci", "--limit", "12.50", "--limit-reset", "monthly", "--rpm", "60")
    data = ran.data["data"]

    assert ran.code == 0
    assert well_formed(ran.data["key"]) is KeyClass.INFERENCE
    assert (data["name"], data["limit"], data["limit_remaining"], data["limit_reset"]) == (
        "ci",
        Decimal("12.5"),
        Decimal("12.5"),
        "monthly",
    )
    assert len(data["hash"]) == 64
    assert ran.data["key"] not in home.run("keys", "list").out


@pytest.mark.parametrize(
    "words",
    [
        ("--limit", "many"),
        ("--limit", "1", "--limit-reset", "hourly"),
        ("--limit-reset", "daily"),
        ("--expires-at", "2001-01-01T00:00:00Z"),
        ("--expires-at", "2099-01-01T00:00:00"),
        ("--rpm", "0"),
    ],
)
def test_senseless_keys_are_refused(home: Terminal, words: tuple[str, ...]) -> None:
    """Amounts and times that mean nothing exit 2 and make no key."""
    ran = home.json("keys", "create", "--name", "x", *words)

    assert ran.code == 2
    assert ran.error["message"]
    assert len(home.json("keys", "list").data["data"]) == 2


def test_keys_are_found_by_name_and_hash(home: Terminal) -> None:
    """Disable, enable and delete take a name, a hash or its beginning; what is gone is not found."""
    made = home.json("keys", "create", "--name", "ci", "--management").data["data"]

    assert home.json("keys", "disable", "ci").data["data"]["disabled"] is True
    assert home.json("keys", "enable", made["hash"][:12]).data["data"]["disabled"] is False
    assert home.json("keys", "delete", made["hash"]).data["deleted"] is True
    gone = home.json("keys", "disable", "ci")
    assert gone.code == 4
    assert gone.error["type"] == "not_found"


def test_lists_are_for_people_too(home: Terminal) -> None:
    """The plain list is a table whose heads and cells line up, and fits into a terminal; what else is to say stands below."""
    name, limit = "a name that is far longer than anybody needs", "999999.123456789"
    much = (
        "--limit-reset",
        "monthly",
        "--rpm",
        "60",
        "--parallel",
        "2",
        "--include-byok",
        "--expires-at",
        "2099-01-01T00:00:00Z",
    )
    home.run("keys", "create", "--name", name, "--limit", limit, *much)
    head, *lines = home.run("keys", "list").out.splitlines()
    told = " ".join(" ".join(lines).split())

    assert [line[: head.index("Key") - 2].strip() for line in lines if line[0] != " "] == [
        "first key", "first management key", "a name that is far...",
    ]  # fmt: skip
    assert max(map(len, [head, *lines])) <= 100
    assert f"${limit} monthly" in told
    assert "nobody's in default, $0.00 today, $0.00 this month, own provider keys count, 60 requests a minute" in told
    assert "expires 2099-01-01 00:00 UTC" in told


def test_explain_tells_the_whole_story(home: Terminal) -> None:
    """Who, why, each attempt, the bill to the pico-dollar and the charge to the nano-dollar."""
    plant(home)
    ran = home.run("explain", GENERATION_ID)

    assert ran.code == 0
    for told in ("completed, $0.012345679", "$0.012345678001", "the maker of the model comes first", "left out: cooling down for 12 s",
                 "overloaded", "after 1 failed attempt", "812 ms", "2026-11-24.1", "$0.50 was held"):  # fmt: skip
        assert told in ran.out.replace("$0.500000000", "$0.50")


def test_explain_gives_exact_numbers(home: Terminal) -> None:
    """The JSON form has the cost as an exact decimal and as an integer, and the plan, attempts and parts as data."""
    plant(home)
    data = home.json("explain", GENERATION_ID).data

    assert (data["cost"], data["cost_nusd"]) == (Decimal("0.012345679"), 12_345_679)
    assert sum(part["pusd"] for part in data["parts"]) == 12_345_678_001
    assert [attempt["status"] for attempt in data["attempts"]] == [529, 200]
    assert data["plan"][0]["place"] is None
    assert data["estimated"] is False


def test_explain_shows_what_nobody_paid(home: Terminal) -> None:
    """A failure costs the customer nothing, and what the operator bears is named."""
    fault = Attempt("anthropic", "claude-opus-4-8", 0, "timeout", 120_000)
    plant(home, outcome="failed", cost=Cost(0, 5, 0, 500, "v"), provider=None, attempts=(fault,))
    text = home.run("explain", GENERATION_ID).out

    assert "failed, $0.000000000" in text
    assert "$0.000000005 more; the operator bears that" in text
    assert "No provider gave an answer." in text


def test_explain_knows_what_it_does_not_know(home: Terminal) -> None:
    """An unknown id exits 4 and tells where ids are found."""
    ran = home.json("explain", "gen-none")

    assert ran.code == 4
    assert "x-generation-id" in ran.error["remedy"]


def test_db_check_is_green_and_then_red(home: Terminal) -> None:
    """A fresh database is sound; a meter that somebody changed by hand is found."""
    sound = home.json("db", "check")
    database(home).execute("UPDATE meters SET posted = posted + 7 WHERE scope = 'organization'")
    broken = home.json("db", "check")

    assert (sound.code, sound.data["ok"], sound.data["problems"]) == (0, True, [])
    assert (broken.code, broken.data["ok"]) == (1, False)
    assert broken.data["problems"]


def test_db_backup_is_a_database(home: Terminal) -> None:
    """The copy can be used in place of the original; an existing file is never overwritten."""
    made = home.json("db", "backup", "copy.db")
    used = home.json("credits", "show", "--database-url", f"sqlite:///{home.folder}/copy.db")

    assert made.data["size_bytes"] == (home.folder / "copy.db").stat().st_size
    assert used.data["total_credits"] == 100
    assert home.json("db", "backup", "copy.db").code == 2


def test_db_upgrade_creates_and_repeats(terminal: Terminal) -> None:
    """The first upgrade creates, the second finds nothing to do; `init` is still needed."""
    results = [terminal.json("db", "upgrade").data["result"] for _ in range(2)]
    ran = terminal.json("keys", "list")

    assert results == ["created", "unchanged"]
    assert ran.code == 3
    assert "modelgates init" in ran.error["remedy"]


def test_another_secret_is_refused(home: Terminal) -> None:
    """With another secret no key would work, so nothing is done."""
    ran = home.json("keys", "create", "--name", "x", MODELGATES_SECRET="0123456789abcdef" * 4)

    assert ran.code == 3
    assert ran.error["type"] == "store_mismatch"
