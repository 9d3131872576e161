"""One request on its way through a wire: what was received, where it goes, and the settings that judge it."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from urllib.parse import parse_qs

if TYPE_CHECKING:
    from modelgates_server.simulator.identity import TokenIssuer
    from modelgates_server.simulator.truth import Entry

Scope = MutableMapping[str, Any]
Headers = list[tuple[bytes, bytes]]


class Route(NamedTuple):
    """Where a path leads. `model`, `place` and `stream` are set when the path says them."""

    method: str
    action: Literal["messages", "count", "models", "model"]
    model: str = ""
    place: str = ""
    """Vertex: the location in the path."""
    stream: bool | None = None


@dataclass(slots=True)
class Call:
    """One request: its log entry, its ASGI scope, its route, and its body."""

    entry: Entry
    scope: Scope
    route: Route
    body: bytes = b""
    """The Messages body: as received, or unwrapped if the wire wraps it."""

    @property
    def query(self) -> dict[str, str]:
        return read_query(self.scope["query_string"])

    def header(self, name: bytes) -> str:
        """Give a header as it was sent, keys included; "" if absent. The name is in lower case."""
        for sent, value in self.scope["headers"]:
            if sent == name:
                return str(value.decode("latin-1"))
        return ""


@dataclass(frozen=True, slots=True)
class Settings:
    """What one simulator was told about its wire; see `Simulator`."""

    keys: set[str] | None = None
    aws: Mapping[str, str] | None = None
    region: str = "us-east-1"
    tokens: TokenIssuer | None = None
    strict: bool = True
    hosting: str = "anthropic"
    deployments: Mapping[str, str] | None = None


def read_query(raw: bytes) -> dict[str, str]:
    """Decode a query or a form; of repeated names the last value counts."""
    return {name: values[-1] for name, values in parse_qs(raw.decode("latin-1")).items()}
