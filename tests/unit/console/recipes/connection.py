"""Connections that recipes are written for: an ordinary one, and one whose values would break every format that is not careful."""

from __future__ import annotations

from pathlib import Path

from modelgates_server.console.recipes.values import Connection, Listed

GOLDEN = Path(__file__).with_name("golden")
KEY = "sk-mg-v1-" + "0123456789" * 4 + "ABCabc789"

MODELS = (
    Listed("claude-fable-5-2", "Claude Fable 5.2", "fable", supports_1m=True, is_default=True),
    Listed("claude-opus-5-5", "Claude Opus 5.5", "opus", supports_1m=True, is_default=True),
    Listed("claude-opus-4-8", "Claude Opus 4.8", "opus", supports_1m=True),
    Listed("claude-sonnet-5", "Claude Sonnet 5", "sonnet", supports_1m=True, is_default=True),
    Listed("claude-haiku-4-5", "Claude Haiku 4.5", "haiku", is_default=True),
)
USUAL = Connection("https://gateway.example.com/api", KEY, MODELS)
DISCOVERING = Connection("https://gateway.example.com/api", KEY, MODELS, discovery=True)

ODD = 'it\'s "odd" & <b>, \\o/ $HOME `id` %PATH% ${x} 日本'
HOSTILE = Connection(f"https://gateway.example.com/{ODD}", ODD, (Listed("claude-odd", ODD, "opus"),))
