"""How much to hold, and what to do when that does not fit (design decision 4).

Coarse bound first: bytes cost nothing to count. If it does not fit, the provider's exact count. If that does not fit either but
a useful answer does, `max_tokens` is clamped. If only open holds stand in the way, wait for them a little. Then refuse.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from msgspec import Struct
from msgspec.structs import replace

from modelgates_server.accounts.directory import Directory
from modelgates_server.accounts.values import Caller
from modelgates_server.activity.generation import Origin, context
from modelgates_server.catalogue import price
from modelgates_server.catalogue.models import Endpoint
from modelgates_server.clock import Clock
from modelgates_server.dialects.values import Ask
from modelgates_server.errors import MoneyRefused, StoreUnavailable
from modelgates_server.ledger.ledger import Ledger
from modelgates_server.ledger.values import Hold, HoldRequest, Refusal, Stale
from modelgates_server.limits import MONEY, Unit
from modelgates_server.relay.refusals import money_refused, rate_refused
from modelgates_server.relay.values import Settings

CLAMP_TOKENS_MIN = 4096
"""An answer shorter than this is rarely of use; below it a refusal is more honest than a clamp."""

STALE_TRIES_MAX = 8
"""The policy cannot change this often between two awaits unless something is wrong."""

BYTES_PER_TOKEN = 4
"""Usual for English and code: for estimates that are shown or settle a lost request, never for a bound."""

COUNT_MARGIN_PERCENT, COUNT_MARGIN_TOKENS = 105, 64
"""An exact count may differ from the bill by what the provider adds; this covers it."""


class PolicyChanged(Exception):
    """What the caller may use changed while the request was planned: plan it again, for `caller`."""

    def __init__(self, caller: Caller) -> None:
        super().__init__()
        self.caller = caller


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

        Raises MoneyRefused or RateRefused naming the scope, Unauthenticated when the key died meanwhile, PolicyChanged,
        StoreUnavailable.
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
        if dear := purse.narrow(size, refused):
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
            if left_s <= 0 or refused.unheld < purse.needs(size, refused) or not await self.ledger.released(left_s):
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
        self._own = bool(caller.credentials)

    def coarse(self) -> Size:
        """The bound that needs nothing but the body."""
        models = {endpoint.model.slug: endpoint.model for endpoint in self._endpoints}.values()
        wanted = self._ask.max_tokens
        if wanted is None:
            wanted = max(model.max_output_tokens for model in models)
        return Size(max(price.input_bound_tokens(self._ask.shape, model) for model in models), wanted)

    def narrow(self, size: Size, refused: Refusal) -> tuple[Endpoint, ...]:
        """Leave out the endpoints that cannot be paid, if any can be paid; gives those that were left out.

        When none can be paid in full, those where not even the least useful answer can be.
        """
        for wanted in (size, self._least(size)):
            dear = tuple(one for one in self._endpoints if not self._pays(one, wanted, refused))
            if len(dear) < len(self._endpoints):
                gone = set(map(id, dear))
                self._endpoints = [one for one in self._endpoints if id(one) not in gone]
                return dear
        return ()

    def cost(self, size: Size) -> int:
        """The most credit that `size` can cost, in nano-USD: on the dearest of the operator's accounts, nothing on own keys."""
        return max((self._cost_at(one, size) for one in self._endpoints if one.own is None), default=0)

    def spend(self, size: Size) -> int:
        """The same with own keys, which cost the organisation too."""
        return max(self._cost_at(one, size) for one in self._endpoints)

    def needs(self, size: Size, refused: Refusal) -> int:
        """What `size` asks of the meter that refused."""
        return self.spend(size) if refused.unit == Unit.SPEND else self.cost(size)

    def _pays(self, endpoint: Endpoint, size: Size, refused: Refusal) -> bool:
        left_nusd = _left_nusd(endpoint, refused)
        return left_nusd is None or self._cost_at(endpoint, size) <= left_nusd

    def _cost_at(self, endpoint: Endpoint, size: Size) -> int:
        return price.ceiling_nusd(endpoint, self._ask, size.input_tokens, size.output_tokens, self._now_s)

    def might_fit(self, refused: Refusal) -> bool:
        """Whether an exact count could help: it asks the provider, so it must have a chance."""
        best = self._least(Size(self._ask.shape.body_bytes // 8, self._ask.max_tokens or 0))
        return all(self._pays(endpoint, best, refused) for endpoint in self._endpoints)

    def _least(self, size: Size) -> Size:
        """The least of `size` that is of use: as much as it says, or where clamping is allowed a useful answer."""
        if not self._funds.settings.clamp:
            return size
        return replace(
            size, output_tokens=min(size.output_tokens, max(CLAMP_TOKENS_MIN, self._ask.thinking_budget + 1))
        )

    def clamp(self, size: Size, refused: Refusal) -> Size | None:
        """The largest useful `max_tokens` that fits in what is available now, or None."""
        affordable = self.affordable(size, refused)
        least = max(CLAMP_TOKENS_MIN, self._ask.thinking_budget + 1)
        return Size(size.input_tokens, affordable) if least <= affordable < size.output_tokens else None

    def affordable(self, size: Size, refused: Refusal) -> int:
        """Output tokens that fit on every endpoint; negative when not even the input does."""
        bounds = [(endpoint, _left_nusd(endpoint, refused)) for endpoint in self._endpoints]
        return min(
            size.output_tokens
            if left_nusd is None
            else price.affordable_output_tokens(endpoint, self._ask, size.input_tokens, left_nusd, self._now_s)
            for endpoint, left_nusd in bounds
        )

    async def take(self, size: Size) -> Hold | Refusal:
        """Try to hold `size`, reading the caller's policy again when it changed. Raises RateRefused."""
        for _ in range(STALE_TRIES_MAX):
            result = await self._funds.ledger.hold(self._request(size))
            if isinstance(result, Stale):
                self._caller = await self._reloaded()
            elif isinstance(result, Refusal) and result.unit not in MONEY:
                raise rate_refused(result, self._now_s)
            else:
                return result
        raise StoreUnavailable

    async def _reloaded(self) -> Caller:
        """The caller under the newest policy. Raises PolicyChanged when the plan was made for another one."""
        fresh = await self._funds.directory.reload(self._caller)
        if not fresh.goes_where(self._caller):
            raise PolicyChanged(fresh)
        return fresh

    @property
    def _now_s(self) -> float:
        return self._origin.created_at_ms / 1000

    def _request(self, size: Size) -> HoldRequest:
        caller, ask, endpoint = self._caller, self._ask, self._endpoints[0]
        meters = caller.meters_for(self._origin.app)
        if ask.is_probe:  # the connection test of Claude Desktop is paid, but never rate limited
            meters = tuple(ref for ref in meters if ref.unit in MONEY)
        estimate = min(size.input_tokens, ask.shape.body_bytes // BYTES_PER_TOKEN)
        floor_nusd = price.input_cost_nusd(endpoint, estimate, self._now_s)
        own_nusd = None if endpoint.own is None else floor_nusd
        return HoldRequest(
            id=self._origin.id,
            organization_id=caller.organization_id,
            policy_version=caller.policy_version,
            meters=meters,
            amount_nusd=self.cost(size),
            floor_nusd=floor_nusd if own_nusd is None else 0,
            tokens=estimate,
            context=context(self._origin, endpoint.provider, self._funds.price_version, own_nusd),
            now_s=self._now_s,  # the moment of the receipt, so that both fall into one window
            spend_nusd=self.spend(size) if self._own else None,
        )

    def refusal(self, size: Size, refused: Refusal) -> MoneyRefused:
        """The refusal in words."""
        return money_refused(refused, self.needs(size, refused), self.affordable(size, refused))


def _left_nusd(endpoint: Endpoint, refused: Refusal) -> int | None:
    """What the meters leave for an endpoint; None when no limit counts what own keys are asked."""
    return refused.available if endpoint.own is None else refused.spend_available
