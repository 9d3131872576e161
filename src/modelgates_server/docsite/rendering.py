"""How the docs' pages are written, and the headers that all of them have."""

from __future__ import annotations

import functools
import hashlib
from importlib import resources
from typing import Final

import jinja2
from starlette.responses import Response

from modelgates_server import __version__

SAFE: Final[dict[str, str]] = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
"""On every answer, as the console has them: no script and no style inline, no frame."""

FRESH: Final = {"cache-control": "no-cache"}
KEPT: Final = {"cache-control": "public, max-age=31536000, immutable"}
"""For what has a digest in its address."""

STYLESHEET_NAME: Final = "docs.css"
_PACKAGE: Final = "modelgates_server.docsite"


@functools.cache
def stylesheet() -> bytes:
    """The docs' own additions to the console's stylesheet."""
    return resources.files(_PACKAGE).joinpath("static", STYLESHEET_NAME).read_bytes()


@functools.cache
def stylesheet_url() -> str:
    """Where it is, with a digest of its content."""
    return f"/docs/_assets/{STYLESHEET_NAME}?v={hashlib.sha256(stylesheet()).hexdigest()[:16]}"


def page(template: str, status: int = 200, **values: object) -> Response:
    """Write a page. For a thread: templates take a moment."""
    text = _templates().get_template(template).render(version=__version__, own_stylesheet=stylesheet_url(), **values)
    return Response(text, status, SAFE | FRESH, media_type="text/html")


def text(body: str, media_type: str, status: int = 200) -> Response:
    """Write text as it is."""
    return Response(body, status, SAFE | FRESH, media_type=media_type)


@functools.cache
def _templates() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader(_PACKAGE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
