"""`modelgates reconcile` on a real database, against a simulator's report."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.unit.reconcile.report_samples import Rows, read_attempts
from tests.unit.reconcile.test_anthropic_report import entry

from modelgates_server.cli.main import main
from modelgates_server.reconcile.values import DAY_S, day_of, start_s
from modelgates_server.simulator import Simulator, serve
from modelgates_server.storage import schema
from modelgates_server.storage.engine import database_of, open_engine

ADMIN = "sk-ant-admin01-cli"
COST_NUSD = 1_000 * 5_000 + 200 * 25_000 + 50 * 500 + 30 * 6_250 + 20 * 10_000
"""What the entry of `test_anthropic_report` costs."""


@dataclass
class Desk:
    """A folder with a gateway's data, and the simulator that reports."""

    folder: Path
    simulator: Simulator
    day: str
    capsys: pytest.CaptureFixture[str]

    async def run(self, *words: str) -> tuple[int, str, str]:
        """One command in this process; the simulator goes on beside it."""
        where = ("--config", str(self.folder / "modelgates.toml"), "--data-dir", str(self.folder / "data"))
        code = await asyncio.to_thread(main, [*words, *where])
        return code, *self.capsys.readouterr()

    def plant(self, **more: Any) -> str:
        """A receipt of three days ago."""
        engine = open_engine(database_of(f"sqlite:///{self.folder / 'data' / 'modelgates.db'}"))
        try:
            rows = Rows(engine)
            (organization,) = rows.all(schema.organizations.select())
            more = {"organization_id": organization["id"], "upstream_cost_nusd": COST_NUSD} | more
            uncertain = more.pop("uncertain", 0)
            made = rows.receipt(COST_NUSD, start_s(self.day) + 60, **more)
            if uncertain:
                rows.uncertain(uncertain, made)
            return made
        finally:
            engine.dispose()


@pytest.fixture
async def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> AsyncIterator[Desk]:
    simulator = Simulator()
    simulator.reports.admin_keys = {ADMIN}
    served = await serve(simulator)
    (tmp_path / "admin").write_text(ADMIN)
    table = {"kind": "anthropic", "base_url": served.url, "api_key": "sk-x", "admin_key": "file:admin"}
    lines = [f"{name} = {json.dumps(value)}" for name, value in table.items()]
    (tmp_path / "modelgates.toml").write_text("\n".join(["[[providers]]", *lines, ""]))
    opened = Desk(tmp_path, simulator, day_of(time.time() - 3 * DAY_S), capsys)
    try:
        code, _, told = await opened.run("init")
        assert code == 0, told
        yield opened
    finally:
        await served.stop()


async def test_books_that_agree_exit_with_zero(desk: Desk) -> None:
    """One JSON object with both sides of every line; nothing is unexplained."""
    desk.plant(input_tokens=1_000, output_tokens=200)
    desk.simulator.log.append(entry(start_s(desk.day) + 60))
    code, out, _ = await desk.run("reconcile", "--json")

    told = json.loads(out)
    (account,) = told["accounts"]
    (line,) = account["lines"]
    assert (code, told["ok"], account["providers"]) == (0, True, ["anthropic"])
    assert (line["day"], line["model"], line["state"]) == (desk.day, "claude-opus-4-8", "ok")
    assert line["ours"] == line["theirs"] == line["counted"] == COST_NUSD / 10**9
    assert (line["tokens"]["ours"]["output"], line["tokens"]["theirs"]["output"]) == (200, 200)
    assert (day_of(start_s(told["to"]) + 1 - 6 * DAY_S), told["to"]) == (told["from"], day_of(time.time() - DAY_S))


async def test_drift_exits_with_one_and_is_named(desk: Desk) -> None:
    """The table has the day, the model, both amounts, per cent, and what kind of difference it is."""
    desk.plant()
    desk.simulator.log += [entry(start_s(desk.day) + 60)] * 2
    code, out, _ = await desk.run("reconcile")

    assert code == 1
    assert out.startswith("anthropic: 1 of 1 line drifts\n")
    (row,) = [line for line in out.splitlines() if "DRIFT" in line]
    assert row.split()[:2] == [desk.day, "claude-opus-4-8"]
    assert (row.split()[2], row.split()[3], row.split()[5]) == ("$0.0104125", "$0.020825", "50.000")
    assert row.endswith("DRIFT: the tokens differ")


async def test_cleared_attempts_are_listed(desk: Desk) -> None:
    """What the report proved stands beside the line, for the books and for people."""
    made = desk.plant(uncertain=5_000, attempts=read_attempts(("anthropic", 0, "no_answer", "claude-opus-4-8")))
    desk.simulator.log.append(entry(start_s(desk.day) + 60))
    _, out, _ = await desk.run("reconcile", "--json", "--from", desk.day, "--to", desk.day)
    (line,) = json.loads(out)["accounts"][0]["lines"]
    assert line["cleared"] == [{"generation": made, "provider": "anthropic", "at_most": 0.000005, "billed": 0}]


async def test_one_line_is_told_in_the_singular(desk: Desk) -> None:
    """Also what was cleared on it."""
    desk.plant(uncertain=5_000, attempts=read_attempts(("anthropic", 0, "no_answer", "claude-opus-4-8")))
    desk.simulator.log.append(entry(start_s(desk.day) + 60))
    _, out, _ = await desk.run("reconcile")
    assert out.startswith("anthropic: 1 line, nothing is unexplained\n")
    assert out.endswith("\n1 attempt of unknown fate is cleared.\n")


async def test_nothing_on_either_side_is_said(desk: Desk) -> None:
    """An account without traffic is no error."""
    code, out, _ = await desk.run("reconcile")
    assert (code, out) == (0, "anthropic: nothing was booked and nothing is reported\n")


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("--from", "2026-11-31"), 2, "is not a day"),
        (("--from", "2099-01-01"), 2, "has not come yet"),
        (("--from", "2026-01-02", "--to", "2026-01-01"), 2, "is after"),
        (("--provider", "bedrock"), 4, "no provider 'bedrock' with an admin_key"),
    ],
)
async def test_mistakes_are_told(desk: Desk, words: tuple[str, ...], code: int, told: str) -> None:
    """Usage errors exit with 2, unknown providers with 4."""
    ended, _, err = await desk.run("reconcile", *words)
    assert (ended, told in err) == (code, True), err


async def test_a_report_that_cannot_be_had_is_an_error(desk: Desk) -> None:
    """The provider's refusal is told with what to do; nothing is stored."""
    desk.simulator.reports.admin_keys = {"another"}
    code, out, err = await desk.run("reconcile", "--json")
    error = json.loads(err.strip().splitlines()[-1])["error"]
    assert (code, out, error["type"]) == (1, "", "report_failed")
    assert "invalid x-api-key" in error["message"]
    assert "sk-ant-admin" in error["remedy"]


async def test_without_an_admin_key_the_remedy_is_told(desk: Desk) -> None:
    """Whoever has none is told where it belongs."""
    file = desk.folder / "modelgates.toml"
    file.write_text(file.read_text().replace('admin_key = "file:admin"', ""))
    code, _, err = await desk.run("reconcile")
    assert code == 2
    assert 'admin_key = "env:ANTHROPIC_ADMIN_KEY"' in err
