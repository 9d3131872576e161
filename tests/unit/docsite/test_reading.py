"""The documents as an AI client reads them."""

from __future__ import annotations

import pytest

from modelgates_server.docsite import reading
from modelgates_server.docsite.library import Library
from modelgates_server.errors import NotFound

NAMED = ("budgets", "budgets.md", "/docs/budgets", "http://127.0.0.1:8787/docs/budgets", " budgets ", "/budgets/")


@pytest.mark.parametrize("name", NAMED)
def test_a_page_is_found_by_whatever_names_it(library: Library, name: str) -> None:
    """A model copies names and addresses as it finds them."""
    assert reading.page(library, name) == library.pages["budgets"].source


@pytest.mark.parametrize(
    ("name", "section"),
    [("budgets", "the-promise"), ("budgets#the-promise", ""), ("budgets.md#the-promise", ""), ("budgets", "#the-promise"),
     ("budgets", "The promise"), ("https://x.example/docs/budgets#the-promise", "")],
)  # fmt: skip
def test_one_section_of_it(library: Library, name: str, section: str) -> None:
    """With the deeper ones below it, and nothing of the next."""
    text = reading.page(library, name, section)

    assert text.startswith("## The promise\n")
    assert "### What is no promise" in text
    assert "\n## " not in text


def test_what_is_not_there_is_told_with_what_is(library: Library) -> None:
    """Near names for a page, all sections for a section."""
    with pytest.raises(NotFound, match="There is no page 'budget'") as no_page:
        reading.page(library, "budget")
    with pytest.raises(NotFound, match="has no section 'nope'") as no_section:
        reading.page(library, "budgets", "nope")

    assert "budgets" in (no_page.value.remedy or "")
    assert "the-promise" in (no_section.value.remedy or "")


@pytest.mark.parametrize("name", ["../../etc/passwd", "", "a" * 5_000, "docs/../contents.py", "%00"])
def test_names_are_only_looked_up(library: Library, name: str) -> None:
    """No path leads anywhere else."""
    with pytest.raises(NotFound):
        reading.page(library, name)


def test_a_search_gives_names_for_reading_on(library: Library) -> None:
    """What it names can be read."""
    told = reading.found(library, "backup and restore", "http://gate.example")
    named = told.partition("(page ")[2].partition(")")[0]

    assert f"http://gate.example/docs/{named}" in told
    assert reading.page(library, named)
    assert "Nothing is said about 'zzzzqqqq'" in reading.found(library, "zzzzqqqq", "")


def test_the_contents_name_every_page(library: Library) -> None:
    """With its title and its line."""
    told = reading.contents(library)

    assert [
        page.name for page in library.pages.values() if f"- {page.name}: {page.title}. {page.summary}" not in told
    ] == []
