"""One suite for both deployers: the local engine and the Automation API."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from kryonix.engines.choice import engine_for
from kryonix.engines.deployments import STACK_TYPE, Deployment, emptied
from kryonix.engines.engine import StackSpec
from kryonix.engines.errors import EngineFailed, Refused
from kryonix.engines.events import Event, ResourceEvent, Summary
from tests.integration.tenants.conftest import Notes
from tests.integration.tenants.notes.note import REFUSED
from tests.support.waiting import eventually


def changes(summary: Summary) -> list[tuple[str, str]]:
    """Return a run's changes to the notes, applied or planned."""
    own = [step for step in summary.steps if "pulumi:pulumi:" not in step.type and "providers" not in step.type]
    return sorted((step.op, step.name) for step in own if step.op not in ("same", "refresh", "read"))


def failure(run: Callable[[], object]) -> Exception:
    with pytest.raises(Exception) as caught:
        run()
    return caught.value


def test_a_stack_is_previewed_created_changed_and_destroyed(notes: Notes) -> None:
    engine, first = notes.engine, notes.spec("one", {"a": "1", "b": "2"})
    made = [("create", "a"), ("create", "b"), ("create", "password"), ("create", "secret")]
    assert changes(engine.preview(first)) == made
    assert notes.files() == set()
    assert changes(engine.up(first)) == made
    assert notes.files() == {"one.a", "one.b", "one.secret"}
    assert changes(engine.up(first)) == []
    second = notes.spec("one", {"a": "1", "b": "3", "c": "4"})
    assert changes(engine.preview(second)) == [("create", "c"), ("update", "b")]
    assert notes.text("one", "b") == "2"
    assert changes(engine.up(second)) == [("create", "c"), ("update", "b")]
    assert notes.text("one", "b") == "3"
    gone = engine.up(notes.spec("one", {"a": "1"}))
    assert changes(gone) == [("delete", "b"), ("delete", "c")]
    assert (gone.changes["delete"], gone.changed) == (2, True)
    engine.destroy(first)
    assert notes.files() == set()
    assert engine.destroy(first).changed is False, "a stack that has nothing is no error"


def test_secrets_are_encrypted_unless_asked_for_and_by_each_stacks_own_key(notes: Notes) -> None:
    engine, one, two = notes.engine, notes.spec("one"), notes.spec("two")
    assert not engine.export(one).get("deployment", {}).get("resources")
    engine.up(one)
    password = engine.outputs(one)["password"]
    assert password not in json.dumps(engine.export(one))
    document = engine.export(one, show_secrets=True)
    assert password in json.dumps(document)
    engine.rewrite(two, lambda _: json.loads(json.dumps(document).replace("urn:pulumi:one::", "urn:pulumi:two::")))
    assert engine.outputs(two)["password"] == password
    keys = [engine.export(stack)["deployment"]["secrets_providers"]["state"]["salt"] for stack in (one, two)]
    assert keys[0] != keys[1]


def test_a_lost_state_is_restored_with_its_secrets_and_nothing_to_change(
    notes: Notes, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, spec = notes.engine, notes.spec("one", {"a": "1"})
    engine.up(spec)
    exported, password = engine.export(spec), engine.outputs(spec)["password"]
    engine.rewrite(spec, emptied)
    with monkeypatch.context() as other:
        other.setenv("PULUMI_CONFIG_PASSPHRASE", "another")
        assert "passphrase" in str(failure(lambda: engine.restore(spec, exported)))
    assert engine.outputs(spec) == {}
    engine.restore(spec, exported)
    assert engine.outputs(spec)["password"] == password
    assert changes(engine.preview(spec)) == []
    assert password not in json.dumps(engine.export(spec))


def test_a_state_has_another_mark_after_every_change(notes: Notes) -> None:
    engine, spec, marks = notes.engine, notes.spec("one", {"a": "1"}), list[str]()

    def note() -> None:
        (alone,) = engine.marks(["one"]).values()
        assert engine.marks(["one", "two"])["one"] == alone
        marks.append(alone)

    engine.up(notes.spec("two"))
    assert engine.marks(["one"]) == {}
    assert engine.marks(["one", "two"]).keys() == {"two"}
    engine.up(spec)
    note()
    engine.up(notes.spec("one", {"a": "2"}))
    note()
    engine.rewrite(spec, without_outputs)
    note()
    engine.destroy(spec)
    note()
    assert len(set(marks)) == len(marks), marks


def without_outputs(document: Deployment) -> Deployment:
    """Return the deployment with as many resources, and an output fewer."""
    for entry in document["deployment"]["resources"]:
        if entry["type"] == STACK_TYPE:
            entry["outputs"].pop("notes")
    return document


def test_what_only_reads_a_state_keeps_its_mark(notes: Notes) -> None:
    engine, spec = notes.engine, notes.spec("one", {"a": "1"})
    engine.up(spec)
    before = engine.marks(["one"])
    engine.preview(notes.spec("one", {"a": "2"}))
    engine.outputs(spec)
    engine.export(spec, show_secrets=True)
    assert engine.marks(["one"]) == before


def test_refresh_reports_manual_changes_and_up_repairs_them(notes: Notes) -> None:
    engine, spec = notes.engine, notes.spec("one", {"a": "1", "b": "2"})
    engine.up(spec)
    (notes.world / "one.a").write_text("by hand")
    (notes.world / "one.b").unlink()
    assert changes(engine.refresh(spec)) == [("delete", "b"), ("update", "a")]
    assert notes.text("one", "a") == "by hand"
    assert changes(engine.up(spec)) == [("create", "b"), ("update", "a")]
    assert (notes.text("one", "a"), notes.text("one", "b")) == ("1", "2")


def test_outputs_are_plain_and_empty_for_an_empty_stack(notes: Notes) -> None:
    engine, spec = notes.engine, notes.spec("one", {"a": "1"})
    assert engine.outputs(spec) == {}
    assert engine.stacks() == []
    engine.up(spec)
    outputs = engine.outputs(StackSpec(name="one"))
    assert outputs == {"password": notes.text("one", "secret"), "notes": ["a"]}
    engine.up(notes.spec("another"))
    assert engine.stacks() == ["another", "one"]
    engine.destroy(spec)
    assert engine.stacks() == ["another"]


def test_progress_is_reported_per_resource(notes: Notes) -> None:
    notes.engine.up(notes.spec("one", {"a": "1"}), notes.events.append)
    told = [event for event in notes.events if isinstance(event, ResourceEvent) and event.name == "a"]
    assert [(event.op, event.status) for event in told] == [("create", "started"), ("create", "done")]


def test_a_failure_is_reported_and_the_next_run_continues(notes: Notes) -> None:
    broken = notes.spec("one", {"a": "1", "b": REFUSED})
    error = failure(lambda: notes.engine.up(broken, notes.events.append))
    assert isinstance(error, EngineFailed)
    assert "the note one.b can't be written: it is refused" in str(error)
    assert "Traceback" not in str(error)
    assert error.exit_status == 1
    failed = [event.name for event in notes.events if isinstance(event, ResourceEvent) and event.status == "failed"]
    assert "b" in failed
    assert ("create", "b") in changes(notes.engine.up(notes.spec("one", {"a": "1", "b": "2"})))
    assert notes.files() == {"one.a", "one.b", "one.secret"}


def test_invalid_input_exits_with_2_and_changes_nothing(notes: Notes) -> None:
    missing = StackSpec(name="one", config={"notes:notes": {"a": "1"}})
    assert getattr(failure(lambda: notes.engine.up(missing)), "exit_status", None) == 2
    for name in ("../one", "", "a b", "-x", "x" * 200, "one\0", "öne"):
        error = failure(partial(notes.engine.up, notes.spec(name)))
        assert isinstance(error, Refused), name
    assert notes.files() == set()


def test_a_wrong_passphrase_exits_with_3_and_changes_nothing(notes: Notes, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = notes.spec("one", {"a": "1"})
    notes.engine.up(spec)
    monkeypatch.setenv("PULUMI_CONFIG_PASSPHRASE", "another")
    changed = notes.spec("one", {"a": "2"})
    for run in (notes.engine.up, notes.engine.preview, notes.engine.destroy, notes.engine.outputs):
        error = failure(partial(run, changed))
        assert getattr(error, "exit_status", None) == 3, (run, error)
        assert "passphrase" in str(error)
    assert notes.text("one", "a") == "1"


def test_each_operation_has_its_own_workspace(notes: Notes) -> None:
    other = notes.project / "Pulumi.one.yaml"
    other.write_text("config: {notes:folder: /nonexistent, notes:notes: {wrong: '1'}}\n")
    before = {path.name: path.read_bytes() for path in notes.project.iterdir() if path.is_file()}
    specs = [notes.spec(name, {"a": f"of {name}"}) for name in ("one", "two", "three")]
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(notes.engine.up, specs))
    assert [notes.text(spec.name, "a") for spec in specs] == ["of one", "of two", "of three"]
    assert notes.engine.stacks() == ["one", "three", "two"]
    after = {path.name: path.read_bytes() for path in notes.project.iterdir() if path.is_file()}
    assert after == before


def test_concurrent_operations_are_limited(notes: Notes) -> None:
    specs = [notes.spec(f"stack-{number}", {"a": "1"}, delay="5") for number in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(notes.engine.up, specs))
    under_way = most = 0
    for line in (notes.world / "log").read_text().splitlines():
        if line.endswith(".a"):
            under_way += 1 if line.startswith("begin") else -1
            most = max(most, under_way)
    assert most == 2


def arguments() -> Iterator[bytes]:
    """Return the arguments of every process, from the kernel."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            yield path.read_bytes()
        except OSError:
            continue  # it has ended


def test_no_secret_is_in_events_arguments_or_state(notes: Notes) -> None:
    seen: set[bytes] = set()

    def listen(event: Event) -> None:
        notes.events.append(event)
        seen.update(arguments())

    notes.engine.up(notes.spec("one", {"a": "1"}), listen)
    summary = notes.engine.up(notes.spec("one", {"a": "2"}), listen)
    notes.engine.refresh(notes.spec("one", {"a": "2"}), listen)
    secret = notes.engine.outputs(notes.spec("one"))["password"]
    assert len(secret) == 24
    assert notes.events
    assert secret not in repr(notes.events)
    assert secret not in repr(summary)
    assert not any(secret.encode() in line for line in seen)
    kept = [path for path in notes.project.parent.rglob("*") if path.is_file() and path.parent != notes.world]
    assert [path for path in kept if secret.encode() in path.read_bytes()] == []


def once_free(run: Callable[[], object]) -> None:
    """Run, as soon as what a killed process has left behind has ended: it does so by itself."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            run()
        except EngineFailed as error:
            if error.exit_status != 3:
                raise
            time.sleep(0.5)
        else:
            return
    pytest.fail("the stack stays locked")


RUN = """
import sys
from pathlib import Path
from kryonix.engines.choice import engine_for
from kryonix.engines.engine import StackSpec
engine, project, folder = sys.argv[1:]
config = {"notes:folder": folder, "notes:notes": {"a": "1", "b": "2"}, "notes:delay": "2"}
engine_for(engine, Path(project)).up(StackSpec(name="one", config=config))
"""


def test_the_next_run_continues_after_a_killed_process(notes: Notes) -> None:
    engine = "local" if type(notes.engine) is type(engine_for("local", notes.project)) else "pulumi"
    command = [sys.executable, "-c", RUN, engine, str(notes.project), str(notes.world)]
    process = subprocess.Popen(command, cwd=Path(__file__).parents[3], start_new_session=True)
    eventually("it has begun", (notes.world / "log").exists, process=process)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    spec = notes.spec("one", {"a": "1", "b": "2"}, delay="2")
    once_free(partial(notes.engine.up, spec))
    assert notes.files() == {"one.a", "one.b", "one.secret"}
    assert changes(notes.engine.up(spec)) == []
