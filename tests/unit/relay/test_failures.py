"""Which fault the client is told when all failed, in whose words, with which status; and what it is never told."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelgates_server.dialects.anthropic import EventSplitter
from modelgates_server.edge.faults import Rendered, render
from modelgates_server.providers.base import Fault
from modelgates_server.relay.failures import Failed, most_useful, shown_event, told_by
from modelgates_server.routing.verdict import VERDICTS, FaultClass, Signal, classify

OPUS, SONNET = "anthropic/claude-opus-5.5", "anthropic/claude-sonnet-5.5"
PRIVATE = "arn:aws:bedrock:us-east-1:123456789012:inference-profile/x of projects/acme-prod"


def envelope(error_type: str, message: str, code: str | None = None) -> bytes:
    """An error as Anthropic writes it, with the spacing of its own."""
    details = {"details": {"error_code": code}} if code else {}
    return json.dumps(
        {"type": "error", "error": {"type": error_type, "message": message, **details}}, indent=1
    ).encode()


def failed(
    status: int = 0,
    body: bytes = b"",
    *,
    signal: str = "status",
    wait_s: float | None = None,
    model: str = OPUS,
    **fault: Any,
) -> Failed:
    """One failed attempt, classed as the relay does it."""
    came = Fault(signal, status=status, body=body, **fault)
    told = told_by(came)
    kind = classify(Signal(signal), status, told.type, told.code, told.message)
    return Failed(kind, told, came, wait_s, model)


def answer(*attempts: Failed) -> Rendered:
    """What the client gets when these attempts were all."""
    return render(most_useful(attempts, "gen-1"), "gen-1")


def header(rendered: Rendered, name: bytes) -> bytes | None:
    return dict(rendered.headers).get(name)


RATE, OVERLOAD, UPSTREAM = (failed(status) for status in (429, 529, 500))
UNREACHABLE, TIMEOUT, RESET, BROKEN = (failed(signal=name) for name in ("connect", "timeout", "reset", "unreadable"))
KEY, ACCOUNT, ABSENT, LARGE, CLIENT = (failed(status) for status in (401, 402, 404, 413, 400))
CAPABILITY = failed(400, b'{"message":"speed: Extra inputs are not permitted"}', trusted=False)


@pytest.mark.parametrize(
    ("attempts", "status"),
    [
        ([RATE, OVERLOAD, UPSTREAM, UNREACHABLE], 429),
        ([UPSTREAM, OVERLOAD, UNREACHABLE], 529),
        ([UNREACHABLE, UPSTREAM], 503),
        ([UNREACHABLE, TIMEOUT], 503),
        ([TIMEOUT, UPSTREAM, RESET, BROKEN], 504),
        ([RESET, UPSTREAM], 502),
        ([BROKEN], 502),
        ([failed(503)], 503),
        ([failed(504)], 504),
        ([failed(520)], 502),
        ([CLIENT], 400),
        ([RATE, CLIENT], 400),
        ([KEY, RATE], 429),
        ([KEY, TIMEOUT], 504),
        ([KEY, ACCOUNT], 503),
        # What another attempt could mend is told before what it could not.
        ([UPSTREAM, ABSENT], 502),
        ([OVERLOAD, ABSENT], 529),
        ([UPSTREAM, LARGE], 502),
        ([CAPABILITY, RATE], 429),
        ([RATE, CAPABILITY], 429),
        ([CAPABILITY, UNREACHABLE], 503),
        ([ABSENT], 404),
        ([LARGE], 413),
        ([CAPABILITY], 400),
        ([ABSENT, CAPABILITY], 400),
    ],
)
def test_the_most_useful_fault_is_told(attempts: list[Failed], status: int) -> None:
    """429, else 529, else 503, 504, 502; the client's own mistake before all, in whatever order they came (design decision 3)."""
    assert answer(*attempts).status == status
    if VERDICTS[attempts[-1].kind].fail_over != "no":
        assert answer(*reversed(attempts)).status == status


@pytest.mark.parametrize("status", [401, 402, 403])
@pytest.mark.parametrize("trusted", [True, False])
@pytest.mark.parametrize(
    "body",
    [
        b"",
        envelope("authentication_error", f"invalid x-api-key {PRIVATE}"),
        envelope("billing_error", PRIVATE, "linked_organization_spend_limit_reached"),
        envelope("permission_error", "You have reached your specified API usage limits"),
        b'{"message":"The security token included in the request is invalid"}',
        b'{"error":{"code":403,"message":"denied","status":"PERMISSION_DENIED"}}',
        b"<html><title>Forbidden</title></html>",
    ],
)
def test_a_providers_credential_trouble_never_looks_like_the_clients(
    status: int, *, trusted: bool, body: bytes
) -> None:
    """No 401, 402 or 403, none of the words, and no hint when to retry: the operator has been told."""
    came = failed(status, body, trusted=trusted, should_retry="false", wait_s=5.0)
    rendered = answer(came)

    assert rendered.status == 503
    assert json.loads(rendered.body)["error"] == {
        "type": "api_error",
        "message": "The provider is not available to this gateway right now; its operator has been told why.",
    }
    assert header(rendered, b"retry-after") is None
    assert header(rendered, b"x-should-retry") is None


BODIES = st.sampled_from([b"", envelope("authentication_error", "x"), b'{"message":"not supported"}', b"<html>"])


@given(
    st.lists(st.tuples(st.sampled_from([400, 401, 402, 403, 404, 413, 429, 500, 529]), BODIES), min_size=1, max_size=4)
)
def test_no_mixture_shows_a_401_402_or_403(attempts: list[tuple[int, bytes]]) -> None:
    """Whatever came together."""
    rendered = answer(*(failed(status, body) for status, body in attempts))

    assert rendered.status not in {401, 402, 403}
    assert json.loads(rendered.body)["type"] == "error"


@pytest.mark.parametrize(
    ("status", "error_type", "message"),
    [
        (400, "invalid_request_error", "messages.1.content.0: Invalid `signature` in `thinking` block"),
        (400, "invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum"),
        (404, "not_found_error", "model: claude-x"),
        (409, "conflict_error", "busy"),
        (413, "request_too_large", "Request exceeds the maximum size"),
        (422, "invalid_request_error", "weird"),
        (429, "rate_limit_error", "slow down"),
    ],
)
def test_anthropics_words_come_as_they_are(status: int, error_type: str, message: str) -> None:
    """Status and body to the byte: Claude clients repair themselves on them (providers 0.9)."""
    body = envelope(error_type, message)
    rendered = answer(failed(status, body, trusted=True, should_retry="true"))

    assert (rendered.status, rendered.body) == (status, body)
    assert header(rendered, b"x-should-retry") == b"true"


def test_a_clouds_words_are_written_anew() -> None:
    """Its envelope is ours, with our request id, its type, and nothing that names the operator's account."""
    rendered = answer(failed(400, envelope("invalid_request_error", f"bad {PRIVATE}"), trusted=False))

    assert rendered.status == 400
    assert json.loads(rendered.body) == {
        "type": "error",
        "error": {"type": "invalid_request_error", "message": "bad … of …"},
        "request_id": "gen-1",
    }


@pytest.mark.parametrize(
    ("status", "body", "aws", "shown", "words"),
    [
        (400, {"message": "Input is too long for requested model."}, "ValidationException", 400, "prompt is too long"),
        (400, {"message": f"bad {PRIVATE}"}, "ValidationException", 400, "bad … of …"),
        (429, {"message": "Too many tokens"}, "ThrottlingException", 429, "Too many tokens"),
        (404, {"error": {"code": 404, "message": PRIVATE, "status": "NOT_FOUND"}}, None, 404, "… of …"),
        (404, {"error": {"code": "DeploymentNotFound", "message": "no"}}, None, 404, "no"),
        (503, {"message": "down"}, "ServiceUnavailableException", 529, "down"),
    ],
)
def test_foreign_shapes_become_envelopes(status: int, body: Any, aws: str | None, shown: int, words: str) -> None:
    """AWS, Google and Azure answer in shapes of their own: status by class, words cleaned."""
    came = failed(status, json.dumps(body).encode(), trusted=False, aws_error_type=aws)
    rendered = answer(came)

    assert rendered.status == shown
    assert json.loads(rendered.body)["error"]["message"].startswith(words)
    assert b"123456789012" not in rendered.body


@pytest.mark.parametrize(
    ("waits", "told"), [([30.0, 4.2, None], b"5"), ([0.0], b"1"), ([None], None), ([600.0, 301.0], b"301")]
)
def test_the_smallest_retry_after_is_told(waits: list[float | None], told: bytes | None) -> None:
    """Whole seconds, at least one; of whoever said so, wherever it stood."""
    attempts = [failed(429, wait_s=wait_s) for wait_s in waits]

    assert header(answer(*attempts), b"retry-after") == told
    assert header(answer(failed(429), *attempts), b"retry-after") == told
    assert header(answer(*attempts, failed(500, wait_s=1.0)), b"retry-after") == told


def test_with_alternatives_the_last_models_fault_is_told() -> None:
    """The first model's rate limit does not hide why the last one failed (product-surface 1.2)."""
    alternative = [failed(500, model=SONNET), failed(signal="timeout", model=SONNET)]

    assert answer(RATE, *alternative).status in {502, 504}
    assert answer(*alternative, RATE).status == 429


def test_what_broke_on_the_wire_is_told_in_our_words() -> None:
    """No detail of the operator's network; and how many were tried, when more than one."""
    one = json.loads(answer(failed(signal="connect", detail="10.0.0.7:443 refused")).body)
    two = json.loads(answer(RESET, RESET).body)

    assert one["error"]["message"] == "The provider cannot be reached."
    assert two["error"]["message"] == "The provider closed the connection before it answered. (2 attempts)"


def test_an_error_event_has_the_status_of_its_type() -> None:
    """A stream that began with an error came with a 200, which nobody is told."""
    kinds = {"overloaded_error": 529, "rate_limit_error": 429, "invalid_request_error": 400, "api_error": 502}
    for error_type, status in kinds.items():
        rendered = answer(failed(200, envelope(error_type, "No."), signal="error_event"))
        assert rendered.status == status
        assert json.loads(rendered.body)["error"]["type"] == error_type


def test_any_two_faults_have_an_answer() -> None:
    """Every pair of classes renders: 4xx or 5xx, an envelope, a message."""
    samples = {
        kind: Failed(kind, told_by(Fault("status", status=400)), Fault("status", status=400), None, OPUS)
        for kind in FaultClass
    }
    for pair in itertools.product(samples.values(), repeat=2):
        rendered = answer(*pair)
        assert 400 <= rendered.status < 600
        assert json.loads(rendered.body)["error"]["message"]


@pytest.mark.parametrize(
    ("error_type", "message", "operator", "shown"),
    [
        ("overloaded_error", "Overloaded", "anthropic", "Overloaded"),
        ("api_error", PRIVATE, "aws", "… of …"),
        ("api_error", PRIVATE, "google", "… of …"),
        ("authentication_error", PRIVATE, "anthropic", None),
        ("billing_error", PRIVATE, "other", None),
    ],
)
def test_an_error_in_a_stream_follows_the_same_rules(
    error_type: str, message: str, operator: str, shown: str | None
) -> None:
    """Anthropic's passes to the byte, a cloud's is cleaned, and credential trouble is nobody's business but the operator's."""
    (event,) = EventSplitter().feed(b"event: error\ndata: %s\n\n" % envelope(error_type, message).replace(b"\n", b""))
    written = shown_event(event, operator, "gen-1")
    (again,) = EventSplitter().feed(written)
    error = json.loads(again.data)["error"]

    assert (written == event.raw) is (operator == "anthropic" and shown is not None)
    assert error["type"] == (error_type if shown else "api_error")
    assert shown is None or error["message"] == shown
    assert b"123456789012" not in written
