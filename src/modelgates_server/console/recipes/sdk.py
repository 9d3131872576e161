"""SDKs and curl: the shortest program that gets an answer. The key comes from a variable: a program is not the place for it."""

from __future__ import annotations

import json
import shlex
from typing import Final

from modelgates_server.console.recipes import code
from modelgates_server.console.recipes.values import Connection, lines

KEY: Final = code.SECRET
FALLBACK_MODEL: Final = "claude-sonnet-5"
"""Shown where no model is listed."""


def key_variable(connection: Connection) -> str:
    """The variable that all the programs read, for a POSIX shell."""
    return code.shell({KEY: connection.key})


def python(connection: Connection) -> str:
    """The anthropic SDK for Python."""
    return lines(
        "import os",
        "",
        "from anthropic import Anthropic",
        "",
        f'client = Anthropic(base_url={_quoted(connection.base_url)}, api_key=os.environ["{KEY}"])',
        "message = client.messages.create(",
        f"    model={_quoted(model_of(connection))},",
        "    max_tokens=1000,",
        '    messages=[{"role": "user", "content": "Say hello."}],',
        ")",
        'print("".join(block.text for block in message.content if block.type == "text"))',
    )


def typescript(connection: Connection) -> str:
    """The anthropic SDK for TypeScript and JavaScript."""
    return lines(
        'import Anthropic from "@anthropic-ai/sdk";',
        "",
        f"const client = new Anthropic({{ baseURL: {_quoted(connection.base_url)}, apiKey: process.env.{KEY} }});",
        "const message = await client.messages.create({",
        f"  model: {_quoted(model_of(connection))},",
        "  max_tokens: 1000,",
        '  messages: [{ role: "user", content: "Say hello." }],',
        "});",
        'console.log(message.content.map((block) => (block.type === "text" ? block.text : "")).join(""));',
    )


def curl(connection: Connection) -> str:
    """No SDK at all."""
    body = {
        "model": model_of(connection),
        "max_tokens": 1000,
        "messages": [{"role": "user", "content": "Say hello."}],
    }
    return lines(
        f"curl {shlex.quote(connection.base_url + '/v1/messages')} \\",
        f'  -H "Authorization: Bearer ${KEY}" \\',
        "  -H 'anthropic-version: 2023-06-01' \\",
        "  -H 'content-type: application/json' \\",
        f"  -d {shlex.quote(json.dumps(body))}",
    )


def agent_python(connection: Connection) -> str:
    """The Claude Agent SDK for Python, which runs Claude Code and is set up like it."""
    return lines(
        "import asyncio",
        "import os",
        "",
        "from claude_agent_sdk import ClaudeAgentOptions, query",
        "",
        "options = ClaudeAgentOptions(",
        "    env={",
        f'        "ANTHROPIC_BASE_URL": {_quoted(connection.base_url)},',
        f'        "ANTHROPIC_AUTH_TOKEN": os.environ["{KEY}"],',
        '        "ANTHROPIC_API_KEY": "",',
        "    }",
        ")",
        "",
        "",
        "async def main() -> None:",
        '    async for message in query(prompt="Say hello.", options=options):',
        "        print(message)",
        "",
        "",
        "asyncio.run(main())",
    )


def agent_typescript(connection: Connection) -> str:
    """The Claude Agent SDK for TypeScript."""
    return lines(
        'import { query } from "@anthropic-ai/claude-agent-sdk";',
        "",
        "const env = {",
        "  ...process.env,",
        f"  ANTHROPIC_BASE_URL: {_quoted(connection.base_url)},",
        f"  ANTHROPIC_AUTH_TOKEN: process.env.{KEY},",
        '  ANTHROPIC_API_KEY: "",',
        "};",
        'for await (const message of query({ prompt: "Say hello.", options: { env } })) {',
        "  console.log(message);",
        "}",
    )


def model_of(connection: Connection) -> str:
    """The model that examples ask for."""
    listed = connection.listed
    return connection.newest("sonnet") or (listed[0].name if listed else FALLBACK_MODEL)


def _quoted(text: str) -> str:
    """Text as Python and JavaScript both write it."""
    return json.dumps(text)
