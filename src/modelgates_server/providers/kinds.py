"""Which file speaks to which kind of provider. One line for each kind of `catalogue/data/providers.json`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from modelgates_server.errors import ConfigError
from modelgates_server.outbound.http import Outbound
from modelgates_server.providers import anthropic, bedrock, bedrock_invoke, claude_on_aws, foundry, vertex
from modelgates_server.providers.base import Provider, Setup

BUILDERS: Final[dict[str, Callable[[Setup, Outbound], Provider]]] = {
    "anthropic": anthropic.build,
    "claude-on-aws": claude_on_aws.build,
    "bedrock": bedrock.build,
    "bedrock-invoke": bedrock_invoke.build,
    "vertex": vertex.build,
    "foundry": foundry.build,
    "anthropic-compatible": anthropic.build,
    "sandbox": anthropic.build,
}
"""By `Kind.word`. A builder raises ConfigError when the setup cannot work, for example because an extra is not installed."""


def build_provider(setup: Setup, outbound: Outbound) -> Provider:
    """The adapter of a configured provider. Raises ConfigError when it cannot work, or when an operator's own kind has none."""
    build = BUILDERS.get(setup.kind.word)
    if build is None:
        raise ConfigError(
            f"the provider {setup.slug!r} is of the kind {setup.kind.word!r}, which no adapter speaks to",
            remedy='use kind = "anthropic-compatible" with its base_url, or write an adapter (docs/adding-a-provider.md)',
        )
    return build(setup, outbound)
