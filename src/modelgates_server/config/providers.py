"""The upstreams that the operator configured, or those that the usual environment variables name, or the sandbox."""

from __future__ import annotations

from typing import Any

from modelgates_server.catalogue.kinds import Kinds
from modelgates_server.config.environment import discovered
from modelgates_server.config.source import Source
from modelgates_server.config.table import Table
from modelgates_server.config.values import ProviderConfig


def read_providers(
    source: Source, found: Any, kinds: Kinds, warnings: list[str], *, with_keys: bool
) -> tuple[ProviderConfig, ...]:
    """Every `[[providers]]` table; without one, what the environment offers. Raises ConfigError.

    Without `with_keys` the providers' keys are neither looked for nor missed.
    """
    if found is None:
        return discovered(source, kinds, warnings)
    if not isinstance(found, list) or not all(isinstance(table, dict) for table in found):
        raise source.error(("providers",), "providers must be written as [[providers]] tables")
    providers = tuple(
        Table(source, index, table, kinds, warnings, with_keys=with_keys).read() for index, table in enumerate(found)
    )
    seen: set[str] = set()
    for index, provider in enumerate(providers):
        if provider.slug in seen:
            raise source.error(("providers", index, "slug"), f"two providers have the slug {provider.slug!r}")
        seen.add(provider.slug)
    return providers
