"""docs/routes.md: every path that the gateway answers, from the tables that answer them."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from fastapi import FastAPI

from modelgates_server.api.app import OPENAPI_PATH, PREFIX, ROUTERS
from modelgates_server.console.pages import PAGES as CONSOLE_PAGES
from modelgates_server.docsite.app import PAGES as DOCS_PAGES
from modelgates_server.docsite.gate import PATH as MCP_PATH
from modelgates_server.edge import models, providers
from modelgates_server.edge.server import MODEL_PATH, PREFIXES, ROOT_ROUTES, ROUTES, WRAPPED_MODEL_PATH, Route

Row = tuple[str, str, str, str]

INTRODUCTION = """# Routes

*Generated from the code by `make docs`.*

Everything that the gateway answers, and who may ask. Whatever is not here is 404; another method is 405 with `allow`.
A final slash does not matter. Nothing is ever redirected, except after a form of the console.

## Inference

{prefixes} in front of these paths are all the same, and so is a doubled `/v1/v1`. A key comes as `x-api-key` or as
`Authorization: Bearer`. [errors.md](errors.md) has every refusal.

"""

MANAGEMENT = """
## Management

For management keys (`sk-mg-mgmt-v1-…`); [api.md](api.md) tells bodies and answers, `GET {openapi}` describes them for programs and
needs no key.
The prefixes are those of inference.

"""

PAGES = """
## Pages

For people, behind their session; each gives the same as JSON when `Accept` prefers `application/json`. *open* needs no session, *admin* an
administrator.

"""

OPEN = """
## For orchestrators

Open to whoever reaches the port; they name nobody.

"""

DOCS = """
## Docs

Open to everybody; the MCP server tells about a key's own requests and limits when it is sent one.

"""

INTERNAL = re.compile(r" \((?:product-surface|client-protocol|design|reliability|[A-Z]-\d+)[^)]*\)")
"""Where a docstring names the note that it follows."""

ANY_KEY, INFERENCE_KEY, NOBODY = "any key", "inference key", "no key"
ASKED: dict[str, str] = {
    "/v1/key": ANY_KEY,
    "/v1/auth/key": ANY_KEY,
    "/v1/generation": ANY_KEY,
    "/v1/chat/completions": NOBODY,
    "/v1/responses": NOBODY,
    "/hello": NOBODY,
}
"""Who may ask for a path of inference, where it is not a holder of an inference key."""


def page() -> str:
    """The whole page."""
    prefixes = ", ".join(f"`{prefix}`" if prefix else "Nothing" for prefix in PREFIXES)
    return "".join(
        (
            INTRODUCTION.format(prefixes=prefixes),
            _table(_inference()),
            MANAGEMENT.format(openapi=OPENAPI_PATH),
            _table(_management()),
            PAGES,
            _table(_console()),
            OPEN,
            _table(row for path, route in ROOT_ROUTES.items() for row in _rows(path, route, NOBODY)),
            DOCS,
            _table(_docs()),
        )
    )


def _inference() -> Iterator[Row]:
    for path, route in ROUTES.items():
        yield from _rows(path, route, ASKED.get(path, INFERENCE_KEY))
    yield ("GET", f"{MODEL_PATH}{{id}}", INFERENCE_KEY, _first(models.one_model))
    yield ("GET", f"{MODEL_PATH}{{author}}/{{slug}}/endpoints", INFERENCE_KEY, _first(providers.model_endpoints))
    yield ("GET", f"{WRAPPED_MODEL_PATH}{{author}}/{{slug}}", INFERENCE_KEY, _first(models.wrapped_model))


def _management() -> Iterator[Row]:
    app = FastAPI()
    for router in ROUTERS:
        app.include_router(router, prefix=PREFIX)
    found = [
        (
            method.upper(),
            path.removeprefix(PREFIX.removesuffix("/v1")),
            "management key",
            _sentence(operation["description"]),
        )
        for path, operations in app.openapi()["paths"].items()
        for method, operation in operations.items()
    ]
    yield from sorted(found, key=lambda row: (row[1], row[0]))


def _console() -> Iterator[Row]:
    for one in sorted(CONSOLE_PAGES, key=lambda page: (page.path, page.method)):
        yield (one.method, one.path, one.role, _first(one.handler))


def _docs() -> Iterator[Row]:
    for path, handler in DOCS_PAGES.items():
        yield ("GET", path, NOBODY, _first(handler))
    yield ("POST", MCP_PATH, f"{NOBODY}, or an {INFERENCE_KEY}", "The MCP server (streamable HTTP).")


def _rows(path: str, route: Route, who: str) -> Iterator[Row]:
    by_handler: dict[Callable[..., Any], list[str]] = {}
    for method, handler in route.methods.items():
        by_handler.setdefault(handler, []).append(method)
    for handler, methods in by_handler.items():
        yield (", ".join(sorted(methods)), path, who, _first(handler))


def _first(handler: Callable[..., Any]) -> str:
    """The first sentence of what a handler says of itself."""
    return _sentence(inspect.getdoc(getattr(handler, "func", handler)) or "")


def _sentence(text: str) -> str:
    line = INTERNAL.sub("", " ".join(text.partition("\n\n")[0].split()))
    head, point, _ = line.partition(". ")
    return (head + "." if point else line).replace("``", "`").replace("|", "\\|")


def _table(rows: Iterable[Row]) -> str:
    lines = [f"| `{method}` | `{path}` | {who} | {what} |" for method, path, who, what in rows]
    return "\n".join(("| method | path | who | what |", "|---|---|---|---|", *lines)) + "\n"
