"""Claude Code's own notice of a budget that runs out, from the headers of our answers (client-protocol X-7).

Claude Code reads them when it is told that it talks to a gateway: CLAUDE_CODE_USE_GATEWAY=1. A terminal then shows
"You've used 85% of your usage credits · resets Dec 1, 12am (UTC)"; a headless run reports the same as an event.
"""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from tests.clients.house import ClaudeCode, House
from tests.support.process import Ran, fetch

from modelgates_server.limits import Window

pytestmark = [pytest.mark.clients, pytest.mark.slow]

LARGE = {"model": "claude-opus-4-8", "max_tokens": 128_000, "messages": [{"role": "user", "content": "much"}]}
LARGE_COSTS_USD = 3.2  # 128,000 tokens at 25 USD for a million


def key_of_which_is_used(house: House, percent: int) -> str:
    """A key with a monthly limit of which four large requests have used about that share."""
    limit = f"{LARGE_COSTS_USD * 4 * 100 / percent:.4f}"
    made = house.stand.cli("keys", "create", "--name", "noticed", "--limit", limit, "--limit-reset", "monthly")
    control = json.dumps({"usage": {"input_tokens": 10, "output_tokens": LARGE["max_tokens"]}})
    headers = {"x-api-key": made.json["key"], "anthropic-version": "2023-06-01", "anthropic-simulate": control}
    for _ in range(4):
        fetch(f"{house.server.url}/api/v1/messages", headers, json.dumps(LARGE).encode())
    return str(made.json["key"])


def noticed(ran: Ran) -> list[dict[str, Any]]:
    """What a headless run reports about limits."""
    assert ran.code == 0, ran.err
    events = [json.loads(line) for line in ran.out.splitlines() if line.startswith("{")]
    return [event["rate_limit_info"] for event in events if event["type"] == "rate_limit_event"]


def ask(claude: ClaudeCode, key: str, **variables: str) -> Ran:
    words = ("--output-format", "stream-json", "--verbose")
    return claude.ask("hello", *words, ANTHROPIC_AUTH_TOKEN=key, ANTHROPIC_API_KEY="", **variables)


def test_claude_code_notices_how_much_of_a_budget_is_used(house: House, claude: ClaudeCode) -> None:
    """Share, threshold and reset arrive as we sent them."""
    key = key_of_which_is_used(house, 85)
    (notice,) = noticed(ask(claude, key, CLAUDE_CODE_USE_GATEWAY="1"))

    assert (notice["status"], notice["rateLimitType"]) == ("allowed_warning", "overage")
    assert (notice["utilization"], notice["surpassedThreshold"]) == (0.85, 0.8)
    assert notice["resetsAt"] == Window.MONTH.bounds_s(time.time())[1]


def test_claude_code_is_silent_below_half_and_without_its_switch(house: House, claude: ClaudeCode) -> None:
    """Nobody is bothered by a budget that is hardly touched; the plain set-up never shows a notice."""
    quiet = noticed(ask(claude, house.keys["good"], CLAUDE_CODE_USE_GATEWAY="1"))
    assert all(event["status"] == "allowed" and "utilization" not in event for event in quiet)
    assert noticed(ask(claude, key_of_which_is_used(house, 85))) == []


def test_a_refusal_is_still_printed_as_we_wrote_it(house: House, claude: ClaudeCode) -> None:
    """The headers of a refusal do not put Claude Code's own words in place of ours."""
    ran = claude.ask(
        "hello", ANTHROPIC_AUTH_TOKEN=house.keys["spent"], ANTHROPIC_API_KEY="", CLAUDE_CODE_USE_GATEWAY="1"
    )

    assert ran.code == 1
    assert "The key's limit does not cover this request" in ran.out
