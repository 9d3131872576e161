"""The build backend (PEP 517, PEP 660): setuptools', after making what the repository does not hold.

`PARTS` are made before a wheel, an editable install or a source distribution is built. `python -m build_tools.backend` prints what must be
installed first where a build runs without isolation, as in the Makefile: one requirement a line, or nothing.
"""

from __future__ import annotations

from typing import Any

from setuptools import build_meta
from setuptools.build_meta import prepare_metadata_for_build_editable, prepare_metadata_for_build_wheel

from build_tools import documents, scripts

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
]

PARTS = (scripts.make, documents.make)
"""Each puts one part into the package; it does nothing when that is there already, as in a source distribution."""

Settings = dict[str, Any] | None


def _make_parts() -> None:
    for make in PARTS:
        make()


def get_requires_for_build_wheel(config_settings: Settings = None) -> list[str]:
    """Give what must be installed before a wheel is built."""
    return [*build_meta.get_requires_for_build_wheel(config_settings), *scripts.needed()]


def get_requires_for_build_editable(config_settings: Settings = None) -> list[str]:
    """Give what must be installed before an editable install."""
    return [*build_meta.get_requires_for_build_editable(config_settings), *scripts.needed()]


def get_requires_for_build_sdist(config_settings: Settings = None) -> list[str]:
    """Give what must be installed before a source distribution is built."""
    return [*build_meta.get_requires_for_build_sdist(config_settings), *scripts.needed()]


def build_wheel(wheel_directory: str, config_settings: Settings = None, metadata_directory: str | None = None) -> str:
    """Build a wheel and give its file name. Raises ScriptsMissing."""
    _make_parts()
    return build_meta.build_wheel(wheel_directory, config_settings, metadata_directory)


def build_editable(
    wheel_directory: str, config_settings: Settings = None, metadata_directory: str | None = None
) -> str:
    """Build an editable install's wheel and give its file name. Raises ScriptsMissing."""
    _make_parts()
    return build_meta.build_editable(wheel_directory, config_settings, metadata_directory)


def build_sdist(sdist_directory: str, config_settings: Settings = None) -> str:
    """Build a source distribution and give its file name. Raises ScriptsMissing."""
    _make_parts()
    return build_meta.build_sdist(sdist_directory, config_settings)


if __name__ == "__main__":
    for requirement in scripts.needed():
        print(requirement)
