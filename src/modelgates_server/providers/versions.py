"""Which `anthropic-version` an endpoint is told (providers 1). A client's is never raised: newer versions refuse older bodies."""

from __future__ import annotations

import re
from typing import Final

from modelgates_server.catalogue.models import Endpoint
from modelgates_server.providers.base import Outgoing

OLD: Final = "2023-06-01"
NEW: Final = "2026-10-21"

_NUMBER: Final = re.compile(r"-(\d{1,2})(?![^-])")


def takes_new(endpoint: Endpoint) -> bool:
    """Whether an endpoint knows versions after the first. On Bedrock that goes by the generation of the model."""
    first = endpoint.traits.legacy_version_before
    return not first or generation(endpoint.model.id) >= generation(first)


def generation(model_id: str) -> tuple[int, ...]:
    """``(4, 7)`` of ``claude-opus-4-7``; dates do not count, and a model without a number is older than all."""
    return tuple(int(number) for number in _NUMBER.findall(model_id))


def body_version(endpoint: Endpoint, request: Outgoing, legacy: str) -> bytes:
    """The member `anthropic_version`, as JSON: `legacy` is what the upstream calls the old version.

    What is valid in a new version is valid in the old one, so that is also right where a version is not known.
    """
    new = request.header("anthropic-version") == NEW and takes_new(endpoint)
    return b'"%s"' % (NEW if new else legacy).encode()
