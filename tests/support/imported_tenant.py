"""A tenant by an import of definitions, for a broker without a registry and without a stack."""

from __future__ import annotations

import secrets
from urllib.parse import quote

from kryonix.rabbitmq.broker import Broker
from kryonix.topology.tenants import Tenant
from tests.support.expanded import expanded

__all__ = ["import_tenant"]


def import_tenant(broker: Broker, tenant: Tenant, address: str) -> str:
    """Make the tenant, with a new password, and return its AMQP URI at `host:port`."""
    made, password = expanded(tenant), secrets.token_hex(16)
    vhost, user = tenant.names.vhost, tenant.names.user
    broker.call("PUT", "vhosts", vhost, json={"default_queue_type": "quorum"})
    broker.import_definitions(vhost, made.definitions)
    broker.call("PUT", "users", user, json={"password": password, "tags": ""})
    granted = next(each for each in made.permissions if each["user"] == user)
    rights = {name: granted[name] for name in ("configure", "write", "read")}
    broker.call("PUT", "permissions", vhost, user, json=rights)
    return f"amqp://{user}:{password}@{address}/{quote(vhost, safe='')}"
