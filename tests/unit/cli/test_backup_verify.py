"""`kryonix backup verify`: what is recorded of a bundle, and what is shown."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
import typer
from rich.console import Console

from kryonix.backup.differences import Difference
from kryonix.backup.errors import InvalidBundle, WrongKey
from kryonix.backup.names import BundleName
from kryonix.backup.verification import Verification
from kryonix.cli import backup_verify
from kryonix.cli.bundles import Reference
from kryonix.cli.options import PlatformOptions
from kryonix.cli.output.proofs import Proof, proofs_json, proofs_report
from kryonix.errors import KryonixError
from kryonix.rabbitmq.client import BrokerUnavailable

PLATFORM = PlatformOptions(stack="dev")
GOOD = Verification(differences=[], seconds=1.5)
BAD = Verification(differences=[Difference("queue", "q[1]", "missing")], seconds=1)
NAMES = [BundleName("dev", "tenant", id, datetime(2026, 5, 1, 2, tzinfo=UTC)) for id in ("acme", "beta")]


def reference(name: BundleName, opened: Callable[[Any], Any] = lambda identities: "bundle") -> Any:
    archive = SimpleNamespace(bundles=lambda kind, subject: [(name, SimpleNamespace(bytes=10))])
    return SimpleNamespace(
        name=name, archive=archive, where=f"/backups/{name}", text=name.subject, subject=name.subject, opened=opened
    )


class Verified:
    """Verifies bundles, each with the given outcome, and notes what is recorded of each."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._patch = patch
        self.recorded: list[tuple[str, str]] = []
        self._left: list[Verification | KryonixError] = []
        for name, value in {
            "identities_of": lambda files: None,
            "open_site": lambda platform: SimpleNamespace(outputs={}, registry_dsn="", engine=None),
            "whole_registry_dsn": lambda *_: "",
            "restored_beside": self._outcome,
            "record_verified": self._record,
            "connect": lambda dsn: nullcontext(),
            "Broker": SimpleNamespace(of=lambda outputs: None),
        }.items():
            patch.setattr(backup_verify, name, value)

    def run(self, *outcomes: Verification | KryonixError, every: bool = True) -> list[tuple[str, str]]:
        self.recorded, self._left = [], list(outcomes)
        found = [reference(name) for name, _ in zip(NAMES, outcomes, strict=False)]
        self._patch.setattr(backup_verify, "chosen_bundles", lambda *_, every: found)
        backup_verify.verify(PLATFORM, every=every)
        return self.recorded

    def _outcome(self, *_: object) -> Verification:
        if isinstance(outcome := self._left.pop(0), KryonixError):
            raise outcome
        return outcome

    def _record(self, connection: None, key: Any, *, address: str, bytes: int, error: str) -> None:
        self.recorded.append((key.subject, error))


@pytest.fixture
def verified(monkeypatch: pytest.MonkeyPatch) -> Verified:
    return Verified(monkeypatch)


def test_each_result_is_recorded(verified: Verified) -> None:
    assert verified.run(GOOD, GOOD) == [("acme", ""), ("beta", "")]
    with pytest.raises(typer.Exit) as ended:
        verified.run(BAD, GOOD)
    assert ended.value.exit_code == 1
    assert verified.recorded == [("acme", "queue q[1]: missing"), ("beta", "")]


def test_a_damaged_bundle_stops_no_other_and_is_recorded(verified: Verified) -> None:
    with pytest.raises(typer.Exit):
        verified.run(InvalidBundle("/b", "is truncated"), GOOD)
    assert verified.recorded == [("acme", "/b: is truncated"), ("beta", "")]


def test_a_wrong_key_tells_nothing_of_a_bundle(verified: Verified) -> None:
    with pytest.raises(typer.Exit):
        verified.run(WrongKey("/b"), GOOD)
    assert verified.recorded == [("beta", "")]
    with pytest.raises(WrongKey):
        verified.run(WrongKey("/b"), every=False)


def test_an_outage_ends_the_command_and_is_not_recorded(verified: Verified) -> None:
    with pytest.raises(BrokerUnavailable):
        verified.run(BrokerUnavailable("away"), GOOD)
    assert verified.recorded == []


def test_one_bundle_is_told_in_a_sentence_and_several_in_a_table() -> None:
    good, bad = (Proof(reference=Reference(where="a.age"), found=found) for found in (GOOD, BAD))
    broken = Proof(reference=Reference(where="b.age"), error=InvalidBundle("b.age", "is truncated"))
    (sentence,) = proofs_report([good], Console(width=80))
    assert sentence == "a.age restores: everything in it came back as it was (1.5 s)."
    head, line = proofs_report([bad], Console(width=80))
    assert "would not restore as it was" in str(head)
    assert line == "  queue q[1]: missing"
    (table,) = proofs_report([good, bad, broken], Console(width=80))
    assert getattr(table, "title", "") == "1 of 3 bundle(s) proven to restore"
    assert [each["restores"] for each in proofs_json([good, bad, broken])] == [True, False, False]
    assert proofs_json([broken])[0]["error"] == "b.age: is truncated"
