"""What an application does with the anthropic SDK. Runs in the SDK's own environment, which knows nothing of this repository.

Usage: sdk_calls.py, with a JSON object on standard input: base_urls, keys, and calls (all when left out). Prints one JSON
object: each base URL → each call's name → what came of it, or the error it raised.
"""

from __future__ import annotations

import asyncio
import json
import sys

import anthropic

MODEL = "claude-opus-4-8"
TOOL = {
    "name": "get_weather",
    "description": "The weather of a place",
    "input_schema": {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]},
}


def ask(text, **fields):
    return {"model": MODEL, "max_tokens": 200, "messages": [{"role": "user", "content": text}]} | fields


def simulate(**fault):
    return {"extra_headers": {"anthropic-simulate": json.dumps(fault)}}


def message_facts(message):
    texts = [block.text for block in message.content if block.type == "text"]
    usage = message.usage
    return {
        "id": message.id,
        "model": message.model,
        "text": "".join(texts),
        "stop_reason": message.stop_reason,
        "tokens": [usage.input_tokens, usage.output_tokens],
        "cost": getattr(usage, "cost", None),
    }


def create(client):
    return message_facts(client.messages.create(**ask("hello [[say:seven brown foxes]]")))


def create_async(client):
    async def run():
        async with anthropic.AsyncAnthropic(api_key=client.api_key, base_url=client.base_url) as other:
            return message_facts(await other.messages.create(**ask("hello [[say:at once]]")))

    return asyncio.run(run())


def stream(client):
    with client.messages.stream(**ask("hello [[say:seven brown foxes]]")) as events:
        streamed = "".join(events.text_stream)
        return message_facts(events.get_final_message()) | {"streamed": streamed}


def stream_events(client):
    with client.messages.create(**ask("hello", max_tokens=20), stream=True) as events:
        read = list(events)
    (last,) = [event for event in read if event.type == "message_delta"]
    return {"id": read[0].message.id, "types": [event.type for event in read], "cost": last.usage.cost}


def count(client):
    return client.messages.count_tokens(model=MODEL, messages=ask("hello there")["messages"]).input_tokens


def models(client):
    return [[model.id, model.type, model.display_name] for model in client.models.list(limit=1000)]


def model(client):
    found = client.models.retrieve("anthropic/claude-opus-4.8")
    return [found.id, found.type, found.created_at.isoformat()]


def tool_use(client):
    first = ask('The weather? [[tool:get_weather {"place": "Bergen"}]]', tools=[TOOL])
    called = client.messages.create(**first)
    (call,) = [block for block in called.content if block.type == "tool_use"]
    result = {"type": "tool_result", "tool_use_id": call.id, "content": f"rain in {call.input['place']}"}
    turns = [
        *first["messages"],
        {"role": "assistant", "content": called.content},
        {"role": "user", "content": [result]},
    ]
    said = client.messages.create(**(first | {"messages": turns}))
    return {"stop_reason": called.stop_reason, "input": call.input, "text": said.content[0].text}


def stream_tool_use(client):
    asked = ask('The weather? [[tool:get_weather {"place": "Bergen"}]]', tools=[TOOL])
    with client.messages.stream(**asked) as events:
        message = events.get_final_message()
    return [block.input for block in message.content if block.type == "tool_use"]


def thinking(client):
    asked = ask("hello", max_tokens=2000, thinking={"type": "enabled", "budget_tokens": 1024})
    with client.messages.stream(**asked) as events:
        message = events.get_final_message()
    return [[block.type, bool(getattr(block, "signature", None))] for block in message.content]


ASKED = (
    ask("hello [[say:seven brown foxes]]"),
    ask('The weather? [[tool:get_weather {"place": "Bergen"}]]', tools=[TOOL]),
)


def whole_messages(client):
    return [client.messages.create(**asked).model_dump(mode="json") for asked in ASKED]


def whole_streams(client):
    found = []
    for asked in ASKED:
        with client.messages.create(**asked, stream=True) as events:
            found.append([event.model_dump(mode="json") for event in events])
    return found


def raw_headers(client):
    raw = client.messages.with_raw_response.create(**ask("hello", max_tokens=5))
    message = raw.parse()
    headers = {name.lower(): value for name, value in raw.headers.items()}
    return {"id": message.id, "sdk": message._request_id, "headers": headers}


def failing(**fault):
    def call(client):
        return message_facts(client.with_options(max_retries=0).messages.create(**ask("hello"), **simulate(**fault)))

    return call


def with_key(name):
    def call(client):
        return message_facts(client.copy(api_key=keys()[name]).messages.create(**ask("hello")))

    return call


def rate_limited(client):
    other = client.copy(api_key=keys()["rated"], max_retries=0)
    for _ in range(3):  # a minute may begin between two of them, but not twice
        other.messages.create(**ask("hello", max_tokens=5))


def unknown_model(client):
    return message_facts(client.messages.create(**ask("hello", model="claude-nonsense")))


def no_max_tokens(client):
    body = ask("hello")
    del body["max_tokens"]
    return client.post("/v1/messages", body=body, cast_to=object)


def broken_stream(client):
    with client.messages.stream(**ask("hello"), **simulate(error_at_event=6, error_type="overloaded_error")) as events:
        return message_facts(events.get_final_message())


def cut_stream(client):
    with client.messages.stream(**ask("hello"), **simulate(cut_after_event=6)) as events:
        return message_facts(events.get_final_message())


CALLS = {
    "create": create,
    "create_async": create_async,
    "stream": stream,
    "stream_events": stream_events,
    "count": count,
    "models": models,
    "model": model,
    "tool_use": tool_use,
    "stream_tool_use": stream_tool_use,
    "thinking": thinking,
    "whole_messages": whole_messages,
    "whole_streams": whole_streams,
    "raw_headers": raw_headers,
    "dead": with_key("dead"),
    "management": with_key("management"),
    "spent": with_key("spent"),
    "rated": rate_limited,
    "unknown_model": unknown_model,
    "no_max_tokens": no_max_tokens,
    "upstream_429": failing(status=429, retry_after=7),
    "upstream_529": failing(status=529),
    "upstream_500": failing(status=500),
    "upstream_401": failing(status=401),
    "broken_stream": broken_stream,
    "cut_stream": cut_stream,
}


def keys():
    return GIVEN["keys"]


def told(call, client):
    """What came of a call: its facts, or its error with every class that an application could catch."""
    try:
        return {"gave": call(client)}
    except anthropic.APIError as error:
        return {
            "raised": [kind.__name__ for kind in type(error).__mro__],
            "status": getattr(error, "status_code", None),
            "request_id": getattr(error, "request_id", None),
            "body": error.body,
            "text": str(error),
        }


def told_all(base_url):
    with anthropic.Anthropic(api_key=keys()["good"], base_url=base_url) as client:
        return {name: told(CALLS[name], client) for name in GIVEN.get("calls") or CALLS}


GIVEN = json.load(sys.stdin)

if __name__ == "__main__":
    json.dump({base_url: told_all(base_url) for base_url in GIVEN["base_urls"]}, sys.stdout)
