"""The verdict table: signal, status, code and words of a fault → class → what to do (providers 6.3, reliability 3.0)."""

from __future__ import annotations

import ast
import itertools
from pathlib import Path

import pytest

import modelgates_server.relay
from modelgates_server.edge.faults import UPSTREAM
from modelgates_server.routing.verdict import VERDICTS, FaultClass, Signal, classify

SIGNALS = {
    "connect": "unreachable", "credential": "misconfigured", "stale": "stale", "reset": "reset", "timeout": "timeout",
    "unreadable": "broken", "midstream": "stream",
}  # fmt: skip

STATUSES = {
    301: "broken", 307: "broken",
    400: "client", 401: "misconfigured", 402: "account", 403: "misconfigured", 404: "absent", 405: "not_offered", 408: "upstream",
    409: "conflict", 412: "client", 413: "too_large", 418: "client", 422: "client", 424: "upstream", 425: "upstream",
    429: "rate_limit", 431: "client", 451: "client", 499: "upstream",
    500: "upstream", 501: "not_offered", 502: "upstream", 503: "upstream", 504: "upstream", 520: "upstream", 527: "upstream",
    529: "overloaded",
}  # fmt: skip

CODES = [
    # Anthropic
    (429, "enforced_spend_limit_reached", "account"),
    (429, "contract_spend_limit_reached", "account"),
    (429, "ramp_limit_exceeded", "ramp"),
    (400, "organization_on_hold", "account"),
    (402, "linked_organization_billing_unavailable", "account"),
    (402, "linked_organization_spend_limit_reached", "account"),
    (400, "context_length_exceeded", "context"),
    (400, "tool_name_conflict", "client"),
    (400, "image_dimensions_too_large", "client"),
    (413, "request_body_too_large_after_decoding", "too_large"),
    # AWS
    (403, "AccessDeniedException", "region"),
    (404, "ResourceNotFoundException", "absent"),
    (429, "ThrottlingException", "rate_limit"),
    (429, "ModelNotReadyException", "rate_limit"),
    (408, "ModelTimeoutException", "upstream"),
    (424, "ModelErrorException", "upstream"),
    (424, "ModelStreamErrorException", "upstream"),
    (400, "ServiceQuotaExceededException", "quota"),
    (503, "ServiceUnavailableException", "overloaded"),
    (500, "InternalServerException", "upstream"),
    (400, "ValidationException", "client"),
    (403, "UnrecognizedClientException", "misconfigured"),
    (403, "ExpiredTokenException", "misconfigured"),
    (403, "InvalidSignatureException", "misconfigured"),
    # Google
    (429, "RESOURCE_EXHAUSTED", "rate_limit"),
    (400, "FAILED_PRECONDITION", "region"),
    (400, "INVALID_ARGUMENT", "client"),
    (401, "UNAUTHENTICATED", "misconfigured"),
    (403, "PERMISSION_DENIED", "misconfigured"),
    (404, "NOT_FOUND", "absent"),
    (503, "UNAVAILABLE", "upstream"),
    # Azure and OpenAI
    (404, "DeploymentNotFound", "absent"),
    (400, "api_not_supported", "not_offered"),
    (429, "insufficient_quota", "account"),
    (401, "401", "misconfigured"),
]

BINDING = "Invalid `signature` in `thinking` block. The block is bound to a different conversation"
MODIFIED = "`thinking` or `redacted_thinking` blocks in the latest assistant message cannot be modified."
FIRST_BLOCK = (
    "When `thinking` is enabled, a final `assistant` message must start with a thinking block (preceding `tool_use`)"
)
ON_DEMAND = (
    "Invocation of model ID anthropic.claude-opus-5-5 with on-demand throughput isn't supported. Retry with an ARN."
)

TEXTS = [
    (400, "You have reached your specified API usage limits. You will regain access on 2026-12-01.", "account"),
    (400, "Outbound web identity federation is disabled for account 123456789012.", "region"),
    (400, "Project `acme` is not allowed to use Publisher Model `claude-opus-5-5`", "region"),
    (400, ON_DEMAND, "absent"),
    (404, "model: claude-x", "absent"),
    (404, "Publisher Model `projects/p/locations/global/publishers/anthropic/models/claude-x` was not found", "absent"),
    (404, "File not found: file_011CNha8iCJcU1wXNR6q4V8w", "client"),
    (404, "messages.0.content.0.source.file_id: file_011C does not exist", "client"),
    (404, "Container container_01 has expired", "client"),
    (404, "The thread could not be found", "client"),
    (404, "skill_id: Skill not found", "client"),
    (413, "Request exceeds the maximum size", "too_large"),
    (400, "prompt is too long: 1000001 tokens > 1000000 maximum", "context"),
    (413, "Prompt is too long", "context"),
    (400, "Input is too long for requested model.", "context"),
    (400, "The model returned the following errors: prompt tokens (250000) exceed model maximum (200000)", "context"),
    (400, "This model's maximum context length is 8192 tokens. However, your messages resulted in 9001", "context"),
    (400, f"messages.1.content.0: {BINDING}", "portability"),
    (400, "messages.1.content.0: Invalid `signature` in `thinking` block", "portability"),
    (400, "messages.1.content.0.thinking.signature: Field required", "portability"),
    (400, f"messages.1.content.0.type: Expected `thinking`, but found `text`. {FIRST_BLOCK}", "portability"),
    (400, f"messages.5.content.0: {MODIFIED}", "portability"),
    (400, "diagnostics: Extra inputs are not permitted", "capability"),
    (400, "invalid beta flag", "capability"),
    (400, "Unexpected value(s) `fast-mode-2026-02-01` for the `anthropic-beta` header. Please consult", "capability"),
    (400, "structured outputs are not supported on this model", "capability"),
    (422, "This model does not support the effort parameter.", "capability"),
    (400, "messages.0.content.1.source: Input tag 'url' found using 'type' does not match any of", "capability"),
    (400, "messages.3: `tool_result` for a server tool was found without its `tool_use`", "capability"),
    (400, "Malformed input request: #: extraneous key [speed] is not permitted", "capability"),
    (400, "max_tokens: Field required", "client"),
    (422, "temperature: Input should be a valid number", "client"),
    (400, "tools.0.name: 'get_quota' is used twice", "client"),
]

EVENTS = {
    "overloaded_error": "overloaded", "rate_limit_error": "rate_limit", "api_error": "upstream",
    "authentication_error": "misconfigured", "permission_error": "misconfigured", "billing_error": "account",
    "not_found_error": "absent", "request_too_large": "too_large", "invalid_request_error": "client",
    "timeout_error": "upstream", "conflict_error": "conflict", "made_up_in_2031": "upstream", "": "upstream",
}  # fmt: skip


@pytest.mark.parametrize(("signal", "kind"), SIGNALS.items())
def test_a_broken_wire_needs_no_status(signal: str, kind: str) -> None:
    """What happened on the wire decides alone, whatever came with it."""
    kinds = {
        classify(Signal(signal), status, "overloaded_error", "ThrottlingException", "prompt is too long")
        for status in (0, 200, 529)
    }

    assert kinds == {kind}


@pytest.mark.parametrize(("status", "kind"), STATUSES.items())
def test_a_status_has_its_class(status: int, kind: str) -> None:
    """Each status that a provider may send means one thing."""
    assert classify(Signal.STATUS, status) == kind


@pytest.mark.parametrize(("status", "code", "kind"), CODES)
def test_a_code_is_finer_than_its_status(status: int, code: str, kind: str) -> None:
    """What Anthropic, AWS, Google and Azure call their errors has its class (providers 6.2 and 6.3)."""
    assert classify(Signal.STATUS, status, "", code, "Something went wrong.") == kind


@pytest.mark.parametrize(("status", "message", "kind"), TEXTS)
def test_words_decide_where_codes_are_missing(status: int, message: str, kind: str) -> None:
    """Sentences as providers write them, in any case (providers 6.3)."""
    assert classify(Signal.STATUS, status, "", None, message) == kind
    assert classify(Signal.STATUS, status, "", "ValidationException", message.upper()) == kind


@pytest.mark.parametrize(("error_type", "kind"), EVENTS.items())
def test_an_error_event_is_classed_by_its_type(error_type: str, kind: str) -> None:
    """An error at the start of a stream counts as the status that it names."""
    assert classify(Signal.ERROR_EVENT, 200, error_type) == kind


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("throttlingException", "rate_limit"),
        ("modelTimeoutException", "upstream"),
        ("modelStreamErrorException", "upstream"),
        ("serviceUnavailableException", "overloaded"),
        ("internalServerException", "upstream"),
    ],
)
def test_exceptions_of_an_event_stream_are_the_same(code: str, kind: str) -> None:
    """The members of Bedrock's event stream begin with a small letter and mean the same (providers 6.3)."""
    assert classify(Signal.ERROR_EVENT, 200, "api_error", code) == kind


def test_an_invalid_request_in_an_event_is_read_like_a_400() -> None:
    """The words of a refusal count the same when it comes after a 200."""
    for status, message, kind in TEXTS:
        if status == 400:
            assert classify(Signal.ERROR_EVENT, 200, "invalid_request_error", None, message) == kind


@pytest.mark.parametrize("status", [429, 500, 503])
def test_words_of_a_400_mean_nothing_elsewhere(status: int) -> None:
    """A provider in trouble that quotes the prompt is still a provider in trouble."""
    for said, message, _ in TEXTS:
        if said == 400 and not message.startswith("You have reached"):
            assert classify(Signal.STATUS, status, "", None, message) == classify(Signal.STATUS, status)


def test_every_class_is_reachable_and_has_verdict_and_form() -> None:
    """The tables above reach every class; each has a verdict and an HTTP form, and there are no others."""
    reached = {*SIGNALS.values(), *STATUSES.values(), *EVENTS.values(), *(row[-1] for row in (*CODES, *TEXTS))}

    assert reached == set(FaultClass) == set(VERDICTS) == set(UPSTREAM)
    assert set(Signal) == {*SIGNALS, "status", "error_event"}


def test_every_combination_has_a_class() -> None:
    """Nothing that a wire or a provider can do is without a class."""
    statuses = (0, 100, 200, *range(300, 600), 999)
    codes = (None, "", "x", "429", "ThrottlingException")
    for signal, status, code in itertools.product(Signal, statuses, codes):
        assert classify(signal, status, "x", code, "x") in VERDICTS


# kind: (fail over, breaker, cool_s, cool_s_max, retry-after counts, of the whole provider, alert)
VERDICT_TABLE = {
    "unreachable": ("yes", True, 0, 0, False, True, False),
    "stale": ("yes", False, 0, 0, False, False, False),
    "reset": ("yes", True, 0, 0, False, False, False),
    "timeout": ("yes", True, 0, 0, False, False, False),
    "rate_limit": ("yes", False, 10, 60, True, False, False),
    "ramp": ("yes", False, 30, 30, True, False, False),
    "quota": ("yes", False, 60, 60, False, False, False),
    "overloaded": ("yes", True, 5, 30, True, False, False),
    "upstream": ("yes", True, 0, 0, False, False, False),
    "misconfigured": ("yes", False, 300, 300, False, True, True),
    "region": ("yes", False, 600, 600, False, False, True),
    "account": ("yes", False, 900, 900, False, True, True),
    "absent": ("yes", False, 600, 600, False, False, False),
    "not_offered": ("yes", False, 600, 600, False, False, False),
    "too_large": ("larger", False, 0, 0, False, False, False),
    "conflict": ("yes", False, 0, 0, False, False, False),
    "capability": ("abler", False, 0, 0, False, False, False),
    "portability": ("yes", False, 0, 0, False, False, False),
    "context": ("no", False, 0, 0, False, False, False),
    "client": ("no", False, 0, 0, False, False, False),
    "broken": ("yes", True, 0, 0, False, False, False),
    "stream": ("no", True, 0, 0, False, False, False),
}


@pytest.mark.parametrize(("kind", "row"), VERDICT_TABLE.items())
def test_a_class_has_its_verdict(kind: str, row: tuple[object, ...]) -> None:
    """Where the request goes next and what becomes of the provider, as in the table of providers 6.3."""
    verdict = VERDICTS[FaultClass(kind)]

    told = (verdict.fail_over, verdict.counts, verdict.cool_s, verdict.cool_s_max)
    assert (*told, verdict.hinted, verdict.wide, verdict.alert) == row


def test_only_unknown_fates_are_limited_and_only_known_ones_are_asked_again() -> None:
    """R1 holds for what may have been accepted; nothing of that kind is repeated at the same place (reliability 3.0)."""
    unknown = {kind for kind, verdict in VERDICTS.items() if verdict.unknown}
    again = {kind for kind, verdict in VERDICTS.items() if verdict.again}
    patient = {kind for kind, verdict in VERDICTS.items() if verdict.patient}

    assert unknown == {FaultClass.RESET, FaultClass.TIMEOUT, FaultClass.BROKEN}
    assert again == {FaultClass.STALE, FaultClass.CONFLICT}
    assert patient == {FaultClass.RATE_LIMIT, FaultClass.OVERLOADED, FaultClass.UPSTREAM}


def _status_comparisons(path: Path) -> list[str]:
    compared = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Compare)]
    return [
        f"{path.name}:{node.lineno}"
        for node in compared
        if any(isinstance(side, ast.Attribute) and side.attr == "status" for side in (node.left, *node.comparators))
    ]


def test_the_class_alone_decides() -> None:
    """Nobody in the relay looks at a fault's status: that is what classes are for."""
    folder = Path(modelgates_server.relay.__file__).parent

    assert [found for path in sorted(folder.glob("*.py")) for found in _status_comparisons(path)] == []
