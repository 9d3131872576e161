"""The documents come into the package when it is built."""

from __future__ import annotations

from pathlib import Path

import pytest
from build_tools.documents import DocumentsMissing, make


def written(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_pages_and_images_are_copied_and_nothing_else(tmp_path: Path) -> None:
    """Not the records of decisions, not what generates pages; and a page that is gone goes."""
    docs, pages = tmp_path / "docs", tmp_path / "pages"
    for name in ("a.md", "generate.py", "decisions/0001-x.md", "images/b.png"):
        (docs / name).parent.mkdir(parents=True, exist_ok=True)
        (docs / name).write_text(name)
    pages.mkdir()
    (pages / "old.md").write_text("old")
    make(docs, pages)

    assert written(pages) == {"a.md", "images/b.png"}


def test_a_source_distribution_brings_its_own(tmp_path: Path) -> None:
    """Without docs/, what is there stays; with nothing there, the build stops."""
    pages = tmp_path / "pages"
    pages.mkdir()
    with pytest.raises(DocumentsMissing, match="is missing"):
        make(tmp_path / "docs", pages)
    (pages / "a.md").write_text("a")
    make(tmp_path / "docs", pages)

    assert written(pages) == {"a.md"}
