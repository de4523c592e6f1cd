"""Repositories to review changes in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.acceptance.review.repository import Repository

Copied = Callable[[], Repository]


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """The program's code in one commit. Tests change copies of it."""
    return Repository.template(tmp_path_factory.mktemp("template") / "repository")


@pytest.fixture
def repository(template: Repository, tmp_path: Path) -> Repository:
    """A repository with the program's code in it and no tenants."""
    return template.copy(tmp_path / "repository")
