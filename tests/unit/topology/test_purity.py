from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PURE = {
    "__future__",
    "base64",
    "bcrypt",
    "collections",
    "dataclasses",
    "difflib",
    "functools",
    "hashlib",
    "hmac",
    "importlib",
    "ipaddress",
    "pydantic",
}
PURE |= {"itertools", "pydantic_core", "re", "typing", "unicodedata", "urllib.parse", "yaml"}


def imports(file: Path) -> set[str]:
    nodes = list(ast.walk(ast.parse(file.read_text())))
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return plain | {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}


@pytest.mark.parametrize("file", sorted((ROOT / "kryonix/topology").rglob("*.py")), ids=lambda file: file.name)
def test_topology_imports_neither_pulumi_nor_io_nor_its_users(file: Path) -> None:
    foreign = {
        name
        for name in imports(file)
        if not name.startswith(("kryonix.topology", "kryonix.errors")) and not {name, name.split(".")[0]} & PURE
    }
    assert foreign == set()


@pytest.mark.parametrize("file", sorted((ROOT / "kryonix/review").glob("*.py")), ids=lambda file: file.name)
def test_a_review_imports_only_the_topology_and_does_no_io(file: Path) -> None:
    mine = ("kryonix.topology", "kryonix.review")
    text = {"enum", "itertools", "json"}  # and pathlib for paths that are only names
    foreign = {name for name in imports(file) if not name.startswith(mine) and name.split(".")[0] not in PURE | text}
    assert foreign <= {"pathlib"}
    assert "Path(" not in file.read_text().replace("PurePosixPath(", "")
