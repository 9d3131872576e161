"""Writing a report into a file: complete or not at all, and readable by its owner only."""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING

from modelgates_server.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


def write_new_lines(target: Path, lines: Iterable[str]) -> int:
    """Write lines into a file that must not be there yet, and give how many. Raises ConfigError when it is, or cannot be."""
    try:
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))  # ours from now on
    except FileExistsError as error:
        raise ConfigError(
            f"cannot write {target}: {error.strerror}", remedy="name a file that does not exist yet"
        ) from error
    except OSError as error:
        raise ConfigError(f"cannot write {target}: {error.strerror}", remedy="name another file") from error
    try:
        return write_lines(target, lines)
    except BaseException:
        target.unlink(missing_ok=True)
        raise


def write_lines(target: Path, lines: Iterable[str]) -> int:
    """Write lines as they are and give how many; what was at `target` is replaced. Raises ConfigError when it cannot be."""
    draft = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    written = 0
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
            for line in lines:
                file.write(line)
                written += 1
        draft.replace(target)
    except OSError as error:
        raise ConfigError(f"cannot write {target}: {error.strerror or error}", remedy="name another file") from error
    finally:
        draft.unlink(missing_ok=True)
    return written
