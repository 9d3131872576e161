"""An organisation's own provider keys in a request: the endpoints that they add to a plan, and who speaks for an endpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from modelgates_server.accounts.values import CredentialRef
from modelgates_server.catalogue.models import Endpoint, Own
from modelgates_server.providers.base import Provider

LIST_PRICE_PPM: Final = 1_000_000


def with_own(models: Sequence[Sequence[Endpoint]], credentials: Sequence[CredentialRef]) -> list[tuple[Endpoint, ...]]:
    """Each model's endpoints, and a copy of them for every credential that may serve that model there."""
    return [
        (
            *model,
            *[
                owned(endpoint, ref)
                for ref in credentials
                for endpoint in model
                if endpoint.provider == ref.provider and (ref.models is None or endpoint.model.slug in ref.models)
            ],
        )
        for model in models
    ]


def owned(endpoint: Endpoint, ref: CredentialRef) -> Endpoint:
    """The same way to the same model on the organisation's account.

    It is asked at list price. What the operator has agreed on with the provider for its own account does not hold there: of
    retention and training, only what goes for everybody.
    """
    return replace(
        endpoint,
        own=Own(ref.id, ref.is_fallback, ref.sort_order, ref.version),
        multiplier_ppm=LIST_PRICE_PPM,
        zdr=endpoint.zdr and endpoint.traits.zdr,
        collects=endpoint.collects or endpoint.traits.collects,
    )


@dataclass(frozen=True, slots=True)
class Speakers:
    """The adapters: `shared` with the operator's keys by slug, `own` makes one for a credential. The latter raises Fault."""

    shared: Mapping[str, Provider]
    own: Callable[[CredentialRef], Provider]

    def find(self, endpoint: Endpoint, credentials: Sequence[CredentialRef]) -> Provider:
        """Who is asked for an endpoint; `credentials` are those that the plan was made with. Raises Fault."""
        if endpoint.own is None:
            return self.shared[endpoint.provider]
        return self.own(next(ref for ref in credentials if ref.id == endpoint.own.id))
