"""Deployments in Pulumi's format, version 3, with secrets in plain text: `pulumi stack export --show-secrets`.

Move a tenant's resources from a platform's deployment to one of their own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from kryonix.engines import nested
from kryonix.engines.errors import Refused
from kryonix.topology.addresses import PLATFORM_ADDRESSES

Deployment = dict[str, Any]
"""`version`, and `deployment` with its resources."""

Change = Callable[[Deployment], Deployment]

TENANT_TYPE: Final = "kryonix:messaging:TenantMessaging"
STACK_TYPE: Final = "pulumi:pulumi:Stack"
CONTAINER_TYPE: Final = "docker:index/container:Container"
SIGNATURE: Final = "4dabf18193072939515e22adb298388d"
_ADDRESSES: Final = (*PLATFORM_ADDRESSES, "amqp_host", "amqp_port")


def entries(document: Mapping[str, Any], kind: str = "resources") -> list[Mapping[str, Any]]:
    """Return the resources of a deployment, or its `pending_operations`; none for one without content."""
    return (document.get("deployment") or {}).get(kind) or []


def all_entries(document: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the resources of a deployment, with those of its pending operations."""
    return [*entries(document), *(operation["resource"] for operation in entries(document, "pending_operations"))]


def outputs_in(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the stack's outputs; empty for a deployment without any."""
    return _values(document, STACK_TYPE, "outputs")


def inputs_of(document: Mapping[str, Any], type_: str) -> dict[str, Any]:
    """Return the inputs of the first resource of a type; empty if there is none."""
    return _values(document, type_, "inputs")


def _values(document: Mapping[str, Any], type_: str, what: str) -> dict[str, Any]:
    def opened(part: Any) -> Any:
        return json.loads(part["plaintext"]) if isinstance(part, dict) and SIGNATURE in part else part

    found = next((data for data in entries(document) if data["type"] == type_), {})
    return dict(nested.changed(found.get(what) or {}, opened))


def tenant_resources(document: Mapping[str, Any], tenant: str) -> list[str]:
    """Return the URNs of a tenant's resources, its component first. Raises Refused after an interrupted run of them."""
    found: dict[str, None] = {}
    for data in entries(document):  # parents come first
        urn = data["urn"]
        if (data["type"] == TENANT_TYPE and urn.endswith(f"::{tenant}")) or data.get("parent") in found:
            if data.get("delete") or data.get("pendingReplacement"):
                raise _interrupted(tenant)
            found[urn] = None
    pending = [operation["resource"] for operation in entries(document, "pending_operations")]
    if any(resource["urn"] in found or resource.get("parent") in found for resource in pending):
        raise _interrupted(tenant)
    return list(found)


def resources_of(document: Mapping[str, Any]) -> set[str]:
    """Return the URNs of a deployment, without the stack, providers and references, which every run makes."""
    return {data["urn"] for data in entries(document) if not data["type"].startswith("pulumi:")}


def tenant_deployment(document: Deployment, tenant: str, stack: str) -> Deployment:
    """Return a tenant's part of a platform's deployment, as the deployment of a stack of its own.

    Its resources are protected, so a `destroy` before the first `up` deletes nothing; that `up` lifts the protection.
    """
    resources = document["deployment"]["resources"]
    moved = set(tenant_resources(document, tenant))
    used = {data.get("provider", "").rpartition("::")[0] for data in resources if data["urn"] in moved}
    kept = [data for data in resources if data["urn"] in moved | used or data["type"] == STACK_TYPE]
    renamed = dict.fromkeys((urn for data in resources for urn in needs(data)), "")
    renamed |= {data["urn"]: _renamed(data, stack) for data in kept}
    entries = [with_references(data, renamed) | {"urn": renamed[data["urn"]]} for data in kept]
    for entry in entries:
        entry.pop("aliases", None)
        if not entry["type"].startswith("pulumi:"):
            entry["protect"] = True
        if entry["type"] == STACK_TYPE:
            outputs = entry.get("outputs") or {}
            own = {key: outputs[key] for key in _ADDRESSES if key in outputs}
            entry["outputs"] = own | {"tenants": {tenant: _opened(outputs["tenants"])[tenant]}}
    return emptied(document, entries)


def without_tenant(document: Deployment, tenant: str) -> Deployment:
    """Return a platform's deployment without a tenant, its outputs included."""
    moved = dict.fromkeys(tenant_resources(document, tenant), "")
    entries = [with_references(data, moved) for data in document["deployment"]["resources"] if data["urn"] not in moved]
    for entry in entries:
        if entry["type"] == STACK_TYPE and "tenants" in (outputs := entry.get("outputs") or {}):
            left = {id: made for id, made in _opened(outputs["tenants"]).items() if id != tenant}
            entry["outputs"] = outputs | {"tenants": _closed(left, like=outputs["tenants"])}
    return {**document, "deployment": {**document["deployment"], "resources": entries}}


def emptied(document: Deployment, resources: Iterable[Mapping[str, Any]] = ()) -> Deployment:
    """Return the deployment with other resources, by default none, and without pending operations."""
    deployment = {**document["deployment"], "resources": list(resources)}
    deployment.pop("pending_operations", None)
    return {**document, "deployment": deployment}


def needs(data: Mapping[str, Any]) -> Iterable[str]:
    """Return the URNs that an entry refers to."""
    if data.get("parent"):
        yield data["parent"]
    if data.get("provider"):
        yield data["provider"].rsplit("::", 1)[0]
    yield from data.get("dependencies") or ()
    for deps in (data.get("propertyDependencies") or {}).values():
        yield from deps or ()
    if data.get("deletedWith"):
        yield data["deletedWith"]


def with_references(data: Mapping[str, Any], renamed: Mapping[str, str]) -> dict[str, Any]:
    """Return the entry with other URNs in its references; an empty one removes the reference."""

    def new(urns: Iterable[str] | None) -> list[str]:
        return [urn for urn in (renamed.get(urn, urn) for urn in urns or ()) if urn]

    provider, _, id = data.get("provider", "").rpartition("::")
    changed = {
        "parent": renamed.get(data.get("parent", ""), data.get("parent")),
        "deletedWith": renamed.get(data.get("deletedWith", ""), data.get("deletedWith")),
        "provider": f"{renamed[provider]}::{id}" if renamed.get(provider) else data.get("provider"),
        "dependencies": new(data.get("dependencies")),
        "propertyDependencies": {key: new(deps) for key, deps in (data.get("propertyDependencies") or {}).items()},
    }
    return {key: value for key, value in {**data, **changed}.items() if value or key == "custom"}


def _renamed(data: Mapping[str, Any], stack: str) -> str:
    _, project, types, name = data["urn"].split("::", 3)
    return f"urn:pulumi:{stack}::{project}::{types}::{f'{project}-{stack}' if types == STACK_TYPE else name}"


def _opened(value: Any) -> Any:
    """Return an output; one that is secret as a whole without its mark."""
    return json.loads(value["plaintext"]) if SIGNATURE in value else value


def _closed(value: Any, *, like: Any) -> Any:
    return {**like, "plaintext": json.dumps(value)} if SIGNATURE in like else value


def _interrupted(tenant: str) -> Refused:
    return Refused(
        f"the last run of the platform's stack left the tenant {tenant!r} unfinished. Run `kryonix up` on that stack, "
        "then try again"
    )
