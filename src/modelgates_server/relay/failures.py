"""When every endpoint failed: which of the faults the client is told, and how (design decision 3)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

from modelgates_server.dialects import faults
from modelgates_server.dialects.faults import error_body, error_event, shown_message
from modelgates_server.dialects.values import Event
from modelgates_server.errors import UpstreamFailed
from modelgates_server.providers.base import Fault
from modelgates_server.routing.verdict import VERDICTS, FaultClass, Signal, classify

_HIDDEN: Final = frozenset({FaultClass.MISCONFIGURED, FaultClass.REGION, FaultClass.ACCOUNT})
"""The gateway's own trouble with a provider: never shown as the client's 401, 402 or 403."""

OVERLOADED_RETRY_S: Final = 2.0
"""When everybody is overloaded and nobody says for how long: not at once, and well within the 5 s of a recovery (reliability R9)."""

_OPERATORS: Final = "The provider is not available to this gateway right now; its operator has been told why."

_OWNERS: Final = "The provider does not take the organization's own key; the receipt tells its administrator why."

_SENTENCES: Final = {
    FaultClass.UNREACHABLE: "The provider cannot be reached.",
    FaultClass.STALE: "The provider closed the connection.",
    FaultClass.RESET: "The provider closed the connection before it answered.",
    FaultClass.TIMEOUT: "The provider did not answer in time.",
    FaultClass.BROKEN: "The provider sent something that is not an answer.",
    FaultClass.MISCONFIGURED: _OPERATORS,
    FaultClass.REGION: _OPERATORS,
    FaultClass.ACCOUNT: _OPERATORS,
}


def told_by(fault: Fault) -> faults.Fault:
    """What an upstream's error says."""
    return faults.read_fault(fault.status, fault.body, fault.content_type, fault.aws_error_type)


class Failed(NamedTuple):
    """One failed attempt: its class, what the upstream said, and the fault as it came; `own` with one of the organisation's keys."""

    kind: FaultClass
    told: faults.Fault
    fault: Fault
    retry_after_s: float | None
    model: str
    own: bool = False


def most_useful(failed: Sequence[Failed], request_id: str) -> UpstreamFailed:
    """The fault that helps the client most, as the error that the edge renders.

    With model fallbacks it is one of the last model's (product-surface 1.2). What Anthropic wrote is shown as it came; other
    providers' words are written anew, without what names their customer.
    """
    last = [one for one in failed if one.model == failed[-1].model]
    chosen = max(last, key=lambda one: VERDICTS[one.kind].rank)
    kind, told, fault = chosen.kind, chosen.told, chosen.fault
    waits = [one.retry_after_s for one in failed if VERDICTS[one.kind].hinted and one.retry_after_s is not None]
    hidden = kind in _HIDDEN
    body = None
    if told.anthropic_shaped and not hidden:
        body = fault.body if fault.trusted else error_body(told.type, shown_message(told.message), request_id)
    if kind is FaultClass.OVERLOADED and not waits:
        waits = [OVERLOADED_RETRY_S]
    ours = _OWNERS if hidden and chosen.own else _SENTENCES.get(kind)
    if ours is not None and len(failed) > 1:
        ours = f"{ours} ({len(failed)} attempts)"
    return UpstreamFailed(
        ours or shown_message(told.message) or "The provider failed.",
        kind=kind,
        status=fault.status or None,
        body=body,
        retry_after=str(max(1, math.ceil(min(waits)))) if waits and not hidden else None,
        should_retry=fault.should_retry if not hidden else None,
    )


def shown_event(event: Event, operator: str, request_id: str) -> bytes:
    """An error event in the middle of a stream as the client may see it, by the same rules (reliability row 15)."""
    told = faults.read_fault(200, event.data)
    if classify(Signal.ERROR_EVENT, 200, told.type, told.code, told.message) in _HIDDEN:
        return error_event(error_body("api_error", _OPERATORS, request_id))
    if operator in {"anthropic", "other"}:
        return event.raw
    return error_event(error_body(told.type, shown_message(told.message), request_id))
