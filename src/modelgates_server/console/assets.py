"""Style and scripts: a fixed table of files, read and compressed once. A request only looks a name up, so no path leads anywhere else.

htmx and Chart.js come from npm when the package is built (build_tools/); they are not part of the repository.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
from dataclasses import dataclass
from importlib import resources
from typing import Final

PREFIX: Final = "/assets/"
_FILES: Final = {
    "console.css": ("static/console.css", "text/css; charset=utf-8"),
    "console.js": ("static/console.js", "text/javascript; charset=utf-8"),
    "htmx.min.js": ("vendor/htmx.min.js", "text/javascript; charset=utf-8"),
    "chart.umd.min.js": ("vendor/chart.umd.min.js", "text/javascript; charset=utf-8"),
    "icon.svg": ("static/icon.svg", "image/svg+xml"),
}
"""By the name that a page asks for: where it lies in the package, and what it is."""

SHARED: Final = ("console.css", "icon.svg")
"""What the docs use of them."""


@dataclass(frozen=True, slots=True)
class Asset:
    """A file as it is sent. `digest` names this very content, so browsers may keep it for ever."""

    body: bytes
    compressed: bytes
    media_type: str
    digest: str


class Assets:
    """The files by name."""

    def __init__(self) -> None:
        folder = resources.files("modelgates_server.console")
        self.by_name = {
            name: _asset(folder.joinpath(path).read_bytes(), media_type) for name, (path, media_type) in _FILES.items()
        }

    def url(self, name: str) -> str:
        """The address of a file, with its digest."""
        return f"{PREFIX}{name}?v={self.by_name[name].digest}"


@functools.cache
def assets() -> Assets:
    """Read the files once."""
    return Assets()


def _asset(body: bytes, media_type: str) -> Asset:
    return Asset(body, gzip.compress(body, 9, mtime=0), media_type, hashlib.sha256(body).hexdigest()[:16])
