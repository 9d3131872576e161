"""The documents of docs/ in the package, so that every installation serves them: pages and images, not the records of decisions.

They are copied when the package is built; a checkout serves docs/ itself, so that what is edited is what is seen.
"""

from __future__ import annotations

import shutil
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = ROOT / "src" / "modelgates_server" / "docsite" / "pages"


class DocumentsMissing(Exception):
    """There are no documents to put into the package."""


def make(docs: Path = DOCS, pages: Path = PAGES) -> None:
    """Copy the documents; from a source distribution, which has no docs/, they are there already. Raises DocumentsMissing."""
    if not docs.is_dir():
        if not any(pages.glob("*.md")):
            message = f"{docs} is missing: build from the repository, or from a whole source distribution"
            raise DocumentsMissing(message)
        return
    shutil.rmtree(pages, ignore_errors=True)
    (pages / "images").mkdir(parents=True)
    for page in docs.glob("*.md"):
        shutil.copyfile(page, pages / page.name)
    for image in (docs / "images").glob("*"):
        shutil.copyfile(image, pages / "images" / image.name)
