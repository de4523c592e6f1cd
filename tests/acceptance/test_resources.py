"""Registered resources, read from the exported deployment: types, parents and dependencies."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from itertools import combinations
from typing import Any

import pytest

from tests.support.project import Project

Resource = dict[str, Any]


@pytest.fixture(scope="module")
def resources(platform: Project) -> dict[str, Resource]:
    """By URN, in the order of the deployment."""
    deployment = json.loads(platform.run("export").stdout)["deployment"]
    return {resource["urn"]: resource for resource in deployment["resources"]}


def named(resources: dict[str, Resource], tenant: str) -> set[tuple[str, str]]:
    """Return type and name of a tenant's resources, without its id."""
    inside = re.compile(rf"^{tenant}(?=/|$)|(?<=-){tenant}$")
    of_tenant = ((r["type"], urn.split("::")[-1]) for urn, r in resources.items() if f"::{tenant}" in urn)
    return {(type_, inside.sub("{id}", name)) for type_, name in of_tenant}


def waits_for(resources: dict[str, Resource], urn: str) -> set[str]:
    """Return all direct and indirect dependencies of a resource."""
    before = set(resources[urn].get("dependencies", []))
    return before.union(*(waits_for(resources, each) for each in before))


def assert_one_after_the_other(resources: dict[str, Resource], urns: Iterable[str]) -> None:
    before = {urn: waits_for(resources, urn) for urn in urns}
    for one, other in combinations(before, 2):
        assert one in before[other] or other in before[one], f"{one} and {other} are made at once"


def test_every_component_is_one_of_the_projects_nouns(resources: dict[str, Resource]) -> None:
    components = {r["type"] for r in resources.values() if not r["custom"] and r["type"] != "pulumi:pulumi:Stack"}
    assert "kryonix:messaging:TenantMessaging" in components
    for token in components:
        assert re.fullmatch(r"kryonix:messaging:[A-Z][A-Za-z]+", token), token


def test_every_resource_has_its_components_as_parent(resources: dict[str, Resource]) -> None:
    """Only components, the providers, and what holds the whole broker stand at the top."""
    stack = next(urn for urn, r in resources.items() if r["type"] == "pulumi:pulumi:Stack")
    top = {r["type"] for r in resources.values() if r.get("parent") == stack and r["custom"]}
    assert top <= {"pulumi:providers:rabbitmq", "pulumi-python:dynamic/kryonix:BrokerSafeguards"}
    orphans = {r["type"] for r in resources.values() if not r.get("parent") and r["type"] != "pulumi:pulumi:Stack"}
    assert all(token.startswith("pulumi:providers:") for token in orphans), orphans


def test_tenants_with_equal_modules_have_equal_resources(
    resources: dict[str, Resource],
) -> None:
    acme, beta = named(resources, "acme"), named(resources, "beta")
    assert beta < acme
    assert {name for _, name in acme - beta if "crm." in name or "financeiro." in name} <= {
        name for _, name in acme if "automation/" in name or "mobile_priority/" in name
    }


def test_grants_on_one_schema_are_created_in_sequence(resources: dict[str, Resource]) -> None:
    """PostgreSQL refuses the second of two grants at once on one schema: "tuple concurrently updated"."""
    types = ("schema:Schema", "grant:Grant", "defaultPrivileges:DefaultPrivileges")
    rights = [urn for urn, r in resources.items() if r["type"].endswith(types)]
    assert len(rights) > 7
    assert_one_after_the_other(resources, rights)


@pytest.mark.parametrize("tenant", ["acme", "beta"])
def test_policies_are_created_in_sequence_before_the_first_queue(resources: dict[str, Resource], tenant: str) -> None:
    """A broker that takes two at once, or a queue meanwhile, can leave a queue without its limits."""
    mine = {urn: r["type"] for urn, r in resources.items() if f"::{tenant}/" in urn}
    policies = {
        urn for urn, type_ in mine.items() if type_.endswith(("policy:Policy", "operatorPolicy:OperatorPolicy"))
    }
    assert len(policies) >= 4
    assert_one_after_the_other(resources, policies)
    for queue in (urn for urn, type_ in mine.items() if type_.endswith("queue:Queue")):
        assert policies < waits_for(resources, queue)
