"""Claude on AWS's Messages-shaped endpoints: Claude Platform on AWS, and Bedrock (providers 3.2 and 3.3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final

import msgspec

from modelgates_server.simulator import wire
from modelgates_server.simulator.fields import MB, NEW_TOOLSETS, SERVER_TOOLS, Limits
from modelgates_server.simulator.names import generation, mantle_name
from modelgates_server.simulator.request import STRICT_VERSION, Refused, Request, invalid
from modelgates_server.simulator.wire_base import COUNT, MESSAGES, Wire
from modelgates_server.simulator.wire_cloud import CloudWire, statuses_of, uuid_of

if TYPE_CHECKING:
    from modelgates_server.simulator.answer import Answer
    from modelgates_server.simulator.call import Call, Headers, Route, Scope
    from modelgates_server.simulator.faults import Fault
    from modelgates_server.simulator.models import Model

AWS_CODES: Final[Mapping[int, str]] = {
    400: "ValidationException",
    401: "UnrecognizedClientException",
    403: "AccessDeniedException",
    404: "ResourceNotFoundException",
    408: "ModelTimeoutException",
    413: "RequestEntityTooLargeException",
    424: "ModelErrorException",
    429: "ThrottlingException",
    500: "InternalServerException",
    503: "ServiceUnavailableException",
    504: "InternalServerException",
    529: "ServiceUnavailableException",
}
AWS_STATUSES: Final[Mapping[str, int]] = {
    **statuses_of(AWS_CODES),
    "InternalFailure": 500,
    "ModelNotReadyException": 429,
    "ModelStreamErrorException": 424,
    "ServiceQuotaExceededException": 400,
    "ExpiredTokenException": 403,
    "InvalidSignatureException": 403,
    "UnrecognizedClientException": 403,
}
AWS_TEXTS: Final[Mapping[str, str]] = {
    "ThrottlingException": "Too many requests, please wait before trying again.",
    "ServiceUnavailableException": "Bedrock is unable to process your request.",
    "InternalServerException": "The system encountered an unexpected error during processing. Try your request again.",
    "ModelNotReadyException": "Model is not ready for inference. Wait and try your request again.",
    "ModelTimeoutException": "Model has timed out in processing the request. Try your request again.",
    "ModelErrorException": "The model returned the following errors: An error occurred during processing.",
    "ServiceQuotaExceededException": "Your request exceeds the service quota for your account.",
    "AccessDeniedException": "You don't have access to the model with the specified model ID.",
    "ResourceNotFoundException": "Could not resolve the foundation model from the provided model identifier.",
}

_NO_BEDROCK_FIELDS: Final = frozenset(
    {
        "anthropic_version", "anthropic_beta", "output_format", "mcp_servers", "container", "speed", "inference_geo",
        "fallbacks", "diagnostics", "thread",
    }
)  # fmt: skip


class ClaudeOnAws(CloudWire):
    """Anthropic's API behind AWS's door: same bodies and errors, AWS signatures or keys, and a workspace."""

    name = "claude-on-aws"
    aws_services = frozenset({"aws-external-anthropic"})
    limits = Limits(fields=frozenset({"fallbacks", "diagnostics"}), tools=NEW_TOOLSETS)

    def authenticate(self, call: Call) -> None:
        if self.gate.is_signed(call):
            try:
                self.gate.signature(call)
            except Refused as refused:
                # It answers as Anthropic does, and a bad signature is a 401 (providers 3.2).
                raise Refused(401, refused.error_type, refused.message) from refused
            return
        super().authenticate(call)

    def version(self, call: Call, request: Request) -> str:
        if not call.entry.headers.get("anthropic-workspace-id"):
            raise invalid("anthropic-workspace-id: header is required")
        return super().version(call, request)

    def of_fault(self, fault: Fault) -> Refused:
        return Wire.of_fault(self, fault)

    def headers(self, call: Call) -> Headers:
        workspace = call.entry.headers.get("anthropic-workspace-id", "")
        return [
            *super().headers(call),
            (b"x-amzn-requestid", uuid_of(call.entry.request_id).encode()),
            (b"anthropic-workspace-id", workspace.encode("latin-1")),
        ]


class BedrockWire(CloudWire):
    """What Bedrock's two wires have in common: who may come in, and how AWS says no."""

    body_bytes_max = 20 * MB
    message_prefix = "msg_bdrk_"
    standing: ClassVar[Headers] = []
    codes = AWS_CODES
    statuses = AWS_STATUSES
    texts = AWS_TEXTS

    def authenticate(self, call: Call) -> None:
        if self.gate.is_signed(call):
            self.gate.signature(call)
        elif "authorization" in call.entry.headers:
            if not self.gate.bearer(call):
                self._refuse_key()
        elif "x-api-key" in self.key_headers and "x-api-key" in call.entry.headers:
            if not self.gate.key(call, "x-api-key"):
                self._refuse_key()
        else:
            code = "MissingAuthenticationTokenException"
            raise Refused(403, "authentication_error", "Missing Authentication Token", code)

    def check_model(self, call: Call, model: Model, request: Request, body: dict[str, Any]) -> None:  # noqa: ARG002
        if self.version(call, request) == STRICT_VERSION and generation(model.id) < (4, 7):
            raise invalid(f"anthropic-version: {STRICT_VERSION} is not supported with {call.entry.upstream_model}")

    def _refuse_key(self) -> None:
        message = "Authentication failed: Please make sure your API Key is valid."
        raise Refused(403, "authentication_error", message, "AccessDeniedException")

    def error(self, refused: Refused, request_id: str, *, streaming: bool) -> tuple[bytes, Headers]:
        """AWS's shape where AWS's front refuses; Anthropic's where the model does."""
        if not refused.code:
            return super().error(refused, request_id, streaming=streaming)
        kind = f"{refused.code}:http://internal.amazon.com/coral/com.amazon.bedrock/"
        return msgspec.json.encode({"message": refused.message}), [(b"x-amzn-errortype", kind.encode())]

    def nowhere(self, *, wrong_method: bool) -> Refused:
        if wrong_method:
            return Refused(405, "invalid_request_error", "Method Not Allowed", "MethodNotAllowedException")
        return Refused(404, "not_found_error", "Unknown operation", "UnknownOperationException")

    def too_large(self) -> Refused:
        return Refused(413, "request_too_large", "Request body is too large.", "RequestEntityTooLargeException")


class Bedrock(BedrockWire):
    """Bedrock, Messages-shaped: Anthropic's bodies with AWS's names for the models, and fewer features."""

    name = "bedrock"
    aws_services = frozenset({"bedrock-mantle", "bedrock"})
    key_headers = ("authorization", "x-api-key")
    limits = Limits(
        fields=_NO_BEDROCK_FIELDS,
        tools=(*SERVER_TOOLS, *NEW_TOOLSETS),
        sources=frozenset({"url", "file"}),
        image_bytes_max=5 * MB,
        formats=False,
        scopes=False,
    )

    def route(self, scope: Scope) -> Route | None:
        return {"/anthropic/v1/messages": MESSAGES, "/anthropic/v1/messages/count_tokens": COUNT}.get(scope["path"])

    def read(self, call: Call) -> Request:
        request = super().read(call)
        if isinstance(request.model, str):
            name = mantle_name(request.model)
            if name is None:
                raise Refused(404, "not_found_error", f"The model '{request.model}' does not exist")
            request.model = call.entry.model = name
        return request

    def overflow(self, tokens: int, tokens_max: int) -> str:
        return f"prompt tokens ({tokens}) exceed model maximum ({tokens_max})"

    def frames(self, frames: wire.Frames, _answer: Answer, _fault: Fault) -> wire.Frames:
        return wire.without_pings(frames)

    def headers(self, call: Call) -> Headers:
        return [*super().headers(call), (b"x-amzn-requestid", uuid_of(call.entry.request_id).encode())]
