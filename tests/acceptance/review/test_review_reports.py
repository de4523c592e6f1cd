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
def test_the_report_of_a_change_is_the_one_in_the_repository(repository: Repository, kind: Kind) -> None:
    kind.make(repository)
    result = repository.review("--full", "report.md", *kind.arguments)
    shown, golden = repository.placeheld(result.stdout), GOLDEN / f"{kind.name}.md"
    if os.environ.get("KRYONIX_WRITE_GOLDEN"):
        golden.write_text(shown)
    assert (result.returncode, shown) == (kind.status, golden.read_text()), result.stderr
    assert "Traceback" not in result.stderr


def test_every_golden_report_belongs_to_a_kind_of_change_and_at_least_twenty_are_tried() -> None:
    names = {kind.name for kind in KINDS}
    assert {file.stem for file in GOLDEN.glob("*.md")} == names
    assert len(names) == len(KINDS) >= 20
