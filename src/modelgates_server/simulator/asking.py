"""One question to an identity endpoint, and its answer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from modelgates_server.simulator.call import Headers


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked. Header names are in lower case."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    form: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Told:
    """What is answered. A body that is text is sent as such, any other as JSON."""

    status: int
    body: Any
    headers: Headers = field(default_factory=list)
