"""Claude Platform on AWS: Anthropic's own wire, authenticated and billed by AWS, for one workspace (providers 3.2)."""

from __future__ import annotations

from modelgates_server.outbound.http import Outbound
from modelgates_server.providers import clouds
from modelgates_server.providers.anthropic import AnthropicWire, key_headers
from modelgates_server.providers.base import Provider, Setup
from modelgates_server.providers.wire import HttpProvider, KeyCredential


def build(setup: Setup, outbound: Outbound) -> Provider:
    """A key in `x-api-key`, or signatures. Raises ConfigError when signatures need a library that is not there."""
    wire = AnthropicWire(setup.base_url, extra=[("anthropic-workspace-id", setup.settings["workspace_id"])])
    if setup.api_key:
        return HttpProvider(setup.slug, wire, KeyCredential(key_headers(setup.api_key, "x-api-key")), outbound)
    return HttpProvider(setup.slug, wire, clouds.aws(setup, setup.kind.service), outbound)
