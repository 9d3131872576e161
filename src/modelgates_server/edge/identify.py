"""Headers → Caller. Both key headers are read, on every route, by the same function (client-protocol A-1 to A-3)."""

from __future__ import annotations

from modelgates_server.accounts import keys
from modelgates_server.accounts.directory import Directory
from modelgates_server.accounts.values import Caller, KeyClass
from modelgates_server.edge.exchange import Request
from modelgates_server.errors import WrongKeyClass


def credentials(request: Request) -> list[str]:
    """Every key that the request carries, without repeats."""
    return keys.presented(request.raw_headers)


async def identify(request: Request, directory: Directory, needed: KeyClass = KeyClass.INFERENCE) -> Caller:
    """The caller. Raises Unauthenticated, or WrongKeyClass when the key is of the other plane."""
    caller = await directory.identify(credentials(request))
    if caller.key_class is not needed:
        raise WrongKeyClass(
            "This is a management key; it cannot be used for inference. Use an inference key (sk-mg-v1-…)."
            if needed is KeyClass.INFERENCE
            else "Only management keys (sk-mg-mgmt-v1-…) may do this."
        )
    return caller
