"""Every test named in docs/security.md exists."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")


def test_every_test_named_by_the_page_exists() -> None:
    files = {path.relative_to(ROOT / "tests").as_posix(): path.read_text() for path in (ROOT / "tests").rglob("*.py")}
    named = set(re.findall(r"`([\w/]*test_\w+\.py)(?:::\w+)?`", PAGE))
    assert named
    assert [name for name in named if not any(f"/{file}".endswith(f"/{name}") for file in files)] == []
    functions = set(re.findall(r"(?:::|`)(test_\w+)(?![\w.])`", PAGE))
    everything = "\n".join(files.values())
    assert [name for name in functions if f"def {name}(" not in everything] == []
    assert [
        name
        for name in re.findall(r"`((?:unit|integration|acceptance)/[\w/]*/)`", PAGE)
        if not (ROOT / "tests" / name).is_dir()
    ] == []
