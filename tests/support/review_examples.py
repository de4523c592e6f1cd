"""Tenants, catalogs and differences for tests of reviews."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from kryonix.review.differences import TenantDifference, differences
from kryonix.review.guardrails import Finding
from kryonix.review.rules import find
from kryonix.topology.catalog import Catalog, default_catalog
from kryonix.topology.expansion import Topology, expand
from kryonix.topology.objects import Policy
from kryonix.topology.tenants import Tenant

CATALOG = default_catalog()


def topology(*modules: str, id: str = "acme", plan: str = "pro", catalog: Catalog = CATALOG, **more: str) -> Topology:
    return expand(Tenant(id=id, modules=modules or ("crm",), plan=plan, **more), catalog)  # type: ignore[arg-type]  # literals, as text


def difference(before: Topology | None, after: Topology | None) -> TenantDifference:
    """The one difference between two expansions."""
    (found,) = differences([before] if before else [], [after] if after else [])
    return found


def findings(before: Topology | None, after: Topology | None) -> list[Finding]:
    found = differences([before] if before else [], [after] if after else [])
    return [finding for each in found for finding in find(each)]


def told(before: Topology | None, after: Topology | None) -> set[tuple[str, str]]:
    """Return the guardrails' findings as labels and objects."""
    return {(finding.guardrail.label, finding.object) for finding in findings(before, after)}


def with_plan(name: str, **limits: int) -> Catalog:
    """The catalog with other limits for a plan."""
    plan = CATALOG.plans[name]
    changed = plan.model_copy(update={"limits": plan.limits.model_copy(update=limits)})
    return CATALOG.model_copy(update={"plans": {**CATALOG.plans, name: changed}})


def with_policies(topology: Topology, change: Callable[[Policy], Policy | None]) -> Topology:
    """An expansion whose policies are changed, or left out where the change gives None."""
    changed = (change(policy) for policy in topology.policies)
    return replace(topology, policies=tuple(policy for policy in changed if policy is not None))


def redefined(policy: Policy, **keys: Any) -> Policy:
    """A policy with other values; None takes a key away."""
    definition = {**policy.definition, **{key.replace("_", "-"): value for key, value in keys.items()}}
    return replace(policy, definition={key: value for key, value in definition.items() if value is not None})
