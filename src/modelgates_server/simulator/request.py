"""Reading a Messages body: one pass over it, and refusals in Anthropic's wording (client-protocol 7, X-4)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from json import JSONDecodeError, JSONDecoder
from typing import Any, Final

import msgspec

from modelgates_server.simulator.models import Model, find

BODY_BYTES_MAX: Final = 32 * 1024 * 1024
STRICT_VERSION: Final = "2026-10-21"
"""The API version that removed the sampling parameters (providers 1)."""

_RESULT_PREFIX_CHARS = 120
_SEARCHES_MAX = 20
_JSON = JSONDecoder()
_DIRECTIVE_TOOL = re.compile(r"\[\[tool:([\w.:/-]+)\s*")
_DIRECTIVE_SAY = re.compile(r"\[\[say:(.*?)\]\]", re.DOTALL)
_DIRECTIVE_NUMBER = re.compile(r"\[\[(tokens|search):(\d{1,9})\]\]")


class Refused(Exception):
    """The request is answered with an error.

    `error_type` is Anthropic's. `code` is the cloud's own word for it, if its front refuses and not the model behind.
    """

    def __init__(self, status: int, error_type: str, message: str, code: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.error_type = error_type
        self.message = message
        self.code = code


def invalid(message: str) -> Refused:
    return Refused(400, "invalid_request_error", message)


class Request(msgspec.Struct):
    """The top level of a body. Unknown fields are accepted; the large ones stay raw."""

    model: Any = None
    messages: msgspec.Raw = msgspec.Raw()
    system: msgspec.Raw = msgspec.Raw()
    tools: msgspec.Raw = msgspec.Raw()
    max_tokens: Any = None
    stream: Any = None
    thinking: Any = None
    metadata: Any = None
    cache_control: Any = None
    speed: Any = None
    inference_geo: Any = None
    anthropic_version: Any = None
    """Only where the wire has it in the body, as with the list of betas."""
    anthropic_beta: Any = None
    temperature: Any = msgspec.UNSET
    top_p: Any = msgspec.UNSET
    top_k: Any = msgspec.UNSET

    @property
    def user_id(self) -> str | None:
        user_id = self.metadata.get("user_id") if isinstance(self.metadata, dict) else None
        return user_id if isinstance(user_id, str) else None

    @property
    def thinking_type(self) -> str:
        """disabled, enabled or adaptive."""
        return str(self.thinking.get("type", "disabled")) if isinstance(self.thinking, dict) else "disabled"

    @property
    def thinking_hidden(self) -> bool:
        return isinstance(self.thinking, dict) and self.thinking.get("display") == "omitted"


class _Message(msgspec.Struct):
    role: str = ""
    content: Any = None


class _Tool(msgspec.Struct):
    name: str = ""
    type: str = "custom"


@dataclass(slots=True)
class Turn:
    """What the last user message asks of us. Numbers are None when it does not say."""

    tool_result: str | None = None
    """A short prefix of the first tool result, if the message holds tool results."""
    say: str | None = None
    tokens: int | None = None
    searches: int = 0
    calls: list[tuple[str, Any]] | None = None
    """Tools to call with their inputs: only tools that are offered."""


_DECODER = msgspec.json.Decoder(Request)
_LIST = msgspec.json.Decoder(list[msgspec.Raw])
_MESSAGE = msgspec.json.Decoder(_Message)
_TOOLS = msgspec.json.Decoder(list[_Tool])


def read_request(body: bytes) -> Request:
    """Decode the top level. Raises Refused (400) for anything but a JSON object."""
    try:
        return _DECODER.decode(body)
    except msgspec.ValidationError as error:
        raise invalid("Input should be a valid dictionary or object to extract fields from") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise invalid(f"The request body is not valid JSON: {error}") from error


def check(request: Request, version: str, *, counting: bool = False) -> Model:
    """Validate as Anthropic does and give the model. `counting` is for count_tokens, which has no `max_tokens`."""
    needed = {"model": request.model, "messages": request.messages}
    if not counting:
        needed["max_tokens"] = request.max_tokens
    for name, value in needed.items():
        if value is None or value == msgspec.Raw():
            raise invalid(f"{name}: Field required")
    if version == STRICT_VERSION:
        for name in ("temperature", "top_p", "top_k"):
            if getattr(request, name) is not msgspec.UNSET:
                raise invalid(f"{name}: Extra inputs are not permitted")
    if not isinstance(request.model, str):
        raise invalid("model: Input should be a valid string")
    model = find(request.model)
    if model is None:
        raise Refused(404, "not_found_error", f"model: {request.model}")
    if not counting:
        _check_generation(request, model)
    return model


def _check_generation(request: Request, model: Model) -> None:
    limit = request.max_tokens
    if not isinstance(limit, int) or isinstance(limit, bool):
        raise invalid("max_tokens: Input should be a valid integer")
    if limit < 0:
        raise invalid("max_tokens: Input should be greater than or equal to 0")
    if limit > model.max_tokens:
        raise invalid(
            f"max_tokens: {limit} > {model.max_tokens}, "
            f"which is the maximum allowed number of output tokens for {model.id}"
        )
    if request.stream is not None and not isinstance(request.stream, bool):
        raise invalid("stream: Input should be a valid boolean")
    if request.thinking_type == "enabled":
        budget = request.thinking.get("budget_tokens")
        if not isinstance(budget, int):
            raise invalid("thinking.enabled.budget_tokens: Field required")
        if limit <= budget:
            raise invalid("`max_tokens` must be greater than `thinking.budget_tokens`.")


def read_list(raw: msgspec.Raw, name: str) -> list[msgspec.Raw]:
    """Split a raw JSON array into its items, undecoded; an absent one is empty."""
    if not bytes(raw):
        return []
    try:
        return _LIST.decode(raw)
    except msgspec.DecodeError as error:
        raise invalid(f"{name}: Input should be a valid list") from error


def read_turn(request: Request) -> Turn:
    """Look at the last user message, and only there: so a second turn does not call the same tool again."""
    messages = read_list(request.messages, "messages")
    if not messages:
        raise invalid("messages: at least one message is required")
    for at in range(len(messages) - 1, -1, -1):
        try:
            message = _MESSAGE.decode(messages[at])
        except msgspec.DecodeError as error:
            raise invalid(f"messages.{at}: Input should be a valid dictionary") from error
        if message.role == "user":
            return _turn(message.content, request)
    return Turn()


def _turn(content: Any, request: Request) -> Turn:
    blocks = [block for block in content if isinstance(block, dict)] if isinstance(content, list) else []
    results = [block for block in blocks if block.get("type") == "tool_result"]
    if results:
        return Turn(tool_result=_text_of(results[0].get("content"))[:_RESULT_PREFIX_CHARS])
    text = _text_of(content)
    if "[[" not in text:
        return Turn()
    tools = _TOOLS.decode(request.tools) if bytes(request.tools) else []
    turn = Turn(calls=_calls(text, [tool.name for tool in tools]))
    said = _DIRECTIVE_SAY.search(text)
    turn.say = said.group(1) if said else None
    for name, number in _DIRECTIVE_NUMBER.findall(text):
        if name == "tokens":
            turn.tokens = int(number)
        elif any(tool.type.startswith("web_search") for tool in tools):
            turn.searches = min(int(number), _SEARCHES_MAX)
    return turn


def _calls(text: str, offered: list[str]) -> list[tuple[str, Any]]:
    """Read ``[[tool:NAME {"json": "input"}]]``; the name ``any`` stands for the first tool on offer."""
    calls = []
    for match in _DIRECTIVE_TOOL.finditer(text):
        name = offered[0] if match[1] == "any" and offered else match[1]
        if name not in offered:
            continue
        try:
            value, _ = _JSON.raw_decode(text, match.end())
        except JSONDecodeError:
            value = {}
        calls.append((name, value if isinstance(value, dict) else {}))
    return calls


def _text_of(content: Any) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    return "\n".join(str(block.get("text", "")) for block in content if isinstance(block, dict))
