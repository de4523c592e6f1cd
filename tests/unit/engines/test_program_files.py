"""The digest of a program: the files that a run executes, and no others."""

from __future__ import annotations

from pathlib import Path

import pytest

from kryonix.engines.program_files import program_digest, program_files

ROOT = Path(__file__).parents[3]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "parts").mkdir()
    (tmp_path / "Pulumi.yaml").write_text("name: notes\n")
    (tmp_path / "__main__.py").write_text("import json\nif True:\n    from parts.note import (\n        Note,\n    )\n")
    (tmp_path / "parts" / "__init__.py").write_text("")
    (tmp_path / "parts" / "note.py").write_text("from parts import paper\n\nNote = paper\n")
    (tmp_path / "parts" / "paper.py").write_text("SIZE = 4\n")
    (tmp_path / "parts" / "unused.py").write_text("SIZE = 5\n")
    return tmp_path


@pytest.mark.parametrize("name", ["Pulumi.yaml", "__main__.py", "parts/__init__.py", "parts/note.py", "parts/paper.py"])
def test_every_file_that_a_run_executes_changes_the_digest(project: Path, name: str) -> None:
    before = program_digest(project)
    assert program_digest(project) == before
    with (project / name).open("a") as file:
        file.write("# changed\n")
    assert program_digest(project) != before


def test_a_file_that_nothing_imports_does_not_count(project: Path) -> None:
    before = program_digest(project)
    (project / "parts" / "unused.py").write_text("SIZE = 66\n")
    assert program_digest(project) == before


def test_an_equal_program_elsewhere_has_an_equal_digest(project: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("Pulumi.yaml", "__main__.py"):
        (copy / name).write_bytes((project / name).read_bytes())
    (copy / "parts").symlink_to(project / "parts")
    assert program_digest(copy) == program_digest(project)


def test_the_providers_versions_count(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = program_digest(project)
    (project / "site" / "pulumi_rabbitmq-99.0.0.dist-info").mkdir(parents=True)
    monkeypatch.syspath_prepend(str(project / "site"))
    assert program_digest(project) != before


def test_the_products_program_is_found_with_what_it_imports() -> None:
    found = program_files(ROOT)
    expected = {
        "__main__.py",
        "components/tenant.py",
        "components/tenant_user.py",
        "kryonix/engines/local/handlers/rabbitmq.py",
        "kryonix/registry/sql/queries.sql",
        "kryonix/tenants/stacks.py",
        "kryonix/topology/catalog.yaml",
        "kryonix/topology/expansion.py",
    }
    assert expected <= found.keys()
    assert not [name for name in found if name.startswith(("kryonix/cli/", "kryonix/signup/", "kryonix/review/"))]
