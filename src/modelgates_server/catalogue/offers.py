"""Endpoints and providers as `GET /v1/models/{author}/{slug}/endpoints`, `/v1/providers` and `/v1/endpoints/zdr` show them.

Source: product-surface 2.5. What is shown names no address, no account and no upstream model: an ARN or a deployment says who
pays. Of a provider only its slug, its kind's public facts and its region are told.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from modelgates_server.catalogue import listing
from modelgates_server.catalogue.models import Endpoint, Model

QUANTIZATION: Final = "unknown"
"""Nobody publishes it for Claude."""

PUBLIC_FACTS: Final = ("privacy_policy_url", "terms_of_service_url", "status_page_url", "headquarters")

_MEMBERS: Final = {
    "stop": "stop_sequences",
    "reasoning": "thinking",
    "include_reasoning": "thinking",
    "structured_outputs": "output_config",
    "response_format": "output_config",
}
"""The member of a Messages body that carries a parameter, where it has another name."""

_FEATURES: Final = {"structured_outputs": "structured_outputs", "response_format": "structured_outputs"}
"""The feature of the kind that a parameter needs."""


class Standing(msgspec.Struct, frozen=True):
    """How an endpoint does: the documented number, percentages by window, percentiles of the last half hour (ms, tokens/s)."""

    status: int
    uptime: Mapping[str, float | None]
    latency_ms: Mapping[str, float] | None
    throughput: Mapping[str, float] | None


def model_data(model: Model, endpoints: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A model with its endpoints."""
    return {
        "id": model.slug,
        "name": listing.full_name(model),
        "created": model.created_s,
        "description": model.description,
        "architecture": listing.architecture(model),
        "endpoints": endpoints,
    }


def endpoint_data(endpoint: Endpoint, standing: Standing, when_s: float) -> dict[str, Any]:
    """One endpoint with every field of product-surface 2.5; prices are what this provider asks."""
    model, provider_name = endpoint.model, endpoint.traits.name or endpoint.kind
    most = endpoint.max_output_tokens
    return {
        "name": f"{provider_name} | {model.canonical_slug}",
        "model_id": model.slug,
        "model_name": listing.full_name(model),
        "context_length": model.context_tokens,
        "pricing": listing.pricing(model, endpoint.modifiers, when_s, endpoint.multiplier_ppm),
        "provider_name": provider_name,
        "tag": endpoint.tag,
        "quantization": QUANTIZATION,
        "max_completion_tokens": model.max_output_tokens if most is None else min(most, model.max_output_tokens),
        "max_prompt_tokens": model.context_tokens,
        "supported_parameters": supported_parameters(endpoint),
        "status": standing.status,
        **standing.uptime,
        "latency_last_30m": standing.latency_ms,
        "throughput_last_30m": standing.throughput,
        "supports_implicit_caching": False,  # Claude's caches are asked for
        "supports_tool_choice": dict.fromkeys(("auto", "function", "none", "required"), True),
        "supports_diarization": False,
        "native_tools": {},
        "service_tier": None,
    }


def supported_parameters(endpoint: Endpoint) -> list[str]:
    """What the model takes and this kind of provider does not refuse."""
    kind = endpoint.traits
    return [
        name
        for name in listing.parameters(endpoint.model)
        if (kind.fields is None or _MEMBERS.get(name, name) in kind.fields)
        and not (name in _FEATURES and kind.lacking(_FEATURES[name], endpoint.model.id))
    ]


def provider_data(endpoint: Endpoint) -> dict[str, Any]:
    """The provider of an endpoint, with what is public about its kind."""
    about = endpoint.traits.about
    return {
        "name": endpoint.traits.name or endpoint.kind,
        "slug": endpoint.provider,
        **{name: about.get(name) for name in PUBLIC_FACTS},
        "datacenters": about.get("datacenters") or [],
    }
