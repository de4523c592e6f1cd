"""The registry's SQL, by name, from the .sql files of this folder."""

from __future__ import annotations

import re
from importlib.resources import files
from typing import Final, LiteralString, cast

__all__ = ["QUERIES", "load"]

_QUERY = re.compile(r"^-- (\w+) --$\n(.*?)(?=^-- \w+ --$|\Z)", re.MULTILINE | re.DOTALL)


def load(package: str) -> dict[str, LiteralString]:
    """Return the statements of a package's .sql files by name. A line `-- name --` precedes each."""
    parts = [file for file in files(package).iterdir() if file.name.endswith(".sql")]
    text = "\n".join(file.read_text(encoding="utf-8") for file in parts)
    # The files belong to the package and are as literal as strings in the code.
    return {name: cast("LiteralString", body.strip()) for name, body in _QUERY.findall(text)}


QUERIES: Final = load(__name__)
