"""Write the list of passwords that are too common to be taken: digests of the 3,000 most common ones that are long enough.

The passwords come from the published frequency list of the package zxcvbn, which sorts leaked passwords by how often they
occurred. The repository holds digests only: they are all that the check needs. Usage:
common_passwords.py VENV_PYTHON
"""

from __future__ import annotations

import hashlib
import json
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path

SOURCE = "zxcvbn==4.5.0"
CHARACTERS_MIN = 8
COUNT = 3_000
DIGEST_CHARACTERS = 12
"""48 bits: that a good password is taken for one of 3,000 by chance happens once in 90 thousand million."""

TARGET = Path(__file__).parents[1] / "src/modelgates_server/accounts/data/common_passwords.json"


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.argv[1], "-m", "pip", "install", "--quiet", "--no-deps", "--target", folder, SOURCE]
        subprocess.run(pip, check=True)
        lists = runpy.run_path(str(Path(folder, "zxcvbn/frequency_lists.py")))["FREQUENCY_LISTS"]
    common = [word for word in lists["passwords"] if len(word) >= CHARACTERS_MIN][:COUNT]
    digests = sorted(hashlib.sha256(word.casefold().encode()).hexdigest()[:DIGEST_CHARACTERS] for word in common)
    written = {"source": SOURCE, "characters_min": CHARACTERS_MIN, "digests": digests}
    TARGET.write_text(json.dumps(written, indent=0) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
