"""The real Claude Code from npm against the real `serve` (client-protocol 1, 2, 4, 7 and 9)."""

from __future__ import annotations

import json
import re

import pytest
from tests.clients.house import ClaudeCode, House
from tests.clients.tap import Tap
from tests.support.process import fetch

pytestmark = [pytest.mark.clients, pytest.mark.slow]

MESSAGES = "POST /api/v1/messages?beta=true"
DISCOVERY = {"user-agent": "claude-code/2.1.330", "anthropic-version": "2023-06-01"}


def messages(tap: Tap) -> list[str]:
    return [request for request in tap.requests if "/messages" in request]


def test_hello_streams_the_answer(house: House, tap: Tap, claude: ClaudeCode, token: dict[str, str]) -> None:
    """With base URL and auth token alone, `claude -p` prints what the model streamed, in one request."""
    ran = claude.ask("hello [[say:seven brown foxes]]", **token)

    assert (ran.code, ran.out.strip()) == (0, "seven brown foxes"), ran.err
    assert messages(tap) == [MESSAGES]
    assert house.entry(house.newest(1)[0])["stream"] is True


def test_only_paths_of_the_gateway_are_asked(tap: Tap, claude: ClaudeCode, token: dict[str, str]) -> None:
    """Everything that Claude Code asks of the gateway in a headless run is a Messages request under the given prefix."""
    claude.ask("hello", **token)

    assert set(tap.requests) == {MESSAGES}


def test_the_receipt_knows_session_and_client(house: House, claude: ClaudeCode, token: dict[str, str]) -> None:
    """The generation carries Claude Code's own session id and its user agent."""
    ran = claude.ask("hello", "--output-format", "json", **token)
    (receipt,) = house.newest(1)

    assert receipt["session_id"] == ran.json["session_id"]
    assert receipt["user_agent"].startswith("claude-cli/2.1.")
    assert (receipt["outcome"], receipt["streamed"], receipt["estimated"]) == ("completed", 1, 0)


def test_claude_code_and_the_ledger_name_the_same_price(
    house: House, claude: ClaudeCode, token: dict[str, str]
) -> None:
    """What Claude Code reckons from its own price list is what the receipt charges, to its last digit."""
    ran = claude.ask("hello", "--output-format", "json", **token)
    (receipt,) = house.newest(1)
    usage = house.entry(receipt)["usage"]

    assert round(ran.json["total_cost_usd"] * 10**9) == receipt["cost_nusd"] > 0
    assert (receipt["input_tokens"], receipt["output_tokens"]) == (usage["input_tokens"], usage["output_tokens"])
    assert receipt["cache_write_5m_tokens"] == usage["cache_creation_input_tokens"] > 0


@pytest.mark.parametrize("tool", ["Read", "Bash"])
def test_a_tool_makes_its_round_trip(house: House, claude: ClaudeCode, token: dict[str, str], tool: str) -> None:
    """The model calls a tool, Claude Code runs it, and the second turn of the same session quotes its result."""
    note = claude.folder / "note.txt"
    note.write_text("the kingfisher sleeps\n")
    call = {"Read": {"file_path": str(note)}, "Bash": {"command": f"cat {note}", "description": "shows a note"}}[tool]
    ran = claude.ask(f"Please [[tool:{tool} {json.dumps(call)}]]", "--allowedTools", tool, **token)
    first, second = house.newest(2)

    assert ran.code == 0, ran.err
    assert "The tool said: " in ran.out
    assert "the kingfisher sleeps" in ran.out
    assert (first["finish_reason"], second["finish_reason"]) == ("tool_use", "end_turn")
    assert first["session_id"] == second["session_id"]
    assert second["cache_read_tokens"] > 0


def test_a_second_conversation_turn_continues_the_first(
    house: House, claude: ClaudeCode, token: dict[str, str]
) -> None:
    """`--continue` sends the former turn back, thinking included, and the provider's cache is read."""
    claude.ask("hello [[say:one]]", **token)
    ran = claude.ask("again [[say:two]]", "--continue", **token)
    first, second = house.newest(2)

    assert (ran.code, ran.out.strip()) == (0, "two"), ran.err
    assert first["session_id"] == second["session_id"]
    assert second["cache_read_tokens"] > 0


def test_the_key_alone_works_as_x_api_key(house: House, tap: Tap, claude: ClaudeCode) -> None:
    """With ANTHROPIC_API_KEY only, the key travels as x-api-key and is accepted; upstream sees the provider's key alone."""
    ran = claude.ask("hello [[say:by api key]]", ANTHROPIC_API_KEY=house.keys["good"])
    headers = house.entry(house.newest(1)[0])["headers"]

    assert (ran.code, ran.out.strip()) == (0, "by api key"), ran.err
    assert (tap.sent_header("x-api-key"), tap.sent_header("authorization")) == (house.keys["good"], None)
    assert "authorization" not in headers
    assert headers["x-api-key"].startswith("sha256:")


def test_both_headers_at_once_are_accepted(house: House, tap: Tap, claude: ClaudeCode) -> None:
    """With both variables set Claude Code sends both headers; a dead key in one does not spoil the good one."""
    ran = claude.ask("[[say:both]]", ANTHROPIC_AUTH_TOKEN=house.keys["good"], ANTHROPIC_API_KEY=house.keys["dead"])

    assert (ran.code, ran.out.strip()) == (0, "both"), ran.err
    assert tap.sent_header("authorization") == f"Bearer {house.keys['good']}"
    assert tap.sent_header("x-api-key") == house.keys["dead"]


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("spent", r"402 The key's limit does not cover this request: .* USD left"),
        ("dead", r"401 .*key"),
        ("management", r"403 .*management"),
    ],
)
def test_a_refusal_is_one_request_and_one_sentence(
    house: House, tap: Tap, claude: ClaudeCode, key: str, said: str
) -> None:
    """A key over its limit, a dead one and one of the wrong class: the user reads why, and nothing is retried."""
    before = len(house.upstream.log_since())
    ran = claude.ask("hello", ANTHROPIC_AUTH_TOKEN=house.keys[key], ANTHROPIC_API_KEY="")

    assert ran.code == 1
    assert re.search(said, ran.out), ran.out
    assert messages(tap) == [MESSAGES]
    assert len(house.upstream.log_since()) == before


def test_a_provider_in_trouble_for_a_moment_is_survived(
    house: House, tap: Tap, claude: ClaudeCode, token: dict[str, str]
) -> None:
    """An overloaded provider reaches the client as 529, which it retries by itself until the answer comes."""
    house.upstream.script({"status": 529}, {"status": 529})
    ran = claude.ask("hello [[say:patience]]", **token)

    assert (ran.code, ran.out.strip()) == (0, "patience"), ran.err
    assert 1 <= len(messages(tap)) <= 3


@pytest.mark.parametrize("credential", ["authorization", "x-api-key"])
@pytest.mark.parametrize("query", ["?limit=1000", "?limit=1", ""])
def test_model_discovery_is_answered_in_its_shape(house: House, credential: str, query: str) -> None:
    """`GET /v1/models` with the headers of Claude Code's discovery: one page of ids that its filter keeps."""
    key = house.keys["good"]
    headers = DISCOVERY | {credential: f"Bearer {key}" if credential == "authorization" else key}
    page = json.loads(fetch(f"{house.server.base_url}/v1/models{query}", headers))

    assert set(page) >= {"data", "has_more", "first_id", "last_id"}
    assert page["data"], "no models"
    for model in page["data"]:
        assert model["type"] == "model"
        assert re.fullmatch(r"claude-[a-z0-9-]+", model["id"]), model["id"]
        assert re.match(r"\d{4}-\d\d-\d\dT", model["created_at"])
