from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kryonix.topology.naming import TENANT_ID, Names, priority_name, stats_user, tenant_of_vhost

ids = st.from_regex(TENANT_ID, fullmatch=True)


def test_a_tenants_objects_have_the_names_of_the_design() -> None:
    names = Names("siqueiracampos")
    assert names.vhost == "/cliente_siqueiracampos"
    assert names.user == "kryonix_siqueiracampos"
    assert names.stats_user_of(1) == stats_user(names.user) == "kryonix_siqueiracampos.stats"
    assert names.stats_user_of(2) == stats_user(names.user_of(2)) == "kryonix_siqueiracampos.2.stats"
    assert names.exchange == "cliente_siqueiracampos"
    assert names.mobile_exchange == "cliente_siqueiracampos.mobile_priority"
    assert names.critical_exchange == "cliente_siqueiracampos.business_critical"
    assert names.automation_exchange == "cliente_siqueiracampos.automation"
    assert names.unrouted == "cliente_siqueiracampos.unrouted"
    assert names.dead_letter_exchange("crm") == "cliente_siqueiracampos.crm.dlx"
    assert names.queue("crm", "leads.create") == "cliente_siqueiracampos.crm.leads.create"
    assert names.lane("crm", "leads.create", "high") == "cliente_siqueiracampos.crm.leads.create.high"
    assert names.dead_letter_queue("crm", "leads.create") == "cliente_siqueiracampos.crm.leads.create.dlq"
    assert names.retry_queue(names.queue("crm", "x"), 2) == "cliente_siqueiracampos.crm.x.retry.2"
    assert names.routing_key("crm", "leads.create", "high") == "crm.leads.create.high"
    assert names.mobile_key("crm", "leads.create") == "mobile.crm.leads.create"
    assert names.critical_key("crm", "leads.create") == "critical.crm.leads.create"
    assert names.dead_letter_key("crm", "leads.create") == "crm.leads.create.dlq"
    assert (names.module_policy("crm"), names.scaling_policy) == ("modulo-crm", "autoscaling-siqueiracampos")


@pytest.mark.parametrize(
    ("priority", "name"),
    [(0, "low"), (4, "low"), (5, "medium"), (7, "medium"), (8, "high"), (10, "high")],
)
def test_a_numeric_priority_has_the_name_of_its_range(priority: int, name: str) -> None:
    assert priority_name(priority) == name


@given(ids)
def test_a_vhost_tells_its_tenant(tenant: str) -> None:
    assert tenant_of_vhost(Names(tenant).vhost) == tenant


@pytest.mark.parametrize("vhost", ["/", "/monitoring", "/kryonix-master", "cliente_abc", "/cliente_", "/cliente_abc/x"])
def test_a_foreign_vhost_has_no_tenant(vhost: str) -> None:
    assert tenant_of_vhost(vhost) is None


@given(ids, ids)
def test_a_tenants_permissions_never_reach_another_tenants_names(one: str, other: str) -> None:
    pattern, names = re.compile(Names(one).own_objects), Names(other)
    reached = [n for n in (names.exchange, names.unrouted, names.queue("crm", "leads.create")) if pattern.match(n)]
    assert bool(reached) == (one == other)
