"""Tenants rebuilt from registered resources equal the expanded tenants."""

from __future__ import annotations

import dataclasses

import pytest
from google.protobuf import json_format  # type: ignore[import-untyped]  # protobuf ships no stubs
from pulumi_policy import PolicyResource
from pulumi_policy.deserialize import deserialize_properties
from pulumi_policy.policy import PolicyCustomTimeouts, PolicyResourceOptions
from pulumi_policy.proxy import unknown_checking_proxy

from kryonix.engines.local.handlers.base import UNKNOWN
from kryonix.policy.resources import registered
from kryonix.policy.tenants import StackTenant, stack_tenants
from kryonix.topology.catalog import default_catalog
from kryonix.topology.expansion import Topology, expand
from kryonix.topology.naming import stats_user
from kryonix.topology.objects import NO_PERMISSIONS, Permissions
from kryonix.topology.tenants import Tenant
from tests.conftest import ALL_MODULES
from tests.support.handlers import Recording
from tests.support.policy_pack import changed

CATALOG = default_catalog()
LISTED = {
    "acme": Tenant(id="acme", modules=ALL_MODULES, plan="enterprise"),
    "beta": Tenant(id="beta", modules=("crm",), plan="basic", status="suspended"),
}
OPTIONS = PolicyResourceOptions(False, [], None, [], PolicyCustomTimeouts(0, 0, 0), [])


def shown(recordings: list[Recording]) -> list[PolicyResource]:
    """The resources as a policy has them: made here as pulumi_policy makes them of a request."""
    made: dict[str, PolicyResource] = {}
    for recording in recordings:
        entry = recording.entry()
        props = unknown_checking_proxy(deserialize_properties(json_format.MessageToDict(entry.properties)))
        parent = made.get(entry.parent)
        made[entry.urn] = PolicyResource(entry.type, props, entry.urn, entry.name, OPTIONS, None, parent, [], {})
    return list(made.values())


def rebuilt(recordings: list[Recording]) -> list[StackTenant]:
    return stack_tenants(registered(shown(recordings), {}), LISTED, CATALOG)


def ordered(topology: Topology) -> Topology:
    """Registrations come in no order that means anything."""
    return dataclasses.replace(
        topology,
        exchanges=tuple(sorted(topology.exchanges, key=repr)),
        queues=tuple(sorted(topology.queues, key=repr)),
        bindings=tuple(sorted(topology.bindings, key=repr)),
        policies=tuple(sorted(topology.policies, key=repr)),
    )


def rights(topology: Topology) -> dict[str, Permissions]:
    """Of the tenant's two users."""
    return {topology.user: topology.permissions, stats_user(topology.user): NO_PERMISSIONS}


def test_the_stack_equals_the_expansion_in_every_argument(registrations: list[Recording]) -> None:
    found = [each.state for each in rebuilt(registrations)]
    expanded = [expand(tenant, CATALOG) for tenant in LISTED.values()]
    registered_now = [dataclasses.replace(topology, permissions=topology.granted) for topology in expanded]
    assert [ordered(each.topology) for each in found] == list(map(ordered, registered_now))
    assert all(each.unlimited == () and each.transient == {} for each in found)
    assert [dict(each.rights) for each in found] == [rights(each.topology) for each in found]


def test_tenants_are_found_before_the_provider_knows_their_vhosts(
    registrations: list[Recording],
) -> None:
    early = [
        changed(r, vhost=UNKNOWN) if "vhost" in r.goal.inputs and r.goal.type.startswith("rabbitmq:") else r
        for r in registrations
    ]
    assert [ordered(t.state.topology) for t in rebuilt(early)] == [
        ordered(t.state.topology) for t in rebuilt(registrations)
    ]
    assert [dict(t.state.rights) for t in rebuilt(early)] == [rights(t.state.topology) for t in rebuilt(early)]


@pytest.mark.parametrize("name", ["cliente_acme.crm.leads.create", "cliente_beta.unrouted", ""])
def test_every_object_is_found_in_the_stack(registrations: list[Recording], name: str) -> None:
    urns = [each.urns[name] for each in rebuilt(registrations) if name in each.urns]
    assert urns
    assert set(urns) <= {r.goal.urn for r in registrations}
