"""The documents as one library: read from the package or the repository, rendered once, found by name or by a search.

Names come from the list of files; a request only looks one up, so no path leads anywhere else.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from modelgates_server.docsite import index
from modelgates_server.docsite.contents import GROUPS, Entry, Group
from modelgates_server.docsite.index import Hit, Index
from modelgates_server.docsite.markdown import Document, read

ROOT: Final = "/docs"
"""The path that all pages lie under."""

IMAGE_TYPES: Final = {".png": "image/png", ".svg": "image/svg+xml", ".webp": "image/webp", ".jpg": "image/jpeg"}
"""Images that are served, by the end of their names."""

REST: Final = "More"
"""The group of documents that the table of contents does not know: a development version may have some."""

_HERE: Final = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Page:
    """A document in its place. `source` is its Markdown."""

    name: str
    title: str
    summary: str
    source: str
    document: Document

    @property
    def path(self) -> str:
        """Where it is served."""
        return f"{ROOT}/{self.name}"


@dataclass(frozen=True, slots=True)
class Chapter:
    """A group of the table of contents, with its pages in order."""

    title: str
    pages: tuple[Page, ...]
    weight: float = 1.0


class Library:
    """All documents of a folder. Reading and searching wait for the disk and take a moment: for a thread, the first time."""

    def __init__(self, folder: Path | None = None, groups: Sequence[Group] = GROUPS) -> None:
        """`folder` holds the documents; without one they come from this installation."""
        self._folder = folder or installed_documents()
        self._groups = groups
        self._lock = threading.Lock()
        self.images = {
            path.name: path for path in sorted((self._folder / "images").glob("*")) if path.suffix in IMAGE_TYPES
        }

    @functools.cached_property
    def chapters(self) -> tuple[Chapter, ...]:
        """The table of contents."""
        sources = {path.stem: path.read_text("utf-8") for path in sorted(self._folder.glob("*.md"))}
        chapters = [
            Chapter(
                group.title,
                tuple(self._page(entry, sources) for entry in group.entries if entry.page in sources),
                group.weight,
            )
            for group in _with_rest(self._groups, sources)
        ]
        return tuple(chapter for chapter in chapters if chapter.pages)

    @functools.cached_property
    def pages(self) -> dict[str, Page]:
        """Every document by its name, in the order of the table of contents."""
        return {page.name: page for chapter in self.chapters for page in chapter.pages}

    @functools.cached_property
    def _index(self) -> Index:
        return Index(
            index.Entry(page.name, page.title, page.document.sections, chapter.weight)
            for chapter in self.chapters
            for page in chapter.pages
        )

    def search(self, query: str) -> list[Hit]:
        """Sections that answer a query, the best first."""
        with self._lock:  # of several first searches, one makes the index
            made = self._index
        return made.search(query)

    def neighbours(self, name: str) -> tuple[Page | None, Page | None]:
        """The pages before and after one in the table of contents."""
        order = list(self.pages.values())
        place = next(number for number, page in enumerate(order) if page.name == name)
        return (order[place - 1] if place else None), (order[place + 1] if place + 1 < len(order) else None)

    def resolve(self, target: str, names: frozenset[str]) -> str | None:
        """Where a relative link or image of a document leads, when `names` are the documents; None when nothing is there."""
        path, mark, anchor = target.partition("#")
        if not path:
            return target
        if path.startswith("images/") and path.removeprefix("images/") in self.images:
            return f"{ROOT}/{path}"
        name = path.removesuffix(".md")
        return f"{ROOT}/{name}{mark}{anchor}" if name != path and name in names else None

    def _page(self, entry: Entry, sources: dict[str, str]) -> Page:
        names = frozenset(sources)
        document = read(sources[entry.page], lambda target: self.resolve(target, names))
        return Page(entry.page, document.title or entry.page, entry.summary, sources[entry.page], document)


def installed_documents() -> Path:
    """Give the folder of the documents: of the checkout when this is one, so that what is edited is what is served; else the package's."""
    checkout = _HERE.parents[2]
    if (checkout / "pyproject.toml").is_file() and (checkout / "docs").is_dir():
        return checkout / "docs"
    return _HERE / "pages"


def _with_rest(groups: Sequence[Group], sources: dict[str, str]) -> Iterator[Group]:
    yield from groups
    known = {entry.page for group in groups for entry in group.entries}
    yield Group(REST, tuple(Entry(name, "") for name in sources if name not in known))
