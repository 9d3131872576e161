"""The doctor: red, yellow and green where they belong, each with a remedy."""

from __future__ import annotations

import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from modelgates_server.cli.provider_checks import provider_checks
from modelgates_server.config import load_config
from modelgates_server.doctor.finding import GREEN, RED

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.unit.cli.terminal import Ran, Terminal


def found(ran: Ran) -> dict[str, tuple[str, str | None]]:
    return {check["name"]: (check["status"], check["remedy"]) for check in ran.data["checks"]}


class Elsewhere(BaseHTTPRequestHandler):
    """A web server that is no gateway: redirects the model list, knows no other path."""

    def do_GET(self) -> None:
        self.send_response(302 if "models" in self.path else 404)
        self.send_header("location", "https://elsewhere.example.com/")
        self.send_header("content-length", "0")
        self.end_headers()

    do_HEAD = do_POST = do_GET  # noqa: N815 - the base class names them so

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def elsewhere() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_fresh_installation_is_well(home: Terminal) -> None:
    """Nothing is red after `init`; the sandbox and the stopped server are yellow, and say what to do."""
    ran = home.json("doctor", MODELGATES_SERVER_PORT="1")
    checks = found(ran)

    assert (ran.code, ran.data["ok"]) == (0, True)
    assert {name for name, (status, _) in checks.items() if status == GREEN} >= {"secret", "database", "credit"}
    assert "ANTHROPIC_API_KEY" in (checks["providers"][1] or "")
    assert checks["server"] == ("yellow", "modelgates serve")


def test_an_empty_folder_is_red_and_stays_empty(terminal: Terminal) -> None:
    """Before `init` there is no database, and the doctor does not make one."""
    ran = terminal.json("doctor", MODELGATES_SERVER_PORT="1")

    assert ran.code == 1
    assert found(ran)["database"][0] == RED
    assert list(terminal.folder.iterdir()) == []


def test_a_readable_secret_is_red(home: Terminal) -> None:
    """A secret that others can read is found, with the command that mends it."""
    (home.folder / "modelgates-data" / "secret.key").chmod(0o644)
    ran = home.json("doctor", MODELGATES_SERVER_PORT="1")

    assert ran.code == 1
    assert (found(ran)["secret"][1] or "").startswith("chmod 600")


def test_a_lost_secret_is_red(home: Terminal) -> None:
    """A database without its secret is not given a new one."""
    path = home.folder / "modelgates-data" / "secret.key"
    path.unlink()
    ran = home.json("doctor", MODELGATES_SERVER_PORT="1")

    assert found(ran)["secret"] == (RED, "restore it from your backup")
    assert not path.exists()


def test_a_broken_configuration_is_red(home: Terminal) -> None:
    """The line that is wrong is told, and nothing further is tried."""
    (home.folder / "modelgates.toml").write_text("[server]\nprot = 8787\n")
    ran = home.json("doctor")

    assert ran.code == 1
    assert [check["name"] for check in ran.data["checks"]] == ["configuration"]
    assert "line 2" in ran.data["checks"][0]["detail"]


def test_no_server_is_one_red_line(terminal: Terminal) -> None:
    """When nothing answers, one line says so; the other checks would only repeat it."""
    ran = terminal.json("doctor", "--url", "http://127.0.0.1:1/api", "--key", "sk-mg-v1-x")

    assert ran.code == 1
    assert [(check["name"], check["status"]) for check in ran.data["checks"]] == [("alive", RED)]
    assert "modelgates serve" in ran.data["checks"][0]["remedy"]


def test_tls_where_there_is_none_is_told(terminal: Terminal, elsewhere: str) -> None:
    """TLS to a plain server says what to change in the base URL."""
    ran = terminal.json("doctor", "--url", elsewhere.replace("http://", "https://"))

    assert ran.code == 1
    assert "http://" in ran.data["checks"][0]["remedy"]


def test_another_web_server_is_found_out(terminal: Terminal, elsewhere: str) -> None:
    """A redirect of the model list is red, because clients do not follow it; so is a probe that fails."""
    ran = terminal.json("doctor", "--url", f"{elsewhere}/v1", "--key", "sk-mg-v1-x")
    checks = found(ran)

    assert ran.code == 1
    assert checks["base URL"][0] == "yellow"
    assert checks["models, Bearer"][0] == RED
    assert checks["Claude Desktop test"] == (RED, "the base URL ends in /api, without /v1")


def test_a_url_that_is_none_exits_2(terminal: Terminal) -> None:
    """What is no URL is a usage error, with an example."""
    ran = terminal.json("doctor", "--url", "localhost:8787")

    assert ran.code == 2
    assert "http://127.0.0.1:8787/api" in ran.error["remedy"]


PROVIDERS = """
[[providers]]
kind = "anthropic"
api_key = "env:THE_KEY"

[[providers]]
kind = "bedrock"
region = "eu-west-1"
profile = "prod"

[[providers]]
kind = "vertex"
project = "acme-1"
"""


def test_each_provider_has_its_line(home: Terminal) -> None:
    """What it is, where, and how we prove who we are; no key is shown."""
    (home.folder / "modelgates.toml").write_text(PROVIDERS)
    ran = home.json("doctor", MODELGATES_SERVER_PORT="1", THE_KEY="sk-ant-secret")
    told = {check["name"]: check["detail"] for check in ran.data["checks"]}

    assert told["provider anthropic"] == "Anthropic, with an API key, at https://api.anthropic.com"
    assert told["provider bedrock"].startswith(
        "Amazon Bedrock, eu-west-1, with AWS credentials of the profile prod, at"
    )
    assert told["provider vertex"].startswith("Google Vertex AI, global, acme-1, with Google credentials")
    assert "sk-ant-secret" not in ran.out


def test_a_provider_whose_library_is_missing_is_red(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the command that installs it; the others are not its concern."""
    monkeypatch.setitem(sys.modules, "google.auth", None)
    (tmp_path / "modelgates.toml").write_text(PROVIDERS)
    _, bedrock, vertex = provider_checks(load_config(None, None, None, {"THE_KEY": "k"}, tmp_path))

    assert bedrock.status == GREEN
    assert (vertex.status, vertex.remedy) == (RED, "pip install 'modelgates-server[google]'")
