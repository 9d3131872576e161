"""Edits of single top-level members that more than one wire needs."""

from __future__ import annotations

from collections.abc import Mapping

from modelgates_server.dialects.edit import add_member
from modelgates_server.errors import BadRequest
from modelgates_server.providers.base import Outgoing

OUTPUT_FORMAT = "output_format"
"""How structured outputs were asked for in their beta."""


def moved_output_format(request: Outgoing) -> Mapping[str, bytes]:
    """What to put instead of `output_format` where only `output_config.format` is known (providers 3.5): nothing, or one member."""
    span = request.ask.spans.get(OUTPUT_FORMAT)
    if span is None:
        return {}
    wanted = request.ask.body[slice(*span)]
    config = request.member("output_config") or b"{}"
    if wanted == b"null" or not config.startswith(b"{"):
        return {}
    try:
        return {"output_config": add_member(config, "format", wanted)}
    except BadRequest:
        return {}  # the upstream will say what is wrong with it
