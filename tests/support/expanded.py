"""Snapshots of tenants that exist nowhere, as a broker, a registry and a stack would give them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from kryonix.backup.snapshot import TenantSnapshot
from kryonix.engines.deployments import SIGNATURE
from kryonix.registry.rows import STATUS_NAMES
from kryonix.topology.catalog import Catalog, default_catalog
from kryonix.topology.expansion import Topology, expand
from kryonix.topology.naming import ADMIN_USER
from kryonix.topology.ownership import description
from kryonix.topology.tenants import Tenant

__all__ = ["DEPLOYED_BY", "expanded"]

DEPLOYED_BY: Final = "organization/kryonix/dev"
_AT: Final = "2026-11-28T02:00:00+00:00"
_HASH: Final = "AQIDBHkWgXhMiOUTgnyHVmDgWrWjYBAGTvZ5eUqMAhWHrfhp"
_SECRET: Final = {SIGNATURE: "1b47061264138c4ac30d75fd1eb44270"}


def expanded(
    tenant: Tenant, catalog: Catalog | None = None, *, generations: Sequence[int] = (1,), managed_by: str = ""
) -> TenantSnapshot:
    """Return the snapshot of a tenant, with a stack of its own unless it is `managed_by` a platform's.

    `generations` are its credentials, the current ones first. Secrets of its state are in plain text, as `rewrite`
    gives them.
    """
    topology, names = expand(tenant, catalog or default_catalog()), tenant.names
    users = [user for g in generations for user in _users(topology, g)]
    state = {"version": 3, "deployment": {"manifest": {"time": _AT}, "resources": _resources(topology)}}
    export = {"cliente_id": tenant.id, "definitions": _definitions(topology), "rows": {}, "exported_at": _AT}
    configured = {
        "cliente_id": tenant.id,
        "vhost": topology.vhost,
        "modulos_habilitados": list(tenant.modules),
        "plano": tenant.plan,
        "status": STATUS_NAMES[tenant.status],
        "created_at": _AT,
        "updated_at": _AT,
    }
    desired = {
        "cliente_id": tenant.id,
        "modules": list(tenant.modules),
        "plan": tenant.plan,
        "status": tenant.status,
        "cell": tenant.cell,
        "credentials_generation": generations[0],
    }
    return TenantSnapshot(
        tenant=tenant.id,
        vhost={
            "name": topology.vhost,
            "description": description(tenant.id, managed_by or names.stack),
            "tags": [],
            "default_queue_type": "quorum",
            "protected": True,
        },
        definitions=_definitions(topology),
        users=users,
        permissions=[
            {"user": ADMIN_USER, "configure": ".*", "write": ".*", "read": ".*"},
            *({"user": user["name"], **_granted(topology, user["name"])} for user in users),
        ],
        topic_permissions=[],
        rows={
            "tenants.desired_states": [] if managed_by else [desired],
            "tenants.rabbitmq_configurations": [configured],
            "tenants.rabbitmq_credentials": [
                {
                    "cliente_id": tenant.id,
                    "username": users[0]["name"],
                    "password_hash": _HASH,
                    "vhost": topology.vhost,
                    "created_at": _AT,
                    "updated_at": _AT,
                }
            ],
            "tenants.final_exports": [] if managed_by else [export],
        },
        entry=tenant.model_dump(mode="json", exclude={"notify"}),
        state=None if managed_by else state,
    )


def _definitions(topology: Topology) -> dict[str, list[dict[str, Any]]]:
    common = {"durable": True, "auto_delete": False}
    rules = [
        (
            policy.kind,
            policy.name,
            {
                "pattern": policy.pattern,
                "priority": policy.priority,
                "apply-to": policy.apply_to,
                "definition": dict(policy.definition),
            },
        )
        for policy in topology.policies
    ]
    limits = {"max-connections": topology.max_connections, "max-queues": topology.limits.max_queues}
    return {
        "exchanges": [
            {"name": e.name, "type": e.type, "internal": False, "arguments": dict(e.arguments), **common}
            for e in topology.exchanges
        ],
        "queues": [{"name": q.name, "arguments": dict(q.arguments), **common} for q in topology.queues],
        "bindings": [
            {
                "source": b.source,
                "destination": b.destination,
                "destination_type": "queue",
                "routing_key": b.routing_key,
                "arguments": {},
            }
            for b in topology.bindings
        ],
        "policies": [{"name": name, **rule} for kind, name, rule in rules if kind == "policy"],
        "parameters": [
            *({"component": "operator_policy", "name": n, "value": rule} for k, n, rule in rules if k == "operator"),
            {"component": "vhost-limits", "name": "limits", "value": limits},
        ],
    }


def _users(topology: Topology, generation: int) -> list[dict[str, Any]]:
    names, limits = topology.tenant.names, topology.limits
    known = {"password_hash": _HASH, "hashing_algorithm": "rabbit_password_hashing_sha256"}
    bounds = {"max-connections": limits.max_connections, "max-channels": limits.max_channels}
    return [
        {"name": names.user_of(generation), **known, "tags": [], "limits": bounds},
        {
            "name": names.stats_user_of(generation),
            **known,
            "tags": list(topology.stats_tags),
            "limits": {"max-connections": 0},
        },
    ]


def _granted(topology: Topology, user: str) -> dict[str, str]:
    if user.endswith(".stats"):
        return {"configure": "^$", "write": "^$", "read": "^$"}
    granted = topology.granted
    return {"configure": granted.configure, "write": granted.write, "read": granted.read}


def _resources(topology: Topology) -> list[dict[str, Any]]:
    """Return some resources of a tenant's stack, of every shape that there is in one."""
    tenant = topology.tenant
    id, names = tenant.id, tenant.names
    root = f"urn:pulumi:{names.stack}::kryonix::"
    stack = f"{root}pulumi:pulumi:Stack::kryonix-{names.stack}"
    provider = f"{root}pulumi:providers:rabbitmq::broker"
    own = "kryonix:messaging:TenantMessaging"
    component, vhost = f"{root}{own}::{id}", f"{root}{own}$rabbitmq:index/vHost:VHost::{id}/vhost"
    queue = f"{own}$kryonix:messaging:Routing$rabbitmq:index/queue:Queue"
    made = {
        "vhost": topology.vhost,
        "username": names.user,
        "amqp_uri": _secret(f"amqp://{names.user}:pw@broker:5672/%2Fcliente_{id}"),
        "modules": list(tenant.modules),
    }
    return [
        {"urn": stack, "type": "pulumi:pulumi:Stack", "outputs": {"amqp_host": "broker", "tenants": {id: made}}},
        {
            "urn": f"{root}pulumi:pulumi:StackReference::{DEPLOYED_BY}",
            "type": "pulumi:pulumi:StackReference",
            "id": DEPLOYED_BY,
            "parent": stack,
            "outputs": {"outputs": _secret({"tenants": {"broker": {"username": "kryonix_broker"}}})},
        },
        {"urn": provider, "type": "pulumi:providers:rabbitmq", "id": "uuid", "inputs": {"username": ADMIN_USER}},
        {"urn": component, "type": own, "parent": stack, "outputs": {"summary": _secret({"tenants": {id: made}})}},
        {
            "urn": vhost,
            "type": "rabbitmq:index/vHost:VHost",
            "id": topology.vhost,
            "parent": component,
            "provider": f"{provider}::uuid",
            "inputs": {"name": topology.vhost, "description": description(id, names.stack)},
        },
        *(
            {
                "urn": f"{root}{queue}::{id}/{q.name.removeprefix(f'{names.exchange}.')}",
                "type": "rabbitmq:index/queue:Queue",
                "id": f"{q.name}@{topology.vhost}",
                "parent": f"{root}{own}$kryonix:messaging:Routing::{id}",
                "dependencies": [vhost],
                "propertyDependencies": {"vhost": [vhost]},
                "deletedWith": vhost,
            }
            for q in topology.queues
        ),
        {
            "urn": f"{root}{own}$pulumi-python:dynamic/kryonix:TenantRecord::{id}/record",
            "type": "pulumi-python:dynamic/kryonix:TenantRecord",
            "id": id,
            "inputs": {"clienteId": id, "modulos": list(tenant.modules), "username": names.user},
        },
    ]


def _secret(value: Any) -> Mapping[str, str]:
    return {**_SECRET, "plaintext": json.dumps(value)}
