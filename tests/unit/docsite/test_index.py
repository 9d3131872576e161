"""The search: what is found, in which order, and that nothing typed can break it."""

from __future__ import annotations

import pytest

from modelgates_server.docsite.index import HITS_MAX, PER_PAGE_MAX, QUERY_CHARACTERS_MAX, Entry, Index, wanted_words
from modelgates_server.docsite.library import Library
from modelgates_server.docsite.markdown import read


def entry(name: str, source: str, weight: float = 1.0) -> Entry:
    document = read(source, lambda _: None)
    return Entry(name, document.title, document.sections, weight)


SHELF = (
    entry("fruit", "# Fruit\n\nApples and pears.\n\n## Apples\n\nAn apple a day.\n\n## Pears\n\nA pear has no stone.\n"),
    entry("stones", "# Stones\n\nA stone is not an apple.\n\n| stone | hardness |\n|---|---|\n| talc | one |\n| diamond | ten |\n"),
    entry("inside", "# Inside\n\nApples, apples, apples; how apples are stored.\n", weight=0.1),
)  # fmt: skip


def test_titles_and_headings_count_more_than_words_in_the_text() -> None:
    """The section about apples stands before those that mention them, and the inside of the house last."""
    hits = Index(SHELF).search("apple")

    assert (hits[0].page, hits[0].anchor) == ("fruit", "apples")
    assert hits[-1].page == "inside"


def test_all_words_beat_some_words() -> None:
    """A question is answered by the place that has most of it, and others follow."""
    hits = Index(SHELF).search("does a pear have a stone?")

    assert (hits[0].page, hits[0].anchor) == ("fruit", "pears")
    assert "stones" in {hit.page for hit in hits}


def test_words_are_found_by_their_beginning_and_in_other_forms() -> None:
    """Half a word, and another ending of it; a word that stands somewhere is not the beginning of another."""
    index = Index(SHELF)

    assert {hit.page for hit in index.search("diam")} == {"stones"}
    assert {hit.page for hit in index.search("storing")} == {"inside"}
    assert {hit.page for hit in index.search("one")} == {"stones"}


def test_an_excerpt_marks_what_was_found() -> None:
    """One row of a table is found, and its words are marked."""
    (hit,) = Index(SHELF).search("diamond")

    assert ("diamond", True) in hit.excerpt
    assert "ten" in "".join(words for words, _ in hit.excerpt)


HOSTILE = (
    '"', "'", "''; DROP TABLE pieces; --", "NEAR(a b)", "a AND", "NOT", "title:x", "*", "^a", "a* OR", "{a b}: c", "-a", "(", "\x00",
    "\x02x\x03", "%", "_", "\\", "<script>alert(1)</script>", "😀", "é", "a" * 10_000, "x " * 5_000, "\ud7ff", "AND OR NOT NEAR",
)  # fmt: skip


@pytest.mark.parametrize("query", HOSTILE, ids=range(len(HOSTILE)))
def test_nothing_that_is_typed_breaks_it(query: str) -> None:
    """Operators of the search language are words like others."""
    index = Index(SHELF)

    assert len(index.search(query)) <= HITS_MAX
    assert index.search("pears")


def test_nothing_is_found_by_nothing() -> None:
    """An empty query, and one of marks only."""
    assert Index(SHELF).search("") == Index(SHELF).search("?!") == []


def test_small_words_count_only_when_there_are_no_others() -> None:
    """They stand on every page."""
    assert wanted_words("What happens when Anthropic is down?") == ["happens", "anthropic", "down"]
    assert wanted_words("who are you") == ["who", "are", "you"]
    assert len(" ".join(wanted_words("word " * 1_000))) <= QUERY_CHARACTERS_MAX


def test_a_long_page_does_not_hide_the_others() -> None:
    """So many sections of one page at most, and each once."""
    long = "# Long\n\n" + "".join(f"## Part {number}\n\nhoney {'honey ' * 200}\n\n" for number in range(9))
    hits = Index((entry("long", long), entry("short", "# Short\n\nhoney\n"))).search("honey")

    assert sum(hit.page == "long" for hit in hits) == PER_PAGE_MAX
    assert len({(hit.page, hit.anchor) for hit in hits}) == len(hits)
    assert "short" in {hit.page for hit in hits}


QUESTIONS = {
    "who spent most this week?": {"console", "activity"},
    "why was this request slow?": {"console"},
    "what happens when Anthropic is down?": {"console", "routing"},
    "how do I stop the intern at $20 a week?": {"console", "budgets"},
    "backup and restore": {"operations"},
    "rotate the secret": {"operations"},
    "reset the monthly budget": {"budgets"},
    "my own provider key": {"own-keys"},
    "webhook signature": {"alerts"},
    "oidc_issuer": {"configuration"},
    "Claude Desktop shows no models": {"claude-desktop", "troubleshooting"},
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_questions_of_people_find_their_page(library: Library, question: str) -> None:
    """Among the first three places."""
    assert QUESTIONS[question] & {hit.page for hit in library.search(question)[:3]}


def test_every_section_is_found_by_its_own_heading(library: Library) -> None:
    """No section of the documents is out of reach."""
    lost = [
        (page.name, section.heading.text)
        for page in library.pages.values()
        for section in page.document.sections
        if page.name not in {hit.page for hit in library.search(f"{page.title} {section.heading.text}")}
    ]

    assert lost == []
