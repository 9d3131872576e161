"""Every way in which ModelGates refuses or fails, in domain words. No HTTP here: `edge/faults.py` renders.

ModelGatesError
├── ConfigError              the operator's file, environment or flags are wrong
├── StoreError               the database cannot serve
│   ├── StoreUnavailable     away, locked, full or broken: money fails closed
│   └── StoreMismatch        made with another secret, or a newer schema
├── SealBroken               a stored secret was changed, or sealed for another place
├── BadRequest               the client's body or headers cannot be understood
│   └── TooLarge             beyond the size limit
├── Unauthenticated          no key, or a key that is unknown, disabled, deleted or expired
├── WrongKeyClass            a management key on inference, or the reverse
├── Forbidden                the key is right, but this is not for it to do
├── Conflict                 it stands against what is there, or is being done already
├── KeyReused                an idempotency key that belongs to another request
├── NotFound                 no such thing, or not yours (the same answer)
│   ├── UnknownModel         the name resolves to nothing
│   └── NotPermitted         exists, but the caller's policy excludes it
├── NoEndpoint               policy, request or health left no endpoint, with the reasons
├── MoneyRefused             a budget or the credit does not admit the request
├── RateRefused              a rate or concurrency limit does not admit the request
├── TookTooLong              a report was stopped at its time limit
├── Draining                 this process is stopping
├── UpstreamFailed           every endpoint failed; carries the most useful of the faults
├── IdentityFailed           the identity provider cannot be asked, or what it says of itself cannot be used
└── ReportFailed             a provider's report of usage and cost cannot be had, or not be read
"""

from __future__ import annotations


class ModelGatesError(Exception):
    """Something went wrong.

    The class docstring is the default message; `remedy` tells the reader what to do about it.
    """

    def __init__(self, message: str | None = None, *, remedy: str | None = None) -> None:
        self.message = message or (type(self).__doc__ or "").strip().splitlines()[0]
        self.remedy = remedy
        super().__init__(self.message)


class ConfigError(ModelGatesError):
    """The configuration cannot be used."""


class StoreError(ModelGatesError):
    """The database cannot serve."""


class StoreUnavailable(StoreError):
    """The gateway's store is not available right now; nothing was charged. Try again shortly."""


class StoreMismatch(StoreError):
    """The database does not belong to this installation."""


class SealBroken(ModelGatesError):
    """A stored secret cannot be opened: it was changed, or it was sealed for another record or destination."""


class BadRequest(ModelGatesError):
    """The request cannot be understood."""


class TooLarge(BadRequest):
    """Request exceeds the maximum size of 32 MiB."""


class Unauthenticated(ModelGatesError):
    """Invalid API key."""


class WrongKeyClass(ModelGatesError):
    """This class of key cannot be used here."""


class Forbidden(ModelGatesError):
    """This is not for you to do."""


class Conflict(ModelGatesError):
    """This stands against what is there already."""


class KeyReused(ModelGatesError):
    """This idempotency key belongs to another request. Use a new one for each request that you mean."""


class NotFound(ModelGatesError):
    """Not found."""


class UnknownModel(NotFound):
    """There is no such model here."""


class NotPermitted(NotFound):
    """The key may not use this model."""


class NoEndpoint(NotFound):
    """No endpoint can serve this request."""


class MoneyRefused(ModelGatesError):
    """The budget does not admit this request.

    Attributes: `scope` (organization, workspace, app, member, seat, key), `limit_nusd`, `remaining_nusd` (nano-USD, never negative),
    `resets_at_s` (Unix seconds, None when the limit never resets), `affordable_max_tokens` (None when even one
    output token does not fit), `reason` (insufficient_credits, key_limit, budget_exhausted, request_exceeds_budget, hold_pending),
    `budget` (the name of the budget that refused, such as ``guardrail "Interns"``; None for a key's limit and the credit).
    """

    def __init__(  # noqa: PLR0913 - the facts of a refusal, all of them shown to the client
        self,
        message: str,
        *,
        scope: str,
        reason: str,
        limit_nusd: int,
        remaining_nusd: int,
        resets_at_s: int | None = None,
        affordable_max_tokens: int | None = None,
        budget: str | None = None,
    ) -> None:
        super().__init__(message)
        self.scope = scope
        self.budget = budget
        self.reason = reason
        self.limit_nusd = limit_nusd
        self.remaining_nusd = remaining_nusd
        self.resets_at_s = resets_at_s
        self.affordable_max_tokens = affordable_max_tokens


class RateRefused(ModelGatesError):
    """A rate limit was reached. `retry_after_s` is between 1 and 60; `limit` and `resets_at_s` (Unix) are None where nobody knows."""

    def __init__(
        self, message: str, *, scope: str, retry_after_s: int, limit: int | None = None, resets_at_s: int | None = None
    ) -> None:
        super().__init__(message)
        self.scope = scope
        self.retry_after_s = max(1, min(60, retry_after_s))
        self.limit = limit
        self.resets_at_s = resets_at_s

    @property
    def headers(self) -> dict[str, str]:
        """What the answer says beside its body (product-surface 2); the reset is in Unix milliseconds."""
        said = {"retry-after": str(self.retry_after_s)}
        if self.limit is not None:
            said |= {"x-ratelimit-limit": str(self.limit), "x-ratelimit-remaining": "0"}
        if self.resets_at_s is not None:
            said["x-ratelimit-reset"] = str(self.resets_at_s * 1000)
        return said


class TookTooLong(ModelGatesError):
    """This took too long and was stopped."""


class Draining(ModelGatesError):
    """This gateway process is stopping; try again."""


class UpstreamFailed(ModelGatesError):
    """No provider could answer.

    `kind` is one of the status classes of `routing/verdict.py`; `status` and `body` are the upstream's own when they may
    be shown to the client unchanged (an Anthropic-shaped 4xx), else None; `retry_after` is whole seconds as text.
    """

    def __init__(
        self,
        message: str,
        *,
        kind: str,
        status: int | None = None,
        body: bytes | None = None,
        retry_after: str | None = None,
        should_retry: str | None = None,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.status = status
        self.body = body
        self.retry_after = retry_after
        self.should_retry = should_retry
        self.report: bytes | None = None  # the routing report, when the client asked for one


class IdentityFailed(ModelGatesError):
    """The identity provider cannot be asked right now."""


class ReportFailed(ModelGatesError):
    """The provider's report of usage and cost cannot be had."""
