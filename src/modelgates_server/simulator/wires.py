"""The wires that a simulator can speak, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from modelgates_server.simulator.wire_aws import Bedrock, ClaudeOnAws
from modelgates_server.simulator.wire_base import Wire
from modelgates_server.simulator.wire_compatible import Compatible
from modelgates_server.simulator.wire_foundry import Foundry
from modelgates_server.simulator.wire_invoke import BedrockInvoke
from modelgates_server.simulator.wire_vertex import Vertex

if TYPE_CHECKING:
    from modelgates_server.simulator.call import Settings

_KINDS: Final = {kind.name: kind for kind in (Wire, ClaudeOnAws, Bedrock, BedrockInvoke, Vertex, Foundry, Compatible)}
WIRES: Final = tuple(_KINDS)
HOSTINGS: Final = ("anthropic", "azure")


def make_wire(name: str, settings: Settings) -> Wire:
    """Make the wire of that name. Raises ValueError if there is none, or if the hosting is unknown."""
    if name not in _KINDS:
        raise ValueError(f"no wire is called {name!r}; choose one of {', '.join(WIRES)}")
    if settings.hosting not in HOSTINGS:
        raise ValueError(f"no hosting is called {settings.hosting!r}; choose one of {', '.join(HOSTINGS)}")
    return _KINDS[name](settings)
