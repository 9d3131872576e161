"""`serve` as a process: what it says before it is ready, what it serves, how it ends."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import urllib.request
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from tests.unit.cli.terminal import Terminal, command, environment

if TYPE_CHECKING:
    from collections.abc import Iterator

READY_S = 30


@contextmanager
def process(terminal: Terminal, *words: str, **variables: str) -> Iterator[subprocess.Popen[str]]:
    """A command that runs on, ended at the end."""
    running = subprocess.Popen(
        command(*words),
        cwd=terminal.folder,
        env=environment(**variables),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        yield running
    finally:
        running.terminate()
        running.communicate(timeout=READY_S)


@pytest.mark.slow
def test_a_first_start_gives_everything_in_one_line_of_json(terminal: Terminal) -> None:
    """On an empty folder `serve` initialises, says key and addresses, answers with that key, and ends well."""
    with process(terminal, "serve", "--port", "0", "--json") as running:
        facts = json.loads(running.stdout.readline())
        healed = terminal.json("doctor", "--url", facts["base_url"], "--key", facts["api_key"])
        used = terminal.json("credits", "show")
        running.send_signal(signal.SIGTERM)
        out, err = running.communicate(timeout=READY_S)

    assert (facts["ready"], facts["sandbox"], facts["already_initialised"]) == (True, True, False)
    assert (healed.code, {check["status"] for check in healed.data["checks"]}) == (0, {"green"}), healed.out
    assert used.data["total_usage"] > 0
    assert (running.returncode, out) == (0, ""), err


@pytest.mark.slow
def test_people_are_told_before_ready_and_only_once(terminal: Terminal) -> None:
    """The key and the set-up stand before the line that says ready; a later start says the addresses only."""
    told = []
    for _ in range(2):
        with process(terminal, "serve", "--port", "0") as running:
            lines = until_ready(running)
            told.append("".join(lines))

    first, later = told
    assert first.index("sk-mg-v1-") < first.index("ready at")
    assert "Gateway (Anthropic-compatible)" in first
    assert "sk-mg-" not in later
    assert "/setup" in later


def until_ready(running: subprocess.Popen[str]) -> list[str]:
    lines = []
    for line in iter(running.stdout.readline, ""):
        lines.append(line)
        if "ready at" in line:
            break
    return lines


@pytest.mark.slow
def test_links_lead_to_where_it_is_served(terminal: Terminal) -> None:
    """Commands know the port that only a flag said, also afterwards; what the configuration says comes first."""
    with process(terminal, "serve", "--port", "0") as running:
        url = until_ready(running)[-1].split()[-1]
        invited = terminal.json("members", "invite", "ann@x.de", "--name", "Ann").data
        accepted = terminal.json("members", "accept", invited["token"]).data
        founded = terminal.json("organizations", "create", "Other").data
        checked = terminal.run("doctor")
    again = terminal.json("init").data
    public = terminal.json("init", MODELGATES_SERVER_PUBLIC_URL="https://gates.example.com").data
    named = terminal.json("init", MODELGATES_SERVER_PORT="9000").data

    for link in (invited["url"], accepted["sign_in_url"], founded["sign_in_url"], again["sign_in_url"]):
        assert link.startswith(f"{url}/")
    assert "none answers" not in checked.out
    assert public["sign_in_url"].startswith("https://gates.example.com/")
    assert named["sign_in_url"].startswith("http://127.0.0.1:9000/")


@pytest.mark.slow
def test_a_second_server_on_the_same_data_exits_3(terminal: Terminal) -> None:
    """One process serves one database; the other says how to go on, and the commands work beside the first."""
    with process(terminal, "serve", "--port", "0") as running:
        until_ready(running)
        second = terminal.json("serve", "--port", "0")
        beside = terminal.json("keys", "create", "--name", "beside")

    assert second.code == 3
    assert "--data-dir" in second.error["remedy"]
    assert beside.code == 0


def test_new_keys_are_not_lost_when_the_port_is_taken(terminal: Terminal) -> None:
    """Keys are shown once, so they are shown also when the server cannot start."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ran = terminal.json("serve", "--port", str(taken.getsockname()[1]))

    assert ran.code == 2
    assert "--port" in ran.error["remedy"]
    assert ran.data["ready"] is False
    assert ran.data["api_key"].startswith("sk-mg-v1-")


def test_plain_http_off_loopback_is_warned_about(terminal: Terminal) -> None:
    """Claude Desktop refuses such an address: the warning says so, and what to do."""
    with socket.create_server(("0.0.0.0", 0)) as taken:
        ran = terminal.run("serve", "--host", "0.0.0.0", "--port", str(taken.getsockname()[1]))

    assert "Claude Desktop refuses plain http off loopback" in ran.err
    assert "--tls-cert" in ran.err
    assert "0.0.0.0" not in ran.out


@pytest.mark.parametrize("words", [("--workers", "2"), ("--tls-cert", "no.pem")])
def test_what_cannot_be_is_refused(terminal: Terminal, words: tuple[str, ...]) -> None:
    """Flags without effect are refused instead of ignored."""
    ran = terminal.json("serve", *words)

    assert ran.code == 2
    assert ran.error["type"] == "config_error"
    assert ran.error["remedy"]


@pytest.mark.slow
def test_simulate_serves_and_says_where(terminal: Terminal) -> None:
    """The stand-in runs alone, on a free port, and ends when told."""
    with process(terminal, "simulate", "--port", "0") as running:
        url = running.stdout.readline().split()[-1]
        body = json.dumps(
            {"model": "claude-haiku-4-5", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]}
        )
        headers = {"x-api-key": "sk-any", "anthropic-version": "2023-06-01", "content-type": "application/json"}
        request = urllib.request.Request(f"{url}/v1/messages", body.encode(), headers)
        with urllib.request.urlopen(request, timeout=READY_S) as response:
            answer = json.load(response)

    assert answer["type"] == "message"
