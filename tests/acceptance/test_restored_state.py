"""A tenant that is lost with its state comes back by either engine, and the next preview shows no change."""

from __future__ import annotations

import shutil

import pytest

from kryonix.backup.differences import differences
from kryonix.backup.reading import read_live, read_tenant
from kryonix.backup.restoring import TenantRestore
from kryonix.engines.choice import engine_for
from kryonix.engines.engine import StackSpec
from kryonix.rabbitmq.broker import Broker
from kryonix.tenants.credentials import Credentials
from tests.acceptance.conftest import Stacks, changed
from tests.support.lifecycle_env import connects
from tests.support.live_broker import LiveBroker


def lose_state(stacks: Stacks) -> None:
    """Delete what either engine keeps of the tenant's stack."""
    local = stacks.own.folder / ".kryonix" / "stacks" / stacks.own.stack
    kept = stacks.own.folder.parent.glob(f"backend/.pulumi/*/kryonix/{stacks.own.stack}*")
    found = [path for path in (local, *kept) if path.exists()]
    assert found, "the engine keeps it elsewhere"
    for path in found:
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def test_a_lost_stack_is_restored_without_a_change(stacks: Stacks, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in stacks.own.env.items():
        monkeypatch.setenv(name, value)
    engine = engine_for("pulumi" if stacks.engine == "pulumi" else "local", stacks.own.folder)
    outputs = engine.outputs(StackSpec(name=stacks.platform.stack))
    broker, dsn = Broker.of(outputs), str(outputs["registry_dsn"])
    credentials = Credentials.of(engine.outputs(StackSpec(name=stacks.own.stack))["tenants"]["own"])
    snapshot, facts = read_tenant(broker, dsn, engine, "own")
    restore = TenantRestore(broker, dsn, engine)

    with LiveBroker(outputs) as live:
        live.delete("vhosts", "/cliente_own", "deletion", "protection")
        live.delete("vhosts", "/cliente_own")
        live.delete("users", "kryonix_own")
    lose_state(stacks)
    assert engine.outputs(StackSpec(name=stacks.own.stack)) == {}
    assert not connects(credentials)

    restore.run(restore.plan(snapshot, nodes=facts.broker_nodes))
    assert differences(snapshot, read_live(broker, dsn, engine, "own")) == []
    assert connects(credentials)
    assert changed(stacks.preview(stacks.own)) == []
