"""The documents as an AI client reads them: hits of a search, pages, sections, the table of contents, in Markdown."""

from __future__ import annotations

import difflib
import re

from modelgates_server.docsite.index import QUERY_CHARACTERS_MAX
from modelgates_server.docsite.library import Library, Page
from modelgates_server.errors import NotFound


def found(library: Library, query: str, origin: str) -> str:
    """What answers a search, the best first, with names for `page` and addresses for people."""
    hits = library.search(query)
    if not hits:
        return f"Nothing is said about {query[:QUERY_CHARACTERS_MAX]!r}. Try other or fewer words; list_docs shows all pages."
    parts = []
    for number, hit in enumerate(hits, 1):
        where = f"{hit.page}#{hit.anchor}" if hit.anchor else hit.page
        name = f"{hit.title}, {hit.heading}" if hit.anchor else hit.title
        excerpt = "".join(f"**{words}**" if marked else words for words, marked in hit.excerpt)
        parts.append(f"{number}. {name} (page {where})\n   {excerpt}\n   {origin}/docs/{where}")
    return "\n\n".join(parts)


def page(library: Library, name: str, section: str = "") -> str:
    """A page, or one section of it. `name` may be a name, a file's name, or an address, with or without the section. Raises NotFound."""
    name, _, named = re.sub(r"^.*/docs/", "", name.strip()).partition("#")
    name = name.strip("/").removesuffix(".md")
    known = library.pages.get(name)
    if known is None:
        close = difflib.get_close_matches(name, library.pages, n=3) or list(library.pages)
        raise NotFound(
            f"There is no page {name[:100]!r}.", remedy=f"There are: {', '.join(close)}. list_docs shows all."
        )
    wanted = section.strip().lstrip("#") or named
    return _section(known, wanted) if wanted else known.source


def contents(library: Library) -> str:
    """The table of contents."""
    parts = []
    for chapter in library.chapters:
        lines = [f"- {page.name}: {page.title}. {page.summary}".rstrip() for page in chapter.pages]
        parts.append("\n".join((f"## {chapter.title}", *lines)))
    return "\n\n".join(parts)


def _section(page: Page, anchor: str) -> str:
    for section in page.document.sections:
        if anchor in {section.heading.anchor, section.heading.text}:
            return section.markdown
    anchors = ", ".join(section.heading.anchor for section in page.document.sections)
    raise NotFound(f"The page {page.name} has no section {anchor[:100]!r}.", remedy=f"Its sections: {anchors}.")
