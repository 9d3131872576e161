"""The ASGI application: routes, logs, refusals. No framework, because it also stands in under load tests."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from modelgates_server.simulator import wire
from modelgates_server.simulator.call import Call, Route, Scope, Settings, read_query
from modelgates_server.simulator.client import Client, GoneError, Receive, Send, TooLargeError
from modelgates_server.simulator.exchange import Exchange
from modelgates_server.simulator.faults import read_fault
from modelgates_server.simulator.reports import PREFIX, Reports
from modelgates_server.simulator.request import BODY_BYTES_MAX, Refused
from modelgates_server.simulator.truth import Entry, keep, log_json, read_headers
from modelgates_server.simulator.wires import make_wire

if TYPE_CHECKING:
    from modelgates_server.simulator.identity import TokenIssuer

_JSON = b"application/json"
_SCRIPT = msgspec.json.Decoder(list[dict[str, Any]])
_Act = Callable[[Client, Call], Awaitable[None]]


class Simulator:
    """A stand-in for one provider of Claude.

    `keys`: the provider keys that are accepted; None accepts any key that is not empty.
    `keep_bodies`: keep the bytes of each request's body in its entry, for byte comparisons.
    `wire`: which provider's wire it speaks, one of `wires.WIRES`.
    `aws`: access key id -> secret; signed requests are verified against it. Looked up anew for every request.
    `region`: the AWS region that signatures must be made for.
    `tokens`: bearer tokens are accepted only if this issued them and they have not expired.
    `strict`: refuse what the specification does not confirm, such as betas that a cloud does not list.
    `hosting`: Foundry only: "anthropic" or "azure", which offers less.
    `deployments`: Foundry: deployment name -> Claude id. Bedrock Invoke: ARN of an own profile -> Claude id.

    `log` holds the requests for messages, `side_log` those for counts and models.
    `script` holds faults for the next requests for messages, one each; ``{}`` is none.
    `reports` tells what the requests cost, on Anthropic's own wire.
    """

    def __init__(  # noqa: PLR0913 - keyword-only, each with a use of its own
        self,
        keys: set[str] | None = None,
        *,
        keep_bodies: bool = False,
        wire: str = "anthropic",
        aws: Mapping[str, str] | None = None,
        region: str = "us-east-1",
        tokens: TokenIssuer | None = None,
        strict: bool = True,
        hosting: str = "anthropic",
        deployments: Mapping[str, str] | None = None,
    ) -> None:
        """Raises ValueError for an unknown wire or hosting, RuntimeError if `aws` is given and botocore is missing."""
        self.log: list[Entry] = []
        self.side_log: list[Entry] = []
        self.script: deque[dict[str, Any]] = deque()
        self.reports = Reports(self.log)
        self._wire = make_wire(wire, Settings(keys, aws, region, tokens, strict, hosting, deployments))
        self._exchange = Exchange(self._wire, self.script)
        self._keep_bodies = keep_bodies
        self._run = secrets.token_hex(5)
        self._sequence = 0
        self._acts: Mapping[str, _Act] = {
            "messages": self._exchange.messages,
            "count": self._exchange.count,
            "models": self._exchange.models,
            "model": self._exchange.model,
        }
        self._controls: Mapping[tuple[str, str], Callable[[Client, Scope], Awaitable[None]]] = {
            ("GET", "/__sim/log"): self._show_log,
            ("POST", "/__sim/reset"): self._reset,
            ("POST", "/__sim/script"): self._push,
        }

    def reset(self) -> None:
        """Forget the logs, the scripts and the prompt cache; sequence numbers go on."""
        self.log.clear()
        self.side_log.clear()
        self.script.clear()
        self._exchange.forget()

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI 3 scope: http or lifespan."""
        if scope["type"] == "lifespan":
            await lifespan(receive, send)
            return
        client = Client(scope, receive, send)
        route = self._wire.route(scope)
        try:
            if self._wire.name == "anthropic" and scope["path"].startswith(PREFIX):
                await self.reports.serve(client, scope)
            elif route is not None and route.method == scope["method"]:
                await self._serve(client, scope, route)
            else:
                await self._elsewhere(client, scope, wrong_method=route is not None)
        finally:
            client.close()

    # One request

    async def _serve(self, client: Client, scope: Scope, route: Route) -> None:
        """Read the body, act on it, and book refusals and leavings."""
        entry = self._admit(scope)
        keep(self.log if route.action == "messages" else self.side_log, entry)
        call = Call(entry, scope, route)
        try:
            body = call.body = await client.body(self._wire.body_bytes_max)
            entry.body_sha256 = hashlib.sha256(body).hexdigest()
            entry.body_bytes = len(body)
            entry.body = body if self._keep_bodies else None
            await self._acts[route.action](client, call)
        except TooLargeError:
            await self._exchange.refuse(client, call, self._wire.too_large())
        except Refused as refused:
            await self._exchange.refuse(client, call, refused)
        except msgspec.DecodeError as error:
            await self._exchange.refuse(client, call, self._wire.unreadable(error))
        except GoneError:
            _cancelled(entry)
        except asyncio.CancelledError:
            _cancelled(entry)
            raise

    def _admit(self, scope: Scope) -> Entry:
        self._sequence += 1
        headers = read_headers(scope["headers"])
        return Entry(
            sequence=self._sequence,
            path=scope["path"],
            request_id=self._wire.request_id(self._run, self._sequence),
            message_id=f"{self._wire.message_prefix}{self._run}{self._sequence:012d}",
            headers=headers,
            key_header=self._wire.key_header(headers),
            started_s=time.time(),
            wire=self._wire.name,
        )

    async def _elsewhere(self, client: Client, scope: Scope, *, wrong_method: bool) -> None:
        """Serve our own controls; everything else leads nowhere."""
        path = scope["path"]
        control = self._controls.get((scope["method"], path))
        if control is not None:
            await control(client, scope)
            return
        wrong_method = wrong_method or any(path == known for _, known in self._controls)
        refused = self._wire.nowhere(wrong_method=wrong_method)
        body, headers = self._wire.error(refused, f"req_{self._run}", streaming=False)
        await plain(client, refused.status, body, headers)

    # Controls

    async def _show_log(self, client: Client, scope: Scope) -> None:
        since = read_query(scope["query_string"]).get("since", "")
        body = log_json({"entries": self.log, "side": self.side_log}, int(since) if since.isdigit() else 0)
        await plain(client, 200, body)

    async def _reset(self, client: Client, _scope: Scope) -> None:
        self.reset()
        await plain(client, 200, b"{}")

    async def _push(self, client: Client, _scope: Scope) -> None:
        try:
            scripts = _SCRIPT.decode(await client.body(BODY_BYTES_MAX))
            for script in scripts:
                read_fault("", script, None)
        except (ValueError, msgspec.MsgspecError) as error:
            await plain(client, 400, wire.error_json("invalid_request_error", str(error), ""))
            return
        self.script.extend(scripts)
        await plain(client, 200, msgspec.json.encode({"queued": len(self.script)}))


def _cancelled(entry: Entry) -> None:
    entry.outcome = "cancelled"
    entry.cancel_seen_s = time.time() - entry.started_s


async def plain(client: Client, status: int, body: bytes, headers: list[tuple[bytes, bytes]] | None = None) -> None:
    """Send a whole JSON body."""
    own = [(b"content-type", _JSON), (b"content-length", b"%d" % len(body))]
    await client.start(status, [*own, *(headers or [])])
    await client.write(body, more=False)


async def lifespan(receive: Receive, send: Send) -> None:
    """Say yes to a server that starts and stops."""
    while True:
        event = (await receive())["type"]
        await send({"type": f"{event}.complete"})
        if event == "lifespan.shutdown":
            return
