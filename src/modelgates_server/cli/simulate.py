"""`simulate`: the stand-in for a provider of Claude on a port of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelgates_server import simulator
from modelgates_server.cli.address import local_origin
from modelgates_server.errors import ConfigError

if TYPE_CHECKING:
    from modelgates_server.cli.frame import Options


def simulate(_options: Options, host: str, port: int, wire: str, keys: tuple[str, ...]) -> int:
    """Run until SIGTERM or SIGINT. Raises ConfigError when the address cannot be used, or no wire has that name."""
    if wire not in simulator.WIRES:
        raise ConfigError(f"no wire is called {wire!r}", remedy=f"choose one of {', '.join(simulator.WIRES)}")
    stand_in = simulator.Simulator(set(keys) or None, wire=wire)
    try:
        simulator.run(host, port, stand_in)
    except OSError as error:
        raise ConfigError(
            f"cannot listen at {local_origin(host, port, tls=False)}: {error.strerror or error}",
            remedy="stop whatever uses the port, or choose another with --port",
        ) from error
    return 0
