"""Answers as JSON with exact numbers: amounts are written with every digit, and no float comes near them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from starlette.responses import Response

from modelgates_server.money import usd_text


class Answer(Response):
    """A response whose content is plain data; each ``<name>_nusd`` member, at any depth, is written as ``<name>`` in USD."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Write the body."""
        return msgspec.json.encode(in_usd(content))


def answer(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    """Answer with plain data (dicts, lists, text, numbers, msgspec structs are written as they are)."""
    return Answer(content, status, dict(headers) if headers else None)


def page(rows: Sequence[Any], total: int) -> Answer:
    """Answer with one page of a list (product-surface 2, conventions)."""
    return answer({"data": rows, "total_count": total})


def in_usd(content: Any) -> Any:
    """Give the same data with whole nano-USD, in members named so, turned into exact JSON numbers in USD."""
    if isinstance(content, dict):
        return dict(_member(name, value) for name, value in content.items())
    if isinstance(content, list | tuple):
        return [in_usd(item) for item in content]
    return content


def _member(name: str, value: Any) -> tuple[str, Any]:
    if not name.endswith("_nusd"):
        return name, in_usd(value)
    return name.removesuffix("_nusd"), None if value is None else msgspec.Raw(usd_text(value).encode())
