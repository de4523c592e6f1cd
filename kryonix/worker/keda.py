"""KEDA objects to scale a tenant's workers in Kubernetes by the same plan as `kryonix worker`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, Final

import yaml

from kryonix.topology.catalog import Catalog, Scaling
from kryonix.topology.naming import Names, stats_user

_LONGEST_NAME: Final = 54
"""KEDA adds the prefix `keda-hpa-`, and Kubernetes accepts labels of 63."""
_POLL: Final = 15
"""Seconds."""


def keda_yaml(
    names: Names, catalog: Catalog, plan: Scaling, routes: Iterable[tuple[str, str]], window: int, namespace: str
) -> str:
    """Return a ScaledObject per action and their TriggerAuthentication. It names the Secret, without its content."""
    authentication = _object_name(names.tenant_id)
    metadata = {"name": authentication, "namespace": namespace}
    secret = {"parameter": "host", "name": f"{authentication}-management", "key": "host"}
    objects = [
        {
            "apiVersion": "keda.sh/v1alpha1",
            "kind": "TriggerAuthentication",
            "metadata": metadata,
            "spec": {"secretTargetRef": [secret]},
        },
        *(_scaled_object(names, catalog, plan, route, window, metadata) for route in routes),
    ]
    comment = (
        f"Workers of {names.tenant_id}, one Deployment per action, each pod with one consumer:",
        "  kryonix worker MODULE:HANDLERS --module M --action A --max-consumers 1",
        f"The Secret {authentication}-management in {namespace} has one key, `host`: the management API with the",
        "tenant's user for figures, http(s)://USER:PASSWORD@HOST:PORT/ (trailing slash, no vhost): USER is the AMQP",
        f"URI's with `{stats_user('')}` behind it ({names.stats_user_of(1)} at first), PASSWORD is the same.",
        "KEDA holds the number of pods while it can't read the figures. It has one threshold, for up and down:",
        "the plan's scale_down_threshold is the worker's own.",
    )
    lines = "".join(f"# {line}\n" for line in comment)
    return lines + "---\n".join(yaml.safe_dump(each, sort_keys=False) for each in objects)


def _scaled_object(
    names: Names, catalog: Catalog, plan: Scaling, route: tuple[str, str], window: int, metadata: Mapping[str, str]
) -> dict[str, Any]:
    """Return the object of one action. The action's lanes count together with its own queue."""
    module, action = route
    name = _object_name(names.tenant_id, module, action)
    queue, lanes = names.queue(module, action), catalog.modules[module].priority_lanes.get(action, ())
    down = {
        "stabilizationWindowSeconds": window,
        "policies": [{"type": "Pods", "value": 1, "periodSeconds": _POLL}],
    }
    if lanes:
        pattern = f"^{queue.replace('.', '[.]')}([.]({'|'.join(lanes)}))?$"
        read = {"queueName": pattern, "useRegex": "true", "operation": "sum"}
    else:
        read = {"queueName": queue}
    trigger = {
        "type": "rabbitmq",
        "authenticationRef": {"name": metadata["name"]},
        "metadata": {
            "protocol": "http",
            "vhostName": names.vhost,
            **read,
            "mode": "QueueLength",
            "value": str(plan.scale_up_threshold),
            "excludeUnacknowledged": "false",
        },
    }
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": {**metadata, "name": name},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
            "pollingInterval": _POLL,
            "minReplicaCount": 1,
            "maxReplicaCount": plan.max_consumers_per_queue,
            "advanced": {"horizontalPodAutoscalerConfig": {"behavior": {"scaleDown": down}}},
            "triggers": [trigger],
        },
    }


def _object_name(*parts: str) -> str:
    """Return a valid Kubernetes name. A hash makes one unique that is cut, or has an underscore."""
    name = "-".join(("kryonix", *parts)).replace(".", "-")
    if len(name) <= _LONGEST_NAME and not name.endswith("-") and "_" not in name:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{name[: _LONGEST_NAME - 9].rstrip('-_').replace('_', '-')}-{digest}"
