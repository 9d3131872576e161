"""The simulator as a server: alone, beside others, and stopped."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

import aiohttp
import pytest
from tests.unit.simulator.simulator_caller import HEADERS, Caller, body

import modelgates_server.simulator as package
from modelgates_server.simulator import Simulator, serve


async def test_process_serves_and_stops_cleanly():
    """``python -m`` prints its address, keeps its log for later readers, and leaves with 0 on SIGTERM."""
    command = [sys.executable, "-m", "modelgates_server.simulator", "--port", "0"]
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    url = (await process.stdout.readline()).decode().split()[-1]
    async with aiohttp.ClientSession() as session:
        caller = Caller(session, Simulator(), url)
        await caller.call("POST", "/v1/messages", body())
        entries = (await caller.call("GET", "/__sim/log")).json["entries"]
    assert [entry["outcome"] for entry in entries] == ["completed"]
    process.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(process.wait(), 5) == 0


@pytest.mark.parametrize("command", [["-m", "modelgates_server.simulator"], ["-m", "modelgates_server", "simulate"]])
async def test_process_speaks_the_wire_it_is_told(command):
    """The kind of wire and the keys are options of both commands."""
    options = ["--port", "0", "--wire", "bedrock-invoke", "--key", "one", "--key", "two"]
    process = await asyncio.create_subprocess_exec(sys.executable, *command, *options, stdout=subprocess.PIPE)
    url = (await process.stdout.readline()).decode().split()[-1]
    asked = {"anthropic_version": "bedrock-2023-05-31", **body(model=...)}
    path = "/model/us.anthropic.claude-opus-4-8/invoke"
    async with aiohttp.ClientSession() as session:
        caller = Caller(session, Simulator(), url)
        keys = [{"authorization": f"Bearer {key}"} for key in ("two", "three")]
        statuses = [(await caller.call("POST", path, asked, key)).status for key in keys]
    process.send_signal(signal.SIGTERM)
    assert (statuses, await asyncio.wait_for(process.wait(), 5)) == ([200, 403], 0)


async def test_stop_ends_stalled_streams():
    """Stopping closes streams that would stall forever, and books them as cancelled."""
    simulator = Simulator()
    served = await serve(simulator)
    async with aiohttp.ClientSession() as session:
        headers = HEADERS | {"anthropic-simulate": '{"stall_after_event": 3}'}
        async with session.post(served.url + "/v1/messages", json=body(stream=True), headers=headers) as response:
            await response.content.readany()
            await asyncio.wait_for(served.stop(), 2)
    assert simulator.log[0].outcome == "cancelled"


async def test_signal_handlers_stay_as_they_were():
    """Serving in a loop beside another server leaves the process's signals alone."""
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    served = await serve(Simulator())
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
    await served.stop()


async def test_taken_port_is_an_error():
    """A second simulator on the same port fails at once."""
    served = await serve(Simulator())
    with pytest.raises(OSError, match="in use"):
        await serve(Simulator(), port=served.port)
    await served.stop()


def test_it_imports_nothing_of_ours():
    """The witness is independent: no import from outside its own package."""
    for file in Path(package.__file__).parent.glob("*.py"):
        lines = [line.strip() for line in file.read_text().splitlines()]
        ours = [line for line in lines if line.startswith(("from modelgates_server", "import modelgates_server"))]
        assert all(line.startswith("from modelgates_server.simulator") for line in ours), file.name
