"""What people may call things."""

from __future__ import annotations

from typing import Final

from modelgates_server.errors import BadRequest
from modelgates_server.privacy import visible

NAME_CHARACTERS_MAX: Final = 100


def stored_name(what: str, name: str, *, longest: int = NAME_CHARACTERS_MAX, needed: bool = True) -> str:
    """The name of `what` ("a key") as it is stored. Raises BadRequest when nothing of it can be seen, or when it is too long."""
    shown = visible(name, longest + 1)
    if needed and not shown:
        raise BadRequest(f"{what} needs a name")
    if len(shown) > longest:
        raise BadRequest(f"the name of {what} has at most {longest} characters")
    return shown
