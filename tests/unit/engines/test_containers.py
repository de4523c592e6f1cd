"""Which container of a platform is to blame for an outage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from kryonix.engines import containers

RUNS = {"Running": True}
STOPPED = {"Running": False, "ExitCode": 137}
PAUSED = {"Running": True, "Paused": True}
ONE, TWO, THREE, DATABASE = (f"kryonix-dev-{name}" for name in ("rabbitmq", "rabbitmq-2", "rabbitmq-3", "postgres"))


@pytest.mark.parametrize(
    ("states", "blamed"),
    [
        ({ONE: STOPPED, DATABASE: RUNS}, ONE),
        ({ONE: STOPPED, TWO: RUNS, THREE: RUNS, DATABASE: RUNS}, None),
        ({ONE: STOPPED, TWO: RUNS, THREE: RUNS, DATABASE: STOPPED}, DATABASE),
        ({ONE: RUNS, TWO: STOPPED, THREE: None}, TWO),
        ({ONE: RUNS, TWO: None, THREE: RUNS}, None),
        ({ONE: RUNS, TWO: RUNS, THREE: PAUSED}, None),
    ],
)
def test_a_cluster_can_do_without_a_minority_of_its_nodes(
    states: Mapping[str, Any], blamed: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {name: state and {"State": state} for name, state in states.items()}
    monkeypatch.setattr(containers, "_inspected", lambda hosts: found)
    advice = containers.advice("dev", dict.fromkeys(states, ""))
    assert (advice is None) if blamed is None else (f"the container {blamed} " in str(advice))


def test_a_frozen_node_is_missed_if_it_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(containers, "_inspected", lambda hosts: {name: {"State": PAUSED} for name in hosts})
    assert "is paused" in str(containers.paused("dev", {ONE: ""}))
    assert "is paused" in str(containers.paused("dev", dict.fromkeys([ONE, TWO, THREE], "")))


def test_a_machine_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")  # no `ssh`: nothing is asked
    told = f"Docker at ssh://one does not answer, where the container {DATABASE} of the stack 'dev' is. Bring"
    assert told in str(containers.advice("dev", {DATABASE: "ssh://one", ONE: "ssh://one"}))
    assert containers.paused("dev", {ONE: "ssh://one"}) is None


def test_a_container_is_looked_for_on_its_own_docker_host() -> None:
    provider = "urn:pulumi:dev::kryonix::pulumi:providers:docker::docker-2"
    container = {"type": "docker:index/container:Container"}
    resources = [
        {"type": "pulumi:providers:docker", "urn": provider, "inputs": {"host": "ssh://two"}},
        {**container, "inputs": {"name": TWO}, "provider": f"{provider}::4711"},
        {**container, "inputs": {"name": ONE}, "provider": "urn:of::another::5"},
    ]
    assert containers.containers({"deployment": {"resources": resources}}) == {TWO: "ssh://two", ONE: ""}
