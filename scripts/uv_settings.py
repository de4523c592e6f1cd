"""Print pip's settings as `export` lines for uv, which reads none of pip's files or variables."""

from __future__ import annotations

import ast
import os
import shlex
import subprocess
import sys
from pathlib import Path

# pip's setting, uv's variable, and what uv puts between several values (None: one value only).
SETTINGS = (
    ("index-url", "UV_DEFAULT_INDEX", None),
    ("extra-index-url", "UV_INDEX", " "),
    ("find-links", "UV_FIND_LINKS", ","),
    ("no-index", "UV_NO_INDEX", None),
    ("trusted-host", "UV_INSECURE_HOST", " "),
    ("cert", "SSL_CERT_FILE", None),
    ("proxy", "ALL_PROXY", None),
    ("timeout", "UV_HTTP_TIMEOUT", None),
    ("default-timeout", "UV_HTTP_TIMEOUT", None),
)
# Later ones win: pip's order.
SECTIONS = ("global", "install", ":env:")


def exports(listed: str, environment: dict[str, str]) -> dict[str, str]:
    """Return uv's variables for the output of `pip config list`. What `environment` sets already stays."""
    found = {
        key: str(ast.literal_eval(value)) for key, _, value in (line.partition("=") for line in listed.splitlines())
    }
    made: dict[str, str] = {}
    for section in SECTIONS:
        for setting, variable, separator in SETTINGS:
            values = found.get(f"{section}.{setting}", "").split()
            if setting == "find-links":  # pip passes over a missing folder, uv fails
                values = [value for value in values if "://" in value or Path(value).exists()]
            if values and variable not in environment:
                made[variable] = values[0] if separator is None else separator.join(values)
    return made


if __name__ == "__main__":
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    ).stdout
    for variable, value in exports(listed, dict(os.environ)).items():
        print(f"export {variable}={shlex.quote(value)}")
