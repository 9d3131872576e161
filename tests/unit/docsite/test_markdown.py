"""Markdown becomes pages: anchors, sections, links, and nothing that runs."""

from __future__ import annotations

import pytest

from modelgates_server.docsite.markdown import anchor, read, title_of


def nowhere(_target: str) -> str | None:
    return None


def to_docs(target: str) -> str | None:
    return None if target.startswith("decisions/") else f"/docs/{target.replace('.md', '')}"


@pytest.mark.parametrize(
    ("heading", "name"),
    [
        ("The order of checks", "the-order-of-checks"),
        ("`modelgates keys create`", "modelgates-keys-create"),
        ("What *is* no promise?", "what-is-no-promise"),
        ("[routing] and a_b", "routing-and-a_b"),
        ("A & B", "a--b"),
    ],
)
def test_headings_have_the_names_that_github_gives(heading: str, name: str) -> None:
    """A link that works in the repository works on the site."""
    assert [one.anchor for one in read(f"## {heading}\n", nowhere).headings] == [name]
    assert anchor("The order of checks") == "the-order-of-checks"


def test_a_second_heading_of_a_name_gets_a_number() -> None:
    """No two places of a page have one address."""
    document = read("# T\n\n## Again\n\n## Again\n\n## Again\n", nowhere)

    assert [one.anchor for one in document.headings] == ["t", "again", "again-1", "again-2"]
    assert 'id="again-2"' in document.html


RUNS = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "[x](javascript:alert(1))",
    "[x](JaVaScRiPt:alert(1))",
    "[x](data:text/html;base64,PHNjcmlwdD4=)",
    "[x](vbscript:x)",
    "<javascript:alert(1)>",
    "![x](javascript:alert(1))",
    '<a href="#" onclick="alert(1)">x</a>',
    "<svg/onload=alert(1)>",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    '[x](/a "onmouseover=alert(1) \\"")',
    "```\n</code></pre><script>alert(1)</script>\n```",
    "| <script>alert(1)</script> |\n|---|\n| <iframe src=//x> |",
    "# <script>alert(1)</script>",
    "`<script>alert(1)</script>`",
)


@pytest.mark.parametrize("source", RUNS)
def test_what_would_run_is_shown_as_text(source: str) -> None:
    """Raw HTML and addresses that run something are words."""
    html = read(source, to_docs).html

    for tag in ("<script", "<img src=x", "<iframe", "<svg", '<a href="#"'):
        assert tag not in html
    for scheme in ('="javascript', '="JaVa', '="data:', '="vbscript'):
        assert scheme not in html
    assert 'onclick="' not in html
    assert not [title for title in ('" onmouseover', "' onmouseover") if title in html]


def test_links_lead_to_pages_or_lose_their_link() -> None:
    """A document that has no page keeps its words; what leads away tells nothing of where it was clicked."""
    document = read("[a](budgets.md#x) [b](decisions/1.md) [c](https://e.example) ![d](images/e.png)\n", to_docs)

    assert '<a href="/docs/budgets#x">a</a> b <a href="https://e.example" rel="noreferrer">c</a>' in document.html
    assert '<img src="/docs/images/e.png" alt="d" />' in document.html
    assert (document.links, document.images) == (("budgets.md#x", "decisions/1.md"), ("images/e.png",))


SOURCE = """# Title

Lead.

## One

First `code`.

- item

| a | |
|---|---|
| b | c |

### Deep

```sh
run
```

## Two

Last.
"""


def test_sections_have_their_text_and_their_source() -> None:
    """The text is plain and in blocks, a row is one; the source of a section includes the deeper ones."""
    sections = {section.heading.anchor: section for section in read(SOURCE, nowhere).sections}

    assert sections["one"].blocks == ("First code.", "item", "a", "b c")
    assert sections["one"].markdown.startswith("## One") and sections["one"].markdown.endswith("```\n")  # noqa: PT018
    assert sections["title"].markdown == "# Title\n\nLead.\n"
    assert sections["two"].markdown == "## Two\n\nLast.\n"


def test_wide_things_scroll_by_keyboard_and_empty_heads_are_no_heads() -> None:
    """A table or a listing can be focused; a column without a name has no heading to read out."""
    html = read(SOURCE, nowhere).html

    assert '<div class="wide" role="group" aria-label="Table" tabindex="0"><table>' in html
    assert "<th>a</th>\n<td></td>" in html
    assert '<pre tabindex="0"><code class="language-sh">' in html


def test_columns_are_aligned_without_inline_style() -> None:
    """The policy of our pages allows none."""
    html = read("| a | b |\n|--:|:-:|\n| 1 | 2 |\n", nowhere).html

    assert '<th class="number">a</th>' in html
    assert '<td class="number">1</td>\n<td>2</td>' in html
    assert "style" not in html


def test_a_title_is_known_without_reading_the_rest() -> None:
    """Its marks are gone."""
    assert title_of("text\n\n# The `one` *title*\n\n## No\n") == "The one title"
    assert title_of("no title\n") == ""
