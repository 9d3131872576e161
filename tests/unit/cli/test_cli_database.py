"""`db`, and whatever else opens a database, on both kinds: created, checked, copied, restored, moved, and told what is wrong."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.unit.cli.terminal import Ran, Terminal
from tests.unit.cli.test_cli_serve import process, until_ready

if TYPE_CHECKING:
    from tests.support.postgres import Postgres


def words_of(ran: Ran) -> Any:
    assert ran.code == 0, ran.err
    return ran.data


def test_everything_that_init_makes_is_made_on_postgresql(terminal: Terminal, postgres: Postgres) -> None:
    """Keys, credit, doctor and the books work by the address alone; the password is shown nowhere."""
    with postgres.database(empty=True) as url:
        there = {"MODELGATES_DATABASE_URL": url}
        made = words_of(terminal.json("init", **there))
        again = words_of(terminal.json("init", **there))
        told = words_of(terminal.json("db", "upgrade", **there))
        checked = terminal.run("db", "check", **there)
        doctor = terminal.run("doctor", **there)
        shown = words_of(terminal.json("credits", "show", **there))
    assert (made["already_initialised"], again["already_initialised"], again["api_key"]) == (False, True, None)
    assert told["result"] == "unchanged"
    assert (checked.code, "every sum agrees" in checked.out) == (0, True)
    assert "PostgreSQL" in doctor.out
    assert shown["balance"] == 100
    assert postgres.password not in f"{told}{checked.out}{checked.err}{doctor.out}{doctor.err}"


def test_a_copy_goes_from_one_kind_to_the_other_and_back(terminal: Terminal, postgres: Postgres) -> None:
    """`db backup` and `db restore` need nothing but a file; the same secret opens every copy."""
    made = words_of(terminal.json("init"))
    words_of(terminal.json("db", "backup", "one.db"))
    with postgres.database(empty=True) as url:
        there = {"MODELGATES_DATABASE_URL": url}
        proof = words_of(terminal.json("db", "restore", "one.db", **there))
        listed = words_of(terminal.json("keys", "list", **there))
        copied = words_of(terminal.json("db", "backup", **there))
    assert Path(copied["backup"]).suffixes == [".jsonl", ".gz"]
    back = words_of(
        terminal.json("db", "restore", copied["backup"], "--database-url", f"sqlite:///{terminal.folder}/b.db")
    )
    again = terminal.run("db", "restore", copied["backup"], "--database-url", f"sqlite:///{terminal.folder}/b.db")
    assert (proof["equal"], proof["problems"], back["tables"]) == (True, [], proof["tables"])
    assert len(listed["data"]) == 2
    assert made["api_key"]
    assert (again.code, "is not empty" in again.err) == (2, True)


def test_a_backup_makes_its_usual_folder_only(home: Terminal) -> None:
    """For its owner only; a folder that somebody names must be there, and is not made of a typing mistake."""
    made = Path(words_of(home.json("db", "backup"))["backup"])
    assert made.parent == home.folder / "modelgates-data" / "backups"
    assert stat.S_IMODE(made.parent.stat().st_mode) == 0o700
    ran = home.json("db", "backup", "nowhere/b.db")
    assert (ran.code, ran.error["message"]) == (2, "cannot write nowhere/b.db: there is no folder nowhere")
    assert not (home.folder / "nowhere").exists()
    made.unlink()
    made.parent.rmdir()
    words_of(home.json("db", "backup", "modelgates-data/backups/b.db"))


def test_what_cannot_be_restored_is_a_mistake_of_usage(home: Terminal) -> None:
    """No copy, a damaged one, a database with rows: exit 2; 3 is for a store that is away."""
    words_of(home.json("db", "backup", "good.db"))
    whole = (home.folder / "good.db").read_bytes()
    (home.folder / "cut.db").write_bytes(whole[: len(whole) // 2])
    (home.folder / "text.db").write_text("no copy")
    there = ("--database-url", "sqlite:///new.db")
    for words in (("good.db",), ("cut.db", *there), ("text.db", *there)):
        ran = home.json("db", "restore", *words)
        assert (ran.code, ran.error["type"], bool(ran.error["remedy"])) == (2, "config_error", True), ran.err


def test_a_move_prints_its_proof_and_leaves_the_old_database_behind(terminal: Terminal, postgres: Postgres) -> None:
    """Every table with its rows and digest; afterwards commands on the old one say where it went."""
    words_of(terminal.json("init"))
    words_of(terminal.json("credits", "grant", "5", "--note", "more"))
    with postgres.database(empty=True) as url:
        moved = words_of(terminal.json("db", "move", "--to", url))
        left = terminal.json("credits", "show")
        shown = words_of(terminal.json("credits", "show", MODELGATES_DATABASE_URL=url))
    assert moved["equal"] is True
    assert {name: value for name, value in _table(moved, "entries").items() if name != "digest"} == {
        "table": "entries",
        "rows": 2,
    }
    assert postgres.password not in str(moved)
    assert (left.code, left.error["type"]) == (3, "store_mismatch")
    assert "moved to postgresql://" in left.error["message"]
    assert shown["balance"] == 105


def _table(moved: dict[str, Any], name: str) -> dict[str, Any]:
    return next(line for line in moved["tables"] if line["table"] == name)


def test_a_move_tells_people_what_was_proven(terminal: Terminal, postgres: Postgres) -> None:
    """In words: how many rows of how many tables are equal, and what to set now."""
    words_of(terminal.json("init"))
    with postgres.database(empty=True) as url:
        told = terminal.run("db", "move", "--to", url)
    assert told.code == 0, told.err
    assert "tables are equal" in told.out
    assert "every sum agrees" in told.out
    assert "MODELGATES_DATABASE_URL" in told.out


@pytest.mark.parametrize(
    ("wrong", "told", "remedy"),
    [
        ("127.0.0.1:1", "nothing listens at this host and port", "that the server runs"),
        ("no-such-host.invalid", "there is no such host", "check its name"),
    ],
)
def test_a_target_that_is_not_there_is_told_in_words(home: Terminal, wrong: str, told: str, remedy: str) -> None:
    """Whether something is moved or restored: which address, what is wrong with it, what to do, and where it stands."""
    url = f"postgresql://u:hush@{wrong}/d"
    words_of(home.json("db", "backup", "one.db"))
    for words, named in ((("move", "--to"), "--to"), (("restore", "one.db", "--database-url"), "[database] url")):
        ran = home.json("db", *words, url)
        assert (ran.code, ran.error["message"]) == (3, f"cannot reach postgresql://u:***@{wrong}/d: {told}")
        assert (remedy in ran.error["remedy"], ran.error["remedy"].endswith(f"stands in {named}")) == (True, True)


def test_a_target_that_refuses_is_told_in_words(home: Terminal, postgres: Postgres) -> None:
    """A wrong password, none, and a database that is not there; nothing of the driver's own words, and nothing is moved."""
    right = postgres.url("postgres")
    for url, told in (
        (right.replace(f":{postgres.password}@", ":hush@"), "does not take this user with this password"),
        (right.replace(f":{postgres.password}@", "@"), "asks for a password"),
        (postgres.url("nowhere"), "has no database of this name"),
    ):
        ran = home.json("db", "move", "--to", url, PGPASSFILE="/dev/null")
        assert (ran.code, told in ran.error["message"]) == (3, True), ran.err
        assert [word for word in ("FATAL", "connection failed", "hush", postgres.password) if word in ran.err] == []
    assert home.run("credits", "show").code == 0


@pytest.mark.slow
def test_a_database_that_is_served_is_not_moved(home: Terminal, postgres: Postgres) -> None:
    """The remedy is to stop that server, not to start another one."""
    with postgres.database(empty=True) as url, process(home, "serve", "--port", "0") as running:
        until_ready(running)
        ran = home.json("db", "move", "--to", url)
    assert (ran.code, ran.error["message"]) == (3, "another process is serving this database")
    assert ran.error["remedy"].startswith("stop the server first")


@pytest.mark.parametrize(
    "words", [("init",), ("keys", "list"), ("db", "check"), ("db", "upgrade"), ("serve", "--port", "0")]
)
def test_a_database_that_is_away_is_told_with_a_remedy(terminal: Terminal, words: tuple[str, ...]) -> None:
    """Exit 3, one line, no password."""
    ran = terminal.json(*words, "--database-url", "postgresql://u:hush@127.0.0.1:1/d")
    assert (ran.code, ran.error["type"]) == (3, "store_unavailable")
    assert "[database] url" in ran.error["remedy"]
    assert "hush" not in ran.err
    assert "\n" not in ran.error["message"]
