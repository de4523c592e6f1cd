"""Unreachable services: exit 3, and one message with a remedy."""

from __future__ import annotations

import copy
import socket
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from tests.support.project import Project, Result, free_port, tenant

UNUSED_IMAGE = "localhost:1/kryonix/none:1"


def assert_unreachable(result: Result, *said: str) -> None:
    assert result.returncode == 3, (result.returncode, result.stdout, result.stderr)
    for part in said:
        assert part in result.stderr, f"{part!r} is not in:\n{result.stderr}"
    assert result.stderr.count("error: ") == 1
    assert "Traceback" not in result.stderr


def with_env(project: Project, **env: str | None) -> Project:
    """The same stack, run from another environment."""
    other = copy.copy(project)
    other.env = {key: value for key, value in {**project.env, **env}.items() if value is not None}
    return other


@pytest.mark.parametrize("operation", ["up", "preview", "refresh", "destroy"])
def test_a_wrong_passphrase_is_reported_and_changes_nothing(platform: Project, operation: str) -> None:
    state = (platform.folder / ".kryonix" / "stacks" / platform.stack / "checkpoint.json").read_bytes()
    wrong = with_env(platform, PULUMI_CONFIG_PASSPHRASE="not it")
    assert_unreachable(wrong.run(operation), "passphrase", "PULUMI_CONFIG_PASSPHRASE")
    assert (platform.folder / ".kryonix" / "stacks" / platform.stack / "checkpoint.json").read_bytes() == state


def test_a_missing_passphrase_is_reported(platform: Project) -> None:
    unset = with_env(platform, PULUMI_CONFIG_PASSPHRASE=None)
    assert_unreachable(
        unset.run("outputs", "--show-secrets"), "PULUMI_CONFIG_PASSPHRASE", "PULUMI_CONFIG_PASSPHRASE_FILE"
    )
    assert_unreachable(unset.run("up"), "PULUMI_CONFIG_PASSPHRASE")


def test_a_passphrase_can_come_from_a_file(platform: Project, tmp_path: Path) -> None:
    file = tmp_path / "passphrase"
    file.write_text(f"{platform.env['PULUMI_CONFIG_PASSPHRASE']}\n")
    by_file = with_env(platform, PULUMI_CONFIG_PASSPHRASE=None, PULUMI_CONFIG_PASSPHRASE_FILE=str(file))
    assert by_file.outputs()["admin_password"] != "[secret]"
    missing = with_env(by_file, PULUMI_CONFIG_PASSPHRASE_FILE=str(tmp_path / "none"))
    assert_unreachable(missing.run("outputs", "--show-secrets"), str(tmp_path / "none"))


def test_a_missing_pulumi_command_is_reported(platform: Project, tmp_path: Path) -> None:
    result = with_env(platform, PATH=str(tmp_path)).kryonix("preview", "--stack", platform.stack, "--engine", "pulumi")
    assert_unreachable(result, "`pulumi` command, which is not on PATH", "--engine local")


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Project]:
    """A platform of which nothing is made yet, and whose images don't have to be there."""
    project = Project.platform(tmp_path / "project", tenant("acme"))
    try:
        yield project
    finally:
        project.remove()


def test_an_unreachable_docker_is_reported(fresh: Project) -> None:
    away = with_env(fresh, DOCKER_HOST="unix:///nonexistent")
    assert_unreachable(away.run("up"), "unix:///nonexistent", "Docker")


def test_an_unavailable_image_is_reported(fresh: Project) -> None:
    fresh.configure(brokerImage=UNUSED_IMAGE, postgresImage=UNUSED_IMAGE)
    assert_unreachable(fresh.run("up"), UNUSED_IMAGE)


def test_a_port_in_use_is_reported_and_destroy_leaves_nothing(fresh: Project) -> None:
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        fresh.configure(registryPort=port)
        assert_unreachable(fresh.run("up"), str(port), "platform-postgres-container")
        fresh.must("destroy")
    assert left_in_docker(fresh) == []


def test_up_succeeds_after_correcting_a_busy_port_and_a_missing_image(fresh: Project) -> None:
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        fresh.configure(registryPort=port, brokerImage=UNUSED_IMAGE)
        assert fresh.run("up").returncode == 3
        fresh.configure(registryPort=free_port(), brokerImage=None)
        fresh.must("up")


def left_in_docker(project: Project) -> list[str]:
    client = docker.from_env()
    mine = {"name": f"kryonix-{project.stack}-"}
    found = [c.name for c in client.containers.list(all=True, ignore_removed=True, filters=mine)]
    found += [thing.name for thing in (*client.volumes.list(filters=mine), *client.networks.list(filters=mine))]
    client.close()
    return found
