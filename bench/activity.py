"""The pages that read the history: how long the gateway takes for each, with ten million receipts in an embedded database.

Every page is asked for over HTTP as a browser asks, signed in as an administrator, one after the other: the session, the queries
and the rendering are in the figures. No page is asked for twice, but the overview; nothing is cached but what the kernel has of the file.
"""

from __future__ import annotations

import http.client
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from html.parser import HTMLParser
from urllib.parse import quote, urlsplit

from history import GENERATIONS, history
from subjects import Subject

PERIODS = ("hour", "day", "week", "month", "year")
GROUPS = ("model", "provider", "key", "member", "workspace", "app", "none")
METRICS = ("spend", "tokens", "requests")
LOGS_DEPTH = 8
"""So many pages of the log are turned."""

TIMEOUT_S = 60


@dataclass(frozen=True, slots=True)
class Took:
    """Milliseconds of each page of a kind, with its address."""

    name: str
    ms: Sequence[tuple[float, str]]

    def part(self, share: float) -> float:
        """The milliseconds that a share of the pages took at most."""
        ordered = sorted(ms for ms, _ in self.ms)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    @property
    def told(self) -> str:
        """In words, with the slowest page."""
        slowest_ms, path = max(self.ms)
        return (
            f"p50 {self.part(0.5):.0f} ms, p95 {self.part(0.95):.0f} ms of {len(self.ms)} pages;"
            f" slowest {slowest_ms:.0f} ms: {path}"
        )


class _Links(HTMLParser):
    """Collects the links and the options of filters of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.hrefs: list[tuple[str, str]] = []
        self.options: dict[str, list[str]] = {}
        self._select = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = {name: value or "" for name, value in attrs}
        if tag == "a":
            self.hrefs.append((named.get("rel", ""), named.get("href", "")))
        if tag == "select":
            self._select = named.get("name", "")
        if tag == "option" and named.get("value"):
            self.options.setdefault(self._select, []).append(named["value"])


class Visitor:
    """Somebody signed in. `get` gives a page and the milliseconds that it took to its last byte."""

    def __init__(self, subject: Subject, sign_in_url: str) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", subject.port, timeout=TIMEOUT_S)
        parts = urlsplit(sign_in_url)
        self._connection.request("GET", f"{parts.path}?{parts.query}")
        answer = self._connection.getresponse()
        answer.read()
        cookie = answer.getheader("set-cookie")
        if answer.status != 303 or cookie is None:
            raise SystemExit(f"signing in failed with {answer.status}")
        self._cookie = cookie.partition(";")[0]

    def close(self) -> None:
        self._connection.close()

    def get(self, path: str) -> tuple[str, float]:
        started_s = time.perf_counter()
        self._connection.request("GET", path, headers={"Cookie": self._cookie, "Accept": "text/html"})
        answer = self._connection.getresponse()
        text = answer.read().decode()
        took_ms = (time.perf_counter() - started_s) * 1000
        if answer.status != 200:
            raise SystemExit(f"{path} answered {answer.status}")
        return text, took_ms


def page_times(generations: int = GENERATIONS) -> tuple[list[Took], dict[str, object]]:
    """Every page of the history, and what is to be told about it. SystemExit when one fails."""
    house, told = history(generations)
    sign_in_url = str(house.command("init")["sign_in_url"])
    with house.serving() as (subject, _), closing(Visitor(subject, sign_in_url)) as visitor:
        found = [
            _all("activity", visitor, activity_paths(visitor)),
            _all("overview", visitor, ["/"] * 20),
            Took("logs", list(_logs(visitor))),
        ]
    return found, told | {f"{one.name} of the history": one.told for one in found}


def activity_paths(visitor: Visitor) -> list[str]:
    """Every period with every grouping and metric, further back, and with each filter set in turn."""
    options = _read(visitor.get("/activity?period=month")[0]).options
    paths = [f"/activity?period={p}&by={g}&show={m}" for p in PERIODS for g in GROUPS for m in METRICS]
    paths += [f"/activity?period={p}&by={g}&back=1" for p in PERIODS for g in GROUPS if p != "year"]
    for name in GROUPS[:-1]:
        for value in (options[name][0], options[name][-1]):
            paths += [
                f"/activity?period={p}&by={g}&{name}={quote(value, safe='')}"
                for p in PERIODS
                for g in GROUPS[:-1]
                if g != name
            ]
    return paths


def _all(name: str, visitor: Visitor, paths: Sequence[str]) -> Took:
    return Took(name, [(visitor.get(path)[1], path) for path in paths])


def _logs(visitor: Visitor) -> Iterator[tuple[float, str]]:
    """The log from its newest page back, plain and with each filter; and the sessions."""
    options = _read(visitor.get("/logs")[0]).options
    starts = ["/logs", "/logs/sessions"]
    starts += [f"/logs?{name}={quote(options[name][-1], safe='')}" for name in ("provider", "key", "member", "outcome")]
    starts += ["/logs?outcome=failed", "/logs?cached=no", "/logs?model=anthropic/claude-haiku-4.5", "/logs?app=search"]
    for start in starts:
        path = start
        for _ in range(LOGS_DEPTH):
            text, took_ms = visitor.get(path)
            yield took_ms, path
            path = next((href for rel, href in _read(text).hrefs if rel == "next"), "")
            if not path:
                break


def _read(text: str) -> _Links:
    links = _Links()
    links.feed(text)
    return links


def main(show: Callable[[str], object] = sys.stdout.write) -> None:
    """All by itself: `python bench/activity.py`."""
    for name, said in page_times()[1].items():
        show(f"{name}: {said}\n")


if __name__ == "__main__":
    main()
