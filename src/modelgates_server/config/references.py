"""Secrets by reference: ``env:NAME`` and ``file:PATH`` in the operator's file, so that the file itself holds none."""

from __future__ import annotations

import re
from typing import Final

from modelgates_server.config.lines import Where
from modelgates_server.config.source import Source
from modelgates_server.config.values import Secret

_ODD: Final = "the secret holds spaces, line breaks or characters that no secret has"


def read_reference(source: Source, path: Where, value: str, variable: str, warnings: list[str]) -> Secret:
    """Read the secret that the setting at `path` means. A literal in the file is taken with a warning.

    `variable` is the setting's own environment variable: what stands there is no secret in a file. Raises ConfigError.
    """
    name = str(path[-1])
    scheme, _, place = value.strip().partition(":")
    if scheme == "env":
        text = _from_environment(source, path, place.strip())
    elif scheme == "file":
        text = _from_file(source, path, place.strip())
    else:
        text = value.strip()
        if variable not in source.environ:
            told = f'{name} itself stands in the file; write {name} = "env:NAME" or "file:PATH" instead'
            warnings.append(source.place(path) + told)
    if not re.fullmatch(r"[!-~]+", text):
        raise source.error(path, _ODD)
    return Secret(text)


def _from_environment(source: Source, path: Where, variable: str) -> str:
    text = source.environ.get(variable, "").strip()
    if not text:
        state = "is empty" if variable in source.environ else "is not set"
        remedy = f"export {variable or 'NAME'}=<the secret>"
        raise source.error(path, f"the environment variable {variable!r} {state}", remedy)
    return text


def _from_file(source: Source, path: Where, place: str) -> str:
    file = source.folder / place
    try:
        text = file.read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise source.error(path, f"cannot read the secret from {file}: {reason}") from error
    if not text:
        raise source.error(path, f"{file} is empty", "write the secret into it")
    return text
