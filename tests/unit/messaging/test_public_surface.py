from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import kryonix.messaging as messaging
from kryonix.messaging import generation
from kryonix.topology.catalog import default_catalog
from tests.support.project import ROOT

FOLDER = Path(inspect.getfile(messaging)).parent
ALLOWED = {
    "aio_pika",
    "aiormq",
    "httpx",
    "opentelemetry",
    "pamqp",
    "pydantic",
    "typing_extensions",
    "yarl",
    "zstandard",
}


def test_every_export_exists_is_documented_and_sorted() -> None:
    assert messaging.__all__ == sorted(messaging.__all__)
    for name in messaging.__all__:
        exported = getattr(messaging, name)
        if inspect.isclass(exported):
            assert exported.__doc__, f"{name} has no docstring"


def test_nothing_public_is_imported_without_being_exported() -> None:
    tree = ast.parse((FOLDER / "__init__.py").read_text())
    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    imported = {alias.asname or alias.name for node in imports for alias in node.names}
    later = {"LearnedRouter", "RouterStatus"}
    assert (imported - {"TYPE_CHECKING", "Any"}) | later == set(messaging.__all__)


def test_an_application_without_a_model_imports_nothing_of_it() -> None:
    program = "import sys, kryonix.messaging; print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert not {"kryonix.messaging.learned", "kryonix.routing.learned", "numpy", "lightgbm"} & set(found)


def test_a_name_that_does_not_exist_is_said() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Learned'"):
        messaging.Learned  # noqa: B018 - to ask is the test


def test_every_client_method_is_documented_with_its_deadline() -> None:
    for name, method in inspect.getmembers(messaging.MessagingClient, inspect.isfunction):
        if name.startswith("_"):
            continue
        assert method.__doc__, f"MessagingClient.{name} has no docstring"
        if inspect.iscoroutinefunction(method):
            assert "timeout" in inspect.signature(method).parameters, f"MessagingClient.{name} has no timeout"


def test_the_types_of_modules_and_actions_are_those_of_the_catalog() -> None:
    assert (FOLDER / "modules.py").read_text() == generation.render(default_catalog()), (
        "run python -m kryonix.messaging.generation"
    )


def test_the_typescript_modules_are_those_of_the_catalog() -> None:
    file = ROOT / "sdk/typescript/src/modules.ts"
    assert file.read_text(encoding="utf-8") == generation.render_typescript(default_catalog()), (
        "run `python -m kryonix.messaging.generation`"
    )


def test_the_sdk_imports_only_topology_routing_and_its_dependencies() -> None:
    for file in FOLDER.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            for name in names:
                _check_import(file, name)


_OF_THE_SDK = (
    "kryonix.messaging",
    "kryonix.topology",
    "kryonix.errors",
    "kryonix.certificates.trust",
    "kryonix.routing",
)


def _check_import(file: Path, name: str) -> None:
    top = name.partition(".")[0]
    if top == "kryonix":
        assert name == "kryonix" or name.startswith(_OF_THE_SDK), f"{file.name} imports {name}"
    elif top == "psycopg":
        assert file.name == "postgres.py", f"{file.name} imports {name}"
    else:
        assert top in ALLOWED or top in _standard_library(), f"{file.name} imports {name}"


def _standard_library() -> frozenset[str]:
    import sys

    return sys.stdlib_module_names
