from __future__ import annotations

import pytest

from kryonix.topology.catalog import default_catalog
from kryonix.topology.expansion import expand
from kryonix.topology.objects import QueueState, VhostState
from kryonix.topology.ownership import description, doomed, owned_tenants, too_wide
from kryonix.topology.tenants import Tenant

ACME = expand(Tenant(id="acme", modules=("crm",), plan="pro"), default_catalog())


def live(*names: str, vhost: str = "/cliente_acme") -> list[QueueState]:
    arguments = {queue.name: queue.arguments for queue in ACME.queues}
    return [QueueState(vhost, name, arguments.get(name, {"x-queue-type": "quorum"}), 0) for name in names]


def test_a_stack_owns_the_vhosts_marked_with_it() -> None:
    vhosts = [
        VhostState("/cliente_acme", description("acme", "dev")),
        VhostState("/cliente_other", description("other", "tenant-other")),
        VhostState("/monitoring", "Central metrics"),
        VhostState("/cliente_fake", description("acme", "dev")),
    ]
    assert owned_tenants(vhosts, "dev") == {"acme"}


def test_queues_of_the_expansion_are_kept() -> None:
    assert doomed(live(*(queue.name for queue in ACME.queues)), [ACME], {"acme"}) == []


def test_queues_of_a_removed_module_are_doomed() -> None:
    queues = live("cliente_acme.portal.conteudo.processar", "cliente_acme.crm.leads.create")
    assert [q.name for q in doomed(queues, [ACME], {"acme"})] == ["cliente_acme.portal.conteudo.processar"]


def test_replaced_queues_are_doomed() -> None:
    queue = QueueState("/cliente_acme", "cliente_acme.crm.leads.create", {"x-queue-type": "classic"}, 0)
    assert doomed([queue], [ACME], set()) == [queue]


def test_all_queues_of_a_removed_tenant_are_doomed() -> None:
    queues = live("cliente_gone.crm.leads.create", vhost="/cliente_gone")
    assert doomed(queues, [ACME], {"acme", "gone"}) == queues


def test_tenants_of_other_stacks_and_foreign_queues_are_kept() -> None:
    queues = [*live("cliente_other.crm.x", vhost="/cliente_other"), *live("somebodys-own", vhost="/cliente_acme")]
    assert doomed(queues, [ACME], {"acme"}) == []


@pytest.mark.parametrize("entry", ["*", "cliente_*", "cliente_acme*", "cliente_*.crm.leads.create", "acme.*", "**"])
def test_an_entry_for_several_tenants_is_too_wide(entry: str) -> None:
    assert too_wide(["cliente_acme.crm.leads.create", entry]) == [entry]


@pytest.mark.parametrize("entry", ["cliente_acme.*", "cliente_acme.*.dlq", "cliente_acme.crm.*", "any.queue"])
def test_an_entry_of_one_tenant_is_not_too_wide(entry: str) -> None:
    assert too_wide([entry]) == []
