"""What the tests of adapters share: endpoints of the real catalogue, requests, and frames written by hand."""

from __future__ import annotations

import base64
import json
import struct
import zlib
from typing import Any

from modelgates_server.catalogue.kinds import Kind, bundled_kinds, load_kinds
from modelgates_server.catalogue.load import bundled, load_catalogue
from modelgates_server.catalogue.models import Endpoint
from modelgates_server.dialects.ask import read_ask
from modelgates_server.providers.base import Outgoing, Setup

CATALOGUE = load_catalogue(bundled())
KINDS = load_kinds(bundled_kinds())
ASK: dict[str, Any] = {
    "model": "claude-opus-5-5",
    "max_tokens": 50,
    "messages": [{"role": "user", "content": "Hëllo  there"}],
}


def kind(word: str) -> Kind:
    return KINDS.kinds[word]


def endpoint(word: str, model: str = "claude-opus-5-5", **settings: str) -> Endpoint:
    """A model at a kind, under the name that the data gives it there."""
    found = next(entry for entry in CATALOGUE.models.values() if entry.id == model)
    name = kind(word).upstream_name(model, {"inference_profile": "global.", **settings})
    return Endpoint(word, kind(word).word, found, name, CATALOGUE.modifiers, traits=kind(word))


def outgoing(at: Endpoint, body: dict[str, Any] | None = None, **fields: Any) -> Outgoing:
    """The request as the relay gives it; `headers` are a dict here."""
    ask = read_ask(json.dumps(body or ASK, ensure_ascii=False).encode())
    headers = tuple(fields.pop("headers", {"user-agent": "claude-cli/3", "accept": "application/json"}).items())
    return Outgoing(ask, fields.pop("model", at.upstream_model), headers=headers, **fields)


def setup(word: str, base_url: str, **fields: Any) -> Setup:
    return Setup(fields.pop("slug", word), kind(word), base_url, **fields)


def frame(headers: dict[str, str], payload: bytes) -> bytes:
    """One frame of AWS's event stream."""
    head = b"".join(
        bytes([len(name)]) + name.encode() + b"\x07" + struct.pack(">H", len(value)) + value.encode()
        for name, value in headers.items()
    )
    prelude = struct.pack(">II", len(head) + len(payload) + 16, len(head))
    data = prelude + struct.pack(">I", zlib.crc32(prelude)) + head + payload
    return data + struct.pack(">I", zlib.crc32(data))


def chunk(event: dict[str, Any] | bytes) -> bytes:
    """The frame of one event of an answer."""
    raw = event if isinstance(event, bytes) else json.dumps(event, separators=(",", ":")).encode()
    headers = {":event-type": "chunk", ":content-type": "application/json", ":message-type": "event"}
    return frame(headers, json.dumps({"bytes": base64.b64encode(raw).decode(), "p": "abcdef"}).encode())


def exception(name: str, payload: dict[str, Any]) -> bytes:
    """The frame with which Bedrock breaks an answer off."""
    return frame({":exception-type": name, ":message-type": "exception"}, json.dumps(payload).encode())
