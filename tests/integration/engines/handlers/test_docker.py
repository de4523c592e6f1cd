"""Docker handlers against a real daemon, with a small image."""

from __future__ import annotations

import io
import socket
import stat
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from kryonix.engines.local.errors import ApplyFailed, ServiceUnavailable
from kryonix.engines.local.handlers import Handler, LiveResource, Provider, provider
from tests.support.project import free_port
from tests.support.registry import registry

from .conftest import POSTGRES_IMAGE


@pytest.fixture
def opened(daemon: docker.DockerClient, unique: str) -> Iterator[Provider]:
    """A provider; whatever containers, networks and volumes a test leaves under its unique name go afterwards."""
    yield provider("docker", {})
    for container in daemon.containers.list(all=True, ignore_removed=True, filters={"name": unique}):
        container.remove(force=True, v=True)
    for network in daemon.networks.list(names=[unique]):
        network.remove()
    for volume in daemon.volumes.list(filters={"name": unique}):
        volume.remove(force=True)


def handler(opened: Provider, noun: str) -> Handler:
    return opened.handler(f"docker:index/{noun.lower()}:{noun}")


def make(opened: Provider, noun: str, **inputs: Any) -> tuple[str, dict[str, Any], dict[str, Any]]:
    checked = handler(opened, noun).check(None, inputs)
    id, outputs = handler(opened, noun).create(checked)
    return id, checked, outputs


def sleeper(name: str, **more: Any) -> dict[str, Any]:
    """Inputs of a container that does nothing for as long as the test takes."""
    return {"name": name, "image": POSTGRES_IMAGE, "entrypoints": ["sleep"], "command": ["600"], **more}


def changes(opened: Provider, made: tuple[str, dict[str, Any], dict[str, Any]]) -> tuple[str, ...]:
    containers = handler(opened, "Container")
    live = containers.read(*made)
    assert isinstance(live, LiveResource)
    return containers.diff(made[0], live.inputs, live.outputs, made[1]).changed


def test_a_container_gets_its_network_volume_files_and_limits(
    opened: Provider, daemon: docker.DockerClient, unique: str
) -> None:
    network = make(opened, "Network", name=unique)
    make(opened, "Volume", name=unique)
    port = free_port()
    made = make(
        opened,
        "Container",
        **sleeper(unique, hostname="host-1", envs=["B=2", "A=1"], restart="unless-stopped", memory=64),
        ports=[{"internal": 80, "external": port, "ip": "127.0.0.1"}],
        networksAdvanced=[{"name": unique, "aliases": ["alias"]}],
        volumes=[{"containerPath": "/data", "volumeName": unique}],
        uploads=[
            {"file": "/new/folder/text.conf", "content": "ação\n"},
            {"file": "/etc/program", "content": "run", "executable": True},
        ],
        labels=[{"label": "traefik.enable", "value": "true"}],
    )
    found = daemon.containers.get(made[0])
    host = found.attrs["HostConfig"]
    assert (found.attrs["Config"]["Hostname"], found.labels["traefik.enable"]) == ("host-1", "true")
    assert {"A=1", "B=2"} <= set(found.attrs["Config"]["Env"])
    assert (host["Memory"], host["RestartPolicy"]["Name"]) == (64 * 2**20, "unless-stopped")
    assert host["Binds"] == [f"{unique}:/data:rw"]
    assert list(found.attrs["NetworkSettings"]["Networks"]) == [unique]
    assert "alias" in found.attrs["NetworkSettings"]["Networks"][unique]["Aliases"]
    assert read(found, "/new/folder/text.conf") == ("ação\n".encode(), 0o644)
    assert read(found, "/etc/program") == (b"run", 0o744)

    outputs = made[2]
    assert outputs["ports"][0]["external"] == port
    assert [data["networkName"] for data in outputs["networkDatas"]] == [unique]
    assert outputs["networkMode"] == "bridge"
    assert changes(opened, made) == ()

    for noun, gone in (("Container", made), ("Network", network), ("Volume", (unique, {"name": unique}, {}))):
        handler(opened, noun).delete(*gone)
        handler(opened, noun).delete(*gone)
        assert handler(opened, noun).read(*gone) is None


def read(container: Any, path: str) -> tuple[bytes, int]:
    stream, _ = container.get_archive(path)
    with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as tar:
        member = tar.getmembers()[0]
        content = tar.extractfile(member)
        assert content is not None
        return content.read(), stat.S_IMODE(member.mode)


def test_outputs_hold_what_the_plugin_would_replace_for(opened: Provider, unique: str) -> None:
    _, _, outputs = make(opened, "Container", **sleeper(unique))
    names = "attach entrypoints envs logs memoryReservation networkDatas readOnly rm securityOpts stdinOpen tty"
    assert set(names.split()) <= set(outputs)
    assert "memorySwap" not in outputs
    assert "options" in make(opened, "Network", name=unique)[2]


def test_a_stopped_container_is_restarted_and_a_removed_one_missing(
    opened: Provider, daemon: docker.DockerClient, unique: str
) -> None:
    made = make(opened, "Container", **sleeper(unique))
    daemon.containers.get(made[0]).stop(timeout=0)
    assert changes(opened, made) == ("mustRun",)
    live = handler(opened, "Container").read(*made)
    assert live is not None
    handler(opened, "Container").update(made[0], live.inputs, live.outputs, made[1])
    assert daemon.containers.get(made[0]).status == "running"
    assert changes(opened, made) == ()
    daemon.containers.get(made[0]).remove(force=True, v=True)
    assert handler(opened, "Container").read(*made) is None


def test_restart_policy_and_memory_change_in_place(opened: Provider, daemon: docker.DockerClient, unique: str) -> None:
    id, inputs, outputs = make(opened, "Container", **sleeper(unique, memory=32))
    new = handler(opened, "Container").check(inputs, sleeper(unique, memory=256, restart="always"))
    diff = handler(opened, "Container").diff(id, inputs, outputs, new)
    assert (diff.changed, diff.replaces) == (("memory", "restart"), ())
    outputs = handler(opened, "Container").update(id, inputs, outputs, new)
    host = daemon.containers.get(id).attrs["HostConfig"]
    assert (host["Memory"], host["RestartPolicy"]["Name"]) == (256 * 2**20, "always")
    assert changes(opened, (id, new, outputs)) == ()


def test_leftovers_of_a_killed_run_are_replaced(opened: Provider, daemon: docker.DockerClient, unique: str) -> None:
    first, inputs, _ = make(opened, "Container", **sleeper(unique))
    (nameless,) = daemon.containers.get(first).attrs["Mounts"]
    second, _ = handler(opened, "Container").recreate(inputs)
    assert first != second
    with pytest.raises(docker.errors.NotFound):
        daemon.volumes.get(nameless["Name"])
    network = make(opened, "Network", name=unique)
    assert make(opened, "Network", name=unique)[0] == network[0]


def test_a_container_and_data_missing_from_the_state_are_kept(
    opened: Provider, daemon: docker.DockerClient, unique: str
) -> None:
    id, inputs, _ = make(opened, "Container", **sleeper(unique))
    with pytest.raises(ApplyFailed, match=f"container `{unique}`.*exists already.*the stack's state does not know it"):
        handler(opened, "Container").create(inputs)
    assert daemon.containers.get(id).status == "running"
    make(opened, "Volume", name=unique)
    with pytest.raises(ApplyFailed, match=f"docker volume `{unique}` exists already.*docker volume rm {unique}"):
        make(opened, "Volume", name=unique)
    assert handler(opened, "Volume").recreate({"name": unique})[0] == unique


def test_a_foreign_container_or_network_of_the_same_name_is_kept(
    opened: Provider, daemon: docker.DockerClient, unique: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    other = make(provider("docker", {}), "Container", **sleeper(unique))
    with pytest.raises(ApplyFailed, match=f"container `{unique}`.*it belongs to {tmp_path}.*docker rm"):
        make(opened, "Container", **sleeper(unique))
    assert daemon.containers.get(other[0]).status == "running"
    daemon.networks.create(unique, labels={"of": "somebody"})
    with pytest.raises(ApplyFailed, match=f"docker network `{unique}`.* exists already"):
        make(opened, "Network", name=unique)


@pytest.mark.parametrize("by", ["another container", "another program"])
def test_a_port_in_use_is_named_and_nothing_is_left(
    opened: Provider, daemon: docker.DockerClient, unique: str, by: str
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = {"internal": 80, "external": taken.getsockname()[1], "ip": "127.0.0.1"}
        if by == "another container":
            taken.close()
            make(opened, "Container", **sleeper(f"{unique}-other", ports=[port]))
        with pytest.raises(ServiceUnavailable, match=f"can't have the port 127.0.0.1:{port['external']}"):
            make(opened, "Container", **sleeper(unique, ports=[port]))
    assert [
        found.name for found in daemon.containers.list(all=True, ignore_removed=True, filters={"name": f"^{unique}$"})
    ] == []


def test_wait_returns_when_the_container_is_healthy(opened: Provider, daemon: docker.DockerClient, unique: str) -> None:
    check = {"tests": ["CMD", "true"], "interval": "1s", "timeout": "5s"}
    id, *_ = make(opened, "Container", **sleeper(unique, healthcheck=check, wait=True, waitTimeout=120))
    assert daemon.api.inspect_container(id)["State"]["Health"]["Status"] == "healthy"


def test_an_unhealthy_container_is_removed_and_its_last_check_reported(
    opened: Provider, daemon: docker.DockerClient, unique: str
) -> None:
    check = {"tests": ["CMD-SHELL", "echo no database yet; exit 3"], "interval": "1s", "retries": 50}
    started = time.monotonic()
    with pytest.raises(ApplyFailed, match=r"(?s)not healthy after 10 s.*status 3.*no database yet"):
        make(opened, "Container", **sleeper(unique, healthcheck=check, wait=True, waitTimeout=10))
    assert time.monotonic() - started < 45, "50 checks a second apart take longer"
    assert daemon.containers.list(all=True, ignore_removed=True, filters={"name": unique}) == []


def test_a_container_that_exits_early_fails_with_its_log(opened: Provider, unique: str) -> None:
    check = {"tests": ["CMD", "true"], "interval": "30s"}
    program = {"entrypoints": ["sh", "-c"], "command": ["echo bad config on line 7; exit 9"]}
    with pytest.raises(ApplyFailed, match=r"(?s)exited with status 9.*bad config on line 7"):
        make(opened, "Container", **{**sleeper(unique), **program}, healthcheck=check, wait=True, waitTimeout=60)


def test_waiting_without_a_health_check_is_an_error(opened: Provider, unique: str) -> None:
    with pytest.raises(ApplyFailed, match="but no health check"):
        make(opened, "Container", **sleeper(unique, wait=True))


def test_a_missing_image_is_named_with_a_remedy(opened: Provider, unique: str) -> None:
    with pytest.raises(ServiceUnavailable, match=r"has no image localhost:1/nosuch:9 and can't pull it.*load"):
        make(opened, "Container", **{**sleeper(unique), "image": "localhost:1/nosuch:9"})


def test_a_missing_daemon_is_named_with_a_remedy(unique: str) -> None:
    for host in ("unix:///nosuch.sock", f"tcp://127.0.0.1:{free_port()}"):
        with pytest.raises(
            ServiceUnavailable, match=f"docker can't be reached at {host}: nothing listens.*Install Docker and start it"
        ):
            make(provider("docker", {"host": host}), "Volume", name=unique)


def test_a_network_is_removed_once_it_is_unused(opened: Provider, daemon: docker.DockerClient, unique: str) -> None:
    network = make(opened, "Network", name=unique)
    made = make(opened, "Container", **sleeper(unique, networksAdvanced=[{"name": unique}]))
    handler(opened, "Container").delete(*made)
    handler(opened, "Network").delete(*network)
    assert daemon.networks.list(names=[unique]) == []


def test_an_image_is_pulled_by_digest_not_by_tag(opened: Provider, unique: str) -> None:
    with registry() as images:
        pinned = images.push("1", "as it was")
        images.push("1", "as it is now")
        image = f"{images.repository}/made:1@{pinned}"
        with pytest.raises(ApplyFailed, match="does not start"):  # there is no program in it
            make(opened, "Container", **{**sleeper(unique), "image": image})
        assert docker.from_env().images.get(f"{images.repository}/made@{pinned}")
