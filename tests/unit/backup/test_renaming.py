"""A snapshot under another id is the snapshot that the other tenant would have."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kryonix.backup.renaming import rename_state, renamed
from kryonix.engines.deployments import SIGNATURE
from kryonix.topology.catalog import default_catalog
from kryonix.topology.naming import TENANT_ID
from kryonix.topology.tenants import Tenant
from tests.support.expanded import expanded
from tests.support.snapshots import snapshot, values

CATALOG = default_catalog()
TAKEN = (
    *CATALOG.modules,
    "broker",
    "tenant",
    "organization",
    "cliente",
    "kryonix",
    "acme",
    "acme-2",
    "crm-crm",
    "crm2",
)
"""Ids that are also something else in a snapshot, or that another one begins with."""

ids = st.one_of(st.sampled_from(TAKEN), st.from_regex(TENANT_ID, fullmatch=True)).filter(lambda id: id != "admin")
modules = st.lists(st.sampled_from(sorted(CATALOG.modules)), min_size=1, max_size=3, unique=True)
catalogs = st.sampled_from(["native", "queues"]).map(
    lambda strategy: CATALOG.model_copy(update={"retry": CATALOG.retry.model_copy(update={"strategy": strategy})})
)


def tenant(id: str, *modules: str) -> Tenant:
    return Tenant(id=id, modules=modules or ("crm",), plan="enterprise")


@settings(max_examples=60)
@given(ids, ids, modules, catalogs, st.sampled_from([(1,), (2, 1), (12, 11)]))
def test_a_renamed_tenant_is_the_other_tenant(
    old: str, new: str, modules: list[str], catalog: Any, generations: tuple[int, ...]
) -> None:
    was = expanded(tenant(old, *modules), catalog, generations=generations)
    assert renamed(was, new) == expanded(tenant(new, *modules), catalog, generations=generations)


@settings(max_examples=30)
@given(ids, ids, modules)
def test_renaming_a_state_again_changes_nothing(old: str, new: str, modules: list[str]) -> None:
    state = dict(expanded(tenant(old, *modules)).state or {})
    once = rename_state(old, new)(state)
    assert rename_state(old, new)(once) == once


def test_encrypted_secrets_and_other_values_stay() -> None:
    was = expanded(tenant("acme"))
    sealed = {SIGNATURE: "1b47061264138c4ac30d75fd1eb44270", "ciphertext": "v1:cliente_acme"}
    stack: dict[str, Any] = {"urn": "urn:pulumi:tenant-acme::kryonix::pulumi:pulumi:Stack::kryonix-tenant-acme"}
    stack |= {"type": "pulumi:pulumi:Stack", "outputs": {"tenants": sealed, "amqp_host": "acme"}}
    pending = [{"type": "creating", "resource": stack}]
    document = {"version": 3, "deployment": {"resources": [stack], "pending_operations": pending}}
    state = renamed(replace(was, state=document), "beta").state
    assert state is not None
    resources = state["deployment"]["resources"]
    assert resources == [each["resource"] for each in state["deployment"]["pending_operations"]]
    assert resources[0]["outputs"] == {"tenants": sealed, "amqp_host": "acme"}
    assert resources[0]["urn"] == "urn:pulumi:tenant-beta::kryonix::pulumi:pulumi:Stack::kryonix-tenant-beta"


@pytest.mark.parametrize("other", ["acme2", "acme-2", "my-acme"])
def test_the_names_of_a_tenant_with_a_longer_id_are_left_alone(other: str) -> None:
    names = {"queue": f"cliente_{other}.crm", "user": f"kryonix_{other}.2", "stack": f"tenant-{other}", "id": other}
    was = replace(expanded(tenant("acme")), entry=names)
    assert json.dumps(renamed(was, "beta").entry) == json.dumps(names)


def test_a_copy_gets_no_model_of_the_others_messages() -> None:
    row = {"cliente_id": "acme", "version": "0123456789ab"}
    rows = {**values()["rows"], "tenants.routing_models": [row], "tenants.routing_modes": [row]}
    found = renamed(snapshot(rows=rows), "other")
    assert found.rows["tenants.routing_models"] == found.rows["tenants.routing_modes"] == []
    assert len(found.rows["tenants.rabbitmq_configurations"]) == 1
