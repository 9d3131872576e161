"""How much to hold, and what to do when that does not fit (design decision 4).

Coarse bound first: bytes cost nothing to count. If it does not fit, the provider's exact count. If that does not fit either but
a useful answer does, `max_tokens` is clamped. If only open holds stand in the way, wait for them a little. Then refuse.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from msgspec import Struct
from msgspec.structs import replace

from modelgates_server.accounts.directory import Directory
from modelgates_server.accounts.values import Caller
from modelgates_server.activity.generation import Origin, context
from modelgates_server.catalogue import price
from modelgates_server.catalogue.models import Endpoint
from modelgates_server.clock import Clock
from modelgates_server.dialects.values import Ask
from modelgates_server.errors import MoneyRefused, RateRefused, StoreUnavailable
from modelgates_server.ledger.ledger import Ledger
from modelgates_server.ledger.values import Hold, HoldRequest, Refusal, Stale
from modelgates_server.limits import MONEY, Scope
from modelgates_server.money import usd_text
from modelgates_server.relay.values import Settings

CLAMP_TOKENS_MIN = 4096
"""An answer shorter than this is rarely of use; below it a refusal is more honest than a clamp."""

STALE_TRIES_MAX = 8
"""The policy cannot change this often between two awaits unless something is wrong."""

BYTES_PER_TOKEN = 4
"""Usual for English and code: for estimates that are shown or settle a lost request, never for a bound."""

COUNT_MARGIN_PERCENT, COUNT_MARGIN_TOKENS = 105, 64
"""An exact count may differ from the bill by what the provider adds; this covers it."""


class Size(Struct, frozen=True):
    """Bounds in tokens for what a request may use."""

    input_tokens: int
    output_tokens: int


class Reserved(Struct, frozen=True):
    """A hold, the `max_tokens` that it was clamped to, if it was, and the endpoints that it does not bound: too dear to be asked."""

    hold: Hold
    clamped: int | None = None
    dear: tuple[Endpoint, ...] = ()


@dataclass(frozen=True, slots=True)
class Funds:
    """Reserves money for requests."""

    ledger: Ledger
    directory: Directory
    clock: Clock
    settings: Settings
    price_version: str = ""

    async def reserve(
        self,
        caller: Caller,
        ask: Ask,
        endpoints: Sequence[Endpoint],
        origin: Origin,
        count: Callable[[], Awaitable[int | None]],
    ) -> Reserved:
        """Hold enough for the dearest of `endpoints`, by the steps above.

        Raises MoneyRefused or RateRefused naming the scope, Unauthenticated when the key died meanwhile, StoreUnavailable.
        """
        purse = _Purse(self, caller, ask, endpoints, origin)
        refused = await purse.take(purse.coarse())
        if not isinstance(refused, Refusal):
            return Reserved(refused)
        size = purse.coarse()
        if purse.might_fit(refused) and (tokens := await count()) is not None:
            exact = tokens * COUNT_MARGIN_PERCENT // 100 + COUNT_MARGIN_TOKENS
            size = replace(size, input_tokens=min(size.input_tokens, exact))
            refused = await purse.take(size)
            if not isinstance(refused, Refusal):
                return Reserved(refused)
        if dear := purse.narrow(size, refused.available):
            taken = await purse.take(size)
            if not isinstance(taken, Refusal):
                return Reserved(taken, None, dear)
            refused = taken
        return replace(await self._clamp_or_wait(purse, size, refused), dear=dear)

    async def _clamp_or_wait(self, purse: _Purse, size: Size, refused: Refusal) -> Reserved:
        patience_s = self.settings.hold_wait_s
        until_s = self.clock.monotonic_s() + patience_s
        while True:
            clamped = purse.clamp(size, refused) if self.settings.clamp else None
            if clamped is not None:
                taken = await purse.take(clamped)
                if not isinstance(taken, Refusal):
                    return Reserved(taken, clamped.output_tokens)
            left_s = until_s - self.clock.monotonic_s()
            if left_s <= 0 or refused.unheld < purse.cost(size) or not await self.ledger.released(left_s):
                raise purse.refusal(size, refused)
            taken = await purse.take(size)
            if not isinstance(taken, Refusal):
                return Reserved(taken)
            refused = taken


class _Purse:
    """One request's attempts to hold money."""

    def __init__(self, funds: Funds, caller: Caller, ask: Ask, endpoints: Sequence[Endpoint], origin: Origin) -> None:
        self._funds = funds
        self._caller = caller
        self._ask = ask
        self._endpoints = endpoints
        self._origin = origin

    def coarse(self) -> Size:
        """The bound that needs nothing but the body."""
        models = {endpoint.model.slug: endpoint.model for endpoint in self._endpoints}.values()
        wanted = self._ask.max_tokens
        if wanted is None:
            wanted = max(model.max_output_tokens for model in models)
        return Size(max(price.input_bound_tokens(self._ask.shape, model) for model in models), wanted)

    def narrow(self, size: Size, available_nusd: int) -> tuple[Endpoint, ...]:
        """Leave out the endpoints that `available_nusd` cannot pay, if any can be paid; gives those that were left out."""
        dear = tuple(endpoint for endpoint in self._endpoints if self._cost_at(endpoint, size) > available_nusd)
        if not dear or len(dear) == len(self._endpoints):
            return ()
        self._endpoints = [endpoint for endpoint in self._endpoints if endpoint not in dear]
        return dear

    def cost(self, size: Size) -> int:
        """The most that `size` can cost on the dearest endpoint, in nano-USD."""
        return max(self._cost_at(endpoint, size) for endpoint in self._endpoints)

    def _cost_at(self, endpoint: Endpoint, size: Size) -> int:
        return price.ceiling_nusd(endpoint, self._ask, size.input_tokens, size.output_tokens, self._now_s)

    def might_fit(self, refused: Refusal) -> bool:
        """Whether an exact count could help: it asks the provider, so it must have a chance."""
        best = Size(self._ask.shape.body_bytes // 8, self._ask.max_tokens or 0)
        least = replace(
            best, output_tokens=min(best.output_tokens, max(CLAMP_TOKENS_MIN, self._ask.thinking_budget + 1))
        )
        return self.cost(least if self._funds.settings.clamp else best) <= refused.available

    def clamp(self, size: Size, refused: Refusal) -> Size | None:
        """The largest useful `max_tokens` that fits in what is available now, or None."""
        affordable = self.affordable(size, refused.available)
        least = max(CLAMP_TOKENS_MIN, self._ask.thinking_budget + 1)
        return Size(size.input_tokens, affordable) if least <= affordable < size.output_tokens else None

    def affordable(self, size: Size, available_nusd: int) -> int:
        """Output tokens that fit on every endpoint; negative when not even the input does."""
        return min(
            price.affordable_output_tokens(endpoint, self._ask, size.input_tokens, available_nusd, self._now_s)
            for endpoint in self._endpoints
        )

    async def take(self, size: Size) -> Hold | Refusal:
        """Try to hold `size`, reading the caller's policy again when it changed. Raises RateRefused."""
        for _ in range(STALE_TRIES_MAX):
            result = await self._funds.ledger.hold(self._request(size))
            if isinstance(result, Stale):
                self._caller = self._funds.directory.reload(self._caller)
            elif isinstance(result, Refusal) and result.unit not in MONEY:
                raise _rate_refusal(result, self._now_s)
            else:
                return result
        raise StoreUnavailable

    @property
    def _now_s(self) -> float:
        return self._origin.created_at_ms / 1000

    def _request(self, size: Size) -> HoldRequest:
        caller, ask, endpoint = self._caller, self._ask, self._endpoints[0]
        meters = caller.meters
        if ask.is_probe:  # the connection test of Claude Desktop is paid, but never rate limited
            meters = tuple(ref for ref in meters if ref.unit in MONEY)
        estimate = min(size.input_tokens, ask.shape.body_bytes // BYTES_PER_TOKEN)
        return HoldRequest(
            id=self._origin.id,
            organization_id=caller.organization_id,
            policy_version=caller.policy_version,
            meters=meters,
            amount_nusd=self.cost(size),
            floor_nusd=price.input_cost_nusd(endpoint, estimate, self._now_s),
            tokens=estimate,
            context=context(self._origin, endpoint.provider, self._funds.price_version),
            now_s=self._funds.clock.now_s(),
        )

    def refusal(self, size: Size, refused: Refusal) -> MoneyRefused:
        """The refusal in words: which scope, what is left, what would fit, when it resets."""
        affordable = self.affordable(size, refused.available)
        reason = _REASONS.get(refused.scope, "budget_exhausted")
        if refused.unheld >= self.cost(size):
            reason = "hold_pending"
        elif affordable > 0:
            reason = "request_exceeds_budget"
        message = (
            f"{_NAMES[refused.scope]} is used up: {usd_text(refused.available)} of {usd_text(refused.limit)} USD left,"
            f" and this request may cost up to {usd_text(self.cost(size))} USD."
        )
        if affordable > 0:
            message += f" It would fit with max_tokens of at most {affordable}."
        if refused.resets_at_s is not None:
            message += f" It resets at {datetime.fromtimestamp(refused.resets_at_s, UTC):%Y-%m-%d %H:%M} UTC."
        return MoneyRefused(
            message,
            scope=str(refused.scope),
            reason=reason,
            limit_nusd=refused.limit,
            remaining_nusd=refused.available,
            resets_at_s=refused.resets_at_s,
            affordable_max_tokens=affordable if affordable > 0 else None,
        )


_REASONS = {Scope.ORGANIZATION: "insufficient_credits", Scope.KEY: "key_limit"}
_NAMES = {
    Scope.ORGANIZATION: "The organization's credit",
    Scope.WORKSPACE: "The workspace's budget",
    Scope.MEMBER: "The member's budget",
    Scope.KEY: "The key's limit",
}


def _rate_refusal(refused: Refusal, now_s: float) -> RateRefused:
    wait_s = max(1, int((refused.resets_at_s or now_s + 60) - now_s) + 1)
    return RateRefused(
        f"The rate limit of this {refused.scope} is reached ({refused.limit} {refused.unit} a minute); try again in {min(60, wait_s)} s.",
        scope=str(refused.scope),
        retry_after_s=wait_s,
    )
