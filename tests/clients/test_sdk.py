"""Two generations of the real anthropic SDK against the real `serve` (client-protocol 1, 2, 4, 6 and 7)."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.clients.house import CACHE, House, installed
from tests.clients.tap import tapped

pytestmark = [pytest.mark.clients, pytest.mark.slow]

CALLS = Path(__file__).with_name("sdk_calls.py")
ENVELOPE = {"type", "error", "request_id"}
BASES = ["/api", "/api/", "/api/v1", "/api/v1/", "", "/v1", "/anthropic", "/api/anthropic"]


def run(generation: int, base_urls: list[str], keys: dict[str, str], *calls: str) -> dict[str, Any]:
    """What came of each call at each base URL, made in one process of that SDK; of all calls when none is named."""
    given = {"base_urls": base_urls, "keys": keys, "calls": calls}
    done = subprocess.run(
        [installed(CACHE / f"sdk{generation}/bin/python"), CALLS],
        input=json.dumps(given),
        env={},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@pytest.fixture(scope="session", params=[1, 2], ids=["sdk1", "sdk2"])
def told(request: pytest.FixtureRequest, house: House) -> dict[str, Any]:
    return dict(run(request.param, [house.server.base_url], house.keys)[house.server.base_url])


def gave(told: dict[str, Any], call: str) -> Any:
    assert "gave" in told[call], told[call]
    return told[call]["gave"]


def receipt(house: House, generation_id: str) -> dict[str, Any]:
    (row,) = house.stand.rows("SELECT * FROM generations WHERE id = :id", id=generation_id)
    return row


@pytest.mark.parametrize(("call", "text"), [("create", "seven brown foxes"), ("create_async", "at once")])
def test_create_gives_the_answer_and_its_cost(house: House, told: dict[str, Any], call: str, text: str) -> None:
    """A message parses into the SDK's types; `usage.cost` is what the receipt charges for the tokens it names."""
    message = gave(told, call)
    row = receipt(house, message["id"])

    assert (message["text"], message["stop_reason"], message["model"]) == (text, "end_turn", "claude-opus-4-8")
    assert message["tokens"] == [row["input_tokens"], row["output_tokens"]]
    assert (
        round(message["cost"] * 10**9)
        == row["cost_nusd"]
        == 5_000 * row["input_tokens"] + 25_000 * row["output_tokens"]
    )


def test_stream_gives_text_and_the_final_message(house: House, told: dict[str, Any]) -> None:
    """The stream helper's text equals the final message's, and its usage equals the receipt's."""
    message = gave(told, "stream")
    row = receipt(house, message["id"])

    assert message["streamed"] == message["text"] == "seven brown foxes"
    assert message["tokens"] == [row["input_tokens"], row["output_tokens"]]
    assert row["streamed"] == 1


def test_stream_events_come_in_order_and_name_the_cost(house: House, told: dict[str, Any]) -> None:
    """One start, one block, one end; the last `message_delta` carries `usage.cost`, equal to the receipt."""
    events = gave(told, "stream_events")
    shape = re.sub(r"(content_block_delta )+", "deltas ", " ".join(events["types"]) + " ").split()

    expected = "message_start content_block_start deltas content_block_stop message_delta message_stop"
    assert [name for name in shape if name != "ping"] == expected.split()
    assert round(events["cost"] * 10**9) == receipt(house, events["id"])["cost_nusd"]


def test_tokens_are_counted(told: dict[str, Any]) -> None:
    """`count_tokens` gives a positive number of tokens, and costs nothing."""
    assert 0 < gave(told, "count") < 100


def test_models_are_listed_and_found(told: dict[str, Any]) -> None:
    """`models.list` gives typed entries, and `models.retrieve` takes an id with a slash."""
    models = gave(told, "models")

    assert ["claude-opus-4-8", "model", "Claude Opus 4.8"] in models
    assert len({model_id for model_id, _, _ in models}) == len(models) > 5
    assert gave(told, "model")[:2] == ["claude-opus-4-8", "model"]


def test_tools_make_a_round_trip(told: dict[str, Any]) -> None:
    """A tool call parses, also from a stream, and the next turn answers with the tool's result."""
    used = gave(told, "tool_use")

    assert (used["stop_reason"], used["input"]) == ("tool_use", {"place": "Bergen"})
    assert used["text"] == "The tool said: rain in Bergen"
    assert gave(told, "stream_tool_use") == [{"place": "Bergen"}]


def test_thinking_keeps_its_signature(told: dict[str, Any]) -> None:
    """A thinking block streamed through the SDK's accumulator arrives signed."""
    assert gave(told, "thinking") == [["thinking", True], ["text", False]]


def test_one_id_names_the_request_everywhere(house: House, told: dict[str, Any]) -> None:
    """Header `request-id`, `X-Generation-Id`, the SDK's request id, the message id and the receipt are one."""
    raw = gave(told, "raw_headers")
    headers = raw["headers"]

    assert raw["id"] == raw["sdk"] == headers["request-id"] == headers["x-generation-id"]
    assert receipt(house, raw["id"])["outcome"] == "completed"
    assert not [name for name in headers if name.startswith("anthropic-")]


@pytest.mark.parametrize(
    ("call", "status", "kind", "error_type"),
    [
        ("dead", 401, "AuthenticationError", "authentication_error"),
        ("management", 403, "PermissionDeniedError", "permission_error"),
        ("spent", 402, "APIStatusError", "billing_error"),
        ("rated", 429, "RateLimitError", "rate_limit_error"),
        ("unknown_model", 404, "NotFoundError", "not_found_error"),
        ("no_max_tokens", 400, "BadRequestError", "invalid_request_error"),
        ("upstream_429", 429, "RateLimitError", "rate_limit_error"),
        ("upstream_529", 529, "OverloadedError", "overloaded_error"),
        ("upstream_500", 502, "InternalServerError", "api_error"),
        ("upstream_401", 503, "InternalServerError", "api_error"),
    ],
)
def test_errors_are_the_classes_that_applications_catch(
    told: dict[str, Any], call: str, status: int, kind: str, error_type: str
) -> None:
    """Each refusal raises the SDK's own class, with status, envelope and a request id."""
    error = told[call]

    assert error.get("status") == status, error
    assert kind in error["raised"]
    assert set(error["body"]) == ENVELOPE
    assert (error["body"]["error"]["type"], bool(error["request_id"])) == (error_type, True)
    assert error["request_id"].startswith("gen-")


def test_a_refused_payment_tells_scope_and_remainder(told: dict[str, Any]) -> None:
    """A 402 says in its details which limit it was and what is left."""
    details = told["spent"]["body"]["error"]["details"]

    assert (details["scope"], details["reason"], details["limit"]) == ("key", "key_limit", 0.000001)
    assert details["remaining"] <= details["limit"]


@pytest.mark.parametrize(("call", "error_type"), [("broken_stream", "overloaded_error"), ("cut_stream", "api_error")])
def test_a_broken_stream_raises(house: House, told: dict[str, Any], call: str, error_type: str) -> None:
    """An answer that breaks in its middle is an error of the stream, never a short answer; its receipt says broken."""
    error = told[call]

    assert "APIStatusError" in error["raised"]
    assert error["body"]["error"]["type"] == error_type
    assert receipt(house, error["request_id"])["outcome"] == "broken"


@pytest.mark.parametrize("generation", [1, 2], ids=["sdk1", "sdk2"])
def test_every_pasted_base_url_works(house: House, generation: int) -> None:
    """The documented base URL, with a slash, with /v1 pasted behind it, and the other prefixes all reach the gateway."""
    with tapped(house.server.url) as tap:
        told = run(generation, [tap.url + base for base in BASES], house.keys, "create", "count", "models")
    failed = {base: said for base, calls in told.items() for said in calls.values() if "gave" not in said}

    assert len(told) == len(BASES)
    assert failed == {}
    assert {f"POST {base.rstrip('/')}/v1/messages" for base in BASES} <= set(tap.requests)


@pytest.mark.parametrize("generation", [1, 2], ids=["sdk1", "sdk2"])
def test_a_refusal_is_not_retried(house: House, generation: int) -> None:
    """With its usual two retries allowed, the SDK asks once when the answer cannot change."""
    refused = ("dead", "spent", "management", "unknown_model")
    with tapped(house.server.url) as tap:
        base_url = f"{tap.url}/api"
        told = run(generation, [base_url], house.keys, *refused)[base_url]

    assert [name for name in refused if "raised" in told[name]] == list(refused)
    assert tap.requests == ["POST /api/v1/messages"] * len(refused)
