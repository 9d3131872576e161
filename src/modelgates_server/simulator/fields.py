"""What the clouds refuse in a body, beyond Anthropic's own rules (providers 2, 3 and 4)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from modelgates_server.simulator.betas import ADVANCED_TOOLS, FALLBACKS
from modelgates_server.simulator.request import Refused, invalid

MB: Final = 1024 * 1024

SERVER_TOOLS: Final = ("web_search_", "web_fetch_", "code_execution_", "advisor_", "mcp_toolset", "browser_")
NOT_ON_VERTEX: Final = SERVER_TOOLS[1:]
NEW_TOOLSETS: Final = ("browser_", "computer_toolset_20260801")

_COMPACT = ("compact-2026-01-12", "compact-2026-09-04")
_CONTEXT = ("context-management-2025-06-27", *_COMPACT)
_PER_TURN = ("per-turn-control-2026-07-01",)
_TOOL_CHANGES = ("mid-conversation-tool-changes-2026-07-01",)
_OUTPUT_CHANGES = ("mid-conversation-output-config-2026-07-01", *_PER_TURN)

_TOP_LEVEL: Final = {
    "context_management": _CONTEXT,
    "mcp_servers": ("mcp-client-2025-04-04", "mcp-client-2025-11-20"),
    "safeguards": ("dangerous-tool-use-2026-09-03",),
    "fallbacks": FALLBACKS,
}
_IN_TOOLS: Final = ("defer_loading", "input_examples", "allowed_callers")
_IN_SYSTEM_MESSAGES: Final = {"clear_at": _PER_TURN, "output_config": _OUTPUT_CHANGES}
_IN_SYSTEM_CONTENT: Final = {"tool_addition": _TOOL_CHANGES, "tool_removal": _TOOL_CHANGES}

Needs = Iterator[tuple[str, tuple[str, ...]]]


@dataclass(frozen=True, slots=True)
class Limits:
    """What one wire refuses. All of it is refused with 400."""

    fields: frozenset[str] = frozenset()
    """Top-level fields."""
    tools: tuple[str, ...] = ()
    """Beginnings of tool types."""
    sources: frozenset[str] = frozenset()
    """Types of the sources of images and documents."""
    image_bytes_max: int = 10 * MB
    """Of one base64 image, as it is written in the body."""
    formats: bool = True
    """Whether structured outputs are offered."""
    tool_fields: bool = True
    """Whether tools may be deferred, have examples, or be called by programs."""
    scopes: bool = True
    """Whether `cache_control.scope` is offered."""


def check_fields(body: dict[str, Any], betas: list[str], limits: Limits) -> None:
    """Raise Refused for the first field that the wire, or the betas that came along, do not allow."""
    for name in sorted(limits.fields & body.keys()):
        raise extra(name)
    _check_tools(body, limits)
    _check_format(body, limits)
    for path, block in _blocks(body):
        _check_block(path, block, limits)
    for path, mark in _cache_marks(body):
        if "scope" in mark and not limits.scopes:
            raise extra(f"{path}.cache_control.scope")
    for path, wanted in _needs(body):
        if not any(beta in betas for beta in wanted):
            raise extra(path)


def extra(path: str) -> Refused:
    """A field that is not known there."""
    return invalid(f"{path}: Extra inputs are not permitted")


def dicts(value: Any) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects in a list, with their places; nothing if it is no list."""
    if isinstance(value, list):
        yield from ((at, item) for at, item in enumerate(value) if isinstance(item, dict))


def _check_tools(body: dict[str, Any], limits: Limits) -> None:
    for at, tool in dicts(body.get("tools")):
        kind = tool.get("type")
        if isinstance(kind, str) and limits.tools and kind.startswith(limits.tools):
            raise invalid(
                f"tools.{at}: Input tag '{kind}' found using 'type' does not match any of the expected tags: "
                "'bash_20250124', 'custom', 'memory_20250818', 'text_editor_20250728'"
            )
        for name in _IN_TOOLS:
            if name in tool and not limits.tool_fields:
                raise extra(f"tools.{at}.{name}")


def _check_format(body: dict[str, Any], limits: Limits) -> None:
    config = body.get("output_config")
    if not limits.formats and isinstance(config, dict) and config.get("format") is not None:
        raise extra("output_config.format")


def _check_block(path: str, block: dict[str, Any], limits: Limits) -> None:
    source = block.get("source")
    if not isinstance(source, dict):
        return
    kind = source.get("type")
    if kind in limits.sources:
        raise invalid(
            f"{path}.{block.get('type')}.source: Input tag '{kind}' found using 'type' does not match any of the "
            "expected tags: 'base64', 'content', 'text'"
        )
    data = source.get("data")
    if block.get("type") == "image" and isinstance(data, str) and len(data) > limits.image_bytes_max:
        raise invalid(
            f"{path}.image.source.base64: image exceeds {limits.image_bytes_max // MB} MB maximum: "
            f"{len(data)} bytes > {limits.image_bytes_max} bytes"
        )


def _blocks(body: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every content block of the messages, tool results included, with its path."""
    for at, message in dicts(body.get("messages")):
        for place, block in dicts(message.get("content")):
            path = f"messages.{at}.content.{place}"
            yield path, block
            if block.get("type") == "tool_result":
                for inner, part in dicts(block.get("content")):
                    yield f"{path}.tool_result.content.{inner}", part


def _cache_marks(body: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    marked = [("", body), *_blocks(body)]
    for name in ("system", "tools"):
        marked += [(f"{name}.{at}", block) for at, block in dicts(body.get(name))]
    for path, block in marked:
        mark = block.get("cache_control")
        if isinstance(mark, dict):
            yield path, mark


def _needs(body: dict[str, Any]) -> Needs:
    """The fields that belong to betas, with the betas of which one must be sent (providers 4)."""
    for name, betas in _TOP_LEVEL.items():
        if body.get(name) is not None:
            yield name, betas
    if body.get("speed") == "fast":
        yield "speed", ("fast-mode-2026-02-01",)
    thinking = body.get("thinking")
    if isinstance(thinking, dict):
        if "block_binding" in thinking:
            yield "thinking.block_binding", ("thinking-binding-controls-2026-08-01",)
        if thinking.get("display") == "updates":
            yield "thinking.display", ("thinking-display-updates-2026-08-18",)
    container = body.get("container")
    if isinstance(container, dict) and "skills" in container:
        yield "container.skills", ("skills-2025-10-02",)
    for at, tool in dicts(body.get("tools")):
        for name in _IN_TOOLS:
            if name in tool:
                yield f"tools.{at}.{name}", ADVANCED_TOOLS
    for path, block in _blocks(body):
        source = block.get("source")
        if isinstance(source, dict) and source.get("type") == "file":
            yield f"{path}.source.file", ("files-api-2025-04-14",)
    for path, mark in _cache_marks(body):
        if "scope" in mark:
            yield f"{path}.cache_control.scope", ("prompt-caching-scope-2026-01-05",)
    yield from _needs_of_system_messages(body)


def _needs_of_system_messages(body: dict[str, Any]) -> Needs:
    for at, message in dicts(body.get("messages")):
        if message.get("role") != "system":
            continue
        for name, betas in _IN_SYSTEM_MESSAGES.items():
            if name in message:
                yield f"messages.{at}.{name}", betas
        for place, block in dicts(message.get("content")):
            wanted = _IN_SYSTEM_CONTENT.get(str(block.get("type")))
            if wanted:
                yield f"messages.{at}.content.{place}", wanted
