"""A gateway full of names that would like to be more than names (reliability-security 3.4), and a little of everything else."""

from __future__ import annotations

from typing import Final

from tests.browser.house import House

MARKUP: Final = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'><svg/onload=alert(1)>",
    '" autofocus onfocus=alert(1) x="',
    "</title><script>alert(1)</script>",
    "</textarea><iframe src=javascript:alert(1)>",
    "{{7*7}}${7*7}<%= 7*7 %>",
    "javascript:alert(1)",
    "]]><!--<script>alert(1)//-->",
)
FORMULAS: Final = ("=HYPERLINK(0)", "+1+cmd", "-2+3", "@SUM(1)", "\t=1+1")
WORDS: Final = (*MARKUP, *FORMULAS)

INJECTED: Final = """
[...document.querySelectorAll("script:not([src^='/assets/']), img, iframe, object, embed, [onerror], [onload], [onfocus], [onclick]")]
  .map((one) => one.outerHTML.slice(0, 200))
"""


def settle_in(house: House) -> None:
    """Fill it: a member, a workspace, a guardrail and a key for each of the words, and requests that name them."""
    asked = 0
    for number, word in enumerate(WORDS):
        member = {"name": word, "email": f"hostile{number}@example.com", "role": "org:member"}
        member_id = house.made("/api/v1/organization/members", member)["data"]["id"]
        place = house.made("/api/v1/workspaces", {"name": word, "slug": f"place-{number}", "description": word})
        house.made("/api/v1/guardrails", {"name": word, "limit_usd": 5, "reset_interval": "daily"})
        wanted = {"name": word, "creator_user_id": member_id, "limit": 0.05, "limit_reset": "daily"}
        if number % 3 == 0:
            wanted["workspace_id"] = place["data"]["id"]
        key = house.made("/api/v1/keys", wanted)["key"]
        for _ in range(2):
            word_in_header = word.strip()
            told = house.ask(
                word, key, x_title=word_in_header, user_agent=word_in_header, x_session_id=word_in_header,
                http_referer=word_in_header,
            )  # fmt: skip
            asked += told.status == 200
    house.made(
        "/api/v1/organization/invitations", {"email": "guest@example.com", "name": MARKUP[0], "role": "org:member"}
    )
    assert asked >= len(WORDS)
