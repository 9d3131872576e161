"""Microsoft Foundry: the Anthropic wire behind Azure's door; the model is a deployment's name (providers 3.7)."""

from __future__ import annotations

from modelgates_server.outbound.http import Outbound
from modelgates_server.providers import clouds
from modelgates_server.providers.anthropic import AnthropicWire
from modelgates_server.providers.base import Provider, Setup
from modelgates_server.providers.wire import HttpProvider, KeyCredential


def build(setup: Setup, outbound: Outbound) -> Provider:
    """A key under its new and its old name, or an Entra token. Raises ConfigError when that needs a library that is not there."""
    wire = AnthropicWire(setup.base_url, trusted=setup.kind.operator == "anthropic")
    if setup.api_key:
        key = KeyCredential([("x-api-key", setup.api_key), ("api-key", setup.api_key)])
        return HttpProvider(setup.slug, wire, key, outbound)
    return HttpProvider(setup.slug, wire, clouds.azure(setup), outbound)
