"""What Claude clients do at a gateway, each as one small function that is given the visit so far and gives a finding.

Sources: client-protocol E-2 to E-9, D-2, D-3, D-6, A-1; design section 6 (paths, request ids, receipts). The order of a table is that
of a client's first minute.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final

from modelgates_server.catalogue.listing import claude_code_visible, desktop_visible
from modelgates_server.doctor.finding import GREEN, RED, YELLOW, Finding
from modelgates_server.doctor.streams import Event, blocks_of, disorder, error_in, last_cost, read_events
from modelgates_server.doctor.visit import Answer, Step, Visit, answer_of
from modelgates_server.money import NUSD_PER_USD, usd_text

DISCOVERY_MS_MAX: Final = 1_000
"""Claude Code gives the model list three seconds, Claude Desktop holds its start for it (client-protocol D-3)."""

_SLOW_LIST: Final = "clients give up after 3 s and show no models"
_CUT: Final = "something between here and the gateway buffers or cuts"

TOOL: Final = {
    "name": "look_up_greeting",
    "description": "Gives the greeting of a person. Takes the person's name.",
    "input_schema": {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]},
}
TOOL_PROMPT: Final = 'Call the tool look_up_greeting once, for the name Ada. [[tool:look_up_greeting {"name": "Ada"}]]'
"""The sandbox knows what the brackets mean; a model needs only the sentence."""

TOOL_TOKENS: Final = 300


async def _live(visit: Visit) -> Finding:
    answer = await visit.send("GET", f"{visit.address.origin}/livez")
    if answer.status == 200:
        return GREEN, f"alive at {visit.address.origin}", None
    return YELLOW, f"{answer.complaint} at /livez", "something else answers here, or a proxy hides the health pages"


async def _ready(visit: Visit) -> Finding:
    answer = await visit.send("GET", f"{visit.address.origin}/readyz")
    if answer.status == 200:
        return GREEN, "ready for requests", None
    return YELLOW, f"not ready: {answer.data.get('status', answer.complaint)}", "wait a moment; then look at the log"


async def _hello(visit: Visit) -> Finding:
    answer = await visit.send("HEAD", f"{visit.address.origin}/api/hello")
    if answer.status < 500:
        return GREEN, f"answered {answer.status}; Claude Code asks this at start without a key", None
    return RED, f"HTTP {answer.status}", "Claude Code's start must get a quick answer here: look at the log"


async def _listed(visit: Visit, headers: dict[str, str]) -> list[str] | Finding:
    """The ids of the model list, or what is wrong with it."""
    answer = await visit.send("GET", f"{visit.address.base}/v1/models", params={"limit": "1000"}, headers=headers)
    if 300 <= answer.status < 400:
        where = answer.headers.get("location")
        return RED, f"redirects to {where}", "use the address it redirects to: clients do not follow"
    if answer.status != 200:
        return RED, answer.complaint, visit.remedy(answer.status)
    ids = [str(entry["id"]) for entry in answer.data.get("data", []) if isinstance(entry, dict) and "id" in entry]
    if not ids:
        return RED, "the list is empty: clients show no models", visit.advice["empty"]
    visit.model = next((name for name in ids if "haiku" in name), ids[0])
    return ids


async def _models(visit: Visit, headers: dict[str, str]) -> Finding:
    listed = await _listed(visit, headers)
    return listed if isinstance(listed, tuple) else (GREEN, f"{len(listed)} models for the picker", None)


async def _models_bearer(visit: Visit) -> Finding:
    return await _models(visit, visit.bearer)


async def _models_api_key(visit: Visit) -> Finding:
    return await _models(visit, {"x-api-key": visit.key or "", "anthropic-version": "2023-06-01"})


async def _pickers(visit: Visit) -> Finding:
    """The list, and how much of it each client's picker would keep (client-protocol M-3, M-4)."""
    listed = await _listed(visit, visit.bearer)
    if isinstance(listed, tuple):
        return listed
    desktop = sum(desktop_visible(name)[0] for name in listed)
    code = sum(claude_code_visible(name)[0] for name in listed)
    told = f"{len(listed)} models; Claude Desktop shows {desktop}, Claude Code {code}"
    if desktop == 0 or code == 0:
        return RED, told, visit.advice["hidden"]
    return GREEN, told, None


async def _desktop(visit: Visit) -> Finding:
    body = {"model": visit.model, "max_tokens": 1, "messages": [{"role": "user", "content": "."}]}
    answer = await visit.send("POST", f"{visit.address.base}/v1/messages", json=body, headers=visit.bearer)
    if answer.status == 200:
        return GREEN, f"Claude Desktop will accept this gateway ({visit.model} answered)", None
    return RED, f"Claude Desktop would say 'gateway unreachable': {answer.complaint}", visit.remedy(answer.status)


async def _streamed(visit: Visit, body: dict[str, Any]) -> tuple[Any, list[Event]] | Finding:
    """The headers and events of a streamed answer, or what is wrong with it."""
    url = f"{visit.address.base}/v1/messages?beta=true"
    whole = {"model": visit.model, "stream": True, **body}
    async with visit.http.post(url, json=whole, headers=visit.bearer, allow_redirects=False) as response:
        if response.status != 200:
            answer = await answer_of(response)
            return RED, answer.complaint, visit.remedy(answer.status)
        events = [event async for event in read_events(response.content)]
    if (error := error_in(events)) is not None:
        return RED, f"the stream ended with an error: {error}", "see `modelgates explain` and the provider's status"
    if (order := disorder(events)) is not None:
        return RED, f"events in the wrong order: {order}", _CUT
    return response.headers, events


async def _stream(visit: Visit) -> Finding:
    """Whether a stream is whole and in order, and whether its ids agree."""
    told = await _whole_stream(visit)
    return told if len(told) == 3 else (GREEN, f"{len(told[0])} events in order, {told[1]}", None)


async def _paced_stream(visit: Visit) -> Finding:
    """The same, with a word about pings: they keep a silent stream open, so there are none in a quick one."""
    told = await _whole_stream(visit)
    if len(told) == 3:
        return told
    events, rest = told
    pings = sum(event.get("type") == "ping" for event in events)
    named = "1 ping" if pings == 1 else f"{pings} pings"
    return GREEN, f"{len(events)} events in order, {named} among them, ended by message_stop; {rest}", None


async def _whole_stream(visit: Visit) -> tuple[list[Event], str] | Finding:
    """The events of a short answer and what else is to be told about it, or what is wrong with it."""
    asked = {"max_tokens": 32, "messages": [{"role": "user", "content": "Say hello in one short sentence."}]}
    got = await _streamed(visit, asked)
    if len(got) == 3:
        return got
    headers, events = got
    message_id = next(event["message"].get("id") for event in events if event["type"] == "message_start")
    visit.generation_id = headers.get("x-generation-id")
    visit.streamed_cost = last_cost(events)
    if not visit.generation_id or headers.get("request-id") != visit.generation_id or message_id != visit.generation_id:
        remedy = "is this a ModelGates base URL? it ends in /api"
        return RED, "request-id, x-generation-id and the message's id differ", remedy
    sandbox = "; from the sandbox" if headers.get("x-modelgates-sandbox") == "true" else ""
    return events, f"{visit.generation_id}{sandbox}"


async def _tools(visit: Visit) -> Finding:
    """A tool is offered, called, answered, and the answer taken: what every turn of the apps is made of (D-6)."""
    asked = {"role": "user", "content": TOOL_PROMPT}
    got = await _streamed(visit, {"max_tokens": TOOL_TOKENS, "tools": [TOOL], "messages": [asked]})
    if len(got) == 3:
        return got
    blocks = blocks_of(got[1])
    call = next((block for block in blocks if block.get("type") == "tool_use"), None)
    if call is None:
        return YELLOW, f"{visit.model} answered without calling the tool", "try again; the apps need a model that does"
    if not isinstance(call.get("input"), dict):
        return RED, "the tool's input arrived broken: it is no JSON", _CUT
    result = {"type": "tool_result", "tool_use_id": call.get("id"), "content": "Hello, Ada!"}
    messages = [asked, {"role": "assistant", "content": blocks}, {"role": "user", "content": [result]}]
    body = {"model": visit.model, "max_tokens": TOOL_TOKENS, "tools": [TOOL], "messages": messages}
    answer = await visit.send("POST", f"{visit.address.base}/v1/messages", json=body, headers=visit.bearer)
    if answer.status != 200:
        return RED, f"the tool's result was refused: {answer.complaint}", visit.remedy(answer.status)
    return GREEN, f"{visit.model} called the tool and took its result", None


async def _count(visit: Visit) -> Finding:
    body = {"model": visit.model, "messages": [{"role": "user", "content": "How many tokens is this?"}]}
    url = f"{visit.address.base}/v1/messages/count_tokens"
    answer = await visit.send("POST", url, json=body, headers=visit.bearer)
    tokens = answer.data.get("input_tokens")
    if answer.status == 200 and isinstance(tokens, int):
        return GREEN, f"{tokens} tokens", None
    if answer.status in {404, 501}:
        return YELLOW, f"{answer.complaint}; clients estimate instead", None
    return RED, answer.complaint, visit.remedy(answer.status)


async def _receipt(visit: Visit) -> Finding:
    if visit.generation_id is None:
        return YELLOW, "no streamed message, so no receipt to look for", None
    answer = await _receipt_of(visit, visit.generation_id)
    cost = answer.data.get("data", {}).get("total_cost") if answer.status == 200 else None
    if not isinstance(cost, int | Decimal):
        return RED, f"no receipt for {visit.generation_id}: {answer.complaint}", visit.advice["log"]
    text = usd_text(int(cost * NUSD_PER_USD))
    if visit.streamed_cost is not None and visit.streamed_cost != cost:
        return RED, f"the receipt says {text} USD, the stream said {visit.streamed_cost}", visit.advice["books"]
    by = answer.data["data"].get("provider_name")
    return GREEN, f"that message cost {text} USD, answered by {by}", None


async def _receipt_of(visit: Visit, generation_id: str) -> Answer:
    url, params = f"{visit.address.base}/v1/generation", {"id": generation_id}
    return await visit.send("GET", url, params=params, headers=visit.bearer)


async def _key(visit: Visit) -> Finding:
    answer = await visit.send("GET", f"{visit.address.base}/v1/key", headers=visit.bearer)
    data = answer.data.get("data")
    if answer.status != 200 or not isinstance(data, dict):
        return RED, answer.complaint, visit.remedy(answer.status)
    left = data.get("limit_remaining")
    limit = "no limit of its own" if left is None else f"{left} USD left of its limit"
    return GREEN, f"{data.get('name') or data.get('label')}: {limit}, {data.get('usage')} USD used", None


FROM_OUTSIDE: Final = (
    Step("alive", needs_key=False, act=_live),
    Step("ready", needs_key=False, act=_ready),
    Step("start-up probe", needs_key=False, act=_hello),
    Step("models, Bearer", True, _models_bearer, DISCOVERY_MS_MAX, _SLOW_LIST),  # noqa: FBT003 - needs_key
    Step("models, x-api-key", needs_key=True, act=_models_api_key),
    Step("Claude Desktop test", needs_key=True, act=_desktop),
    Step("streamed message", needs_key=True, act=_stream),
    Step("token count", needs_key=True, act=_count),
    Step("receipt", needs_key=True, act=_receipt),
    Step("key", needs_key=True, act=_key),
)
"""What `doctor --url` looks at."""

AS_THE_APPS: Final = (
    Step("reachable", needs_key=False, act=_live),
    Step("start-up probe", needs_key=False, act=_hello),
    Step("model list", True, _pickers, DISCOVERY_MS_MAX, _SLOW_LIST),  # noqa: FBT003 - needs_key
    Step("connection test", needs_key=True, act=_desktop),
    Step("streamed answer", needs_key=True, act=_paced_stream),
    Step("tool use", needs_key=True, act=_tools),
    Step("token count", needs_key=True, act=_count),
    Step("receipt", needs_key=True, act=_receipt),
    Step("key", needs_key=True, act=_key),
)
"""What Claude Desktop and Claude Code need, in the order in which they ask for it."""
