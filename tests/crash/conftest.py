"""A simulator in a process of its own, and a stand whose gateway asks it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.figures import Figures, collected
from tests.support.process import SimulatorProcess, Stand, simulator

pytest.register_assert_rewrite("tests.crash.witness")

_WORDS = """
Written by `make crash`. Processes are killed with SIGKILL at random moments under load. Every operation that one of them acknowledged
before its death (a hold, a refusal, a settlement) is then looked up in the database by a witness that uses no code of the ledger;
`posted + held <= limit` is looked at all the time. A run that finds anything lost, unbalanced or still held fails, and writes no
figures. "Ready" is the time from the start of a process until it has recovered everything and would admit requests.
"""


@pytest.fixture(scope="session")
def figures(request: pytest.FixtureRequest) -> Iterator[Figures]:
    with collected("Crashes", _WORDS, request.session) as found:
        yield found


@pytest.fixture
def upstream(tmp_path: Path) -> Iterator[SimulatorProcess]:
    with simulator(tmp_path / "simulator") as running:
        yield running


@pytest.fixture
def stand(tmp_path: Path, upstream: SimulatorProcess) -> Stand:
    """Not started yet; its configuration can still be added to."""
    return Stand(tmp_path / "gateway", upstream=upstream.url)


@pytest.fixture
def bare(tmp_path: Path) -> Stand:
    """Without any provider: answers come from the built-in sandbox."""
    return Stand(tmp_path / "bare")
