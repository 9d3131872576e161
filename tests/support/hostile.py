"""Text that people and clients send to do harm where it is shown, and a look at whether a page let it."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Final

MARKUP: Final = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onfocus=alert(1) autofocus x='",
    "</title></textarea></select><svg onload=alert(1)>",
    "javascript:alert(1)",
    "{{ 7 * 7 }}${7*7}<%= 7 %>",
    "<!--<b>-->&lt;b&gt;",
)
"""For pages (reliability row 89)."""

FORMULAS: Final = ("=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1")
"""For spreadsheets (row 90)."""

ODD: Final = "".join(MARKUP)
"""All of the first in one."""

_LINKS: Final = frozenset({"href", "src", "action", "formaction", "hx-get", "hx-post"})


class _Reader(HTMLParser):
    """Collects what of a page would run or load something."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        if (tag == "script" and not (named.get("src") or "").startswith("/")) or tag in {
            "img",
            "iframe",
            "object",
            "b",
        }:
            self.found.append(f"<{tag} {named}>")
        for name, value in attrs:
            link = (value or "").strip().lower()
            bad = name in _LINKS and not link.startswith(("/", "#", "http://", "https://")) and link != ""
            if bad or name.startswith("on") or name in {"style", "autofocus", "srcdoc"}:
                self.found.append(f"{tag}[{name}={value}]")


def live_parts(html: str) -> list[str]:
    """What of a page would run, load or style something that its templates do not mean to; nothing, of a good page."""
    reader = _Reader()
    reader.feed(html)
    return reader.found
