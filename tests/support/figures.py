"""Figures of the long runs: what a test counted, written to a file beside the code when ``MODELGATES_TEST_FIGURES`` names it."""

from __future__ import annotations

import datetime as dt
import os
import platform
import sqlite3
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.postgres import NoPostgres, find_binaries

FILE = os.environ.get("MODELGATES_TEST_FIGURES")


class Figures:
    """Rows of one report: `what` was measured → figure → value."""

    def __init__(self) -> None:
        self.rows: dict[str, Mapping[str, object]] = {}

    def add(self, what: str, facts: Mapping[str, object]) -> None:
        self.rows[what] = facts

    def markdown(self, title: str, words: str) -> str:
        """A table for all measurements that have the same figures, with a column for each; and the machine."""
        machine = [f"- {name}: {fact}" for name, fact in machine_facts().items()]
        kinds = dict.fromkeys(tuple(facts) for facts in self.rows.values())
        tables = [line for kind in kinds for line in (*self._table(kind), "")]
        return "\n".join([f"# {title}", "", *tables, words.strip(), "", "## Machine", "", *machine, ""])

    def _table(self, names: tuple[str, ...]) -> list[str]:
        rows = {what: facts for what, facts in self.rows.items() if tuple(facts) == names}
        lines = [["", *rows], *([name, *(str(facts[name]) for facts in rows.values())] for name in names)]
        table = ["| " + " | ".join(line) + " |" for line in lines]
        return [table[0], "|---" + "|---:" * len(rows) + "|", *table[1:]]


@contextmanager
def collected(title: str, words: str, session: pytest.Session) -> Iterator[Figures]:
    """The figures of a session; written at its end, if anybody asked, anything was measured and nothing failed."""
    figures = Figures()
    yield figures
    if FILE and figures.rows and not session.testsfailed:
        Path(FILE).write_text(figures.markdown(title, words))


def percentile(values: list[float], percent: int) -> float:
    """The smallest value that `percent` of a hundred do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]


def machine_facts() -> dict[str, str]:
    """What the figures depend on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "date": dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "cpu": f"{models[0] if models else platform.processor()}, {os.cpu_count()} cores",
        "kernel": platform.release(),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "postgresql": _postgres_version(),
    }


def _postgres_version() -> str:
    try:
        binaries = find_binaries()
    except NoPostgres:
        return "none"
    command = [str(binaries / "postgres"), "--version"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
