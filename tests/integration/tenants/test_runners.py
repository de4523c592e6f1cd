"""Processes of the local engine that run one stack after the other."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from kryonix.engines import process
from kryonix.engines.engine import StackSpec
from kryonix.engines.errors import EngineFailed, OperationDied
from kryonix.engines.events import Event
from kryonix.engines.local.secrets import KEYS
from kryonix.engines.process import LocalEngine
from kryonix.engines.runner import Runner
from tests.integration.tenants.conftest import Notes, copy_program
from tests.integration.tenants.notes.note import REFUSED

started: list[Runner] = []


class Counted(Runner):
    def __init__(self, project: Path) -> None:
        super().__init__(project)
        started.append(self)

    @property
    def pid(self) -> int:
        return self._process.pid


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Notes]:
    """The project, with an engine that keeps its processes."""
    started.clear()
    monkeypatch.setattr(process, "Runner", Counted)
    monkeypatch.setenv("PULUMI_CONFIG_PASSPHRASE", "a test's own")
    monkeypatch.delenv("PULUMI_CONFIG_PASSPHRASE_FILE", raising=False)
    monkeypatch.delenv("KRYONIX_STATE_DIR", raising=False)
    (tmp_path / "world").mkdir()
    project = copy_program(tmp_path / "project")
    engine = LocalEngine(project, concurrency=2, keep=True)
    yield Notes(project, tmp_path / "world", engine)
    engine.close()


def kill_last() -> None:
    (last,) = started[-1:]
    assert isinstance(last, Counted)
    os.kill(last.pid, signal.SIGKILL)


def test_one_process_runs_one_stack_after_the_other_apart(kept: Notes) -> None:
    one, two = kept.spec("one", {"a": "1"}), kept.spec("two", {"b": "2"})
    for spec in (one, two, one):
        kept.engine.up(spec)
        kept.engine.refresh(spec)
    assert len(started) == 1
    assert kept.files() == {"one.a", "one.secret", "two.b", "two.secret"}
    assert kept.engine.outputs(one)["notes"] == ["a"]
    assert kept.engine.outputs(two)["notes"] == ["b"]
    assert kept.engine.outputs(one)["password"] != kept.engine.outputs(two)["password"]


def test_a_key_derived_by_either_side_is_derived_once(kept: Notes) -> None:
    spec = kept.spec("one")
    kept.engine.up(spec)
    known = KEYS.known()
    assert kept.engine.outputs(spec)["password"]
    assert KEYS.known() == known, "the process has told it"


def test_a_process_that_ended_while_idle_is_replaced(kept: Notes) -> None:
    kept.engine.up(kept.spec("one", {"a": "1"}))
    kill_last()
    kept.engine.up(kept.spec("two", {"a": "1"}))
    assert len(started) == 2
    assert kept.text("two", "a") == "1"


def test_a_process_killed_in_a_run_fails_that_run_only(kept: Notes) -> None:
    kept.engine.up(kept.spec("one", {"a": "1"}))

    def kill(event: Event) -> None:
        kill_last()

    with pytest.raises(OperationDied, match="SIGKILL"):
        kept.engine.up(kept.spec("two", {"a": "1"}, delay="5"), kill)
    kept.engine.up(kept.spec("one", {"a": "2"}))
    assert kept.text("one", "a") == "2"
    assert len(started) == 2


def test_a_process_whose_run_failed_is_not_used_again(kept: Notes) -> None:
    with pytest.raises(EngineFailed, match="it is refused"):
        kept.engine.up(kept.spec("one", {"a": REFUSED}))
    kept.engine.up(kept.spec("one", {"a": "1"}))
    assert len(started) == 2


def test_a_changed_program_is_run_by_a_new_process(kept: Notes) -> None:
    spec = kept.spec("one", {"a": "1"})
    kept.engine.up(spec)
    module = kept.project / "note.py"
    module.write_text(module.read_text().replace('path.write_text(props["text"])', 'path.write_text("changed")'))
    kept.engine.up(kept.spec("one", {"a": "2"}))
    assert (kept.text("one", "a"), len(started)) == ("changed", 2)


def test_a_state_has_another_mark_after_every_change(kept: Notes) -> None:
    spec, marks = kept.spec("one", {"a": "1"}), list[str]()

    def mark(stack: StackSpec) -> str:
        return kept.engine.marks([stack.name, "unknown"]).get(stack.name, "")

    marks.append(mark(spec))
    kept.engine.up(spec)
    marks.append(mark(spec))
    kept.engine.up(spec)
    kept.engine.refresh(spec)
    assert mark(spec) == marks[-1], "nothing has changed"
    (kept.world / "one.a").write_text("by hand")
    kept.engine.refresh(spec)
    marks.append(mark(spec))
    kept.engine.restore(spec, kept.engine.export(spec))
    marks.append(mark(spec))
    assert len(set(marks)) == len(marks)
    assert marks[0] == ""
