"""A library that is preloaded into a process and makes its writes fail on demand (`shim.c`); compiled by whoever needs it first.

The compiler is the machine's; `tests/support/install_cc.sh` gets one where there is none.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCE = Path(__file__).with_name("shim.c")
PACKAGE = ROOT / ".cache" / "cc"
"""Where `install_cc.sh` puts a compiler from PyPI."""


class NoCompiler(Exception):
    """No C compiler is installed; `make .venv/.test` installs one."""


def find_compiler() -> list[str]:
    """The command that compiles C. Raises NoCompiler."""
    for name in (os.environ.get("CC"), "cc", "gcc", "clang"):
        if name and shutil.which(name):
            return [name]
    if (PACKAGE / "ziglang").is_dir():
        return [
            sys.executable,
            "-c",
            f"import sys; sys.path.insert(0, {str(PACKAGE)!r}); import ziglang.__main__",
            "cc",
        ]
    raise NoCompiler("no C compiler: run make test")


def build(folder: Path) -> Path:
    """Compile the library into `folder`."""
    library = folder / "shim.so"
    command = [*find_compiler(), "-shared", "-fPIC", "-O1", "-Wall", "-Werror", str(SOURCE), "-o", str(library), "-ldl"]
    subprocess.run(command, check=True, cwd=folder)
    return library


def preloaded(library: Path, **variables: str) -> dict[str, str]:
    """Environment variables of a process with the library in it."""
    return {"LD_PRELOAD": str(library)} | variables


def arm(folder: str, first: int, last: int, error: int) -> None:
    """In such a process: let the calls from `first` to `last`, counted from now, fail with `error` for files of `folder`."""
    ctypes.CDLL(None).shim_arm(folder.encode(), ctypes.c_long(first), ctypes.c_long(last), error)


def calls() -> int:
    """How many writes and syncs there were since."""
    return int(ctypes.CDLL(None).shim_calls())
