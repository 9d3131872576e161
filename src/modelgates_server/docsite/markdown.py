"""Markdown → a page: HTML with anchors, headings, and sections as plain text for the search. Pure.

Raw HTML in a document is shown as text. Links between documents lead to their pages; what has no page loses its link and keeps its words.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token

TOP: Final = 1
"""The level of a document's title."""

_ABROAD: Final = re.compile(r"https?://|mailto:", re.IGNORECASE)
_QUIET: Final = re.compile(r"[^\w -]")

Resolve = Callable[[str], str | None]
"""Gives the address that a relative link or image of a document leads to; None when nothing is there."""


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading of a document. `level` is 1 for its title; `anchor` is its name in addresses."""

    level: int
    text: str
    anchor: str


@dataclass(frozen=True, slots=True)
class Section:
    """What stands below one heading, up to the next of any level.

    `blocks` are its paragraphs, list items, rows of tables and listings as plain text. `markdown` is the source, with the heading and
    the deeper sections below it; of the title's section only what stands before the first heading.
    """

    heading: Heading
    blocks: tuple[str, ...]
    markdown: str


@dataclass(frozen=True, slots=True)
class Document:
    """A document, rendered. `links` and `images` are the relative targets as they are written."""

    title: str
    html: str
    headings: tuple[Heading, ...]
    sections: tuple[Section, ...]
    links: tuple[str, ...]
    images: tuple[str, ...]


def anchor(text: str) -> str:
    """The name of a heading in addresses, as GitHub writes it: ``The order of checks`` → ``the-order-of-checks``."""
    return _QUIET.sub("", text.strip().lower()).replace(" ", "-")


def read(source: str, resolve: Resolve) -> Document:
    """Render a document. `resolve` says where its relative links and images lead."""
    parser = _parser()
    tokens = parser.parse(source)
    headings = _named(tokens)
    sections = _sections(source, tokens, headings)
    links, images = _redirected(tokens, resolve)
    _mend_tables(tokens)
    html = str(parser.renderer.render(tokens, parser.options, {}))
    found = tuple(heading for _, heading in headings)
    title = next((heading.text for heading in found if heading.level == TOP), "")
    return Document(title, html, found, sections, tuple(links), tuple(images))


def title_of(source: str) -> str:
    """A document's title, found without reading the rest; empty when it has none."""
    found = re.search(r"^# (.+)$", source, re.MULTILINE)
    return _plain(_parser().parseInline(found[1])[0]) if found else ""


def _parser() -> MarkdownIt:
    return MarkdownIt("commonmark", {"html": False}, renderer_cls=_Html).enable("table")


class _Html(RendererHTML):
    """Writes HTML in which everything that may be too wide scrolls on its own, also by keyboard."""

    def table_open(self, *_: object) -> str:
        return '<div class="wide" role="group" aria-label="Table" tabindex="0"><table>\n'

    def table_close(self, *_: object) -> str:
        return "</table></div>\n"

    def fence(self, tokens: Sequence[Token], idx: int, options: object, env: object) -> str:
        return super().fence(tokens, idx, options, env).replace("<pre>", '<pre tabindex="0">', 1)  # type: ignore[arg-type]

    def code_block(self, tokens: Sequence[Token], idx: int, options: object, env: object) -> str:
        return super().code_block(tokens, idx, options, env).replace("<pre>", '<pre tabindex="0">', 1)  # type: ignore[arg-type]


def _named(tokens: Sequence[Token]) -> list[tuple[int, Heading]]:
    """Give every heading its anchor; where it stands among the tokens, and what it says. A second one of a name gets a number."""
    found: list[tuple[int, Heading]] = []
    taken: dict[str, int] = {}
    for place, token in enumerate(tokens):
        if token.type != "heading_open":
            continue
        text = _plain(tokens[place + 1])
        name = anchor(text)
        count = taken.get(name, 0)
        taken[name] = count + 1
        heading = Heading(int(token.tag[1:]), text, f"{name}-{count}" if count else name)
        token.attrSet("id", heading.anchor)
        found.append((place, heading))
    return found


def _sections(source: str, tokens: Sequence[Token], headings: Sequence[tuple[int, Heading]]) -> tuple[Section, ...]:
    lines = source.splitlines(keepends=True)
    ends = [*(place for place, _ in headings[1:]), len(tokens)]
    found = []
    for number, ((place, heading), end) in enumerate(zip(headings, ends, strict=False)):
        deeper = (other for other, one in headings[number + 1 :] if heading.level >= one.level or heading.level == TOP)
        last = _line(tokens, next(deeper, None), len(lines))
        blocks = tuple(_blocks(tokens[place + 3 : end]))
        found.append(Section(heading, blocks, "".join(lines[_line(tokens, place, 0) : last]).strip() + "\n"))
    return tuple(found)


def _line(tokens: Sequence[Token], place: int | None, otherwise: int) -> int:
    """The source's line of a token."""
    mapped = None if place is None else tokens[place].map
    return otherwise if mapped is None else mapped[0]


def _blocks(tokens: Sequence[Token]) -> Iterator[str]:
    """What tokens say to a reader, block by block; a row of a table is one."""
    row: list[str] | None = None
    for token in tokens:
        if token.type == "tr_open":
            row = []
        elif token.type == "tr_close" and row:
            yield " ".join(row)
            row = None
        elif text := token.content.strip() if token.type in {"fence", "code_block"} else _inline(token):
            if row is None:
                yield text
            else:
                row.append(text)


def _inline(token: Token) -> str:
    return _plain(token) if token.type == "inline" else ""


def _plain(inline: Token) -> str:
    """The words of a line without its marks."""
    parts = []
    for child in inline.children or ():
        if child.type in {"softbreak", "hardbreak"}:
            parts.append(" ")
        elif child.type == "image":
            parts.append(child.content)
        else:
            parts.append(child.content if child.type in {"text", "code_inline", "text_special"} else "")
    return "".join(parts).strip()


def _redirected(tokens: Sequence[Token], resolve: Resolve) -> tuple[list[str], list[str]]:
    """Let links and images lead to pages, and give them as they were written."""
    links: list[str] = []
    images: list[str] = []
    for inline in tokens:
        children = inline.children or []
        for start, end in _links(children):
            target = str(children[start].attrGet("href") or "")
            if _ABROAD.match(target):
                children[start].attrSet("rel", "noreferrer")
                continue
            links.append(target)
            leads = resolve(target)
            if leads is None:  # such as a file of the repository
                children[start].hidden = children[end].hidden = True
                children[start].type = children[end].type = "text"
            else:
                children[start].attrSet("href", leads)
        for child in children:
            if child.type == "image":
                target = str(child.attrGet("src") or "")
                images.append(target)
                child.attrSet("src", resolve(target) or "")
    return links, images


def _links(children: Sequence[Token]) -> Iterator[tuple[int, int]]:
    """Where links open and close; they are never inside each other."""
    start = None
    for place, child in enumerate(children):
        if child.type == "link_open":
            start = place
        elif child.type == "link_close" and start is not None:
            yield start, place
            start = None


def _mend_tables(tokens: Sequence[Token]) -> None:
    """Heads without words are ordinary cells, as an empty heading says nothing to a screen reader; and no style stands inline."""
    for place, token in enumerate(tokens):
        if token.type == "th_open" and not _plain(tokens[place + 1]):
            token.tag = tokens[place + 2].tag = "td"
        if token.type in {"th_open", "td_open"} and "right" in str(token.attrs.pop("style", "")):
            token.attrSet("class", "number")
