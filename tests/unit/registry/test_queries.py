"""The named statements are those of the .sql files, whatever else lies in their folder."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from kryonix.registry.connection import QUERIES, load_queries


def test_what_an_older_version_left_beside_the_statements_is_ignored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "some_statements"
    (package / "sql" / "__pycache__").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "sql" / "one.sql").write_text("-- find --\nSELECT 1;\n")
    (package / "sql" / ".one.sql.swp").write_bytes(b"\xff")
    monkeypatch.syspath_prepend(str(tmp_path))
    try:
        assert load_queries("some_statements") == {"find": "SELECT 1;"}
    finally:
        sys.modules.pop("some_statements", None)
    assert "hold_tenant" in QUERIES
