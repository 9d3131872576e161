"""docs/errors.md: every error of the code, as each surface tells it, and what to do about it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from modelgates_server import errors
from modelgates_server.activity.words import HAPPENED
from modelgates_server.api import faults as managing
from modelgates_server.cli.frame import exit_code
from modelgates_server.edge import faults as inference
from modelgates_server.errors import ModelGatesError
from modelgates_server.routing.verdict import FaultClass

INTRODUCTION = """# Errors

*Generated from the code by `make docs`.*

Every answer has a `request-id`; with an error it finds the line in the gateway's log.

**Inference** (`/v1/messages` and its neighbours) speaks Anthropic's envelope, so that Claude clients and SDKs understand it:

```json
{"type": "error", "error": {"type": "billing_error", "message": "…", "details": {}}, "request_id": "gen-…"}
```

Routes besides `/v1/messages` add the status as `error.code`. In a stream that has begun, the same object comes as an `event: error`.

**The management API** has the status as its code, as OpenRouter's clients read it; `metadata.remedy` says what to do, and
`metadata.errors` names fields:

```json
{"error": {"code": 409, "message": "…", "metadata": {"remedy": "…"}}}
```

**The console** answers with the same status and a page that says the sentence and the remedy. **Commands** print both on standard error
and end with the exit code; 0 is success, 1 failed, 2 a mistake in flags or configuration, 3 a store that cannot serve, 4 nothing found.

The sentences below are what stands when nothing more exact is known; most refusals name the field, the budget or the model.

## What this gateway refuses

| error | says | inference | management API | exit | what to do |
|---|---|---|---|---|---|
"""

UPSTREAM = """
Besides these: 405 with `allow` for a method that a path does not know, 408 to a client that sends its request too slowly, 501 for
`/v1/chat/completions` and `/v1/responses`, which are not built yet, and 500 for a mistake of ours.

## When no provider answered

A fault of one provider is no error as long as another one answers ([routing](routing.md)). When all have failed, the client gets the most
useful of their faults. Where *theirs* stands, the provider's own status and body are passed on when they have Anthropic's shape, because
clients repair themselves by the wording; everything else is told in our words, and never with a provider's 401, 402 or 403.

| fault | the provider… | inference | whose words | what to do |
|---|---|---|---|---|
"""

REMEDIES: dict[type[ModelGatesError], str] = {
    errors.ConfigError: "Mend the line, variable or flag that the message names.",
    errors.StoreUnavailable: "Send it again after `retry-after`; look at the database if it lasts.",
    errors.StoreMismatch: "Restore the secret that belongs to the database, or start a release that knows its schema.",
    errors.SealBroken: "Store the secret again.",
    errors.BadRequest: "Correct the field that the message names; sending the same again gives the same.",
    errors.TooLarge: "Send less: shorten the conversation, or upload files instead of sending them.",
    errors.Unauthenticated: "Send a live key of this gateway, `sk-mg-v1-…`.",
    errors.WrongKeyClass: "Inference takes inference keys, the management API management keys.",
    errors.Forbidden: "Ask an administrator; the message says whom or which setting.",
    errors.Conflict: "Read what is there and decide again; if the same request is still running, wait for it.",
    errors.KeyReused: "Use a new `Idempotency-Key` for each request that you mean.",
    errors.NotFound: "Check the id. What belongs to another organization is answered the same way.",
    errors.UnknownModel: "`GET /v1/models` lists what the key may use.",
    errors.NotPermitted: "Use another model, or have the key's guardrail changed.",
    errors.NoEndpoint: "The message has the reason for each endpoint: loosen the wish or add a provider.",
    errors.MoneyRefused: "`details` names the scope, what is left and when it resets: wait, ask for less, or have the limit raised.",
    errors.RateRefused: "Send it again after `retry-after` seconds; `x-ratelimit-limit`, `-remaining` and `-reset` (Unix milliseconds)"
    " tell the limit.",
    errors.TookTooLong: "Ask for a shorter time or fewer groups.",
    errors.Draining: "Send it again: another process, or the same one after its restart, takes it.",
    errors.UpstreamFailed: "See the next table; `modelgates explain gen-…` tells every attempt.",
    errors.IdentityFailed: "Try again; an administrator finds the reason in the gateway's log.",
    errors.ReportFailed: "Look at the provider's account; the message says what its report answered.",
}
"""For each class what a reader can do. One that is missing here stops `make docs`."""

NEVER_SENT: frozenset[type[ModelGatesError]] = frozenset(
    {errors.ConfigError, errors.ReportFailed, errors.UpstreamFailed}
)
"""Only commands meet them, or they have a table of their own."""

NOT_THERE = "-"

ONLY_INFERENCE: frozenset[type[ModelGatesError]] = frozenset(
    {errors.MoneyRefused, errors.Draining, errors.UnknownModel, errors.NotPermitted, errors.NoEndpoint}
)
ONLY_MANAGING: frozenset[type[ModelGatesError]] = frozenset(
    {
        errors.Forbidden, errors.Conflict, errors.KeyReused, errors.TookTooLong, errors.IdentityFailed, errors.SealBroken,
    }
)  # fmt: skip

FAULT_REMEDIES: dict[FaultClass, str] = {
    FaultClass.UNREACHABLE: "Check the provider's `base_url`, DNS and network.",
    FaultClass.STALE: "Send it again.",
    FaultClass.RESET: "Send it again; the provider may have worked on the first one.",
    FaultClass.TIMEOUT: "Send it again, streamed, or raise `[routing] first_byte_s`.",
    FaultClass.RATE_LIMIT: "Wait for `retry-after`; add a provider, or raise the limit of the account there.",
    FaultClass.RAMP: "Wait for `retry-after`; let the load grow more slowly.",
    FaultClass.QUOTA: "Raise the quota at the provider, or add another one.",
    FaultClass.OVERLOADED: "Wait for `retry-after`; add a provider.",
    FaultClass.UPSTREAM: "Send it again.",
    FaultClass.MISCONFIGURED: "The operator mends the credential: `modelgates doctor` names it.",
    FaultClass.REGION: "The operator enables the model for the account or region there.",
    FaultClass.ACCOUNT: "The operator settles billing, limit or hold of the account there.",
    FaultClass.ABSENT: "Use another model, or map its name in the provider's `models`.",
    FaultClass.NOT_OFFERED: "Use a provider that offers the interface.",
    FaultClass.TOO_LARGE: "Shorten the conversation.",
    FaultClass.CONFLICT: "Send it again.",
    FaultClass.CAPABILITY: "Leave out what the message names, or add a provider that can do it.",
    FaultClass.PORTABILITY: "Begin a new conversation, or drop the thinking blocks.",
    FaultClass.CONTEXT: "Shorten or compact the conversation.",
    FaultClass.CLIENT: "Correct what the message names.",
    FaultClass.BROKEN: "Send it again.",
    FaultClass.STREAM: "Send it again; what came is not charged.",
}


def page() -> str:
    """The whole page."""
    return INTRODUCTION + "".join(map(_row, _tree(ModelGatesError))) + UPSTREAM + "".join(map(_fault_row, FaultClass))


def _tree(kind: type[ModelGatesError]) -> Iterator[type[ModelGatesError]]:
    """Every class that is raised, parents before their children."""
    for child in kind.__subclasses__():
        if child.__module__ == errors.__name__:
            if child is not errors.StoreError:  # its children are raised
                yield child
            yield from _tree(child)


def _row(kind: type[ModelGatesError]) -> str:
    error = _example(kind)
    said = "No provider could answer." if kind is errors.UpstreamFailed else error.message
    sent, managed = kind not in NEVER_SENT | ONLY_MANAGING, kind not in NEVER_SENT | ONLY_INFERENCE
    cells = (
        f"`{kind.__name__}`",
        said,
        _inference(error) if sent else "see below" if kind is errors.UpstreamFailed else NOT_THERE,
        _managing(error) if managed else NOT_THERE,
        str(exit_code(kind)),
        REMEDIES[kind],
    )
    return f"| {' | '.join(cells)} |\n"


def _example(kind: type[ModelGatesError]) -> ModelGatesError:
    default = (kind.__doc__ or "").strip().splitlines()[0]
    needed: dict[type[ModelGatesError], dict[str, Any]] = {
        errors.MoneyRefused: {"scope": "key", "reason": "key_limit", "limit_nusd": 0, "remaining_nusd": 0},
        errors.RateRefused: {"scope": "key", "retry_after_s": 1},
        errors.UpstreamFailed: {"kind": "upstream"},
    }
    return kind(default, **needed.get(kind, {}))


def _inference(error: ModelGatesError) -> str:
    rendered = inference.render(error, "")
    told = f"{rendered.status} `{json.loads(rendered.body)['error']['type']}`"
    headers = {name.decode(): value.decode() for name, value in rendered.headers}
    if headers.get("x-should-retry") == "false":
        told += ", not to be repeated"
    return f"{told}, `retry-after`" if "retry-after" in headers else told


def _managing(error: ModelGatesError) -> str:
    answer = managing.render(error)
    return f"{answer.status_code}, `retry-after`" if "retry-after" in answer.headers else str(answer.status_code)


def _fault_row(fault: FaultClass) -> str:
    form = inference.UPSTREAM[fault]
    whose = "theirs" if fault in inference.VERBATIM else "ours"
    return f"| `{fault}` | {HAPPENED[fault]} | {form.status} `{form.type}` | {whose} | {FAULT_REMEDIES[fault]} |\n"
