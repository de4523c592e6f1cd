"""Change one value of a stack's config file, Pulumi.STACK.yaml; its comments and other lines stay."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, Final

from kryonix.errors import InvalidChoice
from kryonix.topology.document import parse
from kryonix.topology.errors import InvalidInput

_INDENT: Final = "  "


def set_value(file: Path, key: str, value: Any) -> None:
    """Set a key such as `kryonix:caIssuing`. Readers see the old file or the new one.

    Raises InvalidChoice if the file can't be read or written, or is written in a way that can't be changed line by
    line.
    """
    file = file.resolve()
    try:
        content = file.read_bytes() if file.exists() else b""
        new = file.with_name(f".{file.name}.new")
        new.write_bytes(with_value(content, file.name, key, value))
        if file.exists():
            shutil.copymode(file, new)
        new.replace(file)
    except OSError as error:
        raise InvalidChoice(
            f"{file} can't be changed: {error.strerror}. Set {key}: {json.dumps(value)} there"
        ) from error


def with_value(content: bytes, file: str, key: str, value: Any) -> bytes:
    """Return a config file's content with one value set. Raises InvalidChoice, and InvalidInput for a broken file."""
    empty = all(line.lstrip().startswith("#") for line in content.decode().splitlines() if line.strip())
    document = parse(b"config:\n" if empty else content, file)
    known = {} if empty or not isinstance(document.value, dict) else document.value
    config = known.get("config") or {}
    lines, entry = content.decode().splitlines(keepends=True), f"{key}: {json.dumps(value)}\n"
    if lines and not lines[-1].endswith("\n"):
        lines[-1] += "\n"
    present = next((each for each in (key, key.partition(":")[2]) if each in config), None)
    if not config:
        lines += [] if "config" in known else ["config:\n"]
        at = next((number for number, line in enumerate(lines, 1) if line.startswith("config:")), len(lines))
        lines.insert(at, f"{_INDENT}{entry}")
    else:
        at = (document.line(("config", present or next(iter(config)))) or 1) - 1
        indent = lines[at][: len(lines[at]) - len(lines[at].lstrip())]
        lines[at : _end(lines, at) if present else at] = [f"{indent}{entry}"]
    changed = "".join(lines).encode()
    wanted = {**known, "config": {**{name: each for name, each in config.items() if name != present}, key: value}}
    if not _reads(changed, file, wanted):
        raise InvalidChoice(f"{file} is not written one key per line. Set {key}: {json.dumps(value)} there yourself")
    return changed


def _reads(content: bytes, file: str, wanted: Any) -> bool:
    try:
        return bool(parse(content, file).value == wanted)
    except InvalidInput:
        return False


def _end(lines: list[str], start: int) -> int:
    """Return the line after a key's value, to which deeper lines belong, and items of a list at its own depth."""
    depth = len(lines[start]) - len(lines[start].lstrip())
    end = start + 1
    while end < len(lines):
        text = lines[end].lstrip()
        here = len(lines[end]) - len(text)
        if not text.strip() or here < depth or (here == depth and not text.startswith("- ")):
            break
        end += 1
    return end
