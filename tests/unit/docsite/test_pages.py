"""The pages of the docs, without a socket."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from tests.unit.docsite.front import ORIGIN, Front

from modelgates_server.docsite.library import Library

OUTSIDE = (
    "/docs/../../etc/passwd", "/docs/..", "/docs/%2e%2e/x", "/docs/..%2fbudgets", "/docs/....//budgets", "/docs//etc/passwd",
    "/docs/images/../glossary.md", "/docs/images/..\\..\\x", "/docs/images/%00", "/docs/_assets/../app.py", "/docs/budgets.md/..",
    "/docs/\x00", "/docs/contents.py", "/docs/.md", "/docs/decisions/0001-record-decisions.md", "/docs/generate.py", "/docs/~root",
    "/docs/images/", "/docs/_assets/", "/docs/_assets/docs.css.map",
    "/docs/file:///etc/passwd", "/docs/C:\\Windows", "/docs/images/etc/passwd",
)  # fmt: skip


class Outline(HTMLParser):
    """What a screen reader goes by: headings, ids, links and the names of what can be used."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.headings: list[int] = []
        self.ids: list[str] = []
        self.attributes: list[str] = []
        self.tags: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if re.fullmatch(r"h[1-6]", tag):
            self.headings.append(int(tag[1]))


async def test_every_page_is_there(front: Front, library: Library) -> None:
    """As HTML with one title and every id once, and as its Markdown."""
    for page in library.pages.values():
        shown, source = await front.get(page.path), await front.get(f"{page.path}.md")
        outline = Outline(shown.text)

        assert (shown.status, source.status, source.text) == (200, 200, page.source)
        assert source.headers["content-type"] == "text/markdown; charset=utf-8"
        assert outline.headings.count(1) == 1
        assert len(set(outline.ids)) == len(outline.ids)


async def test_pages_obey_the_policy_that_they_send(front: Front, library: Library) -> None:
    """No script, no style and no handler stands inside any of them."""
    shown = [page.path for page in library.pages.values()]
    for path in (*shown, "/docs", "/docs/search?q=a", "/docs/search", "/docs/nothing"):
        told = await front.get(path)
        outline = Outline(told.text)

        assert "default-src 'none'" in told.headers["content-security-policy"]
        assert "frame-ancestors 'none'" in told.headers["content-security-policy"]
        assert told.headers["x-content-type-options"] == "nosniff"
        assert told.headers["referrer-policy"] == "no-referrer"
        assert not {"script", "style", "iframe", "object"} & set(outline.tags)
        assert not [name for name in outline.attributes if name == "style" or name.startswith("on")]


async def test_the_table_of_contents_lists_every_page(front: Front, library: Library) -> None:
    """With its line; so does the list for AI clients, with addresses of the Markdown."""
    contents, listed = await front.get("/docs"), await front.get("/docs/llms.txt")

    for page in library.pages.values():
        assert f'href="{page.path}"' in contents.text
        assert f"[{page.title}]({ORIGIN}{page.path}.md): {page.summary}" in listed.text
    assert f"{ORIGIN}/docs/_mcp/server" in contents.text
    assert listed.headers["content-type"] == "text/plain; charset=utf-8"


async def test_a_page_says_where_it_stands(front: Front, library: Library) -> None:
    """Its place in the navigation, its own headings, the pages before and after."""
    name = list(library.pages)[1]
    before, after = library.neighbours(name)
    told = await front.get(f"/docs/{name}")

    assert f'<a href="/docs/{name}" aria-current="page">' in told.text
    assert before is not None
    assert after is not None
    assert f'rel="prev" href="{before.path}"' in told.text
    assert f'rel="next" href="{after.path}"' in told.text


async def test_markdown_is_given_to_who_asks_for_it(front: Front, library: Library) -> None:
    """By the Accept header, as AI clients send it; a browser gets a page."""
    plain = await front.get("/docs/budgets", accept="text/markdown, text/plain;q=0.9")
    browser = await front.get("/docs/budgets", accept="text/html,application/xhtml+xml,*/*;q=0.8")

    assert plain.text == library.pages["budgets"].source
    assert browser.text.startswith("<!doctype html>")
    assert browser.headers["vary"] == "Accept"


async def test_a_search_shows_places_with_marks(front: Front) -> None:
    """The best first, with links to their sections."""
    told = await front.get("/docs/search?q=backup+restore")

    assert told.status == 200
    assert 'href="/docs/operations#backup-and-restore"' in told.text
    assert "<mark>" in told.text
    assert 'value="backup restore"' in told.text


async def test_a_search_for_nothing_teaches(front: Front) -> None:
    """An empty field, and words that stand nowhere."""
    assert "Type what you look for" in (await front.get("/docs/search")).text
    assert "Nothing is said about" in (await front.get("/docs/search?q=zzzzqqqq")).text


RUNS = (
    "<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "' onfocus=alert(1) autofocus x='", "</title><script>x</script>",
    "{{ 7 * 7 }}", "{% include 'frame.html' %}", "javascript:alert(1)", "\u2028alert(1)", "<svg/onload=alert(1)>", "\x02<b>\x03",
)  # fmt: skip


@pytest.mark.parametrize("query", RUNS, ids=range(len(RUNS)))
async def test_what_is_searched_for_is_shown_as_text(front: Front, query: str) -> None:
    """Nothing of a query becomes a tag, an attribute or a template."""
    from urllib.parse import quote  # noqa: PLC0415

    told = await front.get(f"/docs/search?q={quote(query)}")
    outline = Outline(told.text)

    assert told.status == 200
    assert not {"script", "img", "svg", "b"} & set(outline.tags)
    assert not [name for name in outline.attributes if name.startswith("on") or name == "autofocus"]
    assert "49" not in re.findall(r'value="([^"]*)"', told.text)


@pytest.mark.parametrize("path", OUTSIDE, ids=range(len(OUTSIDE)))
async def test_no_path_leads_out_of_the_library(front: Front, path: str) -> None:
    """Names are looked up in fixed tables; whatever is not there is not there."""
    told = await front.get(path)

    assert told.status == 404
    assert b"root:" not in told.body
    assert "content-security-policy" in told.headers


async def test_images_and_the_stylesheet_are_there(front: Front, library: Library) -> None:
    """From their tables, with their types; the stylesheet's address has its digest."""
    name, path = next(iter(library.images.items()))
    image = await front.get(f"/docs/images/{name}")
    found = re.search(r'href="(/docs/_assets/docs\.css\?v=[0-9a-f]{16})"', (await front.get("/docs")).text)
    assert found is not None
    style = await front.get(found[1])

    assert (image.status, image.headers["content-type"], image.body) == (200, "image/png", path.read_bytes())
    assert (style.status, style.headers["content-type"]) == (200, "text/css; charset=utf-8")
    assert "immutable" in style.headers["cache-control"]


async def test_pages_can_only_be_read(front: Front) -> None:
    """Other methods are refused; HEAD gives the head."""
    refused, head = await front.get("/docs/budgets", "POST"), await front.get("/docs/budgets", "HEAD")

    assert (refused.status, refused.headers["allow"]) == (405, "GET, HEAD")
    assert (head.status, head.headers["content-type"]) == (200, "text/html; charset=utf-8")
