"""The real command line as processes: `serve` on a folder of its own, a simulator beside it; to be ended or killed."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import modelgates_server
from tests.support.eyes import OVER, Eyes

SOURCE = Path(modelgates_server.__file__).parents[1]
READY_S = 20.0
"""A start takes a second; a machine that compiles beside the tests may need several."""

STOP_S = 40.0
"""Above the default drain limit of 30 s."""

UPSTREAM_KEY = "sk-upstream"
KEPT = ("PATH", "HOME", "LANG", "TMPDIR")


def environment(**variables: str) -> dict[str, str]:
    """Nothing of this machine's settings but what any process needs."""
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    return kept | {"PYTHONPATH": str(SOURCE), "PYTHONDONTWRITEBYTECODE": "1", "UPSTREAM_KEY": UPSTREAM_KEY} | variables


class Child:
    """A process with its first line on standard output read: the one that says ready. The rest goes to `log`."""

    def __init__(
        self, command: list[str], folder: Path, log: Path, variables: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        self.log = log
        with log.open("ab") as errors:
            self.process = subprocess.Popen(
                command,
                cwd=folder,
                env=environment(**variables),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
            )
        try:
            self.first_line = self._read_line()
        except BaseException:
            self.kill()
            raise

    @property
    def told(self) -> str:
        """Everything on standard error so far."""
        return self.log.read_text(errors="replace")

    def kill(self) -> None:
        """End it as a power cut would: no handler runs. Harmless when it has ended."""
        self.process.kill()
        self.wait()

    def terminate(self) -> int:
        """Ask it to stop, and wait; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def wait(self) -> int:
        """Wait for its end; the exit code."""
        try:
            code = self.process.wait(STOP_S)
        finally:
            self.process.kill()
            if self.process.stdout:
                self.process.stdout.close()
        return code

    def _read_line(self) -> str:
        assert self.process.stdout
        readable, _, _ = select.select([self.process.stdout], [], [], READY_S)
        line = self.process.stdout.readline().decode() if readable else ""
        assert line, (
            f"{self.process.args} said nothing in {READY_S:g} s and has code {self.process.poll()}: {self.told}"
        )
        return line


@dataclass(frozen=True)
class Ran:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Stand:
    """A folder with a configuration, in which the gateway is started, killed and started again. `variables` are its environment's."""

    def __init__(self, folder: Path, *, upstream: str | None = None, toml: str = "", database_url: str = "") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.key = ""
        self.management_key = ""
        self.variables: dict[str, str] = {}
        self.database_url = database_url or f"sqlite:///{self.database}"
        if database_url:
            toml += f'\n[database]\nurl = "{database_url}"\n'
        provider = f'[[providers]]\nslug = "anthropic"\nkind = "anthropic"\nbase_url = "{upstream}"\n'
        provider += 'api_key = "env:UPSTREAM_KEY"\n'
        (folder / "modelgates.toml").write_text(f"{toml}\n{provider if upstream else ''}")

    @property
    def data(self) -> Path:
        return self.folder / "modelgates-data"

    @property
    def database(self) -> Path:
        return self.data / "modelgates.db"

    def serve(self, *options: str) -> Server:
        """Start the gateway on a free port and wait until it answers; the first start's keys are kept."""
        server = Server(self, *options)
        self.key = server.facts["api_key"] or self.key
        self.management_key = server.facts["management_key"] or self.management_key
        return server

    def cli(self, *words: str) -> Ran:
        """Run one command with ``--json`` beside whatever runs."""
        command = [sys.executable, "-m", "modelgates_server", *words, "--json"]
        done = subprocess.run(
            command, cwd=self.folder, env=environment(), capture_output=True, text=True, timeout=60, check=False
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    def rows(self, statement: str, **values: Any) -> list[dict[str, Any]]:
        """Read the database with nothing of the product in between."""
        with Eyes(self.database_url) as eyes:
            return eyes.rows(statement, **values)

    def overspent(self) -> list[dict[str, Any]]:
        """Meters that break the promise."""
        return self.rows(OVER)


class Server(Child):
    """A running `serve`; `facts` is the one line of JSON that it printed."""

    def __init__(self, stand: Stand, *options: str) -> None:
        command = [sys.executable, "-m", "modelgates_server", "serve", "--port", "0", "--json", *options]
        super().__init__(command, stand.folder, stand.folder / "serve.log", stand.variables)
        self.facts: dict[str, Any] = json.loads(self.first_line)
        self.url: str = self.facts["url"]
        assert fetch(f"{self.url}/readyz")

    @property
    def base_url(self) -> str:
        """What a client is given: ``http://127.0.0.1:PORT/api``."""
        return str(self.facts["base_url"])


class SimulatorProcess(Child):
    """A running stand-in for Anthropic, in a process of its own."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        super().__init__([sys.executable, "-m", "modelgates_server.simulator"], folder, folder / "simulator.log")
        self.url = self.first_line.split()[-1]

    def log_since(self, sequence: int = 0) -> list[dict[str, Any]]:
        """The truth log of Messages requests after a sequence number."""
        return list(json.loads(fetch(f"{self.url}/__sim/log?since={sequence}"))["entries"])

    def script(self, *faults: Mapping[str, Any]) -> None:
        """Bend the next answers, one fault each."""
        fetch(f"{self.url}/__sim/script", data=json.dumps(faults).encode())


@contextmanager
def simulator(folder: Path) -> Iterator[SimulatorProcess]:
    """A simulator for the length of a block."""
    running = SimulatorProcess(folder)
    try:
        yield running
    finally:
        running.kill()


@contextmanager
def serving(stand: Stand) -> Iterator[Server]:
    """A gateway for the length of a block; how it ended is for the block to say."""
    server = stand.serve()
    try:
        yield server
    finally:
        server.kill()


def fetch(url: str, headers: Mapping[str, str] | None = None, data: bytes | None = None) -> bytes:
    """The body of a 2xx answer to a GET, or to a POST of `data`; raises OSError (HTTPError) otherwise."""
    with urllib.request.urlopen(urllib.request.Request(url, data, dict(headers or {})), timeout=10) as response:
        return bytes(response.read())
