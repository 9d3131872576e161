"""What is installed is what was looked at, and importing it asks nobody."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))

IMPORT_ALL = """
import importlib, pkgutil, sys

def refuse(event, arguments):
    if event in {"socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "urllib.Request"}:
        print(event, arguments, file=sys.stderr)
        raise SystemExit(3)

sys.addaudithook(refuse)
import modelgates_server
for module in pkgutil.walk_packages(modelgates_server.__path__, "modelgates_server."):
    if not module.name.endswith("__main__") and ".migrations" not in module.name:  # Alembic runs those
        importlib.import_module(module.name)
"""


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_every_locked_package_has_its_hashes(lock: Path) -> None:
    """One exact version and at least one digest for each package, and no registry's address."""
    entries = lock.read_text().replace("\\\n", " ").splitlines()
    packages = [entry for entry in entries if entry.strip() and not entry.lstrip().startswith(("#", "--hash"))]

    assert packages
    assert [entry for entry in packages if "==" not in entry or "--hash=sha256:" not in entry] == []
    assert "://" not in "".join(packages)


def test_importing_asks_nobody() -> None:
    """Every module of ours, with all that it imports, is loaded without a name looked up or a connection opened."""
    done = subprocess.run([sys.executable, "-c", IMPORT_ALL], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr[-2000:]
