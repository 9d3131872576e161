"""Read what a client asks of the Messages API.

Only the fields that we route and price by are checked; the rest, and all that lies inside `messages`, is the upstream's
business (design 5.21) and passes unseen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct

from modelgates_server.dialects.fields import TEXT_MAX, Fields, check_text
from modelgates_server.dialects.shape import read_shape
from modelgates_server.dialects.values import NO_PREFERENCES, Ask, Preferences
from modelgates_server.errors import BadRequest

if TYPE_CHECKING:
    from modelgates_server.dialects.values import Shape

_PROBE_BYTES_MAX: Final = 512
_METADATA_BYTES_MAX: Final = 4096
_OLD_SESSION_MARK: Final = "_session_"


class _Fallback(Struct, frozen=True, forbid_unknown_fields=True):
    model: str


class _Thinking(Struct, frozen=True):
    budget_tokens: Annotated[int, Meta(ge=0, le=10**9)] | None = None


class _Metadata(Struct, frozen=True):
    user_id: Any = None


class _ProbeBlock(Struct, frozen=True):
    type: str
    text: str


class _ProbeMessage(Struct, frozen=True):
    role: str
    content: str | list[_ProbeBlock]


_MODELS: Final = msgspec.json.Decoder(Annotated[list[str], Meta(max_length=8)])
_FALLBACKS: Final = msgspec.json.Decoder(Annotated[list[_Fallback], Meta(max_length=3)])
_THINKING: Final = msgspec.json.Decoder(_Thinking)
_PREFERENCES: Final = msgspec.json.Decoder(Preferences)
_METADATA: Final = msgspec.json.Decoder(_Metadata)
_PROBE: Final = msgspec.json.Decoder(list[_ProbeMessage])
_PROBES: Final[tuple[list[_ProbeMessage] | None, ...]] = (
    [_ProbeMessage("user", ".")],
    [_ProbeMessage("user", [_ProbeBlock("text", ".")])],
)


def read_ask(body: bytes, session_header: str | None = None, *, fallbacks_beta: bool = False) -> Ask:
    """Read the body of `POST /v1/messages`.

    `session_header` is the session id that came in a header. `fallbacks_beta` says that the request's betas make
    `fallbacks` the upstream's field, so that it is left alone. Raises BadRequest that names the field, or the position
    when the body is not JSON.
    """
    fields = Fields(body)
    return _ask(fields, session_header, counting=False, fallbacks_beta=fallbacks_beta)


def read_count(body: bytes, session_header: str | None = None, *, fallbacks_beta: bool = False) -> Ask:
    """Read the body of `POST /v1/messages/count_tokens`, which generates nothing: no `max_tokens`, no stream."""
    return _ask(Fields(body), session_header, counting=True, fallbacks_beta=fallbacks_beta)


def _ask(fields: Fields, session_header: str | None, *, counting: bool, fallbacks_beta: bool) -> Ask:
    model = _model(fields)
    _check_messages(fields)
    max_tokens = None if counting else _max_tokens(fields)
    stream = not counting and fields.boolean("stream")
    thinking = fields.decode("thinking", _THINKING)
    shape = read_shape(fields)
    text = fields.text
    return Ask(
        body=fields.body,
        spans=fields.spans,
        model=model,
        shape=shape,
        stream=stream,
        max_tokens=max_tokens,
        thinking_budget=(thinking and thinking.budget_tokens) or 0,
        speed=text("speed"),
        service_tier=text("service_tier"),
        inference_geo=text("inference_geo"),
        session_id=text("session_id") or _usable(session_header) or _metadata_session(fields),
        user=text("user"),
        models=_models(fields, fallbacks_beta=fallbacks_beta),
        provider=fields.decode("provider", _PREFERENCES) or NO_PREFERENCES,
        is_probe=max_tokens == 1 and _is_probe(fields, shape),
    )


def _model(fields: Fields) -> str:
    if fields.span("model") is None:
        raise BadRequest("model: Field required")
    model = fields.text("model")
    if model is None:
        raise BadRequest("model: String should have at least 1 character")
    return model


def _max_tokens(fields: Fields) -> int:
    max_tokens = fields.integer("max_tokens")
    if max_tokens is None:
        raise BadRequest("max_tokens: Field required")
    return max_tokens


def _check_messages(fields: Fields) -> None:
    span = fields.span("messages")
    if span is None:
        raise BadRequest("messages: Field required")
    start, end = span
    if fields.body[start] != ord("["):
        raise BadRequest("messages: Input should be a valid list")
    if end - start < 64 and not fields.body[start + 1 : end - 1].strip():
        raise BadRequest("messages: at least one message is required")


def _models(fields: Fields, *, fallbacks_beta: bool) -> tuple[str, ...]:
    """Read the alternatives in `models`, or in `fallbacks` when that is ours; never both (product-surface 1.2)."""
    models = fields.decode("models", _MODELS)
    fallbacks = None if fallbacks_beta else fields.decode("fallbacks", _FALLBACKS)
    if models and fallbacks:
        raise BadRequest("fallbacks: Cannot be used together with models")
    name, listed = ("models", models) if models else ("fallbacks", [entry.model for entry in fallbacks or ()])
    for index, model in enumerate(listed):
        if not check_text(f"{name}.{index}", model):
            raise BadRequest(f"{name}.{index}: String should have at least 1 character")
    return tuple(listed)


def _usable(session: object) -> str | None:
    """Take a session id from where we must not refuse: a plain short string, anything else is ignored."""
    return session if isinstance(session, str) and 0 < len(session) <= TEXT_MAX and session.isprintable() else None


def _metadata_session(fields: Fields) -> str | None:
    """Find the session in `metadata.user_id`, which Claude Code sends as JSON inside a string (client-protocol H-7).

    Older versions sent ``user_…_account_…_session_<id>``. Whatever else is in there is not ours to judge.
    """
    span = fields.span("metadata")
    if span is None or span[1] - span[0] > _METADATA_BYTES_MAX:
        return None
    try:
        user_id = _METADATA.decode(fields.body[span[0] : span[1]]).user_id
        if not isinstance(user_id, str):
            return None
        if not user_id.startswith("{"):
            return _usable(user_id.rpartition(_OLD_SESSION_MARK)[2]) if _OLD_SESSION_MARK in user_id else None
        identity = msgspec.json.decode(user_id)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None
    return _usable(identity.get("session_id"))


def _is_probe(fields: Fields, shape: Shape) -> bool:
    """Whether this is the connection test of Claude Desktop (client-protocol D-2)."""
    if len(fields.body) >= _PROBE_BYTES_MAX or shape.has_tools or fields.span("system") is not None:
        return False
    try:
        return fields.decode("messages", _PROBE) in _PROBES
    except BadRequest:
        return False
