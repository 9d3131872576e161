"""Amazon Bedrock's Invoke: the model in the path, version and betas in the body, answers in binary frames (providers 3.4).

Still needed for models that have only an ARN or an inference profile.
"""

from __future__ import annotations

import base64
from typing import Final
from urllib.parse import quote

import msgspec

from modelgates_server.catalogue.models import Endpoint
from modelgates_server.outbound.http import Outbound
from modelgates_server.providers import versions
from modelgates_server.providers.base import Outgoing, Provider, Setup
from modelgates_server.providers.bedrock import credential, moved_profile
from modelgates_server.providers.frames import CONTENT_TYPE, EventStream
from modelgates_server.providers.rewrite import OUTPUT_FORMAT, moved_output_format
from modelgates_server.providers.wire import Call, Headers, HttpProvider, Translator

LEGACY_VERSION: Final = "bedrock-2023-05-31"

_ELSEWHERE: Final = frozenset({"model", "stream", OUTPUT_FORMAT})
"""Members of the client's body that stand in the path, or under another name."""

_EDITS: Final = frozenset({"compact_20260112", "clear_tool_uses_20250919"})
"""The context edits that Invoke knows. One that it does not know is a 400 for the whole request."""

_BASE_MODEL: Final = "anthropic."
"""How ids begin that can be counted: those of a cross-region profile begin with its region, and an ARN is no id."""


class InvokeWire:
    """`POST {base}/model/{id}/invoke`, or `/invoke-with-response-stream`."""

    trusted = False
    foreign_events = False

    def __init__(self, base_url: str) -> None:
        self._base_url = base_url

    def messages(self, endpoint: Endpoint, request: Outgoing) -> Call:
        act = "invoke-with-response-stream" if request.stream else "invoke"
        return Call("POST", self._url(request, act), _headers(request), _body(endpoint, request))

    def count(self, endpoint: Endpoint, request: Outgoing) -> Call | None:
        if not request.model.startswith(_BASE_MODEL):
            return None
        # Invoke wants `max_tokens` also where nothing is to be said, and more than the thinking budget.
        tokens = request.ask.max_tokens or request.ask.thinking_budget + 1
        unclamped = msgspec.structs.replace(request, max_tokens=None)
        invoke = base64.b64encode(_body(endpoint, unclamped, {"max_tokens": b"%d" % tokens}))
        body = b'{"input":{"invokeModel":{"body":"%s"}}}' % invoke
        return Call("POST", self._url(request, "count-tokens"), _headers(request), body)

    def counted(self, body: bytes) -> int:
        return msgspec.json.decode(body, type=_Count).input_tokens

    def translator(self, content_type: str) -> Translator | None:
        return EventStream() if content_type.partition(";")[0].strip().lower() == CONTENT_TYPE else None

    def _url(self, request: Outgoing, act: str) -> str:
        return f"{self._base_url}/model/{quote(request.model, safe='')}/{act}"


class _Count(msgspec.Struct, rename="camel"):
    input_tokens: int


class _Edit(msgspec.Struct):
    type: str = ""


_MEMBERS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_RAWS: Final = msgspec.json.Decoder(list[msgspec.Raw])


def _headers(request: Outgoing) -> Headers:
    """None of Anthropic's. `accept` is about the answer's inner type here, so the client's would be misunderstood."""
    agent = request.header("user-agent")
    headers = [("content-type", "application/json"), ("accept", "application/json"), ("accept-encoding", "identity")]
    return [("user-agent", agent), *headers] if agent else headers


def _body(endpoint: Endpoint, request: Outgoing, more: dict[str, bytes] | None = None) -> bytes:
    put = {
        "anthropic_version": versions.body_version(endpoint, request, LEGACY_VERSION),
        **moved_profile(request),
        **moved_output_format(request),
        **(more or {}),
    }
    if request.betas:
        put["anthropic_beta"] = msgspec.json.encode(request.betas)
    drop = _ELSEWHERE
    edits = request.member("context_management")
    if edits is not None and (known := known_edits(edits)) != edits:
        if known is None:
            drop |= {"context_management"}
        else:
            put["context_management"] = known
    return request.body(drop, put)


def known_edits(value: bytes) -> bytes | None:
    """`context_management` with only the edits that Invoke knows; None when nothing is left to do."""
    try:
        members = _MEMBERS.decode(value)
        edits = _RAWS.decode(members["edits"])
        kept = [edit for edit in edits if msgspec.json.decode(edit, type=_Edit).type in _EDITS]
    except (msgspec.MsgspecError, KeyError, RecursionError):
        return value
    if len(kept) == len(edits):
        return value
    if not kept:
        return None
    return msgspec.json.encode({**members, "edits": kept})


def build(setup: Setup, outbound: Outbound) -> Provider:
    """Raises ConfigError when signatures need a library that is not there."""
    return HttpProvider(setup.slug, InvokeWire(setup.base_url), credential(setup, setup.kind.service), outbound)
