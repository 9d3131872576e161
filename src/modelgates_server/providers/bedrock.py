"""Amazon Bedrock where it speaks Messages: `bedrock-mantle`, or `/anthropic` of `bedrock-runtime` (providers 3.3)."""

from __future__ import annotations

from typing import Final

import msgspec

from modelgates_server.catalogue.models import Endpoint
from modelgates_server.outbound.http import Outbound
from modelgates_server.providers import clouds, versions
from modelgates_server.providers.anthropic import AnthropicWire, key_headers
from modelgates_server.providers.base import Outgoing, Provider, Setup
from modelgates_server.providers.wire import Call, Credential, HttpProvider, KeyCredential

PROFILE_HEADER: Final = "anthropic-user-profile-id"

_BODY_OF_OTHERS: Final = frozenset({"anthropic_version", "anthropic_beta"})
"""Members that Invoke wants and this wire refuses."""


class BedrockWire(AnthropicWire):
    """The Anthropic wire, but the user's profile stands in the body, and older models know the old version only."""

    def messages(self, endpoint: Endpoint, request: Outgoing) -> Call:
        return super().messages(endpoint, _adapted(endpoint, request))

    def count(self, endpoint: Endpoint, request: Outgoing) -> Call | None:
        return super().count(endpoint, _adapted(endpoint, request))


def _adapted(endpoint: Endpoint, request: Outgoing) -> Outgoing:
    gone = {PROFILE_HEADER} if versions.takes_new(endpoint) else {PROFILE_HEADER, "anthropic-version"}
    headers = tuple(header for header in request.headers if header[0] not in gone)
    put = {**request.put, **moved_profile(request)}
    return msgspec.structs.replace(request, headers=headers, put=put, drop=request.drop | _BODY_OF_OTHERS)


def moved_profile(request: Outgoing) -> dict[str, bytes]:
    """The member `user_profile_id` from the header of that name, unless the body has one (as Anthropic's SDK does it)."""
    profile = request.header(PROFILE_HEADER)
    if profile is None or "user_profile_id" in request.ask.spans:
        return {}
    return {"user_profile_id": msgspec.json.encode(profile)}


def credential(setup: Setup, service: str) -> Credential:
    """A Bedrock key as bearer, or signatures. Raises ConfigError when signatures need a library that is not there."""
    return KeyCredential(key_headers(setup.api_key, "bearer")) if setup.api_key else clouds.aws(setup, service)


def build(setup: Setup, outbound: Outbound) -> Provider:
    """Raises ConfigError like `credential`."""
    workspace = setup.settings.get("workspace_id")
    wire = BedrockWire(
        setup.base_url, extra=[("anthropic-workspace-id", workspace)] if workspace else None, trusted=False
    )
    # The signature's name of the service goes by the family of the endpoint (providers 14).
    service = "bedrock" if "//bedrock-runtime" in setup.base_url else setup.kind.service
    return HttpProvider(setup.slug, wire, credential(setup, service), outbound)
