"""A cluster that is short of a node takes no restore: it would skip queues, and say that it took them."""

from __future__ import annotations

from pathlib import Path

import pytest

from kryonix.backup.differences import differences
from kryonix.backup.errors import ShortOfNodes
from kryonix.backup.reading import read_tenant
from kryonix.backup.restoring import TenantRestore
from kryonix.engines.process import LocalEngine
from kryonix.topology.tenants import Tenant
from tests.integration.signup.conftest import WRITER, Registry
from tests.support.cluster import cluster
from tests.support.expanded import expanded
from tests.support.waiting import eventually


def test_a_restore_waits_for_every_node_of_the_cluster(registry: Registry, tmp_path: Path) -> None:
    listed = expanded(Tenant(id="acme", modules=("crm",), plan="basic"), managed_by="dev")
    with cluster() as found:
        restore = TenantRestore(found.broker, registry.dsn(WRITER), LocalEngine(tmp_path))
        restore.run(restore.plan(listed, nodes=3))
        snapshot, facts = read_tenant(found.broker, registry.dsn(WRITER), None, "acme")
        assert facts.broker_nodes == 3
        found.broker.delete_all([("queues", "/cliente_acme", "cliente_acme.crm.leads.create")])

        found.nodes[2].stop()
        eventually("the cluster notices", lambda: found.has(2))
        plan = restore.plan(snapshot, nodes=facts.broker_nodes)
        with pytest.raises(ShortOfNodes, match="rabbit@three do not run"):
            restore.run(plan, fewer_nodes=True)
        assert plan.differences == restore.plan(snapshot).differences, "nothing has been changed"

        found.nodes[2].start()
        eventually("the node is back", lambda: found.has(3))
        restore.run(plan)
        assert differences(snapshot, restore.plan(snapshot).now) == []
        with pytest.raises(ShortOfNodes, match="made on 5 nodes, and this cluster has 3"):
            restore.run(restore.plan(snapshot, nodes=5))
        restore.run(restore.plan(snapshot, nodes=5), fewer_nodes=True)
