"""Which betas each wire takes: the table of providers 4, kept here on purpose a second time."""

from __future__ import annotations

from typing import Final

from modelgates_server.simulator.request import Refused, invalid

ADVANCED_TOOLS: Final = (
    "advanced-tool-use-2025-11-20",
    "tool-search-tool-2025-10-19",
    "tool-examples-2025-10-29",
)
"""Any of them allows the fields of searchable tools: the clouds know the first under the other two names."""

FALLBACKS: Final = ("server-side-fallback-2026-06-01", "server-side-fallback-2026-07-01")

_COLUMNS: Final = ("claude-on-aws", "foundry", "bedrock", "bedrock-invoke", "vertex")

# = passes, h passes only if Anthropic hosts the model, - is refused (also where another name passes), ? is not known.
_TABLE: Final = """
claude-code-20250219                        = = = - -
interleaved-thinking-2025-05-14             = = = - =
context-1m-2025-08-07                       = = = = =
context-management-2025-06-27               = = = = =
compact-2026-01-12                          = - = = =
compact-2026-09-04                          = = ? ? =
inline-tools-2026-09-15                     = ? ? ? =
effort-2025-11-24                           = = = = -
advanced-tool-use-2025-11-20                = h - - -
tool-search-tool-2025-10-19                 = ? = = =
tool-examples-2025-10-29                    ? ? = = ?
fine-grained-tool-streaming-2025-05-14      = - = = -
token-efficient-tools-2025-02-19            = - = - -
output-128k-2025-02-19                      = - = - -
structured-outputs-2025-11-13               = h = - -
web-search-2025-03-05                       = = = - =
web-fetch-2025-09-10                        = h - - -
code-execution-2025-08-25                   = h - - -
files-api-2025-04-14                        = h - - -
skills-2025-10-02                           = h - - -
mcp-client-2025-04-04                       = h - - -
mcp-client-2025-11-20                       = h - - -
computer-use-2025-01-24                     = = = = =
computer-use-2025-11-24                     = = = = =
dangerous-tool-use-2026-09-03               = = = = =
thinking-binding-controls-2026-08-01        = = = = =
thinking-display-updates-2026-08-18         = = = = =
mid-conversation-tool-changes-2026-07-01    = = ? = =
mid-conversation-output-config-2026-07-01   = ? ? = ?
per-turn-control-2026-07-01                 = = = - =
prompt-caching-scope-2026-01-05             = = - - -
advisor-tool-2026-03-01                     = - - - -
fast-mode-2026-02-01                        - - - - -
server-side-fallback-2026-06-01             - - - - -
server-side-fallback-2026-07-01             - - - - -
oauth-2025-04-20                            - - - - -
"""

_MARKS: Final = {
    beta: dict(zip(_COLUMNS, marks, strict=True))
    for beta, *marks in (line.split() for line in _TABLE.strip().splitlines())
}
_PASSES_UNLISTED: Final = frozenset({"claude-on-aws", "foundry"})
"""Anthropic runs these, so what the table does not list passes; the clouds' own fronts take only what they know."""


def check_betas(wire: str, betas: list[str], *, strict: bool, hosted_by_anthropic: bool) -> None:
    """Raise Refused for the first beta that the wire does not take. `strict` also refuses what is not known."""
    doubt = wire in _PASSES_UNLISTED or not strict
    for beta in betas:
        mark = _MARKS.get(beta, {}).get(wire, "?")
        if not {"=": True, "h": hosted_by_anthropic, "?": doubt}.get(mark, False):
            raise _refused(wire, beta)


def _refused(wire: str, beta: str) -> Refused:
    if wire.startswith("bedrock"):
        return invalid("invalid beta flag")
    return invalid(
        f"Unexpected value(s) `{beta}` for the `anthropic-beta` header. Please consult our documentation at "
        "docs.claude.com or try again without the header."
    )
