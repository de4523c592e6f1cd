from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from kryonix.topology.catalog import default_catalog
from kryonix.topology.naming import Names
from kryonix.worker.keda import keda_yaml

CATALOG = default_catalog()
PLAN = CATALOG.plans["pro"].scaling


def documents(tenant: str, *routes: tuple[str, str], **modules: dict[str, Any]) -> list[dict[str, Any]]:
    changed = {name: CATALOG.modules[name].model_copy(update=update) for name, update in modules.items()}
    catalog = CATALOG.model_copy(update={"modules": {**CATALOG.modules, **changed}})
    return list(yaml.safe_load_all(keda_yaml(Names(tenant), catalog, PLAN, routes, 300, "shop")))


def test_an_action_scales_from_one_to_the_plans_consumers() -> None:
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


# What the custom resource definitions of KEDA 2 (keda.sh/v1alpha1) and the scaler `rabbitmq` know, of what is used
# here; an asterisk where it is required. The API server drops what a definition doesn't know, without a word.
KNOWN: dict[str, dict[str, Any]] = {
    "TriggerAuthentication": {"secretTargetRef": [{"parameter*": "", "name*": "", "key*": ""}]},
    "ScaledObject": {
        "scaleTargetRef*": {"name*": "", "apiVersion": "", "kind": ""},
        "pollingInterval": 0,
        "minReplicaCount": 0,
        "maxReplicaCount": 0,
        "advanced": {
            "horizontalPodAutoscalerConfig": {
                "behavior": {
                    "scaleDown": {
                        "stabilizationWindowSeconds": 0,
                        "policies": [{"type*": "", "value*": 0, "periodSeconds*": 0}],
                    }
                }
            }
        },
        "triggers*": [
            {
                "type*": "",
                "authenticationRef": {"name*": ""},
                "metadata*": {
                    "queueName*": "",
                    "protocol": "",
                    "vhostName": "",
                    "mode": "",
                    "value": "",
                    "useRegex": "",
                    "operation": "",
                    "excludeUnacknowledged": "",
                },
            }
        ],
    },
}


def check(found: Any, known: Any, place: str) -> None:
    assert type(found) is type(known), f"{place} is {type(found).__name__}"
    if isinstance(known, list):
        for each in found:
            check(each, known[0], f"{place}[]")
    elif isinstance(known, dict):
        names = {name.rstrip("*"): of_name for name, of_name in known.items()}
        assert found.keys() <= names.keys(), f"{place} has {found.keys() - names.keys()}"
        assert {name.rstrip("*") for name in known if name.endswith("*")} <= found.keys(), f"{place} lacks something"
        for name, value in found.items():
            check(value, names[name], f"{place}.{name}")


def test_every_field_matches_kedas_schema() -> None:
    routes = [(name, action) for name, module in CATALOG.modules.items() for action in module.actions]
    for each in documents("acme", *routes, crm={"priority_lanes": {"leads.create": ("high", "low")}}):
        assert each.keys() == {"apiVersion", "kind", "metadata", "spec"}
        assert each["metadata"]["namespace"] == "shop"
        check(each["spec"], KNOWN[each["kind"]], each["kind"])


def test_figures_are_within_kubernetes_limits() -> None:
    _, scaled = documents("acme", ("crm", "leads.create"))
    down = scaled["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]["scaleDown"]
    assert 0 <= down["stabilizationWindowSeconds"] <= 3600  # --window takes no more
    assert all(policy["type"] in ("Pods", "Percent") for policy in down["policies"])
    assert all(0 < policy["periodSeconds"] <= 1800 and policy["value"] > 0 for policy in down["policies"])
    assert 0 < scaled["spec"]["minReplicaCount"] <= scaled["spec"]["maxReplicaCount"]


def test_an_actions_lanes_count_together() -> None:
    lanes = {"priority_lanes": {"leads.create": ("high",)}}
    _, scaled = documents("acme", ("crm", "leads.create"), crm=lanes)
    metadata = scaled["spec"]["triggers"][0]["metadata"]
    assert metadata["queueName"] == "^cliente_acme[.]crm[.]leads[.]create([.](high))?$"
    assert (metadata["useRegex"], metadata["operation"]) == ("true", "sum")


def test_names_are_unique_and_valid_in_kubernetes() -> None:
    routes = [(name, action) for name, module in CATALOG.modules.items() for action in module.actions]
    scaled = documents("a" * 40, *routes)[1:]
    names = {each["metadata"]["name"] for each in scaled}
    assert len(names) == len(routes)
    assert all(len(name) <= 54 and name.replace("-", "").isalnum() for name in names)


@pytest.mark.parametrize(("tenant", "action"), [("acme-", "leads.create"), ("acme", "leads_"), ("a-" * 20, "x_")])
def test_a_name_with_a_hyphen_at_its_end_is_made_valid(tenant: str, action: str) -> None:
    module = {"actions": (action,)}
    for each in documents(tenant, ("crm", action), crm=module):
        assert re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,52}[a-z0-9])?", each["metadata"]["name"])


def test_names_that_differ_by_underscores_stay_different() -> None:
    actions = ("do_it.now", "do.it.now", "do.it_now")
    made = documents("acme", *(("crm", action) for action in actions), crm={"actions": actions})
    names = [document["metadata"]["name"] for document in made[1:]]
    assert len(set(names)) == len(actions)
    assert all(re.fullmatch(r"kryonix-acme-crm-do-it-now(-[0-9a-f]{8})?", name) for name in names)
