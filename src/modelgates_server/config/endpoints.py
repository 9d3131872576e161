"""The endpoints that a configuration makes of a catalogue: one for each model and provider."""

from __future__ import annotations

from collections.abc import Iterable

from modelgates_server.catalogue.load import Catalogue
from modelgates_server.catalogue.models import Endpoint
from modelgates_server.config.values import ProviderConfig


def endpoints_of(catalogue: Catalogue, providers: Iterable[ProviderConfig]) -> dict[str, tuple[Endpoint, ...]]:
    """Each model's endpoints by its slug: one per configured provider, under the provider's own name for the model."""
    providers = tuple(providers)
    return {
        slug: tuple(
            Endpoint(
                provider=entry.slug,
                kind=entry.kind,
                model=model,
                upstream_model=entry.models.get(model.id)
                or entry.models.get(slug)
                or entry.traits.upstream_name(model.id, entry.settings),
                modifiers=catalogue.modifiers,
                multiplier_ppm=entry.multiplier_ppm,
                region=entry.settings.get("region", ""),
                zdr=entry.zdr,
                collects=entry.collects,
                max_output_tokens=entry.max_output_tokens,
                traits=entry.traits,
            )
            for entry in providers
        )
        for slug, model in catalogue.models.items()
    }
