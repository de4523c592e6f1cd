"""A run killed at any moment loses and leaves nothing: the next run converges."""

from __future__ import annotations

import multiprocessing
import os
import random
import re
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from kryonix.engines.events import Diagnostic
from kryonix.engines.local.errors import LocalError, ServiceUnavailable, StateLocked
from kryonix.engines.local.handlers.base import Properties
from kryonix.engines.local.store import Store
from tests.support.engine_testbed import EngineTestbed, FakeProvider, ThingHandler

SEED = random.Random(20261122)
MOMENTS = [SEED.randrange(1, 36) for _ in range(6)]

FIRST = """
v = Thing("v", {"slow": 0.002})
inside = pulumi.ResourceOptions(deleted_with=v)
qs = [Thing(f"q{i}", {"ref": v.made, "within": "v", "slow": 0.002}, inside) for i in range(6)]
[Thing(f"b{i}", {"ref": q.made, "slow": 0.002}) for i, q in enumerate(qs)]
[Thing(f"s{i}", {"password": pulumi.Output.secret("hunter2"), "slow": 0.002}) for i in range(4)]
"""
CHANGED = """
v = Thing("v", {"slow": 0.002})
inside = pulumi.ResourceOptions(deleted_with=v)
qs = [Thing(f"q{i}", {"ref": v.made, "within": "v", "x": 2, "slow": 0.002}, inside) for i in range(3)]
[Thing(f"b{i}", {"ref": q.made, "x": 2, "replaces": ["x"], "firstDelete": i == 1, "key": f"k{i}", "slow": 0.002})
 for i, q in enumerate(qs)]
"""
KEPT = 'Thing("s0", {"password": pulumi.Output.secret("hunter2")})'


def killed(testbed: EngineTestbed, operation: Callable[[], Any], lines: int) -> None:
    """Run an operation in a process of its own and kill it when the service's log has that many lines."""
    testbed.service.forget_log()
    process = multiprocessing.get_context("fork").Process(target=_quietly, args=(operation,))
    process.start()
    deadline = time.monotonic() + 20
    while process.is_alive() and len(testbed.service.log()) < lines and time.monotonic() < deadline:
        time.sleep(0.0005)
    time.sleep(SEED.random() * 0.004)
    if process.pid and process.is_alive():
        os.kill(process.pid, signal.SIGKILL)
    process.join()


def _quietly(operation: Callable[[], Any]) -> None:
    with suppress(LocalError):
        operation()


def things_in_state(testbed: EngineTestbed) -> set[str]:
    """Ids of everything the state holds."""
    return {r["id"] for r in testbed.resources().values() if r["type"] == "fake:index/thing:Thing"}


def by_name(testbed: EngineTestbed) -> dict[str, Any]:
    """The service by names, which survive a replacement as ids do not."""
    return {thing["name"]: thing for thing in testbed.service.things().values()}


def expect_converged(testbed: EngineTestbed, body: str) -> None:
    """Assert that the next run converges service and state, and that the run after it changes nothing."""
    testbed.up(body)
    assert things_in_state(testbed) == set(testbed.service.things())
    assert "pending_operations" not in testbed.stack().export()["deployment"]
    assert set(testbed.stack().up().changes) == {"same"}


@pytest.mark.parametrize("lines", MOMENTS)
def test_a_killed_up_converges_when_repeated(testbed: EngineTestbed, lines: int) -> None:
    testbed.program(FIRST)
    killed(testbed, testbed.stack().up, lines)
    testbed.stack().export()  # readable at once
    expect_converged(testbed, FIRST)
    assert len(testbed.service.things()) == 17


@pytest.mark.parametrize("lines", MOMENTS)
def test_a_killed_up_orphans_nothing(testbed: EngineTestbed, lines: int) -> None:
    testbed.program(FIRST)
    killed(testbed, testbed.stack().up, lines)
    expect_converged(testbed, KEPT)
    assert set(testbed.service.things()) == {"s0"}


@pytest.mark.parametrize("lines", MOMENTS)
def test_destroy_after_a_killed_up_leaves_nothing(testbed: EngineTestbed, lines: int) -> None:
    testbed.program(FIRST)
    killed(testbed, testbed.stack().up, lines)
    testbed.stack().destroy()
    assert testbed.service.things() == {}
    assert testbed.resources() == {}


@pytest.mark.parametrize("lines", MOMENTS)
def test_a_killed_up_with_replacements_and_deletions_converges(testbed: EngineTestbed, lines: int) -> None:
    testbed.up(FIRST)
    testbed.program(CHANGED)
    killed(testbed, testbed.stack().up, lines)
    expect_converged(testbed, CHANGED)
    assert set(testbed.service.things()) == {"v", "q0", "q1", "q2", "b0-k0", "b1-k1", "b2-k2"}


@pytest.mark.parametrize("lines", MOMENTS)
def test_reverting_after_a_killed_up_restores_the_first_state(testbed: EngineTestbed, lines: int) -> None:
    testbed.up(FIRST)
    before = by_name(testbed)
    testbed.program(CHANGED)
    killed(testbed, testbed.stack().up, lines)
    expect_converged(testbed, FIRST)
    assert by_name(testbed) == before


@pytest.mark.parametrize("lines", MOMENTS[:4])
def test_a_killed_destroy_can_be_finished_or_reverted(testbed: EngineTestbed, lines: int) -> None:
    testbed.up(FIRST)
    before = set(testbed.service.things())
    killed(testbed, testbed.stack().destroy, lines)
    expect_converged(testbed, FIRST)
    assert set(testbed.service.things()) == before
    killed(testbed, testbed.stack().destroy, lines)
    testbed.stack().destroy()
    assert testbed.service.things() == {}
    assert testbed.resources() == {}


@pytest.mark.parametrize("lines", MOMENTS[:3])
def test_an_up_killed_repeatedly_still_converges(testbed: EngineTestbed, lines: int) -> None:
    for body in (FIRST, CHANGED, KEPT, FIRST, CHANGED):
        testbed.program(body)
        killed(testbed, testbed.stack().up, lines)
    expect_converged(testbed, CHANGED)
    assert set(testbed.service.things()) == {"v", "q0", "q1", "q2", "b0-k0", "b1-k1", "b2-k2"}


def test_files_of_a_killed_run_hold_no_plain_secret(testbed: EngineTestbed) -> None:
    testbed.program(FIRST + 'Thing("last", {"ref": qs[0].made, "slow": 60})\n')
    killed(testbed, testbed.stack().up, 30)
    folder = testbed.folder / ".kryonix" / "stacks" / "dev"
    assert (folder / "journal.jsonl").exists()
    assert "hunter2" not in testbed.state_text()
    assert "token-of" not in testbed.state_text()


def test_the_lock_names_its_holder_and_ends_with_its_process(testbed: EngineTestbed) -> None:
    testbed.program('Thing("a", {"after": ["go on"]})')
    process = multiprocessing.get_context("fork").Process(target=testbed.stack().up)
    process.start()
    try:
        until = time.monotonic() + 30
        while "create a" not in testbed.service.log():
            assert process.is_alive()
            assert time.monotonic() < until
            time.sleep(0.01)
        with pytest.raises(StateLocked, match=f"'dev' is in use by process {process.pid} on ") as caught:
            testbed.stack().up()
        assert caught.value.exit_status == 3
        assert testbed.stack().preview().changes["create"] == 1
    finally:
        process.kill()
        process.join()
        testbed.service.note("go on")  # the pending create is finished before the delete
    assert testbed.stack().destroy().changes == {"delete": 1}


@pytest.mark.parametrize(
    ("name", "shown"), [("caf\udce9.yaml", r"caf\udce9.yaml"), ("a\nb.yaml", r"a\nb.yaml"), ("café.yaml", "café.yaml")]
)
def test_a_lock_names_any_command_line_that_holds_it(
    testbed: EngineTestbed, monkeypatch: pytest.MonkeyPatch, name: str, shown: str
) -> None:
    monkeypatch.setattr("sys.argv", ["kryonix", "--config-file", name])
    store = Store(testbed.folder / ".kryonix" / "stacks", "dev")
    with store.lock(), pytest.raises(StateLocked, match=re.escape(f"--config-file {shown}\n")), store.lock():
        pass


class HalfMade(ThingHandler):
    """Makes the thing and then can't say so."""

    def prepare(self, old_inputs: Properties, new_inputs: Properties) -> None: ...

    def recreate(self, inputs: Properties) -> tuple[str, Properties]:
        return self.create(inputs)

    def create(self, inputs: Properties) -> tuple[str, Properties]:
        super().create(inputs)
        raise ServiceUnavailable("the answer was lost")


def test_an_unconfirmed_create_is_deleted_once_unwanted(
    testbed: EngineTestbed, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(FakeProvider, "handler", lambda self, type_token: HalfMade(self._service))
        with pytest.raises(LocalError, match="the answer was lost"):
            testbed.up('Thing("a")')
    assert "a" in testbed.service.things()
    assert testbed.stack().export()["deployment"]["pending_operations"][0]["type"] == "creating"
    testbed.up("")
    assert testbed.service.things() == {}
    assert "pending_operations" not in testbed.stack().export()["deployment"]


def test_a_create_made_again_keeps_its_outputs_secret(testbed: EngineTestbed, monkeypatch: pytest.MonkeyPatch) -> None:
    body = 'Thing("a", None, pulumi.ResourceOptions(additional_secret_outputs=["made"]))'
    with monkeypatch.context() as patch:
        patch.setattr(FakeProvider, "handler", lambda self, type_token: HalfMade(self._service))
        with pytest.raises(LocalError, match="the answer was lost"):
            testbed.up(body)
    testbed.up(body)
    assert testbed.resources()["a"]["id"] == "a"
    assert "made-a" not in testbed.state_text()


def killed_in_mid_create(testbed: EngineTestbed, key: str) -> None:
    """A run killed while the service has the thing already, and the state does not know it."""
    testbed.program(f'Thing("a", {{"key": "{key}", "replaces": ["key"], "after": ["go on"]}})')
    process = multiprocessing.get_context("fork").Process(target=testbed.stack().up)
    process.start()
    try:
        until = time.monotonic() + 30
        while f"create a-{key}" not in testbed.service.log():
            assert process.is_alive()
            assert time.monotonic() < until
            time.sleep(0.01)
    finally:
        process.kill()
        process.join()
    testbed.service.put(f"a-{key}", {"name": "a", "key": key})
    testbed.service.note("go on")


class Down(ThingHandler):
    """The service is away: creating and reading fail."""

    def create(self, inputs: Properties) -> tuple[str, Properties]:
        raise ServiceUnavailable("the service is down")


@pytest.fixture
def away(testbed: EngineTestbed, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Runs a program while the service is away."""

    def run(body: str) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(FakeProvider, "handler", lambda self, type_token: Down(self._service))
            with pytest.raises(LocalError, match="the service is down"):
                testbed.up(body)

    return run


CHANGED_KEY = 'Thing("a", {"key": "%s", "replaces": ["key"]})'


@pytest.mark.parametrize("keys", [("two",), ("two", "three"), ("two", "two")])
def test_changed_inputs_during_an_outage_orphan_nothing(
    testbed: EngineTestbed, away: Callable[[str], None], keys: tuple[str, ...]
) -> None:
    killed_in_mid_create(testbed, "one")
    for key in keys:
        away(CHANGED_KEY % key)
    expect_converged(testbed, CHANGED_KEY % keys[-1])
    assert set(testbed.service.things()) == {f"a-{keys[-1]}"}


def test_a_killed_runs_resource_is_reused_for_reverted_inputs(
    testbed: EngineTestbed, away: Callable[[str], None]
) -> None:
    killed_in_mid_create(testbed, "one")
    away(CHANGED_KEY % "two")
    expect_converged(testbed, CHANGED_KEY % "one")
    assert set(testbed.service.things()) == {"a-one"}


@pytest.mark.parametrize("destroyed", [True, False])
def test_a_killed_runs_resource_is_deleted_after_an_outage_if_unwanted(
    testbed: EngineTestbed, away: Callable[[str], None], destroyed: bool
) -> None:
    killed_in_mid_create(testbed, "one")
    away(CHANGED_KEY % "two")
    testbed.stack().destroy() if destroyed else testbed.up("")
    assert testbed.service.things() == {}
    assert "pending_operations" not in testbed.stack().export()["deployment"]


class OneIsAway(ThingHandler):
    """The address in the first inputs is unreachable, as if mistyped."""

    def create(self, inputs: Properties) -> tuple[str, Properties]:
        if inputs["key"] == "one":
            raise ServiceUnavailable("no such host")
        return super().create(inputs)


def test_a_mistyped_address_warns_until_it_is_corrected(
    testbed: EngineTestbed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeProvider, "handler", lambda self, type_token: OneIsAway(self._service))
    with pytest.raises(LocalError, match="no such host"):
        testbed.up(CHANGED_KEY % "one")
    testbed.events.clear()
    testbed.up(CHANGED_KEY % "two")
    warnings = [event for event in testbed.events if isinstance(event, Diagnostic) and event.severity == "warning"]
    assert "an earlier run may have made it" in warnings[0].message
    expect_converged(testbed, CHANGED_KEY % "two")
    assert set(testbed.service.things()) == {"a-two"}
