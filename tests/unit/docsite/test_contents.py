"""The table of contents and the documents agree, and every link of the site leads somewhere."""

from __future__ import annotations

import re
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from modelgates_server.docsite.contents import GROUPS, Entry, Group
from modelgates_server.docsite.library import REST, ROOT, Library, installed_documents

DOCS = Path(__file__).parents[3] / "docs"
NAMES = sorted(path.stem for path in DOCS.glob("*.md"))


def test_every_document_is_in_one_group_and_every_entry_has_its_document() -> None:
    """docs/*.md and docsite/contents.py name the same pages; write a new page's line there."""
    listed = Counter(entry.page for group in GROUPS for entry in group.entries)

    assert sorted(set(NAMES) - set(listed)) == [], "in no group of docsite/contents.py"
    assert sorted(set(listed) - set(NAMES)) == [], "no such file in docs/"
    assert [page for page, count in listed.items() if count > 1] == []


def test_every_entry_says_something() -> None:
    """One line, a sentence."""
    lines = [entry.summary for group in GROUPS for entry in group.entries]

    assert [line for line in lines if not line.endswith(".") or len(line) > 120] == []


def test_the_documents_of_the_checkout_are_what_is_served() -> None:
    """What is edited is what is seen."""
    assert installed_documents() == DOCS


@pytest.mark.parametrize("name", NAMES)
def test_links_of_the_site_lead_to_pages_and_their_headings(library: Library, name: str) -> None:
    """Every address in a page that lies below /docs has a page, and a heading where it names one."""
    html = library.pages[name].document.html
    wrong = []
    for target in re.findall(r'href="([^"]+)"', html):
        path, _, anchor = target.partition("#")
        if re.match(r"https?:|mailto:", path):
            continue
        page = library.pages.get(path.removeprefix(f"{ROOT}/")) if path else library.pages[name]
        if page is None or (anchor and anchor not in {heading.anchor for heading in page.document.headings}):
            wrong.append(target)

    assert wrong == []


@pytest.mark.parametrize("name", NAMES)
def test_images_of_the_site_are_there(library: Library, name: str) -> None:
    """Each is in the table of images, and says in words what it shows."""
    images = re.findall(r'<img src="([^"]*)" alt="([^"]*)"', library.pages[name].document.html)

    assert [
        one for one, words in images if one.removeprefix(f"{ROOT}/images/") not in library.images or not words
    ] == []


@pytest.mark.parametrize("name", NAMES)
def test_headings_are_in_order(library: Library, name: str) -> None:
    """One title, first; no level is left out on the way down."""
    levels = [heading.level for heading in library.pages[name].document.headings]

    assert levels[0] == 1
    assert levels.count(1) == 1
    assert [pair for pair in pairwise(levels) if pair[1] > pair[0] + 1] == []


def test_what_no_group_knows_is_served_too(tmp_path: Path) -> None:
    """A development version may have pages that are not in the table yet, and entries whose page is gone."""
    (tmp_path / "new.md").write_text("# New\n\n[to old](old.md) [to nowhere](gone.md)\n")
    (tmp_path / "old.md").write_text("# Old\n")
    library = Library(tmp_path, (Group("One", (Entry("old", "Old."), Entry("gone", "Gone."))), Group("Two", ())))

    assert [(chapter.title, [page.name for page in chapter.pages]) for chapter in library.chapters] == [
        ("One", ["old"]), (REST, ["new"]),
    ]  # fmt: skip
    assert '<a href="/docs/old">to old</a> to nowhere' in library.pages["new"].document.html
    assert [page and page.name for page in library.neighbours("old")] == [None, "new"]
