"""A visit to a gateway: the checks of a table, done one after the other, timed and judged.

`checks.py` has the tables. What keeps a client from a gateway altogether (no server, no trust, no TLS) is translated here.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, NamedTuple

import aiohttp

from modelgates_server.clock import SystemClock
from modelgates_server.doctor.address import Address
from modelgates_server.doctor.advice import TERMINAL, Advice
from modelgates_server.doctor.finding import GREEN, RED, YELLOW, Check, Finding

PATIENCE_S: Final = 30.0
"""A healthy gateway answers each of these within a second or two; a client waits longer, but not happily."""

_TOO_LONG: Final = "not tried: the checks before it took too long"


@dataclass(slots=True)
class Visit:
    """One visit: where, with which key, and what was learnt so far (a model to ask, the id and cost of its answer)."""

    http: aiohttp.ClientSession
    address: Address
    key: str | None
    advice: Advice
    model: str = "claude-haiku-4-5"
    generation_id: str | None = None
    streamed_cost: Decimal | None = None

    @property
    def bearer(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.key}", "anthropic-version": "2023-06-01"}

    def remedy(self, status: int) -> str:
        """What to do about a refusal."""
        return self.advice.get(str(status), self.advice["log"])

    async def send(self, method: str, url: str, **extra: Any) -> Answer:
        """Send a request and read the whole answer; redirects are not followed, as clients do not."""
        async with self.http.request(method, url, allow_redirects=False, **extra) as response:
            return await answer_of(response)


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole response. `data` is its JSON object with exact numbers, or an empty dict."""

    status: int
    headers: Any
    data: dict[str, Any]

    @property
    def complaint(self) -> str:
        """Status and the error's sentence."""
        error = self.data.get("error")
        sentence = error.get("message") if isinstance(error, dict) else None
        return f"HTTP {self.status}" + (f": {sentence}" if sentence else "")


class Step(NamedTuple):
    """One check of a table. `ms_max` is how long it may take before it is yellow, for the reason in `slow`."""

    name: str
    needs_key: bool
    act: Callable[[Visit], Awaitable[Finding]]
    ms_max: int | None = None
    slow: str = ""


async def make_visit(
    address: Address,
    key: str | None,
    steps: Sequence[Step],
    advice: Advice = TERMINAL,
    *,
    within_s: float | None = None,
    check_certificate: bool = True,
) -> list[Check]:
    """Do the steps in order; those that need a key only with one. A gateway that cannot be reached ends the visit.

    After `within_s` no further step begins. Only a process that visits its own socket need not check the certificate.
    """
    clock = SystemClock()
    ends_s = None if within_s is None else clock.monotonic_s() + within_s
    timeout = aiohttp.ClientTimeout(total=PATIENCE_S)
    connector = aiohttp.TCPConnector(ssl=check_certificate)
    checks: list[Check] = []
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as http:
        visit = Visit(http, address, key, advice)
        for step in steps:
            if step.needs_key and key is None:
                continue
            if ends_s is not None and clock.monotonic_s() > ends_s:
                checks.append(Check(step.name, YELLOW, _TOO_LONG, advice["log"]))
                continue
            check, reached = await _timed(step, visit)
            checks.append(check)
            if not reached:
                return checks
    if key is None:
        checks.append(Check("key", YELLOW, "no key given: nothing was asked in its name", "add --key KEY"))
    return checks


async def answer_of(response: aiohttp.ClientResponse) -> Answer:
    """Read a response to its end."""
    return Answer(response.status, response.headers, json_object(await response.read()))


def json_object(body: bytes) -> dict[str, Any]:
    """Read a JSON object with decimal numbers, or nothing."""
    try:
        data = json.loads(body, parse_float=Decimal)
    except ValueError:
        return {}
    return data if isinstance(data, dict) else {}


async def _timed(step: Step, visit: Visit) -> tuple[Check, bool]:
    """Do one step; also whether the gateway was reached at all."""
    clock = SystemClock()
    started_s = clock.monotonic_s()
    reached = True
    try:
        status, detail, remedy = await step.act(visit)
    except (aiohttp.ClientConnectionError, aiohttp.InvalidURL) as error:
        status, detail, remedy = _unreached(error, visit)
        reached = isinstance(error, aiohttp.ServerDisconnectedError)
    except TimeoutError:
        status, detail, remedy = RED, f"no answer within {PATIENCE_S:.0f} s", visit.advice["log"]
    except aiohttp.ClientError as error:
        status, detail, remedy = RED, f"the response broke off: {error}", visit.advice["log"]
    ms = round((clock.monotonic_s() - started_s) * 1000)
    if status == GREEN and step.ms_max is not None and ms > step.ms_max:
        status, remedy = YELLOW, step.slow
    return Check(step.name, status, detail, remedy, ms), reached


def _unreached(error: Exception, visit: Visit) -> Finding:
    address = visit.address
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return (
            RED,
            f"the certificate is not trusted: {error.certificate_error}",
            "install the CA, or use one that machines trust",
        )
    if isinstance(error, aiohttp.ClientSSLError):
        return (
            RED,
            f"{address.origin} does not speak TLS",
            "write http:// in the base URL, or give serve --tls-cert and --tls-key",
        )
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return RED, f"{address.origin} closed the connection", "write https:// in the base URL if the server uses TLS"
    return RED, f"no server answers at {address.origin}", visit.advice["server"]
