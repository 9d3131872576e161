"""Models as `GET /v1/models` shows them: one entry with the fields of both worlds, one envelope with those of both.

Sources: product-surface 2.3 and 2.4, client-protocol 4. Only the id differs between the forms: bare hyphen ids for Claude
clients, whose effort selector knows no others; slugs for everybody else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise
from typing import Any, Final

from modelgates_server.catalogue.load import Catalogue
from modelgates_server.catalogue.models import Model, Modifiers, Rates
from modelgates_server.catalogue.price import PPM
from modelgates_server.errors import BadRequest

PAGE_MAX: Final = 1000
"""Also the default: no client follows pages (client-protocol M-1)."""

THINKING_TYPES: Final = ("adaptive", "enabled", "disabled", "between_tools")
EFFORTS: Final = ("low", "medium", "high", "xhigh", "max")

_CLAUDE_WORDS: Final = ("claude", "sonnet", "opus", "haiku", "fable", "mythos", "anthropic")
_CLAUDE_CODE_WORDS: Final = ("claude", "anthropic")
_OTHER_VENDORS: Final = (
    "gpt", "openai", "gemini", "gemma", "grok", "llama", "mistral", "mixtral", "qwen", "deepseek", "kimi", "glm", "nova-",
    "codex", "command-r", "phi-", "granite",
)  # fmt: skip

_PARAMETERS: Final = ("max_tokens", "stop", "tools", "tool_choice")
_SAMPLING: Final = ("temperature", "top_p", "top_k")
_REASONING: Final = ("reasoning", "include_reasoning")
_STRUCTURED: Final = ("structured_outputs", "response_format")
_PRICE_KEYS: Final = {
    "prompt": "input",
    "completion": "output",
    "input_cache_read": "cache_read",
    "input_cache_write": "cache_write_5m",
    "input_cache_write_1h": "cache_write_1h",
}
"""Product-surface 2.3's names for our rates."""


def desktop_visible(model_id: str) -> tuple[bool, str]:
    """Whether Claude Desktop's picker keeps an id, and why (client-protocol M-4; the deny list wins)."""
    lowered = model_id.lower()
    for vendor in _OTHER_VENDORS:
        if vendor in lowered:
            return False, f"the name contains {vendor!r}, which Claude Desktop takes for another vendor's model"
    if any(word in lowered for word in _CLAUDE_WORDS):
        return True, "the name is recognisably Claude"
    return False, f"the name contains none of {', '.join(_CLAUDE_WORDS)}"


def claude_code_visible(model_id: str) -> tuple[bool, str]:
    """Whether Claude Code's discovery keeps an id, and why (client-protocol M-3)."""
    if any(word in model_id.lower() for word in _CLAUDE_CODE_WORDS):
        return True, "the name is recognisably Claude"
    return False, f"the name contains none of {', '.join(_CLAUDE_CODE_WORDS)}"


def entry(model: Model, *, anthropic_form: bool, catalogue: Catalogue, when_s: float) -> dict[str, Any]:
    """One model with the fields of both worlds."""
    return {
        "id": model.id if anthropic_form else model.slug,
        **_anthropic_fields(model, catalogue),
        **_openrouter_fields(model, catalogue, when_s),
    }


def page(
    models: Sequence[Model], query: Mapping[str, str], *, anthropic_form: bool, catalogue: Catalogue, when_s: float
) -> dict[str, Any]:
    """The list, or the part of it that `query` asks for by `limit` and `after_id`, `before_id` or `offset`.

    A Claude client gets only what its pickers keep: an entry that they drop would look like a mistake of ours.
    Raises BadRequest for a bad number, and for a cursor that is not in the list: reading on from there could go in circles.
    """
    if anthropic_form:
        models = [model for model in models if desktop_visible(model.id)[0] and claude_code_visible(model.id)[0]]
    ids = [model.id if anthropic_form else model.slug for model in models]
    limit = _number(query, "limit", PAGE_MAX, 1)
    start, end = _window(query, ids, limit)
    shown = ids[start:end]
    more = start > 0 if "before_id" in query else end < len(ids)
    return {
        "data": [
            entry(model, anthropic_form=anthropic_form, catalogue=catalogue, when_s=when_s)
            for model in models[start:end]
        ],
        "has_more": more,
        "first_id": shown[0] if shown else None,
        "last_id": shown[-1] if shown else None,
        "total_count": len(ids),
        "links": {"next": f"/api/v1/models?offset={end}&limit={limit}" if end < len(ids) else None},
    }


def _window(query: Mapping[str, str], ids: Sequence[str], limit: int) -> tuple[int, int]:
    for cursor in ("after_id", "before_id"):
        if cursor in query and query[cursor] not in ids:
            raise BadRequest(f"{cursor}: {query[cursor][:100]!r} is not in the list")
    if "after_id" in query:
        start = ids.index(query["after_id"]) + 1
        return start, min(start + limit, len(ids))
    if "before_id" in query:
        end = ids.index(query["before_id"])
        return max(0, end - limit), end
    start = min(_number(query, "offset", 0, 0), len(ids))
    return start, min(start + limit, len(ids))


def _number(query: Mapping[str, str], name: str, default: int, least: int) -> int:
    text = query.get(name)
    if text is None:
        return default
    if not re.fullmatch(r"[0-9]{1,4}", text) or not least <= int(text) <= PAGE_MAX:
        raise BadRequest(f"{name}: Input should be a whole number from {least} to {PAGE_MAX}")
    return int(text)


def _anthropic_fields(model: Model, catalogue: Catalogue) -> dict[str, Any]:
    """Anthropic's ModelInfo, and the hints that Claude Desktop reads (product-surface 2.4)."""
    newest = catalogue.names.newest.get(model.family) if model.family else None
    return {
        "type": "model",
        "display_name": model.name,
        "created_at": _rfc3339(model.created_s),
        "max_input_tokens": model.context_tokens,
        "max_tokens": model.max_output_tokens,
        "lifecycle": model.lifecycle,
        "deprecated_at": None,
        "retires_at": _rfc3339(model.retires_s) if model.retires_s is not None else None,
        "line": model.family,
        "anthropic_family_tier": model.family,
        "is_family_default": newest is model,
        "supports_1m": model.supports_1m,
        "capabilities": _capabilities(model),
    }


def _openrouter_fields(model: Model, catalogue: Catalogue, when_s: float) -> dict[str, Any]:
    """The Model object of product-surface 2.3."""
    return {
        "canonical_slug": model.canonical_slug,
        "hugging_face_id": None,
        "name": full_name(model),
        "created": model.created_s,
        "description": model.description,
        "context_length": model.context_tokens,
        "architecture": architecture(model),
        "pricing": pricing(model, catalogue.modifiers, when_s),
        "top_provider": {
            "context_length": model.context_tokens,
            "max_completion_tokens": model.max_output_tokens,
            "is_moderated": False,
        },
        "per_request_limits": None,
        "supported_parameters": parameters(model),
        "default_parameters": {},
        "supported_voices": None,
        "reasoning": _reasoning(model),
        "expiration_date": _rfc3339(model.retires_s)[:10] if model.retires_s is not None else None,
        "links": {"details": f"/api/v1/models/{model.slug}"},
    }


def _capabilities(model: Model) -> dict[str, Any]:
    """What the model can do through this gateway, in the shape of Anthropic's ModelCapabilities; every key is present."""
    has = model.capabilities.__contains__
    thinking = {kind: {"supported": has(f"thinking_{kind}")} for kind in THINKING_TYPES}
    claude = model.family is not None
    return {
        "batch": {"supported": False},  # the gateway has no batch path
        "citations": {"supported": claude},
        "code_execution": {"supported": has("programmatic_tools")},
        "context_management": {
            "supported": claude,
            "clear_thinking_20251015": {"supported": claude},
            "clear_tool_uses_20250919": {"supported": claude},
            "compact_20260112": {"supported": has("compaction")},
        },
        "effort": {
            "supported": bool(model.efforts),
            **{effort: {"supported": effort in model.efforts} for effort in EFFORTS},
        },
        "image_input": {"supported": "image" in model.input_modalities},
        "pdf_input": {"supported": "file" in model.input_modalities},
        "server_tools": {
            "supported": claude,
            "code_execution": {"supported": claude},
            "web_search": {"supported": claude},
        },
        "structured_outputs": {"supported": has("structured_outputs")},
        "thinking": {"supported": _thinks(model), "types": thinking},
    }


def _reasoning(model: Model) -> dict[str, Any] | None:
    if not _thinks(model):
        return None
    has = model.capabilities.__contains__
    return {
        "supported_efforts": list(model.efforts),
        "default_effort": model.default_effort,
        "mandatory": not (has("thinking_disabled") or has("thinking_between_tools")),
        "supports_max_tokens": has("thinking_enabled"),
    }


def _thinks(model: Model) -> bool:
    return bool(model.capabilities & {"thinking_adaptive", "thinking_enabled"})


def parameters(model: Model) -> list[str]:
    """What a client of the OpenRouter world may ask of the model."""
    return [
        *_PARAMETERS,
        *(_SAMPLING if "sampling_removed" not in model.capabilities else ()),
        *(_REASONING if _thinks(model) else ()),
        *(_STRUCTURED if "structured_outputs" in model.capabilities else ()),
    ]


def full_name(model: Model) -> str:
    """The model with its author, as people read it."""
    return f"Anthropic: {model.name}" if model.family else model.name


def architecture(model: Model) -> dict[str, Any]:
    """What goes in and what comes out (product-surface 2.3)."""
    return {
        "modality": f"{'+'.join(model.input_modalities)}->text",
        "input_modalities": list(model.input_modalities),
        "output_modalities": ["text"],
        "tokenizer": "Claude" if model.family else "Other",
        "instruct_type": None,
    }


def pricing(model: Model, modifiers: Modifiers, when_s: float, multiplier_ppm: int = PPM) -> dict[str, Any]:
    """Prices in USD per token as decimal text, at `multiplier_ppm` millionths of the list price; fees are not multiplied."""
    tiers = model.price(when_s).tiers
    return {
        **_rates(tiers[0].rates, multiplier_ppm),
        "request": "0",
        "image": "0",
        "internal_reasoning": "0",  # thinking is part of the completion
        "web_search": _usd(modifiers.web_search_pusd),
        "overrides": [
            {"min_prompt_tokens": (below.up_to_input_tokens or 0) + 1, **_rates(tier.rates, multiplier_ppm)}
            for below, tier in pairwise(tiers)
        ],
    }


def _rates(rates: Rates, multiplier_ppm: int) -> dict[str, str]:
    return {shown: _usd(getattr(rates, kind), multiplier_ppm) for shown, kind in _PRICE_KEYS.items()}


def _usd(pusd: int, multiplier_ppm: int = PPM) -> str:
    """Pico-USD as decimal text in USD, never in scientific notation."""
    return format((Decimal(pusd * multiplier_ppm) / (10**12 * PPM)).normalize(), "f")


def _rfc3339(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
