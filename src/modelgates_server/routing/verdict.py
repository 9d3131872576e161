"""What an upstream's failure means: signal → class → verdict. Two tables and no I/O (providers 6.3, reliability 3.0).

First a dialect's oddities become one neutral `FaultClass`; then the class alone decides. Retry classes: R0 nothing can have been
accepted (a complete answer that is not a 200 says so: design decision 3), R1 fate unknown (at most one more attempt), R2 after the
commit point (never, and not decided here).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal


class Signal(StrEnum):
    """How an attempt ended, seen from the wire."""

    CONNECT = "connect"  # DNS, TCP, TLS or connect timeout: the request was never sent
    CREDENTIAL = "credential"  # there is no credential to send it with
    STALE = "stale"  # a reused connection closed before any byte of an answer
    RESET = "reset"  # the connection broke after the request was sent
    TIMEOUT = "timeout"  # no headers, or no first event, within the limit
    STATUS = "status"  # a complete answer that is not 200
    ERROR_EVENT = "error_event"  # a 200 whose stream began with an error
    UNREADABLE = "unreadable"  # a 200 that is no message: HTML, empty, cut before content
    MIDSTREAM = "midstream"  # broke after its commit point: nothing can be tried any more


class FaultClass(StrEnum):
    """What went wrong, whoever the provider is."""

    UNREACHABLE = "unreachable"
    STALE = "stale"
    RESET = "reset"
    TIMEOUT = "timeout"
    RATE_LIMIT = "rate_limit"
    RAMP = "ramp"
    QUOTA = "quota"
    OVERLOADED = "overloaded"
    UPSTREAM = "upstream"
    MISCONFIGURED = "misconfigured"
    REGION = "region"
    ACCOUNT = "account"
    ABSENT = "absent"
    NOT_OFFERED = "not_offered"
    TOO_LARGE = "too_large"
    CONFLICT = "conflict"
    CAPABILITY = "capability"
    PORTABILITY = "portability"
    CONTEXT = "context"
    CLIENT = "client"
    BROKEN = "broken"
    STREAM = "stream"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a class of fault means for the request and for the provider.

    For the request. `fail_over`: try the next endpoint: `yes`, `no`, `larger` (one that takes bodies at least as large) or
    `abler` (one of higher rank). `unknown`: the attempt may have been accepted (R1). `again`: once more here, at once.
    `patient`: once more here after a pause, when there is no other candidate. `rank` orders faults by how useful they are to a
    client when all failed: higher wins.

    For the provider. `counts`: a failure that opens the breaker. `cool_s`: a pause of that many seconds, doubling up to
    `cool_s_max` while the faults go on; a `retry-after` overrides it where `hinted`. `wide`: of the whole provider, not only of
    this model there. `alert`: only its operator can mend it.
    """

    fail_over: Literal["yes", "no", "larger", "abler"]
    unknown: bool = False
    again: bool = False
    patient: bool = False
    rank: int = 0
    counts: bool = False
    cool_s: float = 0
    cool_s_max: float = 0
    hinted: bool = False
    wide: bool = False
    alert: bool = False


_F = FaultClass
VERDICTS: Final[dict[FaultClass, Verdict]] = {
    _F.UNREACHABLE: Verdict("yes", rank=7, counts=True, wide=True),
    _F.STALE: Verdict("yes", again=True, rank=7),
    _F.RESET: Verdict("yes", unknown=True, rank=5, counts=True),
    _F.TIMEOUT: Verdict("yes", unknown=True, rank=6, counts=True),
    _F.RATE_LIMIT: Verdict("yes", patient=True, rank=9, cool_s=10, cool_s_max=60, hinted=True),
    _F.RAMP: Verdict("yes", rank=9, cool_s=30, cool_s_max=30, hinted=True),
    _F.QUOTA: Verdict("yes", rank=9, cool_s=60, cool_s_max=60),
    _F.OVERLOADED: Verdict("yes", patient=True, rank=8, counts=True, cool_s=5, cool_s_max=30, hinted=True),
    _F.UPSTREAM: Verdict("yes", patient=True, rank=5, counts=True),
    _F.MISCONFIGURED: Verdict("yes", rank=1, cool_s=300, cool_s_max=300, wide=True, alert=True),
    _F.REGION: Verdict("yes", rank=1, cool_s=600, cool_s_max=600, alert=True),
    _F.ACCOUNT: Verdict("yes", rank=1, cool_s=900, cool_s_max=900, wide=True, alert=True),
    _F.ABSENT: Verdict("yes", rank=2, cool_s=600, cool_s_max=600),
    _F.NOT_OFFERED: Verdict("yes", rank=2, cool_s=600, cool_s_max=600),
    _F.TOO_LARGE: Verdict("larger", rank=3),
    _F.CONFLICT: Verdict("yes", again=True, rank=3),
    _F.CAPABILITY: Verdict("abler", rank=4),
    _F.PORTABILITY: Verdict("yes", rank=4),
    _F.CONTEXT: Verdict("no", rank=10),
    _F.CLIENT: Verdict("no", rank=10),
    _F.BROKEN: Verdict("yes", unknown=True, rank=5, counts=True),
    _F.STREAM: Verdict("no", counts=True),
}

_BY_SIGNAL: Final = {
    Signal.CONNECT: _F.UNREACHABLE,
    Signal.CREDENTIAL: _F.MISCONFIGURED,
    Signal.STALE: _F.STALE,
    Signal.RESET: _F.RESET,
    Signal.TIMEOUT: _F.TIMEOUT,
    Signal.UNREADABLE: _F.BROKEN,
    Signal.MIDSTREAM: _F.STREAM,
}

_BY_STATUS: Final = {
    401: _F.MISCONFIGURED,
    402: _F.ACCOUNT,
    403: _F.MISCONFIGURED,
    404: _F.ABSENT,
    405: _F.NOT_OFFERED,
    408: _F.UPSTREAM,
    409: _F.CONFLICT,
    413: _F.TOO_LARGE,
    424: _F.UPSTREAM,
    425: _F.UPSTREAM,
    429: _F.RATE_LIMIT,
    499: _F.UPSTREAM,
    501: _F.NOT_OFFERED,
    529: _F.OVERLOADED,
}

_BY_ERROR_TYPE: Final = {
    "overloaded_error": _F.OVERLOADED,
    "rate_limit_error": _F.RATE_LIMIT,
    "authentication_error": _F.MISCONFIGURED,
    "permission_error": _F.MISCONFIGURED,
    "billing_error": _F.ACCOUNT,
    "not_found_error": _F.ABSENT,
    "request_too_large": _F.TOO_LARGE,
    "invalid_request_error": _F.CLIENT,
    "timeout_error": _F.UPSTREAM,
    "conflict_error": _F.CONFLICT,
}
"""Of an error event: the provider gave up, so nothing is billed and nothing unknown."""

_BY_CODE: Final = {
    "enforced_spend_limit_reached": _F.ACCOUNT,
    "contract_spend_limit_reached": _F.ACCOUNT,
    "organization_on_hold": _F.ACCOUNT,
    "linked_organization_spend_limit_reached": _F.ACCOUNT,
    "linked_organization_billing_unavailable": _F.ACCOUNT,
    "insufficient_quota": _F.ACCOUNT,
    "ramp_limit_exceeded": _F.RAMP,
    "context_length_exceeded": _F.CONTEXT,
    # AWS, also as `x-amzn-ErrorType` and as the exceptions of an event stream
    "AccessDeniedException": _F.REGION,  # of one model: others may be granted
    "UnrecognizedClientException": _F.MISCONFIGURED,
    "ExpiredTokenException": _F.MISCONFIGURED,
    "InvalidSignatureException": _F.MISCONFIGURED,
    "ResourceNotFoundException": _F.ABSENT,
    "ThrottlingException": _F.RATE_LIMIT,
    "ModelNotReadyException": _F.RATE_LIMIT,
    "ServiceQuotaExceededException": _F.QUOTA,
    "ModelTimeoutException": _F.UPSTREAM,
    "ModelErrorException": _F.UPSTREAM,
    "ModelStreamErrorException": _F.UPSTREAM,
    "ServiceUnavailableException": _F.OVERLOADED,
    "InternalServerException": _F.UPSTREAM,
    # Google
    "RESOURCE_EXHAUSTED": _F.RATE_LIMIT,
    "UNAUTHENTICATED": _F.MISCONFIGURED,
    "PERMISSION_DENIED": _F.MISCONFIGURED,
    "FAILED_PRECONDITION": _F.REGION,
    # Azure
    "DeploymentNotFound": _F.ABSENT,
    "api_not_supported": _F.NOT_OFFERED,
}
"""Finer than the status: Anthropic's `details.error_code`, an AWS exception, a Google status, an Azure code."""

_STATEFUL: Final = re.compile(r"\b(?:file|container|thread|skill)(?:s|_\w+)?\b", re.IGNORECASE)

_TEXTS: Final[tuple[tuple[frozenset[int], re.Pattern[str], FaultClass], ...]] = tuple(
    (frozenset(statuses), re.compile(pattern, re.IGNORECASE), kind)
    for statuses, pattern, kind in (
        ((400, 403, 429), r"^you have reached your specified api usage limits", _F.ACCOUNT),
        ((400, 403), r"outbound web identity federation is disabled|not allowed to use publisher model", _F.REGION),
        ((400, 404), r"on-demand throughput isn.t supported|deployment .* does not exist", _F.ABSENT),
        ((400,), r"too many tokens, please wait|exceed\w* .{0,80}\bquota|\bquota .{0,40}exceeded", _F.QUOTA),
        (
            (400, 413, 422),
            (
                r"prompt is too long|input is too long|prompt tokens .* exceed model maximum|maximum context length"
                r"|exceeds? (?:the )?context (?:window|length)"
            ),
            _F.CONTEXT,
        ),
        (
            (400, 422),
            (
                r"invalid.{0,3}signature|thinking\.signature: field required|must start with a thinking block"
                r"|thinking.{0,60}cannot be modified|bound to a different conversation"
            ),
            _F.PORTABILITY,
        ),
        (
            (400, 422),
            (
                r"extra inputs are not permitted|invalid beta flag|unexpected value\(s\).{0,300}anthropic-beta"
                r"|not supported|does not support|input tag .{0,200} does not match|was found without|extraneous key"
            ),
            _F.CAPABILITY,
        ),
    )
)
"""What only the sentence tells (providers 6.3), first match wins."""


def classify(
    signal: Signal, status: int = 0, error_type: str = "", code: str | None = None, message: str = ""
) -> FaultClass:
    """The class of one failed attempt. `status`, `error_type`, `code` and `message` are the upstream's own, when it gave any."""
    if signal in _BY_SIGNAL:
        return _BY_SIGNAL[signal]
    if code is not None and (known := _BY_CODE.get(code) or _BY_CODE.get(code[:1].upper() + code[1:])):
        return known
    said = 400 if signal is Signal.ERROR_EVENT and error_type == "invalid_request_error" else status
    for statuses, pattern, kind in _TEXTS:
        if said in statuses and pattern.search(message):
            return kind
    if signal is Signal.ERROR_EVENT:
        return _BY_ERROR_TYPE.get(error_type, _F.UPSTREAM)
    if status == 404 and _STATEFUL.search(message):
        return _F.CLIENT  # something the client made elsewhere, not a missing model
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if 300 <= status < 400:
        return _F.BROKEN  # redirects are never followed
    return _F.CLIENT if 400 <= status < 500 else _F.UPSTREAM
