"""Receipts with a plan and what it was decided on, booked into a terminal's database as the gateway does."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
from tests.unit.console.planted import receipt

from modelgates_server.activity.generation import Generation, rows
from modelgates_server.clock import SystemClock

if TYPE_CHECKING:
    from tests.unit.cli.terminal import Terminal

OPUS, HAIKU = "anthropic/claude-opus-4.8", "anthropic/claude-haiku-4.5"


def write_config(home: Terminal, *providers: str, order: tuple[str, ...] = (), name: str = "modelgates.toml") -> str:
    """A configuration with these providers, each ``slug kind multiplier``."""
    lines = [f"[routing]\norder = {json.dumps(list(order))}"]
    for written in providers:
        slug, kind, multiplier = written.split()
        lines.append(f'[[providers]]\nslug = "{slug}"\nkind = "{kind}"\nprice_multiplier = "{multiplier}"')
        lines.append('api_key = "env:NOT_SET"')
        lines += ['region = "us-east-1"'] if kind == "bedrock" else []
        lines += ['base_url = "https://acme.example"'] if kind == "anthropic-compatible" else []
    (home.folder / name).write_text("\n".join(lines))
    return name


@dataclass(frozen=True)
class Line:
    """One line of a plan: a provider, its place, and the model when it is not Opus."""

    provider: str
    place: int | None = 1
    model: str = OPUS
    reason: str = "because"

    @property
    def data(self) -> dict[str, Any]:
        return {"provider": self.provider, "model": self.model, "place": self.place, "reason": self.reason}


def plant(home: Terminal, *plan: Line, ago_s: float = 60, inputs: dict[str, Any] | None = None, **changes: Any) -> str:
    """Book a request under the first key; gives its id."""
    connection = sqlite3.connect(home.folder / "modelgates-data" / "modelgates.db", isolation_level=None)
    organization_id, key_hash = connection.execute(
        "SELECT organization_id, hash FROM api_keys WHERE class = 'inference'"
    ).fetchone()
    (count,) = connection.execute("SELECT count(*) FROM generations").fetchone()
    made: Generation = receipt(organization_id, key_hash, **changes)
    origin = msgspec.structs.replace(
        made.origin, id=f"gen-{count}", created_at_ms=int((SystemClock().now_s() - ago_s) * 1000)
    )
    said = None if inputs is None else msgspec.json.encode({"models": [OPUS], "body_bytes": 2_000} | inputs)
    lines = tuple(line.data for line in plan) or made.plan
    made = msgspec.structs.replace(made, origin=origin, plan=lines, inputs=said)
    for statement, row in rows(made):
        connection.execute(statement.sql, statement.values(row))
    connection.close()
    return origin.id
