"""The real clients, and the gateway that they are let loose on."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.process import Ran, Server, SimulatorProcess, Stand, environment

CACHE = Path(__file__).resolve().parents[2] / ".cache"
CLAUDE_S = 60.0
"""A turn takes a second; the very first start of Claude Code on a slow disk takes several."""


def installed(program: Path) -> Path:
    """The path, if something is there; tests of real clients fail without them, because a skipped one proves nothing."""
    assert program.exists(), f"{program} is missing: run `sh tests/clients/install.sh python3`, as `make test` does"
    return program


@dataclass(frozen=True)
class House:
    """A gateway, its upstream, and keys of several fates."""

    stand: Stand
    server: Server
    upstream: SimulatorProcess
    keys: dict[str, str]

    def newest(self, count: int) -> list[dict[str, Any]]:
        """The last receipts, oldest first."""
        rows = self.stand.rows(
            "SELECT * FROM generations ORDER BY created_at_ms DESC, id DESC LIMIT :count", count=count
        )
        return rows[::-1]

    def entry(self, generation: dict[str, Any]) -> dict[str, Any]:
        """What the simulator says about the request behind a receipt."""
        (found,) = [entry for entry in self.upstream.log_since() if entry["message_id"] == generation["upstream_id"]]
        return found


class ClaudeCode:
    """The real Claude Code with a home and a folder of its own."""

    def __init__(self, folder: Path, base_url: str) -> None:
        self.program = installed(CACHE / "claude/node_modules/.bin/claude")
        self.folder = folder / "project"
        self.folder.mkdir()
        self._always = {
            "HOME": str(folder),
            "ANTHROPIC_BASE_URL": base_url,
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "DISABLE_AUTOUPDATER": "1",
        }

    def ask(self, prompt: str, *words: str, **variables: str) -> Ran:
        """One headless run: ``claude -p PROMPT WORDS…``, with credentials among `variables`."""
        return self.run("-p", prompt, *words, **variables)

    def run(self, *words: str, **variables: str) -> Ran:
        """Any command of it: ``claude WORDS…``."""
        done = subprocess.run(
            [self.program, *words],
            cwd=self.folder,
            env=environment(**self._always, **variables),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=CLAUDE_S,
            check=False,
        )
        return Ran(done.returncode, done.stdout, done.stderr)
