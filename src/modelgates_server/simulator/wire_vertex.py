"""Claude on Google's Vertex: the model in the path, the version in the body, betas in the header (providers 3.5)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final
from urllib.parse import unquote

import msgspec

from modelgates_server.simulator import wire
from modelgates_server.simulator.call import Call, Headers, Route, Scope
from modelgates_server.simulator.fields import MB, NEW_TOOLSETS, NOT_ON_VERTEX, Limits, extra
from modelgates_server.simulator.names import generation, is_simulated, vertex_name
from modelgates_server.simulator.request import STRICT_VERSION, Refused, Request, invalid
from modelgates_server.simulator.wire_cloud import CloudWire, statuses_of

if TYPE_CHECKING:
    from modelgates_server.simulator.answer import Answer
    from modelgates_server.simulator.faults import Fault
    from modelgates_server.simulator.models import Model
    from modelgates_server.simulator.usage import Usage

VERSIONS: Final = ("vertex-2023-10-16", STRICT_VERSION)
MULTI_REGIONS: Final = ("global", "us", "eu")
"""The only locations of models from 4.7 on."""

GOOGLE_CODES: Final[Mapping[int, str]] = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    408: "DEADLINE_EXCEEDED",
    409: "ABORTED",
    413: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
"""529 is not Google's: the model behind says it, in Anthropic's shape."""

_PATH = re.compile(
    r"/v1/projects/([^/]+)/locations/([^/]+)/publishers/anthropic/models/([^/:]+):(rawPredict|streamRawPredict)$"
)
_COUNTER = "count-tokens"


class Vertex(CloudWire):
    """Google's front answers about tokens, quota and places; the model behind about bodies."""

    name = "vertex"
    body_bytes_max = 30 * MB
    message_prefix = "msg_vrtx_"
    standing: ClassVar[Headers] = []
    key_headers = ("authorization",)
    codes = GOOGLE_CODES
    statuses: ClassVar[Mapping[str, int]] = {
        **statuses_of(GOOGLE_CODES),
        "UNAVAILABLE": 503,
        "FAILED_PRECONDITION": 400,
    }
    texts: ClassVar[Mapping[str, str]] = {
        "RESOURCE_EXHAUSTED": "Resource exhausted. Please try again later. Please refer to "
        "https://cloud.google.com/vertex-ai/generative-ai/docs/error-code-429 for more details.",
        "INTERNAL": "Internal error encountered.",
        "UNAVAILABLE": "The service is currently unavailable.",
    }
    limits = Limits(
        fields=frozenset(
            {"output_format", "mcp_servers", "container", "speed", "inference_geo", "fallbacks", "diagnostics"}
        ),
        tools=(*NOT_ON_VERTEX, *NEW_TOOLSETS),
        sources=frozenset({"url", "file"}),
        image_bytes_max=5 * MB,
        scopes=False,
    )

    def route(self, scope: Scope) -> Route | None:
        found = _PATH.match(unquote(scope["raw_path"].decode("latin-1")))
        if found is None:
            return None
        _, place, model, verb = found.groups()
        if model == _COUNTER:
            return Route("POST", "count", "", place) if verb == "rawPredict" else None
        return Route("POST", "messages", model, place, stream=verb == "streamRawPredict")

    def authenticate(self, call: Call) -> None:
        if not self.gate.bearer(call):
            message = (
                "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other "
                "valid authentication credential."
            )
            raise Refused(401, "authentication_error", message, "UNAUTHENTICATED")

    def read(self, call: Call) -> Request:
        request = super().read(call)
        counting = call.route.action == "count"
        sent = request.model if counting else call.route.model
        if not isinstance(sent, str):
            raise invalid("model: Field required")
        call.entry.model = call.entry.upstream_model = sent
        name = vertex_name(sent, counting=counting)
        if name is None:
            message = (
                f"Publisher Model `publishers/anthropic/models/{sent}` was not found or your project does not have "
                "access to it. Please ensure you are using a valid model version."
            )
            raise Refused(404, "not_found_error", message, "NOT_FOUND")
        request.model = call.entry.model = name
        return request

    def version(self, call: Call, request: Request) -> str:
        if "anthropic-version" in call.entry.headers:
            raise invalid("anthropic-version: the header is not supported here, send anthropic_version in the body")
        version = request.anthropic_version
        if version is None:
            raise invalid("anthropic_version: Field required")
        if version not in VERSIONS:
            raise invalid(f"anthropic_version: Input should be '{VERSIONS[0]}' or '{VERSIONS[1]}'")
        return str(version)

    def check_model(self, call: Call, model: Model, request: Request, body: dict[str, Any]) -> None:
        route = call.route
        if "model" in body and route.action == "messages":
            raise extra("model")
        newer = generation(model.id) >= (4, 7) and not is_simulated(model.id)
        if newer and route.place not in MULTI_REGIONS:
            message = f"The model {call.entry.upstream_model} is not available in the location {route.place}."
            raise Refused(400, "invalid_request_error", message, "FAILED_PRECONDITION")
        if self.settings.strict and route.stream is not None and route.stream != (request.stream is True):
            verb = "streamRawPredict" if route.stream else "rawPredict"
            message = f"The method {verb} does not go with stream: {msgspec.json.encode(request.stream).decode()}."
            raise Refused(400, "invalid_request_error", message, "INVALID_ARGUMENT")
        config = body.get("output_config")
        if model.id.startswith("claude-haiku-4-5") and isinstance(config, dict) and "effort" in config:
            raise extra("output_config.effort")

    # Out

    def headers(self, _call: Call) -> Headers:
        return [(b"vary", b"Origin"), (b"x-vertex-ai-llm-request-type", b"shared")]

    def frames(self, frames: wire.Frames, answer: Answer, fault: Fault) -> wire.Frames:
        """Add Google's own events: after the first one, and before the last."""
        if fault.omit_usage:
            return frames
        added = wire.Frames()
        for frame, tokens in zip(frames.data, frames.tokens, strict=True):
            if frame is wire.STOP:
                added.add(_event(answer.usage, answer.usage.output))
            added.add(frame, tokens)
            if len(added.data) == 1:
                added.add(_event(answer.usage, min(answer.usage.output, 1)))
        return added

    # Errors

    def error(self, refused: Refused, request_id: str, *, streaming: bool) -> tuple[bytes, Headers]:
        """Google's shape where Google's front refuses, in a list if a stream was asked for; else Anthropic's."""
        if not refused.code:
            return super().error(refused, request_id, streaming=streaming)
        error = {"error": {"code": refused.status, "message": refused.message, "status": refused.code, "details": []}}
        return msgspec.json.encode([error] if streaming else error), []

    def nowhere(self, *, wrong_method: bool) -> Refused:
        code = "UNIMPLEMENTED" if wrong_method else "NOT_FOUND"
        told = super().nowhere(wrong_method=wrong_method)
        return Refused(told.status, told.error_type, told.message, code)

    def too_large(self) -> Refused:
        message = f"Request payload size exceeds the limit: {self.body_bytes_max} bytes."
        return Refused(413, "request_too_large", message, "INVALID_ARGUMENT")


def _event(usage: Usage, output_tokens: int) -> bytes:
    """Google's event, as vercel/ai#11309 shows it."""
    counts = {
        "input_tokens": usage.input,
        "output_tokens": output_tokens,
        "cache_creation_input_tokens": usage.write_5m + usage.write_1h,
        "cache_read_input_tokens": usage.read,
        "web_search_requests": usage.searches or None,
    }
    return wire.event("vertex_event", {"type": "vertex_event", "usage": {**counts, "tiers": {"0-to-200000": counts}}})
