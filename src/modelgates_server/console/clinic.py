"""The doctor on a page: the gateway visits itself as Claude's apps would, in the name of one of the visitor's keys.

The visit runs in the page's thread, on an event loop of its own, with an HTTP client of its own that nothing else here loads. It goes to
the address that the operator says people use; where that does not answer this machine, and where the operator set none, to the socket
that the visitor's own request came in by. Never to an address that a visitor named.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import urlsplit

from modelgates_server.console.visits import Visit
from modelgates_server.doctor.address import PLAIN_HTTP, PLAIN_HTTP_REMEDY, base_url, is_loopback, read_address
from modelgates_server.doctor.advice import CONSOLE
from modelgates_server.doctor.finding import GREEN, RED, YELLOW, Check
from modelgates_server.errors import RateRefused
from modelgates_server.management.passes import make_pass

WITHIN_S: Final = 30.0
"""Half of a pass's life: a check that begins by then is not refused for its age."""

_BUSY: Final = "Several tests are running right now. Try again in a few seconds."


@dataclass(frozen=True, slots=True)
class Examination:
    """What the doctor found, and where it looked. `well` says that nothing is red."""

    checks: tuple[Check, ...]
    address: str
    well: bool


def examine(visit: Visit, key_hash: str) -> Examination:
    """Visit the gateway as a key. Raises NotFound, BadRequest for a key that can ask nothing, RateRefused."""
    with turn(visit):
        checks, address = _visited(visit, pass_for(visit, key_hash))
    found = (_address_check(visit.base_url, trusted=address == visit.house.origin != visit.house.local_url), *checks)
    return Examination(found, address, all(check.status != RED for check in found))


@contextmanager
def turn(visit: Visit) -> Iterator[None]:
    """A turn at a visit, which holds a thread for seconds. Raises RateRefused when too many have one."""
    turns = visit.house.doctor_turns
    if not turns.acquire(blocking=False):
        raise RateRefused(_BUSY, scope="organization", retry_after_s=5)
    try:
        yield
    finally:
        turns.release()


def pass_for(visit: Visit, key_hash: str) -> str:
    """A credential that is this key, for a minute. Raises NotFound, BadRequest for a key that can ask nothing."""
    house = visit.house
    return make_pass(house.engine, house.secret, visit.organization_id, key_hash, visit.actor, house.clock.now_s())


def own_socket(visit: Visit) -> str:
    """Where this process is reached by clients on this very machine. Its certificate, if it has one, is for another name."""
    house = visit.house
    return house.local_url if house.admin is not None else visit.socket_url or house.local_url


def plain_off_loopback(url: str) -> bool:
    """Whether Claude Desktop refuses an address: plain http, and not on the machine itself (client-protocol E-11)."""
    parts = urlsplit(url)
    return parts.scheme == "http" and not is_loopback(parts.hostname or "")


def _visited(visit: Visit, credential: str) -> tuple[list[Check], str]:
    house, own = visit.house, own_socket(visit)
    if house.origin == house.local_url:
        return _visit_to(own, credential, check_certificate=False), own
    checks = _visit_to(house.origin, credential, check_certificate=True)
    if len(checks) > 1 or checks[0].status != RED:
        return checks, house.origin
    unreached = replace(checks[0], status=YELLOW, remedy=_unreached(house.origin))
    return [unreached, *_visit_to(own, credential, check_certificate=False)], own


def _visit_to(origin: str, credential: str, *, check_certificate: bool) -> list[Check]:
    from modelgates_server.doctor.checks import AS_THE_APPS  # noqa: PLC0415 - a client that serving does not need
    from modelgates_server.doctor.visit import make_visit  # noqa: PLC0415

    visit = make_visit(
        read_address(base_url(origin)),
        credential,
        AS_THE_APPS,
        CONSOLE,
        within_s=WITHIN_S,
        check_certificate=check_certificate,
    )
    return asyncio.run(visit)


def _unreached(origin: str) -> str:
    return (
        f"this server cannot reach {origin} itself, so what follows was tried at its own socket;"
        " if people cannot reach it either, look at name, proxy and certificate"
    )


def _address_check(url: str, *, trusted: bool) -> Check:
    """What the apps make of the address itself. `trusted` says that its certificate, if it has one, was looked at."""
    if plain_off_loopback(url):
        return Check("address", RED, f"{url}: {PLAIN_HTTP}; Claude Code takes it", PLAIN_HTTP_REMEDY)
    if url.startswith("https:") and not trusted:
        return Check("address", GREEN, f"{url}, which both apps take on machines that trust its certificate")
    return Check("address", GREEN, f"{url}, which both apps take")
