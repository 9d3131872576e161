"""The shape of a request bounds its size from above, and cannot be made to look smaller."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest
from tests.unit.dialects.wire_samples import ask

from modelgates_server.dialects.anthropic import read_ask
from modelgates_server.dialects.shape import looked_through

if TYPE_CHECKING:
    from modelgates_server.dialects.values import Shape


def shape(**changes: object) -> Shape:
    return read_ask(ask(**changes)).shape


def block(**content: object) -> list[dict]:
    return [{"role": "user", "content": [content]}]


PICTURE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}


def test_messages_and_images_are_counted() -> None:
    """Messages, also of the system role, and images, also inside tool results, all count."""
    result = {"type": "tool_result", "tool_use_id": "t", "content": [PICTURE, PICTURE]}
    turns = [{"role": role, "content": "x"} for role in ("system", "user", "assistant")]
    counted = shape(messages=[*turns, {"role": "user", "content": [PICTURE, result]}])
    assert (counted.messages_max, counted.images_max, counted.unbounded) == (4, 3, False)
    assert counted.body_bytes > 300


@pytest.mark.parametrize(
    "changes",
    [
        {"messages": block(type="document", source={"type": "base64", "data": ""})},
        {"messages": block(type="image", source={"type": "url", "url": "https://example.com/x.png"})},
        {"messages": block(type="image", source={"type": "file", "file_id": "f"})},
        {"messages": block(type="container_upload", file_id="f")},
        {"container": "c"},
        {"mcp_servers": [{"url": "https://example.com"}]},
        {"tools": [{"type": "web_search_20250305", "name": "web_search"}]},
        {"tools": [{"type": "code_execution_20250825", "name": "code_execution"}]},
        {"tools": [{"type": "mcp_toolset"}]},
    ],
)
def test_what_bytes_cannot_bound_is_called_unbounded(changes: dict) -> None:
    """Documents, files, URLs and tools that run at the provider bring in more than the body shows."""
    assert shape(**changes).unbounded


@pytest.mark.parametrize(
    "changes",
    [
        {"messages": block(type="tool_use", input={"url": "https://example.com", "file": "a", "document": "b"})},
        {"messages": block(type="text", text='{"type": "document", "ttl": "1h"} \\u0041 caf\u00e9 <b>')},
        {"tools": [{"name": "t", "input_schema": {"type": "object"}}, {"type": "custom", "name": "u"}]},
        {"tools": [{"type": "bash_20250124", "name": "bash"}, {"type": "text_editor_20250728", "name": "e"}]},
        {"container": None, "mcp_servers": None, "tools": []},
    ],
)
def test_ordinary_work_stays_bounded(changes: dict) -> None:
    """Keys and text that only look alike do not blow up a hold."""
    assert not shape(**changes).unbounded
    assert not shape(**changes).cache_1h


@pytest.mark.parametrize(
    ("plain", "escaped"),
    [
        (b'"document"', b'"d\\u006fcument"'),
        (b'"document"', b'"\\u0064\\u006F\\u0063ument"'),
        (b'"document"', b'"documen\\u0074"'),
        (b'"type": "document"', b'"t\\u0079pe" :\t"document"'),
        (b'"type": "document"', b'"type" \n: \t"document"'),
    ],
)
def test_escapes_and_spaces_hide_nothing(plain: bytes, escaped: bytes) -> None:
    """A document stays unbounded however its JSON is spelled."""
    body = ask(messages=block(type="document", source={"type": "base64", "data": ""}))
    assert plain in body
    assert read_ask(body.replace(plain, escaped)).shape.unbounded


@pytest.mark.parametrize("word", [b'"1h"', b'"1\\u0068"', b'"\\u0031h"'])
def test_one_hour_caching_is_seen_in_every_spelling(word: bytes) -> None:
    """A one-hour lifetime costs twice as much to write, so it must not pass unseen."""
    body = ask(system=[{"type": "text", "text": "x", "cache_control": {"type": "ephemeral", "ttl": "1h"}}])
    assert read_ask(body.replace(b'"1h"', word)).shape.cache_1h
    assert not read_ask(body.replace(b'"1h"', b'"5m"')).shape.cache_1h


def test_web_searches_are_bounded_by_their_limits() -> None:
    """Each search tool adds its limit, or ten when it has none; other tools add nothing."""
    search = {"type": "web_search_20250305", "name": "web_search"}
    assert shape(tools=[search | {"max_uses": 8}, search, {"name": "web_search_mine"}]).web_searches_max == 18
    assert shape(tools=[search | {"max_uses": 0}]).web_searches_max == 0


def test_more_than_can_be_counted_is_unbounded() -> None:
    """Bodies made to be slow to count are not counted to the end but taken at their worst."""
    many_words = b'{"model":"m","max_tokens":1,"messages":[' + b'"1h",' * 250_000 + b"0]}"
    many_strings = b'{"model":"m","max_tokens":1,"messages":[' + b'"",' * 2_100_000 + b"0]}"
    for body in (many_words, many_strings):
        worst = read_ask(body).shape
        assert (worst.unbounded, worst.cache_1h) == (True, True)


@pytest.mark.parametrize(
    ("changes", "types", "callers"),
    [
        ({}, (), False),
        ({"tools": None}, (), False),
        ({"tools": [{"name": "t"}, {"type": "custom", "name": "u"}, {"type": None, "name": "v"}]}, (), False),
        ({"tools": [{"type": "b_1"}, {"type": "a_1"}, {"type": "b_1"}]}, ("b_1", "a_1"), False),
        ({"tools": [{"name": "t", "allowed_callers": ["code_execution_20250825"]}]}, (), True),
        ({"tools": [{"name": "t", "allowed_callers": None}]}, (), False),
    ],
)
def test_tools_show_their_types_and_callers(changes: dict, types: tuple[str, ...], *, callers: bool) -> None:
    """Each type once and in order, without the custom ones; and whether code may call a tool."""
    found = shape(**changes)
    assert (found.tool_types, found.has_callers) == (types, callers)


URL = {"type": "image", "source": {"type": "url", "url": "https://example.com/x.png"}}
FILE = {"type": "document", "source": {"type": "file", "file_id": "f"}}
LOOKALIKE = {"type": "tool_use", "id": "t", "name": "n", "input": {"type": "url", "source": {"type": "file"}}}


@pytest.mark.parametrize(
    ("blocks", "files", "urls"),
    [
        ([URL], False, True),
        ([FILE], True, False),
        ([{"type": "container_upload", "file_id": "f"}], True, False),
        ([{"type": "tool_result", "tool_use_id": "t", "content": [URL, FILE]}], True, True),
        ([{"type": "tool_result", "tool_use_id": "t", "content": "x"}, {"type": "newer", "x": [1]}], False, False),
        ([{"type": "document", "source": {"type": "content", "content": [URL]}}], False, True),
        ([LOOKALIKE], False, False),
        (
            [LOOKALIKE, {"type": "search_result", "source": "https://example.com", "title": "t", "content": []}],
            False,
            False,
        ),
        (
            [LOOKALIKE, {"type": "web_search_tool_result", "content": {"type": "error", "error_code": "x"}}],
            False,
            False,
        ),
        ([PICTURE], False, False),
    ],
)
def test_sources_are_found_by_reading(blocks: list[dict], *, files: bool, urls: bool) -> None:
    """Uploaded files and URLs count where they are sources of blocks; in a tool's input they are words."""
    turns = [{"role": "user", "content": "x"}, {"role": "user", "content": blocks}]
    found = looked_through(read_ask(ask(messages=turns)))
    assert (found.has_files, found.has_urls) == (files, urls)


@pytest.mark.parametrize("turns", [[{"role": "user"}], [5], [{"role": "user", "content": {"type": "url"}}], ["x"]])
def test_an_unknown_form_keeps_its_bounds(turns: list) -> None:
    """What cannot be read is the upstream's business: the words of the body count."""
    read = read_ask(ask(messages=turns))
    assert looked_through(read) is read.shape


def test_looking_through_changes_nothing_else() -> None:
    """All other bounds stay as counting gave them."""
    read = read_ask(ask(messages=block(**LOOKALIKE)))
    assert (read.shape.has_urls, read.shape.has_files, read.shape.unbounded) == (True, True, True)
    assert msgspec.structs.replace(looked_through(read), has_urls=True, has_files=True) == read.shape
