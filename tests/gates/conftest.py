"""What gates have in common: a simulator in a process of its own, and the file of figures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.figures import Figures, collected
from tests.support.process import SimulatorProcess, simulator

pytest.register_assert_rewrite("tests.gates.house")

_WORDS = """
Written by `make gates`: the release gates R1, R4 and R22 on real processes of `modelgates serve`, with the simulator as provider. A
connection of its own looks at every meter all the time for one whose posted and held amounts together exceed its limit. A run
that finds anything wrong fails, and writes no figures. docs/testing.md says what each gate does.
"""


@pytest.fixture(scope="session")
def figures(request: pytest.FixtureRequest) -> Iterator[Figures]:
    with collected("Gates", _WORDS, request.session) as found:
        yield found


@pytest.fixture
def upstream(tmp_path: Path) -> Iterator[SimulatorProcess]:
    with simulator(tmp_path / "simulator") as running:
        yield running
