"""Google Vertex AI: the model in the path, the version in the body, betas in the header (providers 3.5)."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

import msgspec

from modelgates_server.catalogue.models import Endpoint
from modelgates_server.outbound.http import Outbound
from modelgates_server.providers import clouds, versions
from modelgates_server.providers.base import Outgoing, Provider, Setup
from modelgates_server.providers.rewrite import OUTPUT_FORMAT, moved_output_format
from modelgates_server.providers.wire import Call, Headers, HttpProvider, Translator, counted_tokens

LEGACY_VERSION: Final = "vertex-2023-10-16"

_UNVERSIONED: Final = ("@default", "@latest")
"""Endings that a path may have and the model of a count may not."""

_ELSEWHERE: Final = frozenset({"model", OUTPUT_FORMAT})


class VertexWire:
    """`POST {base}/v1/projects/{project}/locations/{region}/publishers/anthropic/models/{model}:rawPredict`.

    Streams may carry `vertex_event` (usage and tier), which strict clients choke on.
    """

    trusted = False
    foreign_events = True

    def __init__(self, base_url: str, project: str, region: str) -> None:
        place = f"projects/{quote(project, safe=':')}/locations/{quote(region)}"
        self._models = f"{base_url}/v1/{place}/publishers/anthropic/models"

    def messages(self, endpoint: Endpoint, request: Outgoing) -> Call:
        act = "streamRawPredict" if request.stream else "rawPredict"
        url = f"{self._models}/{quote(request.model, safe='@')}:{act}"
        return Call("POST", url, _headers(request), _body(endpoint, request, _ELSEWHERE))

    def count(self, endpoint: Endpoint, request: Outgoing) -> Call | None:
        model = request.model
        for ending in _UNVERSIONED:
            model = model.removesuffix(ending)
        body = _body(endpoint, msgspec.structs.replace(request, model=model), frozenset({OUTPUT_FORMAT}))
        return Call("POST", f"{self._models}/count-tokens:rawPredict", _headers(request), body)

    def counted(self, body: bytes) -> int:
        return counted_tokens(body)

    def translator(self, content_type: str) -> Translator | None:  # noqa: ARG002 - it is in the dialect already
        return None


def _headers(request: Outgoing) -> Headers:
    headers = [header for header in request.headers if header[0] != "anthropic-version"]
    headers += [("content-type", "application/json"), ("accept-encoding", "identity")]
    return [*headers, ("anthropic-beta", ",".join(request.betas))] if request.betas else headers


def _body(endpoint: Endpoint, request: Outgoing, drop: frozenset[str]) -> bytes:
    version = versions.body_version(endpoint, request, LEGACY_VERSION)
    return request.body(drop, {"anthropic_version": version, **moved_output_format(request)})


def build(setup: Setup, outbound: Outbound) -> Provider:
    """Raises ConfigError when the library for Google's credentials is not installed."""
    wire = VertexWire(setup.base_url, setup.settings["project"], setup.settings["region"])
    return HttpProvider(setup.slug, wire, clouds.google(setup), outbound)
