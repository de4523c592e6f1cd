"""Repositories for reviews."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.review_kinds import TENANTS
from tests.support.review_repository import Repository


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """The program's code in one commit. Tests change copies of it."""
    return Repository.template(tmp_path_factory.mktemp("template") / "repository")


@pytest.fixture
def repository(template: Repository, tmp_path: Path) -> Repository:
    """A repository with the program's code in it and no tenants."""
    return template.copy(tmp_path / "repository")


@pytest.fixture
def list_only(tmp_path: Path) -> Repository:
    """A repository with a list of four tenants, committed and tagged as `base`, and no code."""
    made = Repository.empty(tmp_path / "list")
    made.tenants(*TENANTS)
    made.commit("four tenants")
    made.git("tag", "base")
    return made
