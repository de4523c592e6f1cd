"""ClusterFormed: wait until all nodes of a broker run in one cluster."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pulumi
import pulumi_docker as docker
from pulumi.dynamic import Resource

from components.accepting_provider import ApplyingProvider
from components.errors import ClusterNotFormed
from components.node_settings import Node
from kryonix.rabbitmq.broker import Broker
from kryonix.rabbitmq.client import BrokerUnavailable
from kryonix.topology.naming import ADMIN_USER

_DEADLINE_S: Final = 420
"""Three nodes that start at once on two cores are together after 30 s; one whose peers are late waits two minutes."""
_POLL_S: Final = 1.0
_CONNECT_S: Final = 3


class _ClusterFormedProvider(ApplyingProvider):
    id_property = "name"

    def apply(self, props: dict[str, Any]) -> None:
        nodes, deadline = props["nodes"], time.monotonic() + _DEADLINE_S
        while problems := _problems(nodes, props):
            if time.monotonic() > deadline:
                raise ClusterNotFormed(
                    f"the {len(nodes)} nodes of the broker are no cluster after {_DEADLINE_S} s:\n"
                    + "".join(f"  {problem}\n" for problem in problems)
                    + "Start what is stopped, correct what the logs show, and run `up` again"
                )
            time.sleep(_POLL_S)


def _problems(nodes: Sequence[Mapping[str, Any]], props: Mapping[str, Any]) -> list[str]:
    """Return what is missing until each node that is asked sees all of them run."""
    expected = {node["node"] for node in nodes}
    return [problem for node in nodes if "url" in node and (problem := _problem(node, expected, props))]


def _problem(node: Mapping[str, Any], expected: Iterable[str], props: Mapping[str, Any], *, alone: bool = True) -> str:
    """Return why a node does not see those that are expected. `alone`: nor may it see others."""
    container = node["container"]
    look = f"look at `docker ps -a --filter name={container}` and `docker logs --tail 50 {container}`"
    try:
        login, trust = (props["adminUsername"], props["adminPassword"]), props.get("caCertificate") or ""
        with Broker(node["url"], *login, connect_s=_CONNECT_S, ca_certificate=trust) as broker:
            seen = broker.nodes()
    except BrokerUnavailable as error:
        return f"{container}: {node['url']} {error.problem}; {look}"
    strangers = ", ".join(sorted(seen.keys() - expected))
    if strangers and alone:
        return f"{container}: it is in a cluster with {strangers}; {look}"
    absent = ", ".join(sorted(name for name in expected if not seen.get(name)))
    return f"{container}: it does not see {absent}; {look}" if absent else ""


@dataclass(frozen=True, kw_only=True)
class ClusterFormedArgs:
    """The nodes with the ids of their containers.

    `unasked` are the numbers of those that a roll has not come to: the settings may have other addresses for them.
    """

    nodes: Sequence[tuple[Node, pulumi.Input[str]]]
    unasked: Collection[int] = ()
    admin_password: pulumi.Input[str]
    ca_certificate: pulumi.Input[str | None] = None

    def address(self, node: Node) -> dict[str, str]:
        return {} if node.number in self.unasked else {"url": node.local_management_url}


class ClusterFormed(Resource, module="kryonix", name="ClusterFormed"):
    """Created, and updated after a change of a container, once every node sees all others run."""

    def __init__(self, name: str, args: ClusterFormedArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        properties = {
            "name": args.nodes[0][0].container,
            "nodes": [
                {"node": node.name, "container": node.container, "id": id, **args.address(node)}
                for node, id in args.nodes
            ],
            "adminUsername": ADMIN_USER,
            "adminPassword": pulumi.Output.secret(args.admin_password),
            "caCertificate": args.ca_certificate,
        }
        super().__init__(_ClusterFormedProvider(), name, properties, opts)


def joinable(
    node: Node,
    admin_password: pulumi.Input[str],
    ca_certificate: pulumi.Input[str | None],
    containers: Sequence[docker.Container],
) -> pulumi.Output[Sequence[pulumi.Resource]]:
    """Return the containers that exist before others are added, once a node runs in its own: for `depends_on`.

    An input of the others must not depend on them: an engine that replaces a container would replace the others along
    with it. Raises ClusterNotFormed.
    """

    async def wait(known: list[Any]) -> Sequence[pulumi.Resource]:
        password, trust, _ = known
        await asyncio.to_thread(_wait_for, node, password, trust or "")
        return containers

    ids = pulumi.Output.all(*(container.id for container in containers))
    return pulumi.Output.all(admin_password, ca_certificate, ids).apply(wait)


def _wait_for(node: Node, password: str, trust: str) -> None:
    deadline = time.monotonic() + _DEADLINE_S
    entry = {"node": node.name, "container": node.container, "url": node.local_management_url}
    props = {"adminUsername": ADMIN_USER, "adminPassword": password, "caCertificate": trust}
    while problem := _problem(entry, {node.name}, props, alone=False):
        if time.monotonic() > deadline:
            raise ClusterNotFormed(f"no node can be added: {problem}. Correct what the logs show, and run this again")
        time.sleep(_POLL_S)
