"""Words that must not appear anywhere: planted in every input of a running gateway, and looked for in everything that is written."""

from __future__ import annotations

import base64
import io
import logging
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from modelgates_server.privacy import RedactingFormatter
from tests.support.gateway import Gateway, ask
from tests.support.postgres import Postgres

TOOL = "look"


class Canaries:
    """Unique words by the place that they are planted in."""

    def __init__(self) -> None:
        self._by_place: dict[str, str] = {}

    def __call__(self, place: str) -> str:
        """The word of a place, always the same."""
        return self._by_place.setdefault(place, f"canary{secrets.token_hex(10)}")

    def known(self, place: str, word: str) -> str:
        """A secret that somebody else made."""
        self._by_place[place] = word
        return word

    def heard(self, written: bytes) -> list[str]:
        """The places whose words stand in `written`: as they are, in base64, in hex or escaped for an address."""
        return sorted(place for place, word in self._by_place.items() if any(one in written for one in _forms(word)))


def _forms(word: str) -> Iterator[bytes]:
    raw = word.encode()
    yield raw
    yield raw.hex().encode()
    yield quote(word).encode()
    for shift in range(3):  # wherever in a longer text it was encoded
        text = base64.b64encode(b"\0" * shift + raw).rstrip(b"=")
        yield text[(0, 2, 3)[shift] : -1]


def body(canary: Canaries, what: str, *, stream: bool, **fields: Any) -> dict[str, Any]:
    """A request with a word in every member that exists."""
    tool = {
        "name": TOOL,
        "description": canary(f"{what} tool description"),
        "input_schema": {"type": "object", "properties": {canary(f"{what} tool schema"): {"type": "string"}}},
    }
    messages = [
        {"role": "user", "content": [{"type": "text", "text": canary(f"{what} first text")}]},
        {
            "role": "assistant",
            "content": [
                {"type": "text", "text": canary(f"{what} assistant text")},
                {"type": "tool_use", "id": "toolu_1", "name": TOOL, "input": {"where": canary(f"{what} tool input")}},
            ],
        },
        {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": canary(f"{what} tool result")}],
        },
        {"role": "assistant", "content": "yes"},
        {"role": "user", "content": f"[[say:{canary(f'{what} answer')}]] {canary(f'{what} last text')}"},
    ]
    made = ask(stream=stream) | {
        "system": [{"type": "text", "text": canary(f"{what} system")}],
        "messages": messages,
        "tools": [tool],
        "stop_sequences": [canary(f"{what} stop sequence")],
        "metadata": {"user_id": canary(f"{what} user id"), "more": canary(f"{what} metadata")},
        "trace": {"id": canary(f"{what} trace")},
        "plugins": [{"id": canary(f"{what} plugin")}],
    }
    return made | fields


def headers(canary: Canaries, what: str) -> dict[str, str]:
    """Headers with a word in each that may hold one."""
    return {
        "cookie": f"session={canary(f'{what} cookie')}",
        "x-secret": canary(f"{what} unknown header"),
        "anthropic-workspace-id": canary(f"{what} workspace header"),
        "proxy-authorization": f"Basic {canary(f'{what} proxy authorization')}",
        "forwarded": f"for={canary(f'{what} forwarded')}",
    }


@contextmanager
def overheard() -> Iterator[io.StringIO]:
    """Everything that is logged at DEBUG, by every library, as it would stand on standard error."""
    stream, root = io.StringIO(), logging.getLogger()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(RedactingFormatter())
    level, quiet = root.level, {name: logging.getLogger(name).level for name in ("asyncio", "aiohttp", "uvicorn")}
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        yield stream
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
        for name, known in quiet.items():
            logging.getLogger(name).setLevel(known)


def files(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Every file below a folder, with its content; those that go away meanwhile are passed over."""
    for path in sorted(folder.rglob("*")):
        try:
            if path.is_file():
                yield str(path.relative_to(folder)), path.read_bytes()
        except FileNotFoundError:
            continue


def of_postgres(postgres: Postgres) -> Iterator[tuple[str, bytes]]:
    """Every file of the server, tables and log of changes included, after all of it was written down."""
    postgres.execute("CHECKPOINT")
    yield from files(postgres.folder)


async def exports(gateway: Gateway) -> Iterator[tuple[str, bytes]]:
    """What people and programs are given: metrics, lists, receipts, the audit log, analytics, the public pages."""
    key = {"authorization": f"Bearer {gateway.initialised.management_key}"}
    asked: Mapping[str, Mapping[str, str]] = {
        "/metrics": {},
        "/readyz": {},
        "/api/v1/generations": key,
        "/api/v1/audit": key,
        "/api/v1/keys": key,
        "/api/v1/byok": key,
        "/api/v1/alerts": key,
        "/api/v1/alerts/channels": key,
        "/api/v1/organization/members": key,
        "/api/v1/workspaces": key,
        "/api/v1/activity": key,
        "/api/v1/models": {"x-api-key": gateway.key},
        "/api/openapi.json": {},
        "/sign-in": {},
    }
    found = []
    for path, given in asked.items():
        told = await gateway.request("GET", path, given)
        assert told.status in {200, 503}, (path, told.body)
        found.append((path, told.body + str(told.headers).encode()))
    return iter(found)
