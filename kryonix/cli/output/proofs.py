"""Verifications of bundles, as tables and JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from kryonix.backup.verification import Verification
from kryonix.cli.bundles import Reference
from kryonix.cli.output.tables import Column, responsive_table
from kryonix.errors import KryonixError

_LISTED: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """A bundle's verification, or the error that ended it."""

    reference: Reference
    found: Verification | None = None
    error: KryonixError | None = None

    @property
    def problem(self) -> str:
        """Return why the bundle is not proven to restore; empty if it is."""
        return str(self.error) if self.found is None else self.found.error


_COLUMNS: Final[tuple[Column[Proof], ...]] = (
    Column("bundle", lambda proof: proof.reference.text, min_width=24),
    Column("restores", lambda proof: Text("no", "red") if proof.problem else Text("yes", "green")),
    Column("seconds", lambda proof: f"{proof.found.seconds:.1f}" if proof.found else "", number=True),
)


def proofs_json(proofs: Sequence[Proof]) -> list[dict[str, Any]]:
    return [
        {
            "bundle": proof.reference.text,
            "address": proof.reference.where,
            "restores": not proof.problem,
            "seconds": round(proof.found.seconds, 3) if proof.found else None,
            "differences": [asdict(each) for each in proof.found.differences] if proof.found else [],
            "error": None if proof.error is None else str(proof.error),
        }
        for proof in proofs
    ]


def proofs_report(proofs: Sequence[Proof], console: Console) -> Iterator[str | Table]:
    """Yield a sentence about one bundle, with what differs, or a table of several."""
    if len(proofs) == 1 and (found := proofs[0].found):
        where = escape(proofs[0].reference.text)
        if found.proven:
            yield f"{where} restores: everything in it came back as it was ({found.seconds:.1f} s)."
            return
        count = f"{len(found.differences):,} difference(s)"
        yield f"[bold red]{where} would not restore as it was[/bold red]: {count} ({found.seconds:.1f} s)"
        yield from (escape(f"  {each}") for each in found.differences[:_LISTED])
        return
    failed = sum(bool(proof.problem) for proof in proofs)
    title = f"{len(proofs) - failed} of {len(proofs)} bundle(s) proven to restore"
    yield responsive_table(title, _COLUMNS, proofs, console)
