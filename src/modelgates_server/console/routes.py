"""How a page module names its pages: a path, a function, and who may come."""

from __future__ import annotations

from dataclasses import dataclass

from modelgates_server.console.visits import MEMBER, Handler


@dataclass(frozen=True, slots=True)
class PageRoute:
    """A page or a form of one. `role` is the least that a visitor must be: open, member or admin.

    `again` renders the page anew when what was posted cannot be done, with the sentence that says why.
    """

    method: str
    path: str
    handler: Handler
    role: str = MEMBER
    again: Handler | None = None


def get(path: str, handler: Handler, role: str = MEMBER) -> PageRoute:
    """A page to look at."""
    return PageRoute("GET", path, handler, role)


def post(path: str, handler: Handler, role: str = MEMBER, again: Handler | None = None) -> PageRoute:
    """A form to send."""
    return PageRoute("POST", path, handler, role, again)
