"""A platform of three nodes: made, unchanged, changed without a node and not without two, repaired, destroyed."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from typing import Any
from urllib.parse import urlsplit

import docker
import pytest

from kryonix.rabbitmq.broker import Broker
from kryonix.rabbitmq.client import BrokerUnavailable
from tests.acceptance.conftest import changed
from tests.support.containers import output_of
from tests.support.live_broker import LiveBroker
from tests.support.project import Project, tenant
from tests.support.waiting import eventually

NODES = 3
ACME = tenant("acme", "portal", plan="basic")
COOKIE = "/var/lib/rabbitmq/.erlang.cookie"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A platform of three nodes, with a tenant in its list."""
    folder = tmp_path_factory.mktemp("cluster") / "project"
    project = Project.platform(folder, ACME)
    project.configure(brokerNodes=NODES, brokerMemoryMb=512, deletionProtection=False)
    with project.running():
        yield project


@pytest.fixture
def nodes(cluster: Project) -> Iterator[list[Any]]:
    """The containers of the nodes, in order. All run again after the test."""
    with closing(docker.from_env()) as client:
        names = [node["container"] for node in cluster.outputs()["broker_nodes"]]
        yield [client.containers.get(name) for name in names]
        for node in map(client.containers.get, names):
            node.unpause() if node.status == "paused" else node.start()
    whole(cluster)


def whole(cluster: Project) -> None:
    """Wait until each node sees all of them run."""
    eventually("all nodes run", lambda: all(running(cluster, number) == NODES for number in range(NODES)))


def broker_at(cluster: Project, number: int) -> Broker:
    """Return the management API of a node, counted from 0."""
    outputs = cluster.outputs()
    return Broker(outputs["management_urls"][number], outputs["admin_username"], outputs["admin_password"])


def running(cluster: Project, number: int) -> int:
    """Return how many nodes one of them sees, 0 if it does not answer."""
    with suppress(BrokerUnavailable), broker_at(cluster, number) as broker:
        return sum(broker.nodes().values())
    return 0


def members(cluster: Project, vhost: str, number: int = 1) -> set[int]:
    """Return how many members the queues of a vhost have."""
    with broker_at(cluster, number) as broker:
        queues = broker.get("queues", vhost)
    assert len(queues) > 3
    return {len(queue["members"]) for queue in queues}


def on(cluster: Project) -> tuple[str, ...]:
    """Return the options of a command on the cluster's stack."""
    return "--stack", cluster.stack, "--engine", "local"


def resources(cluster: Project) -> Any:
    """Return the resources in the state."""
    return json.loads(cluster.run("export").stdout)["deployment"]["resources"]


def kill(nodes: Sequence[Any]) -> None:
    for node in nodes:
        node.kill("SIGKILL")


def create(cluster: Project, id: str) -> Mapping[str, Any]:
    made = cluster.kryonix("tenant", "create", id, "--modules", "portal", "--plan", "basic", *on(cluster), "--json")
    assert made.returncode == 0, (made.stdout, made.stderr)
    printed: Mapping[str, Any] = json.loads(made.stdout)
    return printed


def test_each_queue_of_a_tenant_has_three_members(cluster: Project) -> None:
    assert members(cluster, "/cliente_acme") == {NODES}


def test_outputs_name_every_node(cluster: Project) -> None:
    outputs = cluster.outputs()
    assert outputs["amqp_addresses"][0] == f"{outputs['amqp_host']}:{outputs['amqp_port']}"
    assert outputs["management_urls"][0] == outputs["management_url"]
    assert outputs["metrics_urls"][0] == outputs["metrics_url"]
    for addresses in (outputs["amqp_addresses"], [urlsplit(url).netloc for url in outputs["metrics_urls"]]):
        ports = [int(address.rpartition(":")[2]) for address in addresses]
        assert ports == [ports[0], ports[0] + 10, ports[0] + 20]
    names = [f"kryonix-{cluster.stack}-rabbitmq", *(f"kryonix-{cluster.stack}-rabbitmq-{n}" for n in (2, 3))]
    assert [node["name"] for node in outputs["broker_nodes"]] == [f"rabbit@{name}" for name in names]
    assert len({node["digest"] for node in outputs["broker_nodes"]}) == NODES


def test_the_nodes_secret_is_in_their_files_only(cluster: Project, nodes: list[Any]) -> None:
    secrets = []
    for node in nodes:
        chunks, _ = node.get_archive(COOKIE)
        with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as tar:
            (entry,) = tar.getmembers()
            content = tar.extractfile(entry)
            assert content is not None
            secrets.append(content.read().decode())
            assert entry.mode & 0o777 == 0o400
            assert entry.uname == "rabbitmq" or entry.uid > 0
        assert secrets[-1] not in json.dumps(node.attrs)
        environment = output_of(node, "cat", "/proc/1/environ", user="rabbitmq")
        assert "PATH=" in environment
        assert secrets[-1] not in environment
    (secret,) = set(secrets)
    assert len(secret) > 20
    state = "".join(path.read_text() for path in (cluster.folder / ".kryonix").rglob("*.json"))
    assert "platform-rabbitmq-cookie" in state
    assert secret not in state


def test_a_second_run_changes_nothing(cluster: Project) -> None:
    before = cluster.outputs()
    assert changed(cluster.must("up")) == []
    assert cluster.outputs() == before


def test_a_change_of_all_nodes_at_once_is_refused(cluster: Project, nodes: list[Any]) -> None:
    """Nothing changes, not even what has nothing to do with the nodes."""
    state = resources(cluster)
    cases = (
        ("preview", {"domain": "another.example", "receiveTime": True}, "kryonix cluster roll --stack"),
        ("up", {"brokerImage": "rabbitmq:4.3.99-management", "monitoring": True}, "kryonix cluster roll --stack"),
        ("up", {"brokerNodes": 5}, "kryonix cluster grow --stack"),
        ("preview", {"brokerNodes": 1}, "can't shrink"),
    )
    for operation, changes, said in cases:
        cluster.configure(**changes)
        refused = cluster.run(operation)
        cluster.configure(**{**dict.fromkeys(changes), "brokerNodes": NODES})
        assert refused.returncode == 2, (changes, refused.stdout, refused.stderr)
        assert said in refused.stderr
        assert "nothing has been changed" in refused.stderr.lower()
        assert "Traceback" not in refused.stderr
    assert resources(cluster) == state
    for node in nodes:
        node.reload()
        assert node.status == "running"


@pytest.mark.parametrize(("down", "frozen"), [(0, True), (2, False)])
def test_a_tenant_is_created_while_a_node_is_down(cluster: Project, nodes: list[Any], down: int, frozen: bool) -> None:
    """A frozen node accepts connections, and says nothing."""
    id = f"without{down}"
    nodes[down].pause() if frozen else kill([nodes[down]])
    assert create(cluster, id)["amqp_addresses"] == cluster.outputs()["amqp_addresses"]
    nodes[down].unpause() if frozen else nodes[down].start()
    whole(cluster)
    # Declared while a node was down, a queue has a member there too: the node catches up.
    assert members(cluster, f"/cliente_{id}") == {NODES}
    converged = cluster.kryonix("tenant", "converge", id, *on(cluster), "--json")
    assert converged.returncode == 0, (converged.stdout, converged.stderr)


def test_a_platform_changes_while_its_first_node_is_down(cluster: Project, nodes: list[Any]) -> None:
    kill(nodes[:1])
    cluster.tenants(ACME, tenant("listed", "portal", plan="basic"))
    assert "create listed" in changed(cluster.must("up"))
    checked = cluster.kryonix("check", "--tenant", "acme", *on(cluster), "--json")
    found = [each for each in json.loads(checked.stdout)["findings"] if each["outcome"] == "unreachable"]
    assert found == [], "the metrics are read of another node, too"
    nodes[0].start()
    whole(cluster)
    assert members(cluster, "/cliente_listed") == {NODES}
    # The run through another node left its address in the provider: that of the first node comes back.
    assert changed(cluster.must("up")) == ["update broker"]
    assert changed(cluster.must("preview")) == []


def test_a_minority_refuses_changes_and_they_converge_later(cluster: Project, nodes: list[Any]) -> None:
    kill(nodes[1:])
    eventually("the node knows that it is alone", lambda: running(cluster, 0) == 1)
    refused = cluster.kryonix("tenant", "create", "later", "--modules", "portal", "--plan", "basic", *on(cluster))
    up = cluster.run("up")
    for result in (refused, up):
        assert result.returncode == 3, (result.stdout, result.stderr)
        assert "Traceback" not in result.stderr
        for said in ("2 of 3 nodes", *(f"rabbit@{node.name}" for node in nodes[1:]), "needs a majority, 2 nodes"):
            assert said in result.stderr, result.stderr
    for node in nodes[1:]:
        node.start()
    whole(cluster)
    converged = cluster.kryonix("tenant", "converge", "later", *on(cluster), "--json")
    assert converged.returncode == 0, (converged.stdout, converged.stderr)
    assert members(cluster, "/cliente_later") == {NODES}
    assert changed(cluster.must("up")) == []


def test_lost_containers_return_with_their_data(cluster: Project, nodes: list[Any]) -> None:
    """Two of three, so that the cluster can't do without them."""
    with broker_at(cluster, 0) as administrator:
        names = [each.name for each in administrator.queues("/cliente_acme")]
    queue = next(name for name in names if name.startswith("cliente_acme.portal.") and not name.endswith(".dlq"))
    with LiveBroker(cluster.outputs()) as broker:
        broker.publish("/cliente_acme", queue, 5)
    for node in nodes[1:]:
        node.remove(force=True)
    cluster.must("refresh")
    summary = cluster.must("up")
    made = {f"create platform-rabbitmq-{number}-container" for number in (2, 3)}
    assert {*changed(summary)} == {*made, "update platform-rabbitmq-formed"}
    whole(cluster)
    assert members(cluster, "/cliente_acme") == {NODES}
    with LiveBroker(cluster.outputs()) as broker:
        assert broker.take("/cliente_acme", queue, 10) == 5
    assert changed(cluster.must("preview")) == []


def test_a_platform_is_destroyed_while_its_first_node_is_frozen(cluster: Project) -> None:
    """The last test. The broker takes seconds to delete a queue that has a member on a silent node."""
    with closing(docker.from_env()) as client:
        client.containers.get(cluster.outputs()["broker_nodes"][0]["container"]).pause()
    cluster.must("destroy")
    assert cluster.containers() == []
