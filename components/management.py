"""The broker's administration for the program and its dynamic providers, with errors that end the program."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sized
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final

import pulumi

from components.errors import BrokerAnswersBadly, BrokerRefuses, BrokerUnreachable, ClusterNeedsGrow, MajorityMissing
from kryonix.cluster.growth import SIZES
from kryonix.rabbitmq.broker import Broker
from kryonix.rabbitmq.client import BrokerFailed, BrokerUnavailable, BrokerUntrusted, is_silent
from kryonix.rabbitmq.counts import CONNECT_S, BrokerAccess, CountingBroker
from kryonix.topology.addresses import host_port, split_address

_READ_S: Final = 5
"""Seconds to wait for a node's list of nodes. One that is frozen never answers."""


@contextmanager
def administration(access: BrokerAccess) -> Iterator[CountingBroker]:
    """Connect to a broker. Raises BrokerUnreachable for errors of the block."""
    access = reached(access)
    url, user = access.management_url, access.username
    try:
        with CountingBroker(access) as broker:
            yield broker
    except BrokerFailed as error:
        if error.status not in (401, 403):
            raise BrokerAnswersBadly(f"the broker at {url} {error.problem}") from error
        remedy = "Check the stack's credentials for it; if its platform was recreated, run `up` on this stack first"
        raise BrokerRefuses(f"the broker at {url} refuses the user {user!r}. {remedy}") from error
    except BrokerUntrusted as error:
        raise BrokerUnreachable(str(error)) from error
    except BrokerUnavailable as error:
        remedy = (
            "Start it and run again. If its container was removed, run `kryonix refresh` and `kryonix up` on the "
            "platform's stack first, then `kryonix tenant converge ID` for a tenant with a stack of its own"
        )
        raise BrokerUnreachable(f"the broker at {url} {error.problem}. {remedy}") from error


def reached(access: BrokerAccess) -> BrokerAccess:
    """Return the access with the first node that is with a majority of its cluster as its first address.

    Unchanged for a node alone, and if there is no such node: the request that follows tells the reason.
    """
    # One address may lead to all nodes, by a load balancer.
    several = access.amqp_addresses or [host_port(access.amqp_host, access.amqp_port)] * len(access.management_urls)
    nodes_in_order = sorted(zip(access.management_urls, several, strict=False), key=lambda node: is_silent(node[0]))
    for url, amqp in nodes_in_order:
        trust, login = access.ca_certificate, (access.username, access.password)
        try:
            with Broker(url, *login, connect_s=CONNECT_S, read_s=_READ_S, ca_certificate=trust) as broker:
                nodes = broker.nodes()
        except BrokerUnavailable:
            continue
        if sum(nodes.values()) >= _majority(nodes):
            host, port = split_address(amqp)
            return replace(access, management_url=url, amqp_host=host, amqp_port=port)
    return access


async def endpoint_of(access: BrokerAccess) -> str:
    """Return the management API for the resources of this run."""
    return (await asyncio.to_thread(reached, access)).management_url


def refuse_minority(broker: Broker) -> None:
    """Raise MajorityMissing if too few nodes of a cluster run: every change would wait for the others, and fail."""
    nodes = broker.nodes()
    absent = sorted(name for name, running in nodes.items() if not running)
    if len(nodes) - len(absent) < (majority := _majority(nodes)):
        raise MajorityMissing(
            f"{len(absent)} of {len(nodes)} nodes of the broker at {broker.url} don't run: {', '.join(absent)}. A "
            f"change needs a majority, {majority} nodes. Start them (`docker start` with the name after the @), or "
            "replace lost containers (`kryonix refresh` and `kryonix up` on the platform's stack), and run again"
        )


def refuse_fewer_nodes(broker: Broker, keeps: int, stack: str) -> None:
    """Raise ClusterNeedsGrow if a run would remove members of the cluster: `keeps` are the nodes that it leaves.

    A `grow` that ended midway has made members of nodes that no output names yet.
    """
    members = sorted(broker.nodes())
    if len(members) > keeps:
        size = next((each for each in SIZES if each >= len(members)), len(members))
        raise ClusterNeedsGrow(
            f"kryonix:brokerNodes: the cluster has {len(members)} members: {', '.join(members)}. This "
            f"run would leave {keeps}, which would lose the majority, and messages with it; nothing has been changed. "
            f"Run `kryonix cluster grow --stack {stack} --nodes {size}`, which completes it"
        )


def _majority(nodes: Sized) -> int:
    return len(nodes) // 2 + 1


def access_properties(access: pulumi.Output[BrokerAccess]) -> dict[str, Any]:
    """Return the broker's access as resource properties: a deletion runs without the program."""
    return {
        "managementUrl": access.apply(lambda known: known.management_url),
        "adminUsername": access.apply(lambda known: known.username),
        "adminPassword": pulumi.Output.secret(access.apply(lambda known: known.password)),
        "amqpHost": access.apply(lambda known: known.amqp_host),
        "amqpPort": access.apply(lambda known: known.amqp_port),
        # None is no property: a platform of one node without TLS has the same ones as before there were others.
        "managementUrls": access.apply(lambda known: list(known.management_urls) or None),
        "amqpAddresses": access.apply(lambda known: list(known.amqp_addresses) or None),
        "amqpTls": access.apply(lambda known: known.amqp_tls or None),
        "caCertificate": access.apply(lambda known: known.ca_certificate or None),
    }


def access_of(props: dict[str, Any]) -> BrokerAccess:
    """Return the access stored by `access_properties`."""
    return BrokerAccess(
        management_url=props["managementUrl"],
        username=props["adminUsername"],
        password=props["adminPassword"],
        amqp_host=props["amqpHost"],
        amqp_port=int(props["amqpPort"]),
        management_urls=tuple(props.get("managementUrls") or ()),
        amqp_addresses=tuple(props.get("amqpAddresses") or ()),
        amqp_tls=bool(props.get("amqpTls")),
        ca_certificate=props.get("caCertificate") or "",
    )
