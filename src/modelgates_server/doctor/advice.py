"""What to do about what was found, for two readers: whoever has a terminal on the gateway's machine, and a visitor of the console."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

Advice = Mapping[str, str]
"""Remedies by the HTTP status of a refusal as text, or by a word: `server` (nobody answers), `empty` (a list of no models),
`hidden` (a list of which a client shows nothing), `books` (two figures differ), `log` (for the rest)."""

TERMINAL: Final[Advice] = {
    "401": "check the key; make one with `modelgates keys create --name NAME`",
    "402": "`modelgates credits show`; grant credit or raise the limit that the message names",
    "403": "use an inference key (sk-mg-v1-…), not a management key",
    "404": "the base URL ends in /api, without /v1",
    "429": "a rate limit of the key or of the provider: wait, or raise it",
    "503": "see `modelgates doctor` on the gateway's machine: provider key and database",
    "server": "start it with `modelgates serve`, and check host and port of the base URL",
    "empty": "`modelgates credits show`; grant credit or raise the key's limit",
    "hidden": "name the models like Claude's: the page Models of the console says why each is hidden",
    "books": "run `modelgates db check`",
    "log": "look at the gateway's log",
}
CONSOLE: Final[Advice] = {
    **TERMINAL,
    "401": "the key may have been switched off just now: choose another one on the page Keys",
    "402": "credit, or the limit that the message names, is used up: the page Keys shows how full each is; ask an administrator",
    "403": "choose an inference key: a management key cannot ask models",
    "404": "the page Models says which models this key may use, and why the others are hidden",
    "429": "a rate limit of the key or of the provider: wait a minute and try again, or ask an administrator to raise it",
    "503": "ask an administrator to look at the page Providers, which says who is out of service and why",
    "server": "the operator looks at host, port and [server] public_url of the gateway",
    "empty": "credit or a limit is used up, or no provider is configured: the page Models says which",
    "books": "tell an administrator: `modelgates db check` finds the difference",
    "log": "tell an administrator: the gateway's log says more",
}
