"""Libraries for the clouds' credentials, which are extras: what to install where one is needed and missing."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Final

EXTRAS: Final[Mapping[str, tuple[str, ...]]] = {
    "aws": ("botocore",),
    "google": ("google.auth", "requests"),
    "azure": ("azure.identity",),
}
"""By the way in which a provider authenticates: what must be importable."""


def extra_missing(auth: str) -> bool:
    """Whether a provider that authenticates like that cannot work in this installation. Imports nothing that is large."""
    return not all(map(_installed, EXTRAS.get(auth, ())))


def install_command(auth: str) -> str:
    """What to run when `extra_missing`."""
    return f"pip install 'modelgates-server[{auth}]'"


def _installed(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        return False  # not even the package around it
