"""Bedrock Invoke: the model in the path, version and betas in the body, streams as AWS frames (providers 3.4)."""

from __future__ import annotations

import base64
import binascii
import re
from typing import TYPE_CHECKING, Any, ClassVar, Final
from urllib.parse import unquote

import msgspec

from modelgates_server.simulator import eventstream, wire
from modelgates_server.simulator.call import Call, Headers, Route, Scope
from modelgates_server.simulator.faults import Framing
from modelgates_server.simulator.fields import MB, NEW_TOOLSETS, SERVER_TOOLS, Limits, dicts, extra
from modelgates_server.simulator.names import InvokeName, generation
from modelgates_server.simulator.request import STRICT_VERSION, Refused, Request, invalid, read_request
from modelgates_server.simulator.wire_aws import BedrockWire
from modelgates_server.simulator.wire_cloud import uuid_of

if TYPE_CHECKING:
    from modelgates_server.simulator.answer import Answer
    from modelgates_server.simulator.faults import Fault
    from modelgates_server.simulator.models import Model
    from modelgates_server.simulator.usage import Usage

VERSIONS: Final = ("bedrock-2023-05-31", STRICT_VERSION)
FIELDS: Final = frozenset(
    {
        "anthropic_version", "anthropic_beta", "max_tokens", "messages", "system", "stop_sequences", "temperature",
        "top_p", "top_k", "tools", "tool_choice", "thinking", "metadata", "output_config", "context_management",
        "safeguards",
    }
)  # fmt: skip
EDITS: Final = ("compact_20260112", "clear_tool_uses_20250919")

_PATH = re.compile(r"/model/([^/]+)/(invoke|invoke-with-response-stream|count-tokens)$")
_LATENCY_MS = 480
_FIRST_BYTE_MS = 210


class _Frames(Framing):
    """AWS's framing: broken frames have a wrong checksum, and there are no lines."""

    unknown = eventstream.chunk(b'{"type":"content_weather","outlook":"fair"}')

    def malform(self, event: bytes) -> bytes:
        return event[:-1] + bytes([event[-1] ^ 0xFF])

    def crlf(self, event: bytes) -> bytes:
        return event


class BedrockInvoke(BedrockWire):
    """The legacy wire, and the only one for provisioned models and profiles with an ARN."""

    name = "bedrock-invoke"
    aws_services = frozenset({"bedrock"})
    key_headers = ("authorization",)
    stream_type = b"application/vnd.amazon.eventstream"
    framing: ClassVar[Framing] = _Frames()

    def route(self, scope: Scope) -> Route | None:
        # Only the path as it was sent shows where an ARN's own slashes end.
        found = _PATH.match(scope["raw_path"].decode("latin-1"))
        if found is None:
            return None
        model = unquote(found[1])
        if found[2] == "count-tokens":
            return Route("POST", "count", model)
        return Route("POST", "messages", model, stream=found[2] != "invoke")

    def request_id(self, run: str, sequence: int) -> str:
        return uuid_of(super().request_id(run, sequence))

    def read(self, call: Call) -> Request:
        entry = call.entry
        entry.model = entry.upstream_model = call.route.model
        entry.stream = bool(call.route.stream)
        if call.route.action == "count":
            call.body = _unwrap(call.body)
        request = read_request(call.body)
        entry.user_id = request.user_id
        betas = request.anthropic_beta
        if betas is not None:
            if not isinstance(betas, list) or not all(isinstance(beta, str) for beta in betas):
                raise invalid("anthropic_beta: Input should be a valid list")
            entry.betas = betas
        request.model = entry.model = self._name(call)
        return request

    def _name(self, call: Call) -> str:
        sent = call.route.model
        name = InvokeName(sent, self.settings.deployments)
        if name.model is None:
            if "claude" not in sent and not sent.startswith("arn:"):
                raise invalid("The provided model identifier is invalid.")
            message = "Could not resolve the foundation model from the provided model identifier."
            raise Refused(404, "not_found_error", message, "ResourceNotFoundException")
        if call.route.action == "count" and name.is_regional:
            raise invalid("The provided model doesn't support counting tokens.")
        if call.route.action == "messages" and not name.is_regional:
            # Every model that is still served is 4.5 or later, and those want a profile.
            raise invalid(
                f"Invocation of model ID {sent} with on-demand throughput isn't supported. Retry your request with the "
                "ID or ARN of an inference profile that contains this model."
            )
        return name.model

    def version(self, _call: Call, request: Request) -> str:
        version = request.anthropic_version
        if version is None:
            raise invalid("anthropic_version: Field required")
        if version not in VERSIONS:
            raise invalid(f"anthropic_version: Input should be '{VERSIONS[0]}' or '{VERSIONS[1]}'")
        return str(version)

    def check(self, call: Call, request: Request, *, counting: bool = False) -> Model:  # noqa: ARG002 - see below
        # What is counted is a whole body for invoking, `max_tokens` included.
        return super().check(call, request)

    def check_model(self, call: Call, model: Model, request: Request, body: dict[str, Any]) -> None:
        unknown = [name for name in body if name not in FIELDS]
        if unknown:
            keys = "".join(f"#: extraneous key [{name}] is not permitted" for name in unknown)
            raise invalid(f"Malformed input request: {keys}, please reformat your input and try again.")
        super().check_model(call, model, request, body)
        management = body.get("context_management")
        for at, edit in dicts(management.get("edits") if isinstance(management, dict) else None):
            if edit.get("type") not in EDITS:
                raise invalid(
                    f"context_management.edits.{at}: Input tag '{edit.get('type')}' found using 'type' does not match "
                    f"any of the expected tags: '{EDITS[1]}', '{EDITS[0]}'"
                )
        for at, tool in dicts(body.get("tools")):
            if "custom" in tool:
                raise extra(f"tools.{at}.custom")

    def limits_of(self, model: Model) -> Limits:
        return Limits(
            tools=(*SERVER_TOOLS, *NEW_TOOLSETS),
            sources=frozenset({"url", "file"}),
            image_bytes_max=5 * MB,
            formats=generation(model.id) <= (4, 6),
            scopes=False,
        )

    def overflow(self, _tokens: int, _tokens_max: int) -> str:
        return "Input is too long for requested model."

    # Out

    def headers(self, call: Call) -> Headers:
        return [(b"x-amzn-requestid", call.entry.request_id.encode())]

    def whole_headers(self, answer: Answer) -> Headers:
        usage = answer.usage
        counts = {
            "input-token-count": usage.input,
            "output-token-count": usage.output,
            "cache-read-input-token-count": usage.read,
            "cache-write-input-token-count": usage.write_5m + usage.write_1h,
            "invocation-latency": _LATENCY_MS,
        }
        headers = [(f"x-amzn-bedrock-{name}".encode(), b"%d" % count) for name, count in counts.items()]
        return [*headers, (b"x-amzn-bedrock-service-tier", b"default")]

    def stream_headers(self) -> Headers:
        return [
            (b"x-amzn-bedrock-content-type", b"application/json"),
            (b"x-amzn-bedrock-service-tier", b"default"),
        ]

    def frames(self, frames: wire.Frames, answer: Answer, fault: Fault) -> wire.Frames:
        framed = wire.Frames()
        for frame, tokens in zip(frames.data, frames.tokens, strict=True):
            if frame is wire.STOP and not fault.omit_usage:
                framed.add(eventstream.chunk(_stop(answer.usage)), tokens)
            elif frame is not wire.PING:
                framed.add(eventstream.chunk(wire.data_of(frame)), tokens)
        return framed

    def counted(self, tokens: int) -> bytes:
        return b'{"inputTokens":%d}' % tokens

    # Errors

    def error(self, refused: Refused, request_id: str, *, streaming: bool) -> tuple[bytes, Headers]:
        return super().error(self._coded(refused), request_id, streaming=streaming)

    def error_event(self, refused: Refused, request_id: str) -> bytes:  # noqa: ARG002 - AWS's frames do not carry it
        """Give an exception frame; a code that AWS does not model as one gives an error frame."""
        code = self._coded(refused).code
        if not code.endswith("Exception"):
            return eventstream.error(code, refused.message)
        fields: dict[str, object] = {"message": refused.message}
        if code.lower().startswith("modelstreamerror"):
            fields |= {"originalStatusCode": refused.status, "originalMessage": refused.message}
        return eventstream.exception(code[0].lower() + code[1:], fields)

    def _coded(self, refused: Refused) -> Refused:
        """Give the error AWS's name if it has only Anthropic's."""
        code = refused.code or self.codes.get(refused.status, "InternalServerException")
        return Refused(refused.status, refused.error_type, refused.message, code)


def _unwrap(body: bytes) -> bytes:
    """Take the Messages body out of a count's."""
    try:
        wrapped = msgspec.json.decode(body)["input"]["invokeModel"]["body"]
        return base64.b64decode(wrapped, validate=True)
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError, TypeError, binascii.Error) as error:
        raise invalid("input.invokeModel.body: Input should be a base64-encoded request body") from error


def _stop(usage: Usage) -> bytes:
    metrics = {
        "inputTokenCount": usage.input,
        "outputTokenCount": usage.output,
        "invocationLatency": _LATENCY_MS,
        "firstByteLatency": _FIRST_BYTE_MS,
        "cacheReadInputTokenCount": usage.read,
        "cacheWriteInputTokenCount": usage.write_5m + usage.write_1h,
    }
    return msgspec.json.encode({"type": "message_stop", "amazon-bedrock-invocationMetrics": metrics})
