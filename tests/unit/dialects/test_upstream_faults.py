"""Errors are written in one shape and read in every shape."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelgates_server.dialects.anthropic import PING, EventSplitter, Fault, error_body, error_event, read_fault
from modelgates_server.dialects.faults import RETRY_AFTER_S_MAX, retry_after_s, shown_message
from modelgates_server.dialects.values import Kind


def test_the_envelope_is_anthropics() -> None:
    """Type, message, details when there are some, and the request id, which may be null."""
    body = error_body("billing_error", "No credit.", "req-1", {"scope": "key", "limit": 5})
    error = {"type": "billing_error", "message": "No credit.", "details": {"scope": "key", "limit": 5}}
    assert json.loads(body) == {"type": "error", "error": error, "request_id": "req-1"}
    assert json.loads(error_body("api_error", "m", None)) == {
        "type": "error",
        "error": {"type": "api_error", "message": "m"},
        "request_id": None,
    }


def test_an_error_is_one_event_whatever_its_text() -> None:
    """Neither our text nor the line ends of a provider's body can make a second event."""
    theirs = b'{\r\n "type": "error",\n\n "error": {"type": "a", "message": "b"}}'
    ours = error_body("api_error", "x\n\nevent: message_stop\ndata: {}\r\n\r\n", "req-1")
    for body in (theirs, ours):
        (event,) = EventSplitter().feed(error_event(body))
        assert event.kind is Kind.ERROR
        assert json.loads(event.data) == json.loads(body)


def test_the_ping_is_a_ping() -> None:
    """Our own keep-alive reads like the provider's."""
    (event,) = EventSplitter().feed(PING)
    assert (event.kind, json.loads(event.data)) == (Kind.PING, {"type": "ping"})


ANTHROPIC = b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"},"request_id":"r"}'
DETAILED = b'{"type":"error","error":{"type":"x_error","message":"m","details":{"error_code":"thread_not_found"}}}'
GOOGLE = b'{"error":{"code":429,"message":"Quota","status":"RESOURCE_EXHAUSTED","details":[]}}'
OPENAI = b'{"error":{"message":"Bad key","type":"invalid_api_key_error","param":null,"code":"invalid_api_key"}}'


@pytest.mark.parametrize(
    ("status", "body", "content_type", "fault"),
    [
        (529, ANTHROPIC, "application/json", Fault("overloaded_error", "Overloaded", None, True)),
        (200, ANTHROPIC, "text/event-stream", Fault("overloaded_error", "Overloaded", None, True)),
        (404, DETAILED, "", Fault("x_error", "m", "thread_not_found", True)),
        (429, GOOGLE, "", Fault("rate_limit_error", "Quota", "RESOURCE_EXHAUSTED")),
        (429, b"[" + GOOGLE + b"]", "", Fault("rate_limit_error", "Quota", "RESOURCE_EXHAUSTED")),
        (401, OPENAI, "", Fault("authentication_error", "Bad key", "invalid_api_key")),
        (500, b'{"error":{"code":500,"message":"m"}}', "", Fault("api_error", "m", "500")),
        (404, b'{"error":{"code":"NoDeployment","message":"m"}}', "", Fault("not_found_error", "m", "NoDeployment")),
        (401, b'{"statusCode":401,"message":"Denied"}', "", Fault("authentication_error", "Denied")),
        (400, b'{"Message":"Too long"}', "", Fault("invalid_request_error", "Too long")),
        (
            400,
            b'{"__type":"a.b#ThrottlingException","message":"m"}',
            "",
            Fault("invalid_request_error", "m", "ThrottlingException"),
        ),
        (418, b'{"error":"short and stout"}', "", Fault("invalid_request_error", "short and stout")),
        (502, b"upstream\n connect   error", "text/plain", Fault("api_error", "upstream connect error")),
        (503, b"", "", Fault("overloaded_error", "The provider answered 503 without a body.")),
        (504, b"{}", "", Fault("timeout_error", "The provider answered 504 without a message.")),
        (
            403,
            b"<!DOCTYPE html><title>Stop </title>",
            "",
            Fault("permission_error", "The provider answered 403 with a web page: Stop."),
        ),
        (502, b"oops", "text/HTML; charset=x", Fault("api_error", "The provider answered 502 with a web page.")),
        (500, b"\xff\xfe", "", Fault("api_error", "\ufffd\ufffd")),
        (500, b'"text"', "", Fault("api_error", '"text"')),
        (500, b"[" * 60_000, "", Fault("api_error", "[" * 300)),
    ],
)
def test_every_provider_is_understood(status: int, body: bytes, content_type: str, fault: Fault) -> None:
    """Anthropic, Google, OpenAI, Azure, AWS, text, HTML, nothing and nonsense."""
    assert read_fault(status, body, content_type) == fault


def test_the_aws_header_names_the_exception() -> None:
    """AWS says in a header what its body leaves out."""
    fault = read_fault(
        429, b'{"message":"Slow down"}', aws_error_type="ThrottlingException:http://internal.amazon.com/"
    )
    assert fault == Fault("rate_limit_error", "Slow down", "ThrottlingException")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["type", "error", "message", "code", "details", "__type"]), inner)
    ),
)


@given(st.integers(100, 599), JSON.map(lambda value: json.dumps(value).encode()) | st.binary())
def test_no_error_body_can_break_the_reader(status: int, body: bytes) -> None:
    """Whatever comes, a fault with words of bounded length comes out."""
    fault = read_fault(status, body)
    assert fault.type
    assert 0 < len(fault.message) <= 2_000


NOW_S = 1_445_412_480  # Wed, 21 Oct 2015 07:28:00 GMT


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (None, None),
        ("0", 0),
        ("7", 7),
        (" 7 ", 7),
        ("1.5", 1.5),
        ("-3", 0),
        ("600", 600),
        ("601", 600),
        ("315360000", 600),
        ("1e400", 600),
        ("inf", 600),
        ("nan", None),
        ("", None),
        ("soon", None),
        ("7 s", None),
        ("Wed, 21 Oct 2015 07:28:30 GMT", 30),
        ("Wed, 21 Oct 2015 07:27:00 GMT", 0),
        ("Mon, 21 Oct 2115 07:28:00 GMT", 600),
        ("Mon, 99 Foo 2015 99:99:99 GMT", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(text: str | None, seconds: float | None) -> None:
    """Between nothing and ten minutes; what is neither a number nor a date says nothing."""
    assert retry_after_s(text, NOW_S) == seconds


@given(st.text() | st.text("MonWed, 0123456789:GMTJan-+.e"))
def test_no_retry_after_can_break_the_reader(text: str) -> None:
    """Whatever comes, a bounded pause or none comes out."""
    seconds = retry_after_s(text, NOW_S)
    assert seconds is None or 0 <= seconds <= RETRY_AFTER_S_MAX


ARN = "arn:aws:bedrock:us-east-1:123456789012:inference-profile/global.anthropic.claude-opus-5-5"


@pytest.mark.parametrize(
    ("message", "hidden"),
    [
        (f"No access to '{ARN}', ask your administrator.", "No access to '…', ask your administrator."),
        (f"User: {ARN} is not authorized", "User: … is not authorized"),
        ("Account 123456789012 is throttled", "Account … is throttled"),
        ("`projects/acme-prod/locations/global/publishers/x` not found", "`…` not found"),
        (
            "Quota exceeded for service 'aiplatform.googleapis.com' for consumer 'project_number:98765432109'.",
            "Quota exceeded for service 'aiplatform.googleapis.com' for consumer '…'.",
        ),
        ("See https://acme.services.ai.azure.com/x?y=1, then retry", "See …, then retry"),
        ("Tenant 72f988bf-86f1-41af-91ab-2d7cd011db47 is off", "Tenant … is off"),
        ("bot@acme-prod.iam.gserviceaccount.com lacks a role", "… lacks a role"),
        ("max_tokens: 1234567890123 > 64000", "max_tokens: 1234567890123 > 64000"),
    ],
)
def test_what_names_the_operator_is_not_shown(message: str, hidden: str) -> None:
    """Accounts, resources, projects, addresses and people are cut out of a cloud's sentences; the rest stays (providers 6.4)."""
    assert shown_message(message) == hidden


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("prompt is too long: 5 tokens > 4 maximum", "prompt is too long: 5 tokens > 4 maximum"),
        (
            "The model returned: Prompt tokens (250000) exceed model maximum (200000)",
            "prompt is too long: 250000 tokens > 200000 maximum",
        ),
        (
            "This model's maximum context length is 8192 tokens. However,\nyour messages resulted in 9001 tokens.",
            "prompt is too long: 9001 tokens > 8192 maximum",
        ),
        ("Input is too long for requested model.", "prompt is too long: Input is too long for requested model."),
    ],
)
def test_an_overflow_is_told_in_anthropics_words(message: str, shown: str) -> None:
    """Claude Code shortens the conversation when it reads them (providers 3.3)."""
    assert shown_message(message) == shown


def test_an_overflow_is_found_behind_other_words() -> None:
    """Bedrock puts a sentence of its own before the model's; no account number comes along."""
    shown = shown_message(f"The model {ARN} returned the following errors: Input is too long for requested model.")
    assert shown.startswith("prompt is too long")
    assert "123456789012" not in shown
