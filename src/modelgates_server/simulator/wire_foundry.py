"""Claude in Microsoft Foundry: Anthropic's bodies with deployment names, behind Azure's front (providers 3.7)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Final

import msgspec

from modelgates_server.simulator.fields import NEW_TOOLSETS, SERVER_TOOLS, Limits
from modelgates_server.simulator.models import find
from modelgates_server.simulator.request import Refused, Request
from modelgates_server.simulator.wire_base import COUNT, MESSAGES
from modelgates_server.simulator.wire_cloud import CloudWire, statuses_of, uuid_of

if TYPE_CHECKING:
    from modelgates_server.simulator.call import Call, Headers, Route, Scope
    from modelgates_server.simulator.models import Model

AZURE_CODES: Final[Mapping[int, str]] = {
    401: "401",
    403: "PermissionDenied",
    404: "DeploymentNotFound",
    408: "Timeout",
    429: "RateLimitReached",
    500: "InternalServerError",
    502: "BadGateway",
    503: "ServiceUnavailable",
    504: "GatewayTimeout",
}
"""Azure's front; a 400 and a 529 come from the model behind, in Anthropic's shape."""

_NEVER = frozenset({"inference_geo", "fallbacks", "diagnostics"})


class Foundry(CloudWire):
    """Anthropic's wire behind Azure's front. Hosted on Azure it offers less than hosted by Anthropic."""

    name = "foundry"
    key_headers = ("x-api-key", "api-key", "authorization")
    codes = AZURE_CODES
    statuses: ClassVar[Mapping[str, int]] = {
        **statuses_of(AZURE_CODES),
        "api_not_supported": 404,
    }
    texts: ClassVar[Mapping[str, str]] = {
        "401": "Access denied due to invalid subscription key or wrong API endpoint. Make sure to provide a valid key "
        "for an active subscription and use a correct regional API endpoint for your resource.",
        "DeploymentNotFound": "The API deployment for this resource does not exist. If you created the deployment "
        "within the last 5 minutes, please wait a moment and try again.",
        "RateLimitReached": "Your requests have exceeded the rate limit of your current pricing tier. Please retry "
        "after a while.",
        "api_not_supported": "The requested API is not supported for this model.",
    }
    limits = Limits(fields=_NEVER, tools=("advisor_", *NEW_TOOLSETS))

    def route(self, scope: Scope) -> Route | None:
        return {"/anthropic/v1/messages": MESSAGES, "/anthropic/v1/messages/count_tokens": COUNT}.get(scope["path"])

    def authenticate(self, call: Call) -> None:
        header = call.entry.key_header
        good = self.gate.bearer(call) if header == "authorization" else self.gate.key(call, header)
        if not good:
            raise Refused(401, "authentication_error", self.texts["401"], "401")

    def read(self, call: Call) -> Request:
        request = super().read(call)
        if isinstance(request.model, str):
            deployments = self.settings.deployments
            name = request.model if deployments is None else deployments.get(request.model)
            if name is None or find(name) is None:
                raise Refused(404, "not_found_error", self.texts["DeploymentNotFound"], "DeploymentNotFound")
            request.model = call.entry.model = name
        return request

    def limits_of(self, _model: Model) -> Limits:
        if self.settings.hosting == "anthropic":
            return self.limits
        return Limits(
            fields=_NEVER | {"mcp_servers", "container", "output_format"},
            tools=(*SERVER_TOOLS, *NEW_TOOLSETS, "tool_search_tool_"),
            sources=frozenset({"file"}),
            tool_fields=False,
            formats=False,
        )

    def headers(self, call: Call) -> Headers:
        return [*super().headers(call), (b"apim-request-id", uuid_of(call.entry.request_id).encode())]

    def error(self, refused: Refused, request_id: str, *, streaming: bool) -> tuple[bytes, Headers]:
        """Azure's shape where Azure's front refuses; Anthropic's where the model does."""
        if not refused.code:
            return super().error(refused, request_id, streaming=streaming)
        return msgspec.json.encode({"error": {"code": refused.code, "message": refused.message}}), []

    def nowhere(self, *, wrong_method: bool) -> Refused:
        if wrong_method:
            return Refused(405, "invalid_request_error", "Method not allowed", "405")
        return Refused(404, "not_found_error", "Resource not found", "404")
