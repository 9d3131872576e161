"""Answering one request on one wire: authenticate, read, bend by faults, plan, send."""

from __future__ import annotations

import gzip
from collections import deque
from typing import TYPE_CHECKING, Any

import msgspec

from modelgates_server.simulator import models, wire
from modelgates_server.simulator.answer import Answer, measure, plan
from modelgates_server.simulator.faults import HEADER, NO_FAULT, Fault, bend, bend_json, read_fault
from modelgates_server.simulator.prose import Prose
from modelgates_server.simulator.request import Refused, Request, invalid, read_turn
from modelgates_server.simulator.sending import deliver
from modelgates_server.simulator.usage import PromptCache, count_input

if TYPE_CHECKING:
    from collections.abc import Mapping

    from modelgates_server.simulator.call import Call, Headers
    from modelgates_server.simulator.client import Client
    from modelgates_server.simulator.wire_base import Wire

_JSON = b"application/json"
_HTML = "<html><head><title>Welcome</title></head><body>This is not an API.</body></html>"


class Exchange:
    """Answers requests on one wire. `script` holds faults for the next messages, one each."""

    def __init__(self, upstream: Wire, script: deque[dict[str, Any]]) -> None:
        self._wire = upstream
        self._script = script
        self._prose = Prose()
        self._renderer = wire.Renderer()
        self._cache = PromptCache()

    def forget(self) -> None:
        """Empty the prompt cache."""
        self._cache = PromptCache()

    async def messages(self, client: Client, call: Call) -> None:
        """Generate an answer, whole or as a stream."""
        script = self._script.popleft() if self._script else None
        self._wire.authenticate(call)
        request = self._wire.read(call)
        fault = _fault(call, script)
        if fault.delay_s:
            await client.pause(fault.delay_s)
        if fault.replaces_answer or (fault.error_at_event is not None and not call.entry.stream):
            await self._replace(client, call, fault)
            return
        answer = self._plan(call, request, fault)
        if call.entry.stream and not fault.json_for_stream:
            await self._stream(client, call, answer, fault)
        else:
            await self._whole(client, call, answer, fault)

    async def count(self, client: Client, call: Call) -> None:
        """Count the tokens of a prompt."""
        self._wire.authenticate(call)
        request = self._wire.read(call)
        fault = _fault(call, None)
        if fault.delay_s:
            await client.pause(fault.delay_s)
        if fault.replaces_answer:
            await self._replace(client, call, fault)
            return
        self._wire.check(call, request, counting=True)
        read_turn(request)
        total = count_input(request) if fault.input_tokens is None else fault.input_tokens
        await self.finish(client, call, 200, self._wire.counted(total))

    async def models(self, client: Client, call: Call) -> None:
        """Give one page of the models."""
        self._wire.authenticate(call)
        query = call.query
        limit = int(query["limit"]) if query.get("limit", "").isdigit() else 20
        page = models.page(max(1, min(limit, 1000)), query.get("after_id", ""))
        await self.finish(client, call, 200, msgspec.json.encode(page))

    async def model(self, client: Client, call: Call) -> None:
        """Give one model."""
        self._wire.authenticate(call)
        model = models.find(call.route.model)
        if model is None:
            raise Refused(404, "not_found_error", f"model: {call.route.model}")
        await self.finish(client, call, 200, msgspec.json.encode(model.public()))

    async def refuse(self, client: Client, call: Call, refused: Refused) -> None:
        """Send an error of our own."""
        call.entry.outcome = "refused"
        await self._error(client, call, refused, NO_FAULT)

    async def finish(
        self,
        client: Client,
        call: Call,
        status: int,
        body: bytes,
        fault: Fault = NO_FAULT,
        extra: Headers | tuple[()] = (),
    ) -> None:
        """Send a whole body with its length."""
        entry = call.entry
        headers = self._headers(call, _JSON, fault, extra)
        if fault.gzip:
            body = gzip.compress(body)
        headers.append((b"content-length", b"%d" % len(body)))
        entry.status = status
        await client.start(status, headers)
        if entry.outcome == "running":
            entry.outcome = "completed"
        await client.write(body, more=False)

    def _plan(self, call: Call, request: Request, fault: Fault) -> Answer:
        entry = call.entry
        model = self._wire.check(call, request)
        turn = read_turn(request)
        seed = int(entry.body_sha256[:12], 16)
        blocks, stop_reason = plan(request, turn, seed, fault, self._prose)
        usage = measure(request, model, blocks, count_input(request))
        if fault.input_tokens is not None:
            usage.input = fault.input_tokens
        self._wire.check_size(usage.input, model)
        if fault.input_tokens is None:
            self._cache.apply(request, call.body, usage)
        entry.usage = usage.whole()
        entry.stop_reason = stop_reason
        return Answer(model.id, blocks, stop_reason, usage)

    # Sending

    async def _stream(self, client: Client, call: Call, answer: Answer, fault: Fault) -> None:
        entry, upstream = call.entry, self._wire
        frames = upstream.frames(self._renderer.stream(answer, entry.message_id, fault), answer, fault)
        broken = b""
        if fault.error_at_event is not None:
            broken = upstream.error_event(upstream.of_fault(fault), entry.request_id)
        delivery = bend(frames.data, frames.tokens, fault, broken, upstream.framing)
        headers = self._headers(call, upstream.stream_type, fault, upstream.stream_headers())
        entry.status = 200
        await client.start(200, headers)
        if fault.first_event_delay_s:
            await client.pause(fault.first_event_delay_s)
        await deliver(client, entry, delivery, fault)

    async def _whole(self, client: Client, call: Call, answer: Answer, fault: Fault) -> None:
        entry = call.entry
        body = wire.message_json(answer, entry.message_id, fault)
        wait_s = fault.first_event_delay_s + fault.event_delay_s * answer.usage.output
        if wait_s:
            await client.pause(wait_s)
        headers = self._headers(call, _JSON, fault, self._wire.whole_headers(answer))
        delivery = bend_json(body, answer.usage.output, fault)
        if not fault.gzip and (delivery.ending != "end" or delivery.outcome == "completed"):
            headers.append((b"content-length", b"%d" % len(body)))
        entry.status = 200
        await client.start(200, headers)
        await deliver(client, entry, delivery, msgspec.structs.replace(fault, event_delay_s=0) if wait_s else fault)

    async def _replace(self, client: Client, call: Call, fault: Fault) -> None:
        """Send what was asked for instead of an answer: an error, a redirect, a page, nothing."""
        call.entry.outcome = "faulted"
        if fault.redirect is not None:
            fault = _with_header(fault, "location", fault.redirect)
            await self.finish(client, call, fault.status or 302, b"", fault)
        elif fault.body is not None or fault.html_200 or fault.empty_200:
            text = _HTML if fault.html_200 else fault.body or ""
            if text.lstrip().startswith("<"):
                fault = _with_header(fault, "content-type", "text/html; charset=utf-8")
            elif call.entry.stream and not text:
                fault = _with_header(fault, "content-type", self._wire.stream_type.decode())
            await self.finish(client, call, fault.status or 200, text.encode(), fault)
        else:
            await self._error(client, call, self._wire.of_fault(fault), fault)

    async def _error(self, client: Client, call: Call, refused: Refused, fault: Fault) -> None:
        streaming = call.entry.stream or bool(call.route.stream)
        body, extra = self._wire.error(refused, call.entry.request_id, streaming=streaming)
        await self.finish(client, call, refused.status, body, fault, extra)

    def _headers(self, call: Call, content_type: bytes, fault: Fault, extra: Headers | tuple[()]) -> Headers:
        headers = self._wire.headers(call)
        headers.append((b"content-type", content_type))
        headers += extra
        if fault is NO_FAULT:
            return headers
        if fault.gzip:
            headers.append((b"content-encoding", b"gzip"))
        if fault.retry_after is not None:
            headers.append((b"retry-after", str(fault.retry_after).encode()))
        own = {name.lower().encode(): value.encode() for name, value in fault.headers.items()}
        return [header for header in headers if header[0] not in own] + list(own.items())


def _fault(call: Call, script: Mapping[str, Any] | None) -> Fault:
    """Find the faults that are asked for."""
    try:
        return read_fault(call.entry.model, script, call.entry.headers.get(HEADER))
    except (ValueError, msgspec.MsgspecError) as error:
        raise invalid(f"{HEADER}: {error}") from error


def _with_header(fault: Fault, name: str, value: str) -> Fault:
    return msgspec.structs.replace(fault, headers={name: value, **fault.headers})
