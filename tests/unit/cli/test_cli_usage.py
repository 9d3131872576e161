"""What holds for every command: the shared options, usage errors, exit codes."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from tests.unit.cli.terminal import environment

from modelgates_server import __version__

if TYPE_CHECKING:
    from tests.unit.cli.terminal import Terminal

COMMANDS = (
    "serve", "init", "keys create", "keys list", "keys disable", "keys enable", "keys delete", "credits show",
    "credits grant", "doctor", "explain", "simulate", "db upgrade", "db check", "db backup",
)  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_help_names_the_shared_options(terminal: Terminal, command: str) -> None:
    """Every command says that it takes the four options that all take."""
    ran = terminal.run(*command.split(), "--help")

    assert ran.code == 0
    for option in ("--json", "--config", "--data-dir", "--database-url"):
        assert option in ran.out


def test_version_is_told(terminal: Terminal) -> None:
    """`--version` is one line with the version."""
    assert terminal.run("--version").out == f"modelgates {__version__}\n"


@pytest.mark.parametrize(
    "words",
    [("nonsense",), ("keys", "create"), ("credits", "grant", "5"), ("serve", "--port", "x"), ("init", "--x")],
)
def test_usage_errors_exit_2(terminal: Terminal, words: tuple[str, ...]) -> None:
    """A wrong word is told in words, or as JSON when the line asks for JSON, and nothing stands on standard output."""
    plain, as_json = terminal.run(*words), terminal.json(*words)

    assert (plain.code, as_json.code) == (2, 2)
    assert plain.err.startswith("error: ")
    assert as_json.error["type"] == "usage_error"
    assert plain.out + as_json.out == ""


def test_help_waits_for_no_library(terminal: Terminal) -> None:
    """`modelgates --help` is there at once: the database and HTTP libraries are not imported for it."""
    program = "import sys; from modelgates_server.cli.main import main; main(['--help']); print([*sys.modules], file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment(), capture_output=True, text=True, check=True
    )

    assert "doctor" in done.stdout
    assert not {"sqlalchemy", "aiohttp", "alembic", "jinja2", "uvicorn"} & set(re.findall(r"'(\w+)'", done.stderr))


def test_lists_of_commands_break_off_nowhere(terminal: Terminal) -> None:
    """A sentence that ends in dots says nothing."""
    for group in ((), ("members",), ("guardrails",), ("alerts", "channels")):
        assert "..." not in terminal.run(*group, "--help").out.partition("Commands:")[2]


def test_a_group_alone_shows_its_help(terminal: Terminal) -> None:
    """`modelgates keys` lists what can be done with keys and counts as usage."""
    ran = terminal.run("keys")

    assert ran.code == 2
    assert "disable" in ran.err


@pytest.mark.parametrize(
    "words", [("keys", "list"), ("credits", "show"), ("explain", "gen-1"), ("db", "check"), ("db", "backup")]
)
def test_no_database_yet_exits_3(terminal: Terminal, words: tuple[str, ...]) -> None:
    """Commands that need a database say how to make one, and make nothing themselves."""
    ran = terminal.json(*words)

    assert ran.code == 3
    assert ran.error["type"] == "store_unavailable"
    assert "modelgates init" in ran.error["remedy"]
    assert list(terminal.folder.iterdir()) == []


def test_a_missing_named_configuration_exits_2(terminal: Terminal) -> None:
    """A file that was named must be there."""
    ran = terminal.json("credits", "show", "--config", "nowhere.toml")

    assert ran.code == 2
    assert ran.error["type"] == "config_error"
    assert "nowhere.toml" in ran.error["message"]


def test_a_broken_database_exits_3(terminal: Terminal) -> None:
    """A file that is no database is a store that cannot serve, not a traceback."""
    (terminal.folder / "broken.db").write_bytes(b"this is no database at all" * 100)
    ran = terminal.json("credits", "show", "--database-url", f"sqlite:///{terminal.folder}/broken.db")

    assert ran.code == 3
    assert ran.error["type"] == "store_unavailable"
    assert "Traceback" not in ran.err


def test_options_after_the_last_word_choose_the_place(terminal: Terminal) -> None:
    """`--data-dir` and `--database-url` decide where everything is."""
    folder = terminal.folder
    made = terminal.json("init", "--data-dir", "here", "--database-url", f"sqlite:///{folder}/there.db")
    seen = terminal.json("credits", "show", "--data-dir", "here", "--database-url", f"sqlite:///{folder}/there.db")

    assert (made.code, seen.code) == (0, 0)
    assert (folder / "there.db").exists()
    assert (folder / "here" / "secret.key").exists()
    assert not (folder / "modelgates-data").exists()
