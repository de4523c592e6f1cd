"""What `kryonix cluster roll` makes sure of before it touches a node."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import docker.errors
import pytest
from typer.testing import CliRunner

from kryonix.cli import cluster_grow, cluster_roll
from kryonix.cli.app import app
from kryonix.cli.cluster_stack import ClusterStack
from kryonix.cli.options import StackOptions
from kryonix.cluster.errors import ClusterNotReady, OperationStopped
from kryonix.cluster.nodes import ROLL_VARIABLE, RecordedNode
from kryonix.cluster.roll import refusals
from kryonix.cluster.state import ReplicatedQueue
from kryonix.engines.engine import StackSpec
from kryonix.engines.events import Summary
from kryonix.errors import KryonixError
from tests.support.cluster_states import cluster_of, node_state, queue_on, recorded

PROJECT = "name: p\nconfig:\n  kryonix:brokerImage:\n    default: rabbitmq:4.3.6-management\n"


class Images:
    """A Docker host's images. It can pull `there`, and nothing else."""

    def __init__(self, *had: str) -> None:
        self.had, self.pulled = had, list[str]()

    def inspect_image(self, image: str) -> None:
        if image not in (*self.had, *self.pulled):
            raise docker.errors.ImageNotFound("no such image")

    def pull(self, repository: str, tag: str) -> None:
        if (repository, tag) != ("there", "latest"):
            raise docker.errors.NotFound("manifest unknown")
        self.pulled.append(repository)


@pytest.fixture
def images(monkeypatch: pytest.MonkeyPatch) -> Images:
    found = Images("had")

    @contextmanager
    def docker_host(node: RecordedNode) -> Iterator[Any]:
        yield found

    monkeypatch.setattr(RecordedNode, "docker_host", docker_host)
    return found


def test_an_image_is_pulled_while_the_node_still_serves(images: Images) -> None:
    for image in ("had", "there"):
        recorded()[0].fetch(image)
    assert images.pulled == ["there"]


def test_an_image_that_is_nowhere_refuses_a_roll(images: Images) -> None:
    with pytest.raises(ClusterNotReady, match=r"node-a has no image 'typo', .*manifest unknown.*No node has been"):
        recorded()[0].fetch("typo")


def test_a_setting_is_the_stacks_or_the_projects_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("Pulumi.yaml").write_text(PROJECT)
    options: Any = StackOptions
    engine: Any = None
    stack = ClusterStack(
        target=options,
        engine=engine,
        spec=StackSpec(name="dev"),
        deployment={},
        outputs={},
        file=Path("Pulumi.dev.yaml"),
    )
    assert stack.setting("kryonix:brokerImage") == "rabbitmq:4.3.6-management"
    Path("Pulumi.dev.yaml").write_text("config:\n  kryonix:brokerImage: rabbitmq:4.3.7-management\n")
    assert stack.setting("kryonix:brokerImage") == "rabbitmq:4.3.7-management"
    other = stack.with_settings({"kryonix:brokerImage": "rabbitmq:4.4.0-management"})
    assert other.setting("kryonix:brokerImage") == "rabbitmq:4.4.0-management"


def test_a_variable_left_in_the_shell_lets_no_other_command_replace_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ROLL_VARIABLE, "1,2,3")
    assert CliRunner().invoke(app, ["plan", "--help"]).exit_code == 0
    assert ROLL_VARIABLE not in os.environ


@pytest.mark.parametrize("command", ["roll", "grow"])
def test_a_second_operation_on_a_cluster_names_the_first(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack: Any = SimpleNamespace(spec=StackSpec(name="org/p/dev"), read_again=lambda: None)
    monkeypatch.chdir(tmp_path)
    Path("Pulumi.yaml").write_text(PROJECT)
    monkeypatch.setattr(ClusterStack, "of", lambda target: stack)
    target: Any = None
    with ClusterStack.alone(target):
        refused = CliRunner().invoke(app, ["cluster", command, "--stack", "dev", "--engine", "local", "--yes"])
    assert isinstance(refused.exception, ClusterNotReady)
    assert refused.exception.exit_status == 2
    assert f"the nodes of the stack 'dev' are in use by process {os.getpid()} on " in str(refused.exception)
    with ClusterStack.alone(target):
        pass


def test_a_roll_with_nothing_to_do_names_a_node_that_was_left_drained() -> None:
    state = cluster_of(changed=[node_state("rabbit@b", being_drained=True)])
    said = cluster_roll._report([], [], Summary({}, ()), refusals(state, recorded(), []))
    assert any("docker exec node-b rabbitmq-upgrade revive" in line for line in said)


def test_a_cluster_with_a_node_down_does_not_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    """The new nodes would wait for it, for minutes, with the config already changed."""
    down = cluster_of(changed=[node_state("rabbit@b", running=False)])
    monkeypatch.setattr(cluster_grow, "read_state", lambda broker: down)
    stack: Any = SimpleNamespace(nodes=recorded(), broker=lambda: nullcontext(None))
    with pytest.raises(ClusterNotReady, match=r"not running: rabbit@b.*Nothing has been changed"):
        cluster_grow._add_nodes(stack, 3, 5, yes=True)


@pytest.mark.parametrize(
    ("added", "queue", "error"),
    [
        (False, queue_on("abc"), ClusterNotReady),
        (False, queue_on("a"), OperationStopped),
        (True, None, OperationStopped),
    ],
    ids=["nothing was changed", "queues got members", "nodes were added"],
)
def test_growing_is_refused_until_something_has_changed(
    added: bool, queue: ReplicatedQueue | None, error: type[KryonixError], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Status 2 says that nothing has been changed; 1, that the same command continues."""
    state = cluster_of(*([queue] if queue else []))
    monkeypatch.setattr(cluster_grow, "read_state", lambda broker: state)
    monkeypatch.setattr(cluster_grow, "wait_for", lambda broker, problem, within_s: problem(state))
    monkeypatch.setattr(cluster_grow, "_add_members", lambda stack, broker: {})
    refused = cluster_of(changed=[node_state("rabbit@b", mem_alarm=True)])
    monkeypatch.setattr(
        cluster_grow, "_roll_out", lambda stack, broker: cluster_roll.refuse(refused, recorded(), recorded()[:1])
    )
    stack: Any = SimpleNamespace(nodes=recorded(), broker=lambda: nullcontext(None))
    with pytest.raises(error, match=r"rabbit@b \(memory\)"):
        cluster_grow._complete(stack, 3, added=added)
