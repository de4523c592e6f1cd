"""The broker's management API as its administrator: read objects, publish and take messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx
import pika
import psycopg

from kryonix.certificates.trust import context
from kryonix.topology.naming import stats_user
from tests.support.management import ManagementApi

__all__ = ["LiveBroker"]

Triple = tuple[str, str, str]


class LiveBroker(ManagementApi):
    """One broker. Names are the plan's; a vhost is that of `plan --json`."""

    def __init__(self, outputs: Mapping[str, Any]) -> None:
        self.outputs = outputs
        login = outputs["admin_username"], outputs["admin_password"]
        super().__init__(outputs["management_url"], *login, str(outputs.get("ca_certificate") or ""))

    def publish(self, vhost: str, queue: str, count: int = 1, body: bytes = b"x", **properties: Any) -> None:
        """Put messages into a queue; each is confirmed when this returns."""
        ca = self.outputs.get("ca_certificate")
        parameters = pika.ConnectionParameters(
            self.outputs["amqp_host"],
            self.outputs["amqp_port"],
            vhost,
            pika.PlainCredentials(self.outputs["admin_username"], self.outputs["admin_password"]),
            ssl_options=pika.SSLOptions(context(str(ca)), self.outputs["amqp_host"]) if ca else None,
        )
        with pika.BlockingConnection(parameters) as connection:
            channel = connection.channel()
            channel.confirm_delivery()
            for _ in range(count):
                channel.basic_publish(
                    "", queue, body, pika.BasicProperties(delivery_mode=2, **properties), mandatory=True
                )

    def take(self, vhost: str, queue: str, count: int) -> int:
        """Take messages out of a queue for good; how many there were, `count` at most."""
        how = {"count": count, "ackmode": "ack_requeue_false", "encoding": "auto"}
        return len(self.call("POST", "queues", vhost, queue, "get", json=how).raise_for_status().json())

    def forget(self, id: str) -> None:
        """Take away all of a tenant that was made by its stack: vhost, user, and its rows in the registry."""
        vhost = f"/cliente_{id}"
        if self.has("vhosts", vhost):
            self.call("DELETE", "vhosts", vhost, "deletion", "protection")
            self.delete("vhosts", vhost)
        self.call("DELETE", "users", f"kryonix_{id}")
        with psycopg.connect(str(self.outputs["registry_dsn"])) as connection:
            for table in ("rabbitmq_credentials", "rabbitmq_configurations"):
                connection.execute(f"DELETE FROM tenants.{table} WHERE cliente_id = %s", [id])

    def vhosts(self) -> set[str]:
        return {vhost["name"] for vhost in self.get("vhosts")}

    def topology(self, vhost: str) -> dict[str, Any]:
        """Return a vhost's objects in the format of `plan --json`."""
        exchanges = self.get("exchanges", vhost)
        policies = [("policy", policy) for policy in self.get("policies", vhost)]
        policies += [("operator", policy) for policy in self.get("operator-policies", vhost)]
        return {
            "exchanges": {(e["name"], e["type"]) for e in exchanges if e["name"] and not e["name"].startswith("amq.")},
            "queues": {queue["name"] for queue in self.get("queues", vhost, disable_stats="true")},
            "bindings": {
                (b["source"], b["destination"], b["routing_key"]) for b in self.get("bindings", vhost) if b["source"]
            },
            "policies": {policy["name"]: (kind, policy["definition"]) for kind, policy in policies},
        }

    def permissions(self, vhost: str) -> dict[str, tuple[str, str, str]]:
        found = self.get("vhosts", vhost, "permissions")
        return {entry["user"]: (entry["configure"], entry["write"], entry["read"]) for entry in found}

    def user_limits(self, user: str) -> dict[str, int]:
        answer = self.call("GET", "user-limits", user)
        found = [] if answer.status_code == httpx.codes.NOT_FOUND else answer.raise_for_status().json()
        return {name: value for entry in found for name, value in entry["value"].items()}

    def vhost_limits(self, vhost: str) -> dict[str, int]:
        return {name: value for entry in self.get("vhost-limits", vhost) for name, value in entry["value"].items()}

    def assert_is(self, planned: Mapping[str, Any]) -> None:
        """Assert that a tenant equals the plan: nothing missing, nothing left over."""
        assert self.topology(planned["vhost"]) == {
            "exchanges": {(e["name"], e["type"]) for e in planned["exchanges"]},
            "queues": {queue["name"] for queue in planned["queues"]},
            "bindings": {(b["source"], b["destination"], b["routing_key"]) for b in planned["bindings"]},
            "policies": {p["name"]: (p["kind"], p["definition"]) for p in planned["policies"]},
        }
        patterns = planned["permissions"]
        assert self.permissions(planned["vhost"]) == {
            self.outputs["admin_username"]: (".*", ".*", ".*"),
            planned["user"]: (patterns["configure"], patterns["write"], patterns["read"]),
            stats_user(planned["user"]): ("^$", "^$", "^$"),
        }
        limits = planned["limits"]
        connections = 0 if planned["status"] == "suspended" else limits["max_connections"]
        assert self.vhost_limits(planned["vhost"]) == {
            "max-connections": connections,
            "max-queues": limits["max_queues"],
        }
        assert self.user_limits(planned["user"]) == {
            "max-connections": limits["max_connections"],
            "max-channels": limits["max_channels"],
        }
        assert self.user_limits(stats_user(planned["user"])) == {"max-connections": 0}
        tags = [] if planned["status"] == "suspended" else ["management"]
        assert [self.get("users", user)["tags"] for user in both_users(planned)] == [[], tags]
        assert self.get("vhosts", planned["vhost"])["protected_from_deletion"] is True

    def assert_is_gone(self, planned: Mapping[str, Any]) -> None:
        """That nothing of a tenant is left."""
        assert not self.has("vhosts", planned["vhost"])
        for user in both_users(planned):
            assert not self.has("users", user)
            assert self.user_limits(user) == {}


def both_users(planned: Mapping[str, Any]) -> tuple[str, str]:
    """A tenant's user for messages, and the one for figures."""
    return planned["user"], stats_user(planned["user"])
