"""Provision without Pulumi, for comparison: by an import of definitions, and by one call per object."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any
from urllib.parse import quote

import httpx
import pika

from kryonix.certificates.trust import context
from kryonix.topology.expansion import Topology


class Broker:
    """One broker, used by its administrator. Each method returns the seconds it took, and cleans up."""

    def __init__(self, outputs: Mapping[str, Any]) -> None:
        self._url = f"{outputs['management_url']}/api"
        self._auth = (outputs["admin_username"], outputs["admin_password"])
        self._trust = context(outputs.get("ca_certificate"))
        self._amqp = pika.ConnectionParameters(
            host=outputs["amqp_host"], port=int(outputs["amqp_port"]), credentials=pika.PlainCredentials(*self._auth)
        )

    def import_definitions(self, topology: Topology) -> float:
        """The whole vhost as one definitions file: the least that a broker needs for it."""
        began = time.perf_counter()
        self._vhost(topology)
        self._call("POST", f"definitions/{quote(topology.vhost, safe='')}", _definitions(topology))
        return self._took(began, topology)

    def one_call_per_object(self, topology: Topology) -> float:
        """Object by object: settings by HTTP, a new connection each, and declarations on one AMQP channel."""
        began = time.perf_counter()
        self._vhost(topology)
        self._declare(topology)
        vhost = quote(topology.vhost, safe="")
        for policy in topology.policies:
            kind = "policies" if policy.kind == "policy" else "operator-policies"
            body = {"pattern": policy.pattern, "priority": policy.priority, "apply-to": policy.apply_to}
            self._call("PUT", f"{kind}/{vhost}/{policy.name}", {**body, "definition": dict(policy.definition)})
        return self._took(began, topology)

    def _vhost(self, topology: Topology) -> None:
        vhost, patterns = quote(topology.vhost, safe=""), topology.permissions
        self._call("PUT", f"vhosts/{vhost}", {"default_queue_type": "quorum"})
        for limit in ("max-connections", "max-queues"):
            value = getattr(topology.limits, limit.replace("-", "_"))
            self._call("PUT", f"vhost-limits/{vhost}/{limit}", {"value": value})
        self._call("PUT", f"users/{topology.user}", {"password": "benchmark", "tags": "management"})
        body = {"configure": patterns.configure, "write": patterns.write, "read": patterns.read}
        self._call("PUT", f"permissions/{vhost}/{topology.user}", body)

    def _declare(self, topology: Topology) -> None:
        self._amqp.virtual_host = topology.vhost
        connection = pika.BlockingConnection(self._amqp)
        channel = connection.channel()
        for exchange in topology.exchanges:
            arguments = dict(exchange.arguments)
            channel.exchange_declare(exchange.name, exchange.type, durable=True, arguments=arguments)
        for queue in topology.queues:
            channel.queue_declare(queue.name, durable=True, arguments=dict(queue.arguments))
        for binding in topology.bindings:
            channel.queue_bind(binding.destination, binding.source, binding.routing_key)
        connection.close()

    def _took(self, began: float, topology: Topology) -> float:
        took = time.perf_counter() - began
        self._call("DELETE", f"vhosts/{quote(topology.vhost, safe='')}")
        self._call("DELETE", f"users/{topology.user}")
        return took

    def _call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> None:
        url = f"{self._url}/{path}"
        httpx.request(method, url, json=body, auth=self._auth, timeout=60, verify=self._trust).raise_for_status()


def _definitions(topology: Topology) -> dict[str, Any]:
    kept = {"durable": True, "auto_delete": False}
    return {
        "exchanges": [{**asdict(exchange), **kept} for exchange in topology.exchanges],
        "queues": [{"name": queue.name, "arguments": dict(queue.arguments), **kept} for queue in topology.queues],
        "bindings": [{**asdict(b), "destination_type": "queue", "arguments": {}} for b in topology.bindings],
        "policies": [
            {
                "name": policy.name,
                "pattern": policy.pattern,
                "priority": policy.priority,
                "apply-to": policy.apply_to,
                "definition": dict(policy.definition),
            }
            for policy in topology.policies
            if policy.kind == "policy"
        ],
    }
