"""Every series of a tenant carries its own `cliente_id`, and series of queues `modulo` and `acao`."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kryonix.topology.catalog import default_catalog
from kryonix.topology.naming import PRIORITIES, TENANT_ID, Names
from tests.support.relabelling import JOBS, Series, kept

TENANTS = "kryonix-tenants"
MESSAGES = "rabbitmq_detailed_queue_messages"

tenant_ids = st.from_regex(TENANT_ID, fullmatch=True)
modules = st.from_regex(r"[a-z][a-z0-9_]{0,11}", fullmatch=True)
words = st.from_regex(r"[a-z][a-z0-9_]{0,11}", fullmatch=True)
actions = (
    st.lists(words, min_size=1, max_size=4)
    .map(".".join)
    .filter(lambda action: action.rpartition(".")[2] not in (*PRIORITIES, "dlq", "retry", "dlx"))
)


def stored(vhost: str, queue: str, name: str = MESSAGES, job: str = TENANTS) -> Series:
    found = kept(job, {"__name__": name, "vhost": vhost, "queue": queue})
    assert found is not None
    return found


def queues(names: Names, module: str, action: str) -> list[str]:
    lanes = [names.queue(module, action), *(names.lane(module, action, priority) for priority in PRIORITIES)]
    return [
        *lanes,
        names.dead_letter_queue(module, action),
        *(names.retry_queue(lane, attempt) for lane in lanes for attempt in (1, 12)),
    ]


@given(tenant_ids, modules, actions)
def test_every_queue_of_an_action_has_its_labels(tenant: str, module: str, action: str) -> None:
    names = Names(tenant)
    for queue in queues(names, module, action):
        labels = stored(names.vhost, queue)
        assert (labels["cliente_id"], labels["modulo"], labels["acao"]) == (tenant, module, action)


@pytest.mark.parametrize("module", default_catalog().modules)
def test_the_catalogs_queues_have_their_labels(module: str) -> None:
    for action in default_catalog().modules[module].actions:
        for queue in queues(Names("acme"), module, action):
            labels = stored("/cliente_acme", queue)
            assert (labels["modulo"], labels["acao"]) == (module, action)


@given(tenant_ids, tenant_ids, modules, actions)
def test_a_queues_name_never_gives_another_tenants_label(tenant: str, other: str, module: str, action: str) -> None:
    for queue in (*queues(Names(other), module, action), Names(other).unrouted, f"cliente_{other}", "anything"):
        assert stored(Names(tenant).vhost, queue)["cliente_id"] == tenant


@pytest.mark.parametrize("longer", ["acme-2", "acme2", "acme-2-x", "acmeacme"])
def test_a_tenant_whose_id_begins_another_is_a_tenant_of_its_own(longer: str) -> None:
    for tenant in ("acme", longer):
        names = Names(tenant)
        assert stored(names.vhost, names.queue("crm", "leads.create"))["cliente_id"] == tenant


@pytest.mark.parametrize(
    "vhost", ["/", "/kryonix-master", "/cliente_", "/cliente_a", "/cliente_Acme", "/cliente_acme/x", "cliente_acme"]
)
def test_a_vhost_of_no_tenant_has_no_label(vhost: str) -> None:
    assert "cliente_id" not in stored(vhost, "cliente_acme.crm.leads.create")


def test_the_unrouted_queue_has_no_module() -> None:
    assert stored("/cliente_acme", "cliente_acme.unrouted").keys() == {"__name__", "vhost", "queue", "cliente_id"}


@given(tenant_ids, modules, actions)
def test_a_queues_bytes_have_the_same_labels(tenant: str, module: str, action: str) -> None:
    names = Names(tenant)
    name = "rabbitmq_detailed_queue_messages_bytes"
    labels = stored(names.vhost, names.queue(module, action), name, "kryonix-tenant-bytes")
    assert labels == stored(names.vhost, names.queue(module, action), name)


def test_of_the_bytes_scrape_nothing_else_is_kept() -> None:
    series = {"__name__": "rabbitmq_detailed_queue_messages_ram_bytes", "vhost": "/cliente_acme", "queue": "q"}
    assert kept("kryonix-tenant-bytes", series) is None


def test_a_workers_labels_are_those_of_the_queues() -> None:
    labels = {"tenant": "acme", "module": "crm", "action": "leads.create", "outcome": "done"}
    found = kept("kryonix-worker", {"__name__": "kryonix_worker_messages_total", **labels})
    own = {"cliente_id": "acme", "modulo": "crm", "acao": "leads.create", "outcome": "done"}
    assert found == {"__name__": "kryonix_worker_messages_total", **own}


def test_only_queues_that_do_not_run_keep_their_membership() -> None:
    series = {
        "__name__": "rabbitmq_detailed_queue_info",
        "vhost": "/cliente_acme",
        "queue": "cliente_acme.crm.leads.create",
    }
    assert [
        kept(TENANTS, {**series, "membership": state}) is not None for state in ("leader", "follower", "undefined")
    ] == [
        False,
        False,
        True,
    ]


def test_no_job_reads_the_raft_metrics_of_each_queue() -> None:
    families = {family for job in JOBS.values() for family in job.get("params", {}).get("family", ())}
    assert "queue_coarse_metrics" in families
    assert "ra_metrics" not in families
