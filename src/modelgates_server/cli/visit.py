"""What Claude clients do at a gateway, done once and judged: the checks of `doctor --url`.

Sources: client-protocol E-2 to E-9, D-2, D-3, A-1; design section 6 (paths, request ids, receipts). One function per
check; each is given the visit so far and gives a finding. The order is that of a client's first minute.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import aiohttp

from modelgates_server.cli.finding import GREEN, RED, YELLOW, Check, Finding
from modelgates_server.clock import SystemClock
from modelgates_server.money import NUSD_PER_USD, usd_text

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from modelgates_server.cli.address import Address

PATIENCE_S: Final = 30.0
"""A healthy gateway answers each of these within a second or two; a client waits longer, but not happily."""

DISCOVERY_MS_MAX: Final = 1_000
"""Claude Code gives the model list three seconds, Claude Desktop holds its start for it (client-protocol D-3)."""

_NO_SERVER = "start it with `modelgates serve`, and check host and port of the base URL"


@dataclass(slots=True)
class Visit:
    """One visit: where, with which key, and what was learnt so far (a model to ask, the id and cost of its answer)."""

    http: aiohttp.ClientSession
    address: Address
    key: str | None
    model: str = "claude-haiku-4-5"
    generation_id: str | None = None
    streamed_cost: Decimal | None = None

    @property
    def bearer(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.key}", "anthropic-version": "2023-06-01"}


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


async def make_visit(address: Address, key: str | None) -> list[Check]:
    """Run the checks in order; those that need a key only with one. A gateway that cannot be reached ends the visit."""
    timeout = aiohttp.ClientTimeout(total=PATIENCE_S)
    checks: list[Check] = []
    async with aiohttp.ClientSession(timeout=timeout) as http:
        visit = Visit(http, address, key)
        for name, needs_key, act in CHECKS:
            if needs_key and key is None:
                continue
            check, reached = await _timed(name, act, visit)
            checks.append(check)
            if not reached:
                return checks
    if key is None:
        checks.append(Check("key", YELLOW, "no key given: nothing was asked in its name", "add --key KEY"))
    return checks


async def _timed(name: str, act: Callable[[Visit], Awaitable[Finding]], visit: Visit) -> tuple[Check, bool]:
    """Run one check; also whether the gateway was reached at all."""
    clock = SystemClock()
    started_s = clock.monotonic_s()
    reached = True
    try:
        status, detail, remedy = await act(visit)
    except (aiohttp.ClientConnectionError, aiohttp.InvalidURL) as error:
        status, detail, remedy = _unreached(error, visit.address)
        reached = isinstance(error, aiohttp.ServerDisconnectedError)
    except TimeoutError:
        status, detail, remedy = RED, f"no answer within {PATIENCE_S:.0f} s", "look at the gateway's log"
    except aiohttp.ClientError as error:
        status, detail, remedy = RED, f"the response broke off: {error}", "look at the gateway's log"
    ms = round((clock.monotonic_s() - started_s) * 1000)
    if status == GREEN and act is _models_bearer and ms > DISCOVERY_MS_MAX:
        status, remedy = YELLOW, "clients give up after 3 s and show no models"
    return Check(name, status, detail, remedy, ms), reached


def _unreached(error: Exception, address: Address) -> Finding:
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
    return RED, f"no server answers at {address.origin}", _NO_SERVER


async def _send(visit: Visit, method: str, url: str, **extra: Any) -> Answer:
    async with visit.http.request(method, url, allow_redirects=False, **extra) as response:
        body = await response.read()
        return Answer(response.status, response.headers, _object(body))


def _object(body: bytes) -> dict[str, Any]:
    """Read a JSON object with decimal numbers, or nothing."""
    try:
        data = json.loads(body, parse_float=Decimal)
    except ValueError:
        return {}
    return data if isinstance(data, dict) else {}


async def _live(visit: Visit) -> Finding:
    answer = await _send(visit, "GET", f"{visit.address.origin}/livez")
    if answer.status == 200:
        return GREEN, f"alive at {visit.address.origin}", None
    return YELLOW, f"{answer.complaint} at /livez", "something else answers here, or a proxy hides the health pages"


async def _ready(visit: Visit) -> Finding:
    answer = await _send(visit, "GET", f"{visit.address.origin}/readyz")
    if answer.status == 200:
        return GREEN, "ready for requests", None
    return YELLOW, f"not ready: {answer.data.get('status', answer.complaint)}", "wait a moment; then look at the log"


async def _hello(visit: Visit) -> Finding:
    answer = await _send(visit, "HEAD", f"{visit.address.origin}/api/hello")
    if answer.status < 500:
        return GREEN, f"answered {answer.status}; Claude Code asks this at start without a key", None
    return RED, f"HTTP {answer.status}", "Claude Code's start must get a quick answer here: look at the log"


async def _models(visit: Visit, headers: dict[str, str]) -> Finding:
    answer = await _send(visit, "GET", f"{visit.address.base}/v1/models", params={"limit": "1000"}, headers=headers)
    if 300 <= answer.status < 400:
        return (
            RED,
            f"redirects to {answer.headers.get('location')}",
            "use the address it redirects to: clients do not follow",
        )
    if answer.status != 200:
        return RED, answer.complaint, _remedy(answer.status)
    ids = [entry["id"] for entry in answer.data.get("data", []) if isinstance(entry, dict) and "id" in entry]
    if not ids:
        return (
            RED,
            "the list is empty: clients show no models",
            "`modelgates credits show`; grant credit or raise the key's limit",
        )
    visit.model = next((name for name in ids if "haiku" in name), ids[0])
    return GREEN, f"{len(ids)} models for the picker", None


async def _models_bearer(visit: Visit) -> Finding:
    return await _models(visit, visit.bearer)


async def _models_api_key(visit: Visit) -> Finding:
    return await _models(visit, {"x-api-key": visit.key or "", "anthropic-version": "2023-06-01"})


async def _desktop(visit: Visit) -> Finding:
    body = {"model": visit.model, "max_tokens": 1, "messages": [{"role": "user", "content": "."}]}
    answer = await _send(visit, "POST", f"{visit.address.base}/v1/messages", json=body, headers=visit.bearer)
    if answer.status == 200:
        return GREEN, f"Claude Desktop will accept this gateway ({visit.model} answered)", None
    return RED, f"Claude Desktop would say 'gateway unreachable': {answer.complaint}", _remedy(answer.status)


async def _stream(visit: Visit) -> Finding:
    body = {
        "model": visit.model,
        "max_tokens": 32,
        "stream": True,
        "messages": [{"role": "user", "content": "Say hello in one short sentence."}],
    }
    url = f"{visit.address.base}/v1/messages?beta=true"
    async with visit.http.post(url, json=body, headers=visit.bearer, allow_redirects=False) as response:
        if response.status != 200:
            answer = Answer(response.status, response.headers, _object(await response.read()))
            return RED, answer.complaint, _remedy(answer.status)
        events = [event async for event in _events(response.content)]
        return _judge(visit, response.headers, events)


def _judge(visit: Visit, headers: Any, events: list[dict[str, Any]]) -> Finding:
    """Whether a stream is whole and in order, and whether its ids agree."""
    names = [str(event.get("type")) for event in events if event.get("type") != "ping"]
    error = next((event["error"] for event in events if event.get("type") == "error"), None)
    if error is not None:
        return (
            RED,
            f"the stream ended with an error: {error.get('message')}",
            "see `modelgates explain` and the provider's status",
        )
    order = [name for place, name in enumerate(names) if place == 0 or names[place - 1] != name]
    if not order or order[0] != "message_start" or order[-2:] != ["message_delta", "message_stop"]:
        return (
            RED,
            f"events in the wrong order: {' '.join(order) or 'none'}",
            "something between here and the gateway buffers or cuts",
        )
    message_id = next(event["message"].get("id") for event in events if event["type"] == "message_start")
    visit.generation_id = headers.get("x-generation-id")
    visit.streamed_cost = _last_cost(events)
    if not visit.generation_id or headers.get("request-id") != visit.generation_id or message_id != visit.generation_id:
        return (
            RED,
            "request-id, x-generation-id and the message's id differ",
            "is this a ModelGates base URL? it ends in /api",
        )
    sandbox = "; from the sandbox" if headers.get("x-modelgates-sandbox") == "true" else ""
    return GREEN, f"{len(events)} events in order, {visit.generation_id}{sandbox}", None


def _last_cost(events: list[dict[str, Any]]) -> Decimal | None:
    usages = [event["usage"] for event in events if event.get("type") == "message_delta" and "usage" in event]
    cost = usages[-1].get("cost") if usages else None
    return None if cost is None else Decimal(cost)


async def _events(content: aiohttp.StreamReader) -> AsyncIterator[dict[str, Any]]:
    """Give the JSON objects of a stream's data lines."""
    async for line in content:
        if line.startswith(b"data:"):
            yield _object(line[5:])


async def _count(visit: Visit) -> Finding:
    body = {"model": visit.model, "messages": [{"role": "user", "content": "How many tokens is this?"}]}
    answer = await _send(
        visit, "POST", f"{visit.address.base}/v1/messages/count_tokens", json=body, headers=visit.bearer
    )
    tokens = answer.data.get("input_tokens")
    if answer.status == 200 and isinstance(tokens, int):
        return GREEN, f"{tokens} tokens", None
    if answer.status in {404, 501}:
        return YELLOW, f"{answer.complaint}; clients estimate instead", None
    return RED, answer.complaint, _remedy(answer.status)


async def _receipt(visit: Visit) -> Finding:
    if visit.generation_id is None:
        return YELLOW, "no streamed message, so no receipt to look for", None
    params = {"id": visit.generation_id}
    answer = await _send(visit, "GET", f"{visit.address.base}/v1/generation", params=params, headers=visit.bearer)
    cost = answer.data.get("data", {}).get("total_cost") if answer.status == 200 else None
    if not isinstance(cost, int | Decimal):
        return RED, f"no receipt for {visit.generation_id}: {answer.complaint}", "look at the gateway's log"
    text = usd_text(int(cost * NUSD_PER_USD))
    if visit.streamed_cost is not None and visit.streamed_cost != cost:
        return RED, f"the receipt says {text} USD, the stream said {visit.streamed_cost}", "run `modelgates db check`"
    by = answer.data["data"].get("provider_name")
    return GREEN, f"that message cost {text} USD, answered by {by}", None


async def _key(visit: Visit) -> Finding:
    answer = await _send(visit, "GET", f"{visit.address.base}/v1/key", headers=visit.bearer)
    data = answer.data.get("data")
    if answer.status != 200 or not isinstance(data, dict):
        return RED, answer.complaint, _remedy(answer.status)
    left = data.get("limit_remaining")
    limit = "no limit of its own" if left is None else f"{left} USD left of its limit"
    return GREEN, f"{data.get('name') or data.get('label')}: {limit}, {data.get('usage')} USD used", None


_REMEDIES: Final = {
    401: "check the key; make one with `modelgates keys create --name NAME`",
    402: "`modelgates credits show`; grant credit or raise the limit that the message names",
    403: "use an inference key (sk-mg-v1-…), not a management key",
    404: "the base URL ends in /api, without /v1",
    429: "a rate limit of the key or of the provider: wait, or raise it",
    503: "see `modelgates doctor` on the gateway's machine: provider key and database",
}


def _remedy(status: int) -> str:
    return _REMEDIES.get(status, "look at the gateway's log")


CHECKS: Final[tuple[tuple[str, bool, Callable[[Visit], Awaitable[Finding]]], ...]] = (
    ("alive", False, _live),
    ("ready", False, _ready),
    ("start-up probe", False, _hello),
    ("models, Bearer", True, _models_bearer),
    ("models, x-api-key", True, _models_api_key),
    ("Claude Desktop test", True, _desktop),
    ("streamed message", True, _stream),
    ("token count", True, _count),
    ("receipt", True, _receipt),
    ("key", True, _key),
)
"""Name, whether it needs a key, and what it does."""
