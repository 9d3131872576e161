"""From the set-up pages to a first answer: what a colleague downloads and copies there is given to the real clients, unchanged."""

from __future__ import annotations

import html
import json
import os
import re
import subprocess
import sys
import urllib.request
from decimal import Decimal
from http.cookiejar import CookieJar
from pathlib import Path
from urllib.parse import urlencode

import pytest
from tests.clients.house import CACHE, CLAUDE_S, House, installed
from tests.support.process import Ran

pytestmark = [pytest.mark.clients, pytest.mark.slow]

CSRF = re.compile(r'name="csrf" value="([0-9a-f]+)"')
QUIET = {"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "DISABLE_AUTOUPDATER": "1"}


class Visitor:
    """Somebody at the console, with nothing but cookies and forms."""

    def __init__(self, house: House) -> None:
        self.url = house.server.url
        self.open = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar())).open
        link = house.stand.cli("init").json["sign_in_url"]
        self.get(f"/sign-in?{link.partition('?')[2]}")

    def get(self, path: str) -> str:
        with self.open(self.url + path) as answer:
            return str(answer.read().decode())

    def post(self, path: str, fields: dict[str, str]) -> bytes:
        found = CSRF.search(self.get("/setup"))
        assert found
        body = urlencode(fields | {"csrf": found[1]}).encode()
        request = urllib.request.Request(self.url + path, body, {"Origin": self.url})
        with self.open(request) as answer:
            return bytes(answer.read())

    def made_page(self, client: str, name: str) -> str:
        """The page that carries a key which was just made on it."""
        return self.post("/setup/key", {"client": client, "name": name}).decode()


def shown(page: str, block: str) -> str:
    """The text of a block that the page offers to copy."""
    found = re.search(rf'<pre id="text-{block}"[^>]*><code>(.*?)</code>', page, re.DOTALL)
    assert found, block
    return html.unescape(found[1])


def key_in(page: str) -> str:
    found = re.search(r"sk-mg-v1-\w{49}", page)
    assert found
    return found[0]


@pytest.fixture(scope="module")
def visitor(house: House) -> Visitor:
    return Visitor(house)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / ".claude").mkdir()
    (tmp_path / "project").mkdir()
    return tmp_path


def environment(home: Path) -> dict[str, str]:
    """A machine that knows nothing of any gateway."""
    return {"PATH": os.environ["PATH"], "HOME": str(home), **QUIET}


def claude(home: Path, *words: str) -> Ran:
    """One headless run of Claude Code."""
    program = installed(CACHE / "claude/node_modules/.bin/claude")
    done = subprocess.run(
        [program, *words],
        cwd=home / "project",
        env=environment(home),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=CLAUDE_S,
        check=False,
    )
    return Ran(done.returncode, done.stdout, done.stderr)


def settled_by(house: House, name: str) -> list[dict[str, object]]:
    """The receipts of the key of that name, oldest first."""
    return house.stand.rows(
        "SELECT g.* FROM generations g JOIN api_keys k ON k.hash = g.key_hash WHERE k.name = :name ORDER BY g.id",
        name=name,
    )


def test_the_settings_file_is_all_that_claude_code_needs(house: House, visitor: Visitor, home: Path) -> None:
    """A key made on the spot and the file with it: Claude Code answers, with no variable of this machine, as that key."""
    page = visitor.made_page("code", "file")
    told = visitor.post("/setup/file", {"client": "code", "file": "settings", "key": key_in(page)})
    (home / ".claude/settings.json").write_bytes(told)
    ran = claude(home, "-p", "hello [[say:from the file]]")

    assert (ran.code, ran.out.strip()) == (0, "from the file"), ran.err
    assert len(settled_by(house, "file")) == 1


def test_the_lines_of_the_page_are_all_that_a_shell_needs(house: House, visitor: Visitor, home: Path) -> None:
    """Pasted into a shell as they stand, before `claude` is started there."""
    program = installed(CACHE / "claude/node_modules/.bin/claude")
    lines = shown(visitor.made_page("code", "lines"), "sh")
    done = subprocess.run(
        ["sh", "-eu", "-c", f'{lines}exec "{program}" -p "hello [[say:from the shell]]"'],
        cwd=home / "project",
        env=environment(home),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=CLAUDE_S,
        check=False,
    )

    assert (done.returncode, done.stdout.strip()) == (0, "from the shell"), done.stderr
    assert len(settled_by(house, "lines")) == 1


@pytest.mark.parametrize("roles", ["pinned", "latest"])
@pytest.mark.parametrize("family", ["opus", "sonnet", "haiku"])
def test_roles_lead_to_their_family(house: House, visitor: Visitor, home: Path, roles: str, family: str) -> None:
    """What somebody means by opus, sonnet or haiku is the newest of that family, by id and by alias."""
    name = f"{roles} {family}"
    ticked = {"roles": roles, "fast": "on", "gateway_models": "on", "status_line": "on"}
    key = key_in(visitor.made_page("code", name))
    told = visitor.post("/setup/file", {"client": "code", "file": "settings", "key": key, **ticked})
    (home / ".claude/settings.json").write_bytes(told)
    ran = claude(home, "-p", "hello [[say:here]]", "--model", family)

    assert (ran.code, ran.out.strip()) == (0, "here"), ran.err
    assert {row["model"].partition("-")[2].partition("-")[0] for row in settled_by(house, name)} == {family}


def test_the_status_line_adds_up_the_receipts(house: House, visitor: Visitor, home: Path) -> None:
    """The script from the page, given the transcript of a real session: its sum is that of the receipts, asked for once."""
    key = key_in(visitor.made_page("code", "status"))
    told = visitor.post("/setup/file", {"client": "code", "file": "settings", "key": key})
    (home / ".claude/settings.json").write_bytes(told)
    script = home / ".claude/modelgates-status-line.py"
    script.write_text(visitor.get("/setup/modelgates-status-line.py"))
    for prompt in ("hello [[say:one]]", "again [[say:two]]"):
        assert claude(home, "-p", prompt, "--continue").code == 0
    (transcript,) = (home / ".claude/projects").rglob("*.jsonl")
    stdin = json.dumps(
        {"session_id": transcript.stem, "transcript_path": str(transcript), "model": {"display_name": "x"}}
    )

    def line(variables: dict[str, str]) -> str:
        ran = subprocess.run(
            [sys.executable, script],
            input=stdin,
            env=environment(home) | variables,
            capture_output=True,
            text=True,
            check=True,
        )
        return ran.stdout.strip()

    first = line(json.loads(told)["env"])
    receipts = settled_by(house, "status")
    cost = sum((Decimal(int(str(row["cost_nusd"]))) for row in receipts), Decimal(0)) / 10**9

    assert len(receipts) == 2
    assert first.startswith(f"${cost:.2f} · ")
    assert "anthropic" in first
    assert line({}) == first  # every receipt is known: nobody is asked again


def test_the_python_program_runs(house: House, visitor: Visitor, tmp_path: Path) -> None:
    """Copied from the page and run with the real SDK, with the variable that the page names."""
    page = visitor.made_page("sdk", "program")
    variable = dict([shown(page, "variable").removeprefix("export ").strip().split("=", 1)])
    done = subprocess.run(
        [installed(CACHE / "sdk2/bin/python"), "-c", shown(page, "python")],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), **variable},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    (receipt,) = settled_by(house, "program")

    assert (done.returncode, bool(done.stdout.strip())) == (0, True), done.stderr
    assert receipt["outcome"] == "completed"
