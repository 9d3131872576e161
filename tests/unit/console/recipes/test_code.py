"""Claude Code's set-up: what shells, JSON and YAML make of it, and the status line as a program."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.unit.console.recipes.connection import GOLDEN, HOSTILE, KEY, USUAL

from modelgates_server.catalogue.load import bundled, load_catalogue
from modelgates_server.console.recipes import code
from modelgates_server.console.recipes.values import Connection

EVERYTHING = code.variables(USUAL) | code.pinned_roles(USUAL) | code.FAST | code.DISCOVERY


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("code.sh", code.shell(EVERYTHING).encode()),
        ("code.ps1", code.powershell(EVERYTHING).encode()),
        ("code.fish", code.fish(EVERYTHING).encode()),
        ("code.settings.json", code.settings_file(EVERYTHING, status_line=True)),
        ("code.latest.sh", code.shell(code.latest_roles(USUAL)).encode()),
        ("code.workflow.yml", code.github_workflow(USUAL).encode()),
    ],
)
def test_files_are_the_golden_ones(name: str, text: bytes) -> None:
    """A change of a file is a change that somebody looked at."""
    assert text == (GOLDEN / name).read_bytes()


@pytest.mark.parametrize("connection", [USUAL, HOSTILE])
def test_a_shell_reads_every_value_as_it_is(connection: Connection) -> None:
    """Whatever stands in a value: nothing is expanded and nothing runs."""
    names = code.variables(connection)
    script = code.shell(names) + "".join(f'printf "%s\\0" "${name}"\n' for name in names)
    ran = subprocess.run(["sh", "-eu", "-c", script], capture_output=True, text=True, check=True, env={})
    assert ran.stdout.split("\0")[:-1] == list(names.values())


def test_quotes_are_doubled_for_powershell_and_escaped_for_fish() -> None:
    """Inside their single quotes nothing else means anything."""
    assert code.powershell({"A": "it's $x"}) == "$env:A = 'it''s $x'\n"
    assert code.fish({"A": "it's \\n"}) == "set -gx A 'it\\'s \\\\n'\n"


@pytest.mark.parametrize("connection", [USUAL, HOSTILE])
def test_the_settings_file_is_json_with_strings(connection: Connection) -> None:
    """Claude Code takes strings only in `env`; the key of another account is emptied."""
    said = json.loads(code.settings_file(code.variables(connection)))
    assert said["env"] == {
        "ANTHROPIC_BASE_URL": connection.base_url,
        "ANTHROPIC_AUTH_TOKEN": connection.key,
        "ANTHROPIC_API_KEY": "",
    }


def test_aliases_of_the_newest_models_resolve() -> None:
    """Every alias that is offered is a name that the gateway knows, and means that family."""
    catalogue = load_catalogue(bundled())
    roles = code.latest_roles(USUAL)
    for variable, name in roles.items():
        family = catalogue.resolve(name).model.family
        assert family is not None
        assert variable in {code.ROLES.get(family), code.SUBAGENTS}
    assert set(roles) == {*code.ROLES.values(), code.SUBAGENTS}


def test_families_that_nobody_serves_have_no_role() -> None:
    """A role without a model behind it would be a failure at the first use."""
    few = Connection(USUAL.base_url, KEY, tuple(model for model in USUAL.models if model.tier == "haiku"))
    assert code.latest_roles(few) == {"ANTHROPIC_DEFAULT_HAIKU_MODEL": "~anthropic/claude-haiku-latest"}
    assert code.pinned_roles(few) == {"ANTHROPIC_DEFAULT_HAIKU_MODEL": "claude-haiku-4-5"}


def test_the_workflow_holds_no_key() -> None:
    """The key is a secret of the repository; a workflow is not the place for it."""
    text = code.github_workflow(USUAL)
    assert KEY not in text
    assert text.count("${{ secrets.MODELGATES_API_KEY }}") == 2


def status_line(tmp_path: Path, told: object, **variables: str) -> str:
    """What the script prints, in a home of its own."""
    ran = subprocess.run(
        [sys.executable, "-X", "utf8", "-c", code.status_line().decode()],
        input=told if isinstance(told, str) else json.dumps(told),
        capture_output=True,
        text=True,
        check=True,
        env={"HOME": str(tmp_path), **variables},
    )
    return ran.stdout.strip()


def test_the_status_line_needs_nothing_but_python() -> None:
    """It imports the standard library only."""
    tree = ast.parse(code.status_line())
    named = {
        alias.name.partition(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names
    }
    named |= {
        node.module.partition(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module
    }
    assert named <= sys.stdlib_module_names


def test_a_session_without_answers_cost_nothing(tmp_path: Path) -> None:
    """No transcript, or an empty one: a zero, and the model."""
    told = {"session_id": "s", "transcript_path": str(tmp_path / "none.jsonl"), "model": {"display_name": "Opus 5.5"}}
    assert status_line(tmp_path, told) == "$0.00 · Opus 5.5"


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({}, "set ANTHROPIC_BASE_URL"),
        ({"ANTHROPIC_BASE_URL": "http://127.0.0.1:1/api", "ANTHROPIC_AUTH_TOKEN": "k"}, "gateway not reached"),
    ],
)
def test_what_keeps_it_from_asking_is_told(tmp_path: Path, variables: dict[str, str], said: str) -> None:
    """A line that cannot know the cost says why; it never fails."""
    transcript = tmp_path / "session.jsonl"
    transcript.write_text(
        '{"type":"assistant","message":{"id":"gen-1"}}\n{"type":"user","message":{"id":"gen-2"}}\nnot json "gen-3"\n'
    )
    told = {"session_id": "../../evil", "transcript_path": str(transcript)}
    assert said in status_line(tmp_path, told, **variables)
    assert not (tmp_path.parent / "evil.json").exists()
