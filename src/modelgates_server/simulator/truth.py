"""The truth log: what the simulator received, generated, sent, and saw cancelled."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable

ENTRIES_MAX = 200_000
"""About 300 MB of entries: hours of load tests, and still bounded."""

KEY_HEADERS = frozenset({"x-api-key", "api-key", "authorization", "x-amz-security-token"})


class Entry(msgspec.Struct):
    """One request, as its receiver saw it.

    `outcome`: running; completed; cancelled (the client left first); cut (we cut the connection, on demand); faulted
    (an error or a truncated answer, on demand); refused (our own validation, or the key).
    `usage` is the whole true usage that the planned answer has, even if less of it was sent or a lie was reported.
    """

    sequence: int
    path: str
    request_id: str
    message_id: str
    headers: dict[str, str]
    """As received, names in lower case; the values of key headers are replaced by ``sha256:<12 hex digits>``."""
    key_header: str
    """Which header carried the key: x-api-key, api-key, authorization, or empty."""
    started_s: float
    """Unix seconds."""
    body_sha256: str = ""
    body_bytes: int = 0
    body: bytes | None = None
    """Only kept with ``Simulator(keep_bodies=True)``, and never in the JSON form."""
    user_id: str | None = None
    wire: str = "anthropic"
    model: str = ""
    """The bare Claude id, whatever the wire calls it; the id as sent when it names no Claude model."""
    upstream_model: str = ""
    """The model as it was sent: in the body, in the path, or the name of a deployment."""
    betas: list[str] = []
    """The betas as the wire takes them: from the header, or from the body's list."""
    access_key_id: str = ""
    """Who signed, when the request had an AWS signature that was right."""
    stream: bool = False
    usage: dict[str, Any] = {}
    stop_reason: str = ""
    """Why the planned answer ends."""
    status: int = 0
    events_sent: int = 0
    output_tokens_sent: int = 0
    """Tokens whose deltas were written before the end, the cut or the cancellation; hidden thinking counts."""
    outcome: str = "running"
    cancel_seen_s: float | None = None
    """Seconds from `started_s` until the client's leaving was seen."""

    def public(self) -> dict[str, Any]:
        """Everything but the body."""
        fields = msgspec.structs.asdict(self)
        del fields["body"]
        return fields


def keep(log: list[Entry], entry: Entry) -> None:
    """Append to a log, dropping its oldest tenth when it is full."""
    if len(log) >= ENTRIES_MAX:
        del log[: ENTRIES_MAX // 10]
    log.append(entry)


def log_json(logs: dict[str, list[Entry]], since: int) -> bytes:
    """Write the entries with a sequence above `since`, each list under its name."""
    return msgspec.json.encode(
        {name: [entry.public() for entry in log if entry.sequence > since] for name, log in logs.items()}
    )


def read_headers(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Decode headers for the log; keys become digests, repeated headers are joined with a comma."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in raw:
        name = _text(raw_name)
        value = key_digest(raw_value) if name in KEY_HEADERS else _text(raw_value)
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


@lru_cache(maxsize=4096)
def key_digest(value: bytes) -> str:
    """Digest a key, with or without ``Bearer``: the same key gives the same digest in either header."""
    key = value[7:] if value[:7].lower() == b"bearer " else value
    return "sha256:" + hashlib.sha256(key.strip()).hexdigest()[:12]


@lru_cache(maxsize=4096)
def _text(value: bytes) -> str:
    # Clients repeat their headers, so sharing the decoded text keeps an entry small.
    return value.decode("latin-1")
