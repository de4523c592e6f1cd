"""What earlier changes have accepted: entries that say yes to nothing any more."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from kryonix.review.acceptance import Acceptance, parse_acceptances
from kryonix.review.base.git import Revision
from kryonix.topology.errors import InvalidInput

__all__ = ["accepted_before"]


def accepted_before(file: Path, revisions: Iterable[Revision]) -> list[Acceptance]:
    """The entries of an accepted-changes.yaml as it was at these revisions."""
    earlier: list[Acceptance] = []
    for revision in revisions:
        path = revision.repository.inside(file)
        content = revision.file(path) if path is not None else None
        try:
            earlier += parse_acceptances(content, file.name) if content is not None else []
        except InvalidInput:
            continue  # such a file has said yes to nothing, so no entry here has been used
    return earlier
