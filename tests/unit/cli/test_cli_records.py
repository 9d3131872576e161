"""`activity` and `audit` in a terminal."""

from __future__ import annotations

import csv
import json
import sqlite3
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from tests.unit.cli.planted import OPUS, plant

from modelgates_server.activity.generation import Cost

if TYPE_CHECKING:
    from tests.unit.cli.terminal import Terminal

DAY_S = 86_400


def test_use_is_summed_up(home: Terminal) -> None:
    """By model or key, in exact amounts, today included and older days not."""
    for ago_s, cost_nusd in ((1, 1), (2, 333_333_333), (40 * DAY_S, 10**9)):
        plant(home, ago_s=ago_s, cost=Cost(cost_nusd, cost_nusd))
    by_model = home.json("activity", "show").data
    (by_key,) = home.json("activity", "show", "--by", "key", "--days", "60").data["data"]
    text = home.run("activity", "show").out

    assert [(row["model"], row["total_usage"]) for row in by_model["data"]] == [(OPUS, Decimal("0.333333334"))]
    assert by_model["total"]["request_count"] == 2
    assert (by_key["api_key_id"], by_key["total_usage"]) == ("first key", Decimal("1.333333334"))
    assert OPUS in text
    assert "$0.333333334" in text


def test_an_export_is_written_whole_and_for_its_owner(home: Terminal) -> None:
    """A table of the completed days; a folder that is not there is a mistake of usage, and leaves nothing behind."""
    plant(home, ago_s=2 * DAY_S, cost=Cost(1_500_000_000, 1_500_000_000))
    done = home.json("activity", "export", "--csv", "out.csv")
    (row,) = csv.DictReader((home.folder / "out.csv").read_text().splitlines())
    failed = home.json("activity", "export", "--csv", "nowhere/out.csv")

    assert (done.code, done.data["rows"]) == (0, 1)
    assert (row["model"], row["usage_usd"], row["api_key_name"]) == (OPUS, "1.5", "first key")
    assert (home.folder / "out.csv").stat().st_mode & 0o777 == 0o600
    assert (failed.code, failed.error["type"]) == (2, "config_error")
    assert home.json("activity", "export", "--csv", "x.csv", "--from", "tomorrow").code == 2
    assert not list(home.folder.glob("*x.csv*"))


def test_changes_are_listed(home: Terminal) -> None:
    """Newest first, by action, actor and target."""
    home.run("credits", "grant", "5", "--note", "thanks")
    newest = home.json("audit", "list", "--limit", "1").data
    grants = home.json("audit", "list", "--action", "credits.grant").data

    assert newest["data"] == grants["data"]
    assert newest["total_count"] > 1
    assert (newest["data"][0]["actor"], newest["data"][0]["details"]["amount_nusd"]) == ("cli", 5 * 10**9)
    assert home.json("audit", "list", "--actor", "nobody").data == {"data": [], "total_count": 0}
    assert "credits.grant" in home.run("audit", "list").out


def test_a_change_is_told_in_words(home: Terminal) -> None:
    """Amounts in USD, people by address; no line is longer than a terminal."""
    home.json("members", "add", "--name", "Ann", "--email", "ann@x.de")
    home.json("members", "share", "Ann", "--limit", "12.5")
    told = home.run("audit", "list", "--limit", "1").out

    assert "budget.set  member:ann@x.de" in told
    assert "limit $12.50" in told
    assert "nusd" not in told
    assert max(map(len, told.splitlines())) <= 100


def test_a_log_that_was_altered_or_cut_is_found(home: Terminal) -> None:
    """Exit 1 and where; against an export also when the end was cut off and the head moved back."""
    home.run("credits", "grant", "5", "--note", "thanks")
    assert home.json("audit", "export", "log.jsonl").code == 0
    assert home.json("audit", "verify").data["whole"] is True
    assert home.json("audit", "verify", "--export", "log.jsonl").data["whole"] is True
    database = sqlite3.connect(home.folder / "modelgates-data" / "modelgates.db", isolation_level=None)
    database.execute("DELETE FROM audit WHERE id = (SELECT MAX(id) FROM audit)")
    cut = home.json("audit", "verify")
    database.execute("UPDATE meta SET value = (SELECT digest FROM audit ORDER BY id DESC) WHERE key = 'audit_head'")
    sealed, proved = home.json("audit", "verify"), home.json("audit", "verify", "--export", "log.jsonl")
    database.close()

    assert (cut.code, cut.data["broken"]) == (1, "the newest rows are missing, or the head was altered")
    assert (sealed.code, proved.code) == (0, 1)
    assert "the log has only" in proved.data["broken"]


@pytest.mark.parametrize("words", [["--export", "missing"], ["--export", "modelgates-data/modelgates.db"]])
def test_what_is_no_export_is_refused(home: Terminal, words: list[str]) -> None:
    """A mistake of usage, not a broken log."""
    assert home.json("audit", "verify", *words).code == 2


def test_an_export_overwrites_nothing(home: Terminal) -> None:
    """An older one is the proof; a folder that is not there is not made."""
    (home.folder / "log.jsonl").write_text("mine")
    ran = home.json("audit", "export", "log.jsonl")
    assert (ran.code, ran.error["message"]) == (2, "cannot write log.jsonl: File exists")
    assert "does not exist yet" in ran.error["remedy"]
    assert (home.folder / "log.jsonl").read_text() == "mine"
    assert home.run("audit", "export", "none/log.jsonl").code == 2
    assert [path.name for path in home.folder.iterdir() if "log" in path.name] == ["log.jsonl"]


def test_an_export_is_json_lines(home: Terminal) -> None:
    """One row a line, then the signed head."""
    home.run("audit", "export", "log.jsonl")
    *rows, head = map(json.loads, (home.folder / "log.jsonl").read_text().splitlines())

    assert head["rows"] == len(rows) > 1
    assert head["head"] == rows[-1]["digest"]
    assert len(head["signature"]) == 64
