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
from kryonix.cluster.errors import ClusterNotReady
from kryonix.cluster.nodes import ROLL_VARIABLE, RecordedNode
from kryonix.cluster.roll import refusals
from kryonix.engines.engine import StackSpec
from kryonix.engines.events import Summary
from tests.support.cluster_states import cluster_of, node_state, recorded

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
