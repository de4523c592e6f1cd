"""Every kind of change, reviewed by the command in a repository of its own: the report byte for byte, and the status.

`KRYONIX_WRITE_GOLDEN=1 scripts/test tests/acceptance/review` writes the reports anew; read what `git diff` shows then.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.review_kinds import KINDS, Kind
from tests.support.review_repository import Repository

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_each_report_equals_its_golden_file(repository: Repository, kind: Kind) -> None:
    kind.make(repository)
    result = repository.review("--full", "report.md", *kind.arguments)
    shown, golden = repository.placeheld(result.stdout), GOLDEN / f"{kind.name}.md"
    if os.environ.get("KRYONIX_WRITE_GOLDEN"):
        golden.write_text(shown)
    assert (result.returncode, shown) == (kind.status, golden.read_text()), result.stderr
    assert "Traceback" not in result.stderr


def test_every_golden_report_belongs_to_one_of_twenty_kinds_of_change() -> None:
    names = {kind.name for kind in KINDS}
    assert {file.stem for file in GOLDEN.glob("*.md")} == names
    assert len(names) == len(KINDS) >= 20
