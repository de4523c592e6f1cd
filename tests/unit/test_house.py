"""Imports between rooms point one way; shared helpers lie in tests/support; test names are short."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOCAL = "engines.local"

ALLOWED = {
    "errors": set(),
    "topology": set(),
    "certificates": {"topology"},
    "rabbitmq": {"certificates", "topology"},
    "registry": {"certificates", "routing", "topology"},
    "checks": {"certificates", "monitoring", "rabbitmq", "registry", "topology"},
    "engines": {"certificates", "topology"},
    LOCAL: {"certificates", "engines", "rabbitmq", "topology"},
    "tenants": {"engines", "rabbitmq", "registry", "topology"},
    "fleet": {"engines", "rabbitmq", "registry", "tenants", "topology"},
    "cluster": {"engines", "rabbitmq", "topology"},
    "backup": {"certificates", "engines", "rabbitmq", "registry", "tenants", "topology"},
    "review": {"topology"},
    "policy": {"review", "topology"},
    "messaging": {"certificates", "routing", "topology"},
    "routing": set(),
    "training": {"routing"},
    "monitoring": {"certificates", "fleet", "rabbitmq", "registry", "topology"},
    "worker": {"messaging", "monitoring", "topology"},
    "signup": {"certificates", "engines", "fleet", "monitoring", "rabbitmq", "registry", "tenants", "topology"},
    "cli": {
        "backup",
        "certificates",
        "checks",
        "cluster",
        "engines",
        "fleet",
        "messaging",
        "monitoring",
        "rabbitmq",
        "registry",
        "review",
        "routing",
        "signup",
        "tenants",
        "topology",
        "training",
        "worker",
    },
    "__main__": {"cli"},
}
"""What each room of `kryonix` may import, beside itself, `kryonix.errors` and the version."""

ANYWHERE = ("errors", "__version__")

LOCAL_ENGINE = {"engines/choice.py", "engines/process.py", "engines/runner.py"}
"""What chooses the local engine, or runs it. The Pulumi CLI's path is none of them."""

PULUMI = {"engines", LOCAL, "policy"}


def room(parts: tuple[str, ...]) -> str:
    return LOCAL if parts[:2] == ("engines", "local") and len(parts) > 1 else parts[0]


def imports(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def arrows() -> Iterator[tuple[str, str, str]]:
    """Each import of another room: the file, its room, and the room that it imports."""
    for file in sorted((ROOT / "kryonix").rglob("*.py")):
        name = file.relative_to(ROOT / "kryonix")
        own = room(name.with_suffix("").parts)
        for target in imports(file):
            parts = tuple(target.split("."))
            if (
                parts[0] == "kryonix"
                and len(parts) > 1
                and (other := room(parts[1:])) not in (own, "errors", "__version__")
            ):
                yield name.as_posix(), own, other


def test_every_arrow_between_rooms_points_the_allowed_way() -> None:
    wrong = set()
    for file, own, other in arrows():
        allowed = file in LOCAL_ENGINE if other == LOCAL else other in ALLOWED.get(own, set())
        if own != "__init__" and not allowed:
            wrong.add((file, other))
    assert wrong == set()


@pytest.mark.parametrize("folder", sorted(set(ALLOWED) - PULUMI))
def test_only_components_engines_and_policy_import_pulumi(folder: str) -> None:
    files = (ROOT / "kryonix" / folder).rglob("*.py")
    assert [file.name for file in files if any(name.split(".")[0] == "pulumi" for name in imports(file))] == []


def test_shared_test_helpers_lie_in_support() -> None:
    wrong = {
        (file.relative_to(ROOT).as_posix(), name)
        for kind, others in {"unit": ("integration", "acceptance"), "integration": ("acceptance",)}.items()
        for file in (ROOT / "tests" / kind).rglob("*.py")
        for name in imports(file)
        if name.startswith(tuple(f"tests.{other}." for other in others))
    }
    assert wrong == set()


def test_no_test_name_is_longer_than_70_characters() -> None:
    names = [
        node.name
        for file in (ROOT / "tests").rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    ]
    assert len(names) > 1000
    assert [name for name in names if len(name) > 70] == []
