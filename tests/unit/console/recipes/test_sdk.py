"""Programs to copy: they are programs, and hold no key."""

from __future__ import annotations

import ast
import subprocess
from pathlib import Path

import pytest
from tests.unit.console.recipes.connection import GOLDEN, HOSTILE, KEY, USUAL

from modelgates_server.console.recipes import sdk
from modelgates_server.console.recipes.values import Connection

PROGRAMS = {
    "sdk.py.txt": sdk.python,
    "sdk.ts.txt": sdk.typescript,
    "sdk.curl.sh": sdk.curl,
    "sdk.agent.py.txt": sdk.agent_python,
    "sdk.agent.ts.txt": sdk.agent_typescript,
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_files_are_the_golden_ones(name: str) -> None:
    """A change of a program is a change that somebody looked at."""
    assert PROGRAMS[name](USUAL) == (GOLDEN / name).read_text()


@pytest.mark.parametrize("name", PROGRAMS)
def test_no_program_holds_the_key(name: str) -> None:
    """It comes from a variable, which is shown beside."""
    assert KEY not in PROGRAMS[name](USUAL)
    assert KEY in sdk.key_variable(USUAL)


@pytest.mark.parametrize("connection", [USUAL, HOSTILE])
def test_programs_in_python_are_python(connection: Connection) -> None:
    """Whatever stands in a value, the program is one and carries it."""
    for text in (sdk.python(connection), sdk.agent_python(connection)):
        constants = [node.value for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Constant)]
        assert connection.base_url in constants


def test_curl_is_one_command_whatever_the_values(tmp_path: Path) -> None:
    """The shell hands curl one URL and one body, and runs nothing else."""
    fake = tmp_path / "curl"
    fake.write_text('#!/bin/sh\nprintf "%s\\0" "$@"\n')
    fake.chmod(0o755)
    script = sdk.key_variable(HOSTILE) + sdk.curl(HOSTILE)
    ran = subprocess.run(
        ["sh", "-eu", "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
    )
    words = ran.stdout.split("\0")
    assert words[0] == f"{HOSTILE.base_url}/v1/messages"
    assert f"Authorization: Bearer {HOSTILE.key}" in words
