"""``python -m modelgates_server.simulator --port P``: the simulator as a process of its own."""

from __future__ import annotations

import argparse

from modelgates_server.simulator.server import Simulator
from modelgates_server.simulator.serving import run
from modelgates_server.simulator.wires import WIRES


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m modelgates_server.simulator", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes any free port; the ready line names it")
    parser.add_argument("--wire", choices=WIRES, default="anthropic", help="whose wire it speaks")
    parser.add_argument("--key", action="append", help="a key that is accepted; may be repeated; without it, any is")
    arguments = parser.parse_args()
    keys = set(arguments.key) if arguments.key else None
    run(arguments.host, arguments.port, Simulator(keys, wire=arguments.wire))


if __name__ == "__main__":
    main()
