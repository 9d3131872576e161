"""Provider preferences of workspaces and keys: what is sent as `provider` is what requests may say (product-surface 1.2)."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from pydantic import Field

from modelgates_server.dialects.values import Preferences
from modelgates_server.errors import BadRequest
from modelgates_server.routing.wishes import read_preferences

Provider = Annotated[dict[str, Any], Field(description="Provider preferences, as requests take them.")]

_ENCODER: Final = msgspec.json.Encoder(decimal_format="number")


def understood(provider: dict[str, Any] | None) -> dict[str, Any]:
    """Give those members that mean something here."""
    return {name: value for name, value in (provider or {}).items() if name in Preferences.__struct_fields__}


def written(said: dict[str, Any]) -> str:
    """Give preferences as JSON. Raises BadRequest for what cannot be."""
    text = _ENCODER.encode(said)
    try:
        read_preferences(text)
    except msgspec.ValidationError as error:
        raise BadRequest(f"provider: {error}") from error
    return text.decode()
