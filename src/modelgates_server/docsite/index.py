"""Full-text search over the sections of all documents: SQLite's FTS5 in memory, ranked by BM25."""

from __future__ import annotations

import re
import sqlite3
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from modelgates_server.docsite.markdown import TOP, Section

QUERY_CHARACTERS_MAX: Final = 200
WORDS_MAX: Final = 24
"""Longer questions are cut: further words make no difference that a reader would see."""

HITS_MAX: Final = 20
EXCERPT_WORDS: Final = 28
PER_PAGE_MAX: Final = 3
"""Sections of one page among the hits, so that a long page does not hide the others."""

_BEGIN, _END = "\x02", "\x03"
"""Around a word that was found, in an excerpt; no document has these characters."""

PIECE_CHARACTERS: Final = 400
WHOLE, NAMED = 2.0, 3.0
"""A piece that has every word counts double, a place whose name has every word three times as much."""

_RANKED: Final = """
    SELECT rowid, -bm25(pieces, 0.0, 0.0, 3.0, 4.0, 1.0), page, anchor, title, heading, snippet(pieces, 4, ?, ?, '…', ?)
    FROM pieces WHERE pieces MATCH ?
"""
"""A word in the page's title counts three times, in the section's heading four times as much as in the text."""

_KNOWN: Final = "SELECT 1 FROM pieces WHERE pieces MATCH ? LIMIT 1"
_WHOLE: Final = "SELECT rowid FROM pieces WHERE pieces MATCH ?"

_WORD: Final = re.compile(r"\w+", re.UNICODE)
_SMALL: Final = frozenset(
    _WORD.findall(
        "a about am an and any are as at be but by can could did do does for from had has have he her his how i if in into is it its "
        "may me my of on or our she should so than that the their them then there they this to us was we were what when where which "
        "who whom whose why will with would you your"
    )
)
"""Words that every page has: a question is found by its other words."""


@dataclass(frozen=True, slots=True)
class Hit:
    """One section that answers a search. `excerpt` is its text around what was found, in pieces: words, and whether they were found."""

    page: str
    title: str
    heading: str
    anchor: str
    excerpt: tuple[tuple[str, bool], ...]


class Entry(NamedTuple):
    """A page for the index. What has a smaller `weight` stands further down among the hits."""

    page: str
    title: str
    sections: Sequence[Section]
    weight: float = 1.0


class Index:
    """The sections of all pages, searchable. May be asked from any thread.

    A section is kept in pieces, so that one row of a long table is found as well as a short paragraph.
    """

    def __init__(self, entries: Iterable[Entry]) -> None:
        entries = list(entries)
        self._weights = {entry.page: entry.weight for entry in entries}
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(":memory:", check_same_thread=False)
        self._connection.execute(
            "CREATE VIRTUAL TABLE pieces USING fts5("
            "page UNINDEXED, anchor UNINDEXED, title, heading, body, tokenize = 'porter unicode61')"
        )
        self._connection.executemany(
            "INSERT INTO pieces VALUES (?, ?, ?, ?, ?)",
            (
                (entry.page, _anchor(section), entry.title, section.heading.text, piece)
                for entry in entries
                for section in entry.sections
                for piece in _gathered(section.blocks)
            ),
        )
        self._connection.commit()

    def search(self, query: str) -> list[Hit]:
        """Sections that have some of the words of a query, the best first."""
        words = wanted_words(query)
        if not words:
            return []
        with self._lock:
            terms = [self._term(word) for word in words]
            found = self._connection.execute(_RANKED, (_BEGIN, _END, EXCERPT_WORDS, " OR ".join(terms)))
            rows = found.fetchall()
            whole = {row[0] for row in self._connection.execute(_WHOLE, (" AND ".join(terms),))}
        scored = [
            (
                score * self._weights[page] * (WHOLE if id_ in whole else 1) * _named(f"{title} {heading}", words),
                Hit(page, title, heading, anchor, _marked(excerpt)),
            )
            for id_, score, page, anchor, title, heading, excerpt in rows
        ]
        scored.sort(key=lambda entry: -entry[0])
        return _best(hit for _, hit in scored)

    def _term(self, word: str) -> str:
        """A word as FTS5 takes it, whatever it holds; one that stands nowhere is taken as the beginning of others."""
        exact = f'"{word}"'
        return exact if self._connection.execute(_KNOWN, (exact,)).fetchone() else f"{exact}*"


def _named(name: str, words: Sequence[str]) -> float:
    """How much more a place counts whose name has every word that is looked for."""
    return NAMED if set(words) <= set(_WORD.findall(name.lower())) else 1


def _best(hits: Iterable[Hit]) -> list[Hit]:
    """The first hits, each section once and not too many of one page."""
    kept: dict[tuple[str, str], Hit] = {}
    of_page: Counter[str] = Counter()
    for hit in hits:
        place = (hit.page, hit.anchor)
        if place not in kept and of_page[hit.page] < PER_PAGE_MAX and len(kept) < HITS_MAX:
            of_page[hit.page] += 1
            kept[place] = hit
    return list(kept.values())


def _gathered(blocks: Sequence[str]) -> Iterator[str]:
    """Blocks in pieces of some length; also none, so that a heading without text is found."""
    piece: list[str] = []
    for block in blocks:
        if piece and sum(map(len, piece)) + len(block) > PIECE_CHARACTERS:
            yield "\n".join(piece)
            piece = []
        piece.append(block)
    yield "\n".join(piece)


def wanted_words(query: str) -> list[str]:
    """The words that a query is searched by: those that say something, or all when none does."""
    words = list(dict.fromkeys(_WORD.findall(query[:QUERY_CHARACTERS_MAX].lower())))[:WORDS_MAX]
    return [word for word in words if word not in _SMALL] or words


def _anchor(section: Section) -> str:
    """The anchor of a section; none for what stands below the title, which is the page's beginning."""
    return "" if section.heading.level == TOP else section.heading.anchor


def _marked(excerpt: str) -> tuple[tuple[str, bool], ...]:
    """An excerpt in pieces: words, and whether they were found."""
    flat = " ".join(excerpt.split())
    pieces = []
    for number, part in enumerate(flat.split(_BEGIN)):
        found, _, rest = part.partition(_END) if number else ("", "", part)
        pieces += [(found, True), (rest, False)]
    return tuple(piece for piece in pieces if piece[0])
