"""Concurrent runs: one per stack, any number of stacks."""

from __future__ import annotations

import json
import signal
from datetime import UTC, datetime

from tests.acceptance.conftest import Beside, Planned
from tests.support.live_broker import LiveBroker
from tests.support.waiting import eventually


def test_a_second_run_on_a_stack_fails_and_names_the_lock_holder(
    beside: Beside, planned: Planned, broker: LiveBroker
) -> None:
    stack = beside("contended", "crm", "whatsapp")
    first = stack.start("up")
    lock = stack.folder / ".kryonix" / "stacks" / stack.stack / "lock"
    eventually("it holds the stack", lambda: lock.exists() and lock.read_bytes(), process=first)
    first.send_signal(signal.SIGSTOP)  # however fast it is, it holds the stack as long as the second takes
    try:
        second = stack.run("up")
    finally:
        first.send_signal(signal.SIGCONT)
    assert second.returncode == 3, second.stderr
    assert f"'{stack.stack}' is in use by process {first.pid} on " in second.stderr
    assert f"since {datetime.now(UTC):%Y-%m-%d}" in second.stderr
    out, _ = first.communicate()
    assert first.returncode == 0, out
    broker.assert_is(planned(stack))
    stack.must("destroy")


def test_stacks_of_different_tenants_deploy_concurrently(beside: Beside, planned: Planned, broker: LiveBroker) -> None:
    stacks = [beside("left", "crm"), beside("right", "financeiro")]
    for operation in ("up", "destroy"):
        runs = [stack.start(operation) for stack in stacks]
        for run in runs:
            out, _ = run.communicate()
            assert run.returncode == 0, out
        for stack in stacks:
            (broker.assert_is if operation == "up" else broker.assert_is_gone)(planned(stack))
    assert all(json.loads(stack.run("export").stdout)["version"] == 3 for stack in stacks)
