from __future__ import annotations

from typing import Any

import yaml

from kryonix.operations.keda import keda_yaml
from kryonix.topology.catalog import default_catalog
from kryonix.topology.naming import Names

CATALOG = default_catalog()
PLAN = CATALOG.plans["pro"].scaling


def documents(tenant: str, *routes: tuple[str, str], **modules: dict[str, Any]) -> list[dict[str, Any]]:
    changed = {name: CATALOG.modules[name].model_copy(update=update) for name, update in modules.items()}
    catalog = CATALOG.model_copy(update={"modules": {**CATALOG.modules, **changed}})
    return list(yaml.safe_load_all(keda_yaml(Names(tenant), catalog, PLAN, routes, 300, "shop")))


def test_an_action_is_scaled_by_its_queue_between_one_and_what_the_plan_allows() -> None:
    authentication, scaled = documents("acme", ("crm", "leads.create"))
    assert (authentication["kind"], authentication["apiVersion"]) == ("TriggerAuthentication", "keda.sh/v1alpha1")
    assert authentication["spec"] == {
        "secretTargetRef": [{"parameter": "host", "name": "kryonix-acme-management", "key": "host"}]
    }
    spec = scaled["spec"]
    assert (scaled["kind"], scaled["apiVersion"]) == ("ScaledObject", "keda.sh/v1alpha1")
    assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (1, 5)
    assert spec["scaleTargetRef"]["name"] == scaled["metadata"]["name"] == "kryonix-acme-crm-leads-create"
    behavior = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    assert behavior["scaleDown"]["stabilizationWindowSeconds"] == 300
    (trigger,) = spec["triggers"]
    assert trigger == {
        "type": "rabbitmq",
        "authenticationRef": {"name": "kryonix-acme"},
        "metadata": {
            "protocol": "http",
            "vhostName": "/cliente_acme",
            "queueName": "cliente_acme.crm.leads.create",
            "mode": "QueueLength",
            "value": "500",
            "excludeUnacknowledged": "false",
        },
    }


def test_the_lanes_of_an_action_count_together() -> None:
    lanes = {"priority_lanes": {"leads.create": ("high",)}}
    _, scaled = documents("acme", ("crm", "leads.create"), crm=lanes)
    metadata = scaled["spec"]["triggers"][0]["metadata"]
    assert metadata["queueName"] == "^cliente_acme[.]crm[.]leads[.]create([.](high))?$"
    assert (metadata["useRegex"], metadata["operation"]) == ("true", "sum")


def test_every_name_is_one_that_kubernetes_takes_and_no_two_are_the_same() -> None:
    routes = [(name, action) for name, module in CATALOG.modules.items() for action in module.actions]
    scaled = documents("a" * 40, *routes)[1:]
    names = {each["metadata"]["name"] for each in scaled}
    assert len(names) == len(routes)
    assert all(len(name) <= 54 and name.replace("-", "").isalnum() for name in names)
