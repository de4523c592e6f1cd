"""A tenant's snapshot without a platform, and a bundle of it that is not encrypted."""

from __future__ import annotations

import copy
from typing import Any

from kryonix.backup.bundle import Bundle
from kryonix.backup.snapshot import TenantSnapshot
from tests.support.bundles import bundle

__all__ = ["bundle_of", "snapshot", "values"]


def values(tenant: str = "acme") -> dict[str, Any]:
    """The fields of a small tenant's snapshot, to be changed."""
    name = f"cliente_{tenant}"
    user = {"hashing_algorithm": "rabbit_password_hashing_sha256", "password_hash": "c2VjcmV0"}
    queue = {"durable": True, "auto_delete": False, "type": "quorum", "arguments": {"x-queue-type": "quorum"}}
    binding = {"source": name, "destination": f"{name}.crm.q", "destination_type": "queue", "arguments": {}}
    policy = {"pattern": "^a", "apply-to": "queues", "priority": 1, "definition": {"max-length": 5}}
    row = {"cliente_id": tenant, "vhost": f"/{name}"}
    found = {
        "tenant": tenant,
        "vhost": {
            "name": f"/{name}",
            "description": f"Tenant {tenant}, managed by the stack tenant-{tenant}",
            "tags": ["a", "b"],
            "default_queue_type": "quorum",
            "protected": True,
        },
        "definitions": {
            "exchanges": [{"name": name, "type": "topic", "durable": True, "auto_delete": False, "arguments": {}}],
            "queues": [{"name": f"{name}.crm.q", **queue}],
            "bindings": [{**binding, "routing_key": "crm.*"}],
            "policies": [{"name": "modulo-crm", **policy}],
            "parameters": [
                {"component": "operator_policy", "name": "autoscaling", "value": policy},
                {"component": "vhost-limits", "name": "limits", "value": {"max-connections": 10, "max-queues": 50}},
            ],
        },
        "users": [
            {"name": f"kryonix_{tenant}", "tags": [], "limits": {"max-channels": 5}, **user},
            {"name": f"kryonix_{tenant}.stats", "tags": ["management"], "limits": {"max-connections": 0}, **user},
        ],
        "permissions": [
            {"user": "kryonix_admin", "configure": ".*", "write": ".*", "read": ".*"},
            {"user": f"kryonix_{tenant}", "configure": "^$", "write": "^w", "read": "^r"},
        ],
        "topic_permissions": [{"user": f"kryonix_{tenant}", "exchange": name, "write": "^w", "read": "^r"}],
        "rows": {
            "tenants.desired_states": [],
            "tenants.rabbitmq_configurations": [{**row, "plano": "basic", "notify": {"webhook": "https://x/token"}}],
            "tenants.rabbitmq_credentials": [{**row, "username": f"kryonix_{tenant}", "password_hash": "c2VjcmV0"}],
            "tenants.final_exports": [],
        },
        "entry": {"id": tenant, "modules": ["crm"], "plan": "basic", "status": "active"},
        "state": {
            "version": 3,
            "deployment": {
                "resources": [
                    {
                        "urn": f"urn:pulumi:tenant-{tenant}::kryonix::rabbitmq:index/vHost:VHost::vhost",
                        "type": "rabbitmq:index/vHost:VHost",
                        "id": f"/{name}",
                        "inputs": {"name": f"/{name}"},
                        "modified": "2026-11-28T00:00:00Z",
                    }
                ]
            },
        },
    }
    return copy.deepcopy(found)


def snapshot(tenant: str = "acme", **fields: Any) -> TenantSnapshot:
    return TenantSnapshot(**{**values(tenant), **fields})


def bundle_of(found: TenantSnapshot, **manifest: Any) -> Bundle:
    """The bundle with a snapshot's members, as `unpack` returns it."""
    return bundle(found.members(), **{"subject": found.tenant, **manifest})
