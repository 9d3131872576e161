"""The documents agree with the code."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from fastapi import FastAPI

from modelgates_server.api.app import PREFIX, ROUTERS
from modelgates_server.cli.main import modelgates

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"

_spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
assert _spec is not None
assert _spec.loader is not None
generate = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(generate)


@pytest.mark.parametrize("name", generate.pages())
def test_generated_pages_are_current(name: str) -> None:
    """What `make docs` would write is what stands there."""
    assert (DOCS / name).read_text() == generate.pages()[name](), "run: make docs"


@pytest.mark.parametrize("page", sorted([ROOT / "README.md", *DOCS.rglob("*.md")]), ids=lambda path: path.name)
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link of a page names a file that exists."""
    targets = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text())

    assert [target for target in targets if not (page.parent / target).exists()] == []


def anchors(page: Path) -> set[str]:
    """What links to a page may end in: its headings, as they are written in addresses."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", sorted([ROOT / "README.md", *DOCS.rglob("*.md")]), ids=lambda path: path.name)
def test_links_into_pages_lead_to_headings(page: Path) -> None:
    """Every link that ends in # and a name finds a heading of that name."""
    links = re.findall(r"\]\((?!https?:)([^)#]*)#([^)]+)\)", page.read_text())

    assert [
        f"{target}#{name}" for target, name in links if name not in anchors(page.parent / target if target else page)
    ] == []


def test_every_runtime_dependency_has_its_line() -> None:
    """docs/dependencies.md says of each dependency why it is there."""
    declared = re.findall(r'^  "([a-z0-9-]+)>=', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    explained = (DOCS / "dependencies.md").read_text().lower()

    assert [name for name in declared if name not in explained] == []


METHODS = "GET|POST|PUT|PATCH|DELETE"
CALL = re.compile(rf"`((?:{METHODS})(?:, (?:{METHODS}))*) (/[^`?\s]*)`")
API_PAGES = ("api.md", "activity.md", "alerts.md", "own-keys.md")


def described() -> dict[str, Any]:
    """What `GET /api/openapi.json` says."""
    app = FastAPI()
    for router in ROUTERS:
        app.include_router(router, prefix=PREFIX)
    return app.openapi()


def calls(text: str) -> set[tuple[str, str]]:
    """Every call that a page names, such as `GET, PATCH /keys/{key_hash}`, as method and path."""
    return {(method, path) for methods, path in CALL.findall(text) for method in methods.split(", ")}


def routes(*, hidden: bool) -> set[tuple[str, str]]:
    """Every route of the management API; with those that the OpenAPI file leaves out, or without."""
    known = [
        route for router in ROUTERS for route in router.routes if hidden or getattr(route, "include_in_schema", True)
    ]
    return {(method, getattr(route, "path", "")) for route in known for method in getattr(route, "methods", ())}


def told(operation: dict[str, Any], schemas: dict[str, Any]) -> Iterator[str]:
    """What a client may send with an operation: in its query, and in its body."""
    yield from (one["name"] for one in operation.get("parameters", ()) if one["in"] == "query")
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    yield from schemas.get(body.get("$ref", "").rpartition("/")[2], {}).get("properties", ())


def test_every_route_of_the_openapi_file_stands_in_its_page() -> None:
    """docs/api.md names each path with each of its methods, and none that does not exist."""
    named = calls((DOCS / "api.md").read_text())
    there = {
        (method.upper(), path.removeprefix(PREFIX)) for path, item in described()["paths"].items() for method in item
    }

    assert there == routes(hidden=False)
    assert sorted(there - named) == [], "missing in docs/api.md"
    assert sorted(named - routes(hidden=True) - {("GET", "/key"), ("GET", "/api/openapi.json")}) == [], "not there"


def test_everything_that_a_client_may_send_stands_in_a_page() -> None:
    """Members of bodies and parameters of queries are named in the pages about the API."""
    code = " ".join(
        re.findall(r"```.*?```|`[^`]+`", "".join((DOCS / page).read_text() for page in API_PAGES), re.DOTALL)
    )
    named, found = set(re.findall(r"\w+", code)), described()
    sent = {
        (f"{method.upper()} {path}", name)
        for path, item in found["paths"].items()
        for method, operation in item.items()
        for name in told(operation, found["components"]["schemas"])
    }

    assert sorted(one for one in sent if one[1] not in named) == []


PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *DOCS.glob("*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_tests_that_are_named_exist(page: Path) -> None:
    """A page that says what holds a sentence names a file or folder of tests that is there."""
    tests = ROOT / "tests"
    paths = re.findall(r"`(tests/[\w/.-]+)`", page.read_text())
    files = re.findall(r"`(test_\w+\.py)`", page.read_text())

    assert [path for path in paths if not (ROOT / path).exists()] == []
    assert [name for name in files if not any(tests.rglob(name))] == []


def wrong_words(line: str) -> list[str]:
    """Words of a command line that no command or option of ours knows."""
    command: click.Command = modelgates
    words = line.split("#", maxsplit=1)[0].split()[1:]
    wrong = []
    for word in words:
        if not isinstance(command, click.Group) or word.startswith("-"):
            break
        found = command.commands.get(word)
        if found is None:
            return [word]
        command = found
    known = {option for one in command.params for option in (*one.opts, *one.secondary_opts)} | {"--help", "--version"}
    wrong += [option for option in re.findall(r"(?<!\S)\[?(--[a-z-]+)", " ".join(words)) if option not in known]
    return wrong


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_commands_that_are_named_exist(page: Path) -> None:
    """Every `modelgates …` of a page is a command with those options."""
    text = page.read_text()
    lines = re.findall(r"`(modelgates [^`\n]+)`", text) + re.findall(
        r"^(?:.*\| )?(modelgates [a-z][^`\n]*)$", text, re.MULTILINE
    )

    assert {line: wrong for line in lines if (wrong := wrong_words(line))} == {}


def test_events_and_series_that_are_named_exist() -> None:
    """What operators are told to watch is written somewhere in the code, or counted."""
    code = "".join(path.read_text() for path in (ROOT / "src").rglob("*.py"))
    watching = (DOCS / "operations.md").read_text().partition("\n## Watching\n")[2].partition("\n## ")[0]
    events = {
        name for row in re.findall(r"^\| (`.*?) \|", watching, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)
    }
    series = set(re.findall(r"`modelgates_(\w+?)(?:_total)?[`{]", (DOCS / "deploying.md").read_text()))

    assert events
    assert sorted(name for name in events if f'"{name}"' not in code) == []
    assert sorted(name for name in series if f'"modelgates_{name}"' not in code and f'"{name}"' not in code) == []
