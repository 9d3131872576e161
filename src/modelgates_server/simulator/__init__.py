"""An independent stand-in for the providers of Claude, with faults on demand and a truth log.

It imports nothing of ours, so that it can bear witness: tests compare our ledger with what it says it generated.
Where a vendor's library can judge a signature, it does; those libraries are imported only then.

    truth.py     what was generated, sent, and seen cancelled
    models.py    the model ids it knows, from its own data
    request.py   reading and validating a body, with Anthropic's wording
    prose.py     prebuilt English-like tokens
    usage.py     input counting and the prompt cache
    answer.py    from a request to content blocks and usage
    wire.py      blocks and usage as JSON and as server-sent events
    faults.py    what the control header may ask for, and how it bends an answer
    client.py    the other end of one connection: body, paced sending, disconnects, cuts
    call.py      one request with its route
    exchange.py  answering one request
    server.py    the ASGI application: routes, logs, controls
    serving.py   running it, in-process or alone

The wires, each in what it differs from Anthropic's:

    wires.py        their names
    wire_base.py    Anthropic's, and what a wire is
    wire_cloud.py   limits and errors of the others
    wire_aws.py     Claude Platform on AWS, and Bedrock
    wire_invoke.py  Bedrock Invoke, with eventstream.py for its frames
    wire_vertex.py  Google
    wire_foundry.py Microsoft
    wire_compatible.py
    gate.py         who is let in; sigv4.py judges AWS signatures
    names.py, betas.py, fields.py   what each calls the models, and refuses

    identity.py     issues tokens and temporary keys; identity_*.py are the vendors' endpoints for them
"""

from modelgates_server.simulator.identity import TokenIssuer, serve_identity
from modelgates_server.simulator.server import Simulator
from modelgates_server.simulator.serving import Served, run, serve
from modelgates_server.simulator.truth import Entry
from modelgates_server.simulator.wires import WIRES

__all__ = ["WIRES", "Entry", "Served", "Simulator", "TokenIssuer", "run", "serve", "serve_identity"]
