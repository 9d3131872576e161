"""Errors as HTTP: every class of ours has a form, and no provider's credential trouble looks like the client's."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from modelgates_server import errors
from modelgates_server.edge import faults
from modelgates_server.edge.faults import render
from modelgates_server.routing.verdict import FaultClass
from modelgates_server.statuses import STATUS

SAMPLES = {
    errors.MoneyRefused: errors.MoneyRefused("no", scope="key", reason="key_limit", limit_nusd=5, remaining_nusd=0),
    errors.RateRefused: errors.RateRefused("no", scope="key", retry_after_s=500),
    errors.UpstreamFailed: errors.UpstreamFailed("no", kind="upstream"),
}


def classes(root: type[errors.ModelGatesError] = errors.ModelGatesError) -> Iterator[type[errors.ModelGatesError]]:
    yield root
    for cls in root.__subclasses__():
        yield from classes(cls)


@pytest.mark.parametrize("cls", list(classes()))
def test_every_error_has_an_envelope(cls: type[errors.ModelGatesError]) -> None:
    """Each class of the tree renders as a 4xx or 5xx with a type, a message and the request's id."""
    rendered = render(SAMPLES.get(cls) or cls("told"), "req-1")

    body = json.loads(rendered.body)
    assert 400 <= rendered.status < 600
    assert body["type"] == "error"
    assert body["request_id"] == "req-1"
    assert body["error"]["message"]


@pytest.mark.parametrize("kind", FaultClass)
def test_every_fault_class_has_a_form(kind: FaultClass) -> None:
    """No class of upstream failure is without a status, and none becomes 401, 402 or 403."""
    rendered = render(errors.UpstreamFailed("no", kind=kind), "gen-1")

    assert rendered.status in {400, 404, 409, 413, 429, 502, 503, 504, 529}
    assert json.loads(rendered.body)["error"]["type"].endswith(("_error", "_too_large"))


def test_foreign_errors_are_masked() -> None:
    """What nobody foresaw is a 500 that tells nothing of its inside."""
    rendered = render(KeyError("sk-secret"), "req-1")

    assert rendered.status == 500
    assert b"sk-secret" not in rendered.body


def test_a_refused_rate_says_how_long_to_wait() -> None:
    """retry-after is an integer from 1 to 60, because clients give up on more."""
    assert (b"retry-after", b"60") in render(SAMPLES[errors.RateRefused], "gen-1").headers


def test_a_refused_rate_says_which_limit_it_was() -> None:
    """In the headers that OpenRouter's clients read; the reset is in milliseconds."""
    error = errors.RateRefused("no", scope="key", retry_after_s=5, limit=100, resets_at_s=1_800_000_060)
    told = dict(render(error, "gen-1").headers)
    assert (told[b"x-ratelimit-limit"], told[b"x-ratelimit-remaining"]) == (b"100", b"0")
    assert told[b"x-ratelimit-reset"] == b"1800000060000"


STATUSES = {
    "unreachable": 503, "stale": 503, "reset": 502, "timeout": 504, "rate_limit": 429, "ramp": 429, "quota": 429, "overloaded": 529,
    "upstream": 502, "misconfigured": 503, "region": 503, "account": 503, "absent": 404, "not_offered": 502, "too_large": 413,
    "conflict": 409, "capability": 400, "portability": 400, "context": 400, "client": 400, "broken": 502, "stream": 502,
}  # fmt: skip
REPAIRABLE = {
    "rate_limit", "ramp", "overloaded", "absent", "too_large", "conflict", "capability", "portability", "context", "client",
}  # fmt: skip
THEIRS = b'{ "type": "error", "error": {"type": "x_error", "message": "theirs"} }'


@pytest.mark.parametrize(("kind", "status"), STATUSES.items())
def test_classes_have_their_status(kind: str, status: int) -> None:
    """As design section 6 says; the provider's own status and body are shown only where clients can repair themselves."""
    assert set(STATUSES) == set(FaultClass)
    assert render(errors.UpstreamFailed("no", kind=kind), "gen-1").status == status

    shown = render(errors.UpstreamFailed("no", kind=kind, status=418, body=THEIRS), "gen-1")
    assert (shown.status, shown.body == THEIRS) == ((418, True) if kind in REPAIRABLE else (status, False))


@pytest.mark.parametrize("kind", REPAIRABLE)
@pytest.mark.parametrize("status", [200, None])
def test_an_error_after_a_200_has_the_status_of_its_class(kind: str, status: int | None) -> None:
    """An error event came with a 200: its body may be shown, its status never."""
    shown = render(errors.UpstreamFailed("no", kind=kind, status=status, body=THEIRS), "gen-1")

    assert (shown.status, shown.body) == (STATUSES[kind], THEIRS)


@pytest.mark.parametrize(("status", "shown"), [(500, 502), (502, 502), (503, 503), (504, 504), (520, 502), (408, 502)])
def test_not_now_and_not_in_time_say_more_than_502(status: int, shown: int) -> None:
    """Of a failing provider's own statuses only those two are kept."""
    assert render(errors.UpstreamFailed("no", kind="upstream", status=status), "gen-1").status == shown


def test_the_routing_report_stands_beside_the_error() -> None:
    """In our envelope and in a provider's, whose other bytes stay."""
    for body in (THEIRS, None):
        error = errors.UpstreamFailed("no", kind="client", status=400, body=body, retry_after="5", should_retry="false")
        error.report = b'{"attempt":1}'
        rendered = render(error, "gen-1")
        assert json.loads(rendered.body)["modelgates_metadata"] == {"attempt": 1}
        assert {(b"retry-after", b"5"), (b"x-should-retry", b"false")} <= set(rendered.headers)


def test_inference_and_the_other_planes_agree_on_the_status() -> None:
    """Whatever envelope an error is told in, its status is one."""
    assert {kind: form.status for kind, form in faults._FORMS.items()} == {kind: STATUS[kind] for kind in faults._FORMS}
