"""`alerts` in a terminal."""

from __future__ import annotations

import json
import sqlite3
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.unit.cli.terminal import Terminal


def plant(home: Terminal, message: str, *, failed: bool = False) -> str:
    """An alert, and a delivery that was given up."""
    with sqlite3.connect(home.folder / "modelgates-data/modelgates.db") as connection:
        (organization_id,) = connection.execute("SELECT id FROM organizations").fetchone()
        row = ("alr-1", organization_id, "d", "budget", "warning", message, json.dumps({"used_nusd": 1}), 1_800_000_000)
        connection.execute(
            "INSERT INTO alerts (id, organization_id, dedupe, kind, severity, message, details, created_at_s)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            row,
        )
        if failed:
            lost = ("alr-1", "chn-1", organization_id, 6, "it answered 500")
            connection.execute(
                "INSERT INTO alert_deliveries (alert_id, channel_id, organization_id, attempts, last_error)"
                " VALUES (?, ?, ?, ?, ?)",
                lost,
            )
    connection.close()
    return "alr-1"


def test_alerts_are_listed_and_seen_to(home: Terminal) -> None:
    """With what could not be delivered; nothing in them steers the terminal; an acknowledged one leaves the list."""
    alert_id = plant(home, 'The key "\x1b[31mred" has used 82 %.', failed=True)
    text = home.run("alerts", "list").out
    (listed,) = home.json("alerts", "list").data["data"]
    done = home.run("alerts", "acknowledge", alert_id)

    assert 'The key "\\x1b[31mred" has used 82 %.' in text
    assert "not delivered to chn-1 after 6 attempts: it answered 500" in text
    assert (listed["details"]["used"], listed["deliveries"][0]["state"]) == (Decimal("0.000000001"), "failed")
    assert done.out.strip() == "alr-1 is seen to."
    assert home.run("alerts", "list").out.strip() == "There is nothing to see to."
    assert "seen to" in home.run("alerts", "list", "--all").out
    assert home.json("alerts", "acknowledge", "alr-none").code == 4


@pytest.mark.parametrize(
    ("attempts", "error", "told"),
    [
        (1, "connection refused", "connection refused (tried once)"),
        (3, "it answered 500", "it answered 500 (tried 3 times)"),
        (1, None, "there is no answer yet (tried once)"),
    ],
)
def test_what_is_not_delivered_yet_is_listed(home: Terminal, attempts: int, error: str | None, told: str) -> None:
    """With where it goes and why it did not arrive; one that was not tried yet, or that arrived, takes no line."""
    url = "https://hooks.example.com/in"
    channel_id = home.json("alerts", "channels", "add", "--webhook", url).data["data"]["id"]
    plant(home, "The key has used 82 %.")
    with sqlite3.connect(home.folder / "modelgates-data/modelgates.db") as connection:
        connection.executemany(
            "INSERT INTO alert_deliveries"
            " (alert_id, channel_id, organization_id, attempts, last_error, next_at_s, delivered_at_s)"
            " SELECT 'alr-1', ?, id, ?, ?, ?, ? FROM organizations",
            [
                (channel_id, attempts, error, 1_800_000_060, None),
                ("chn-new", 0, None, 1_800_000_000, None),
                ("chn-told", 1, None, None, 1_800_000_001),
            ],
        )
    connection.close()
    text = home.run("alerts", "list").out

    assert f"not yet delivered to {url}: {told}" in text
    assert text.count("delivered to") == 1


def test_a_webhook_is_added_listed_and_removed(home: Terminal) -> None:
    """Its secret is shown once."""
    added = home.json("alerts", "channels", "add", "--webhook", "https://hooks.example.com/in")
    channel_id, secret = added.data["data"]["id"], added.data["secret"]
    listed = home.run("alerts", "channels", "list").out

    assert secret.startswith("whsec_")
    assert "https://hooks.example.com/in" in listed
    assert secret not in listed
    assert home.json("alerts", "channels", "remove", channel_id).data == {"deleted": True, "id": channel_id}
    assert home.json("alerts", "channels", "remove", channel_id).code == 4


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--webhook", "https://127.0.0.1/"), "private or reserved"),
        (("--webhook", "http://hooks.example.com/"), "https"),
        (("--email", "ops@example.com"), "sends no mail"),
        ((), "one of two"),
        (("--webhook", "https://a.com/", "--email", "ops@example.com"), "one of two"),
    ],
)
def test_a_channel_that_cannot_be_is_refused(home: Terminal, words: tuple[str, ...], told: str) -> None:
    """The same rules as in the API; mail needs a server in the configuration."""
    refused = home.json("alerts", "channels", "add", *words)
    assert (refused.code, refused.error["type"]) == (2, "bad_request")
    assert told in refused.error["message"]


def test_a_test_that_is_not_taken_is_red(home: Terminal) -> None:
    """Nobody listens at that address: exit 1, and why."""
    (home.folder / "modelgates.toml").write_text(
        '[alerts]\nsmtp_url = "smtp://127.0.0.1:1"\nemail_from = "gate@example.com"\n'
    )
    channel_id = home.json("alerts", "channels", "add", "--email", "ops@example.com").data["data"]["id"]
    tried = home.json("alerts", "channels", "test", channel_id)

    assert (tried.code, tried.data["data"]["delivered"]) == (1, False)
    assert "refused" in tried.data["data"]["error"].lower()


def test_thresholds_and_low_balance_are_set(home: Terminal) -> None:
    """Shown as they are in force, the gateway's own where the organisation chose none."""
    assert "50 %, 80 %, 95 %, 100 % (the gateway's own)" in home.run("alerts", "settings").out
    changed = home.run("alerts", "settings", "--thresholds", "90,60", "--low-balance", "12.50").out
    assert " ".join(changed.split()) == "Limits 60 %, 90 % Credit below $12.50"
    assert "never" in home.run("alerts", "settings", "--thresholds", "none", "--low-balance", "none").out
    assert home.json("alerts", "settings", "--thresholds", "default").data["data"]["thresholds"] is None
    for bad in ("50,x", "0", "101", "-1"):
        assert home.json("alerts", "settings", "--thresholds", bad).code == 2
