"""A restored tenant is the one that was backed up: not one message is lost, and no half-restored tenant stays."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest

from kryonix.backup.differences import Difference, differences
from kryonix.backup.errors import NotUndone
from kryonix.backup.objects import remove_vhost
from kryonix.backup.reading import read_live, read_tenant
from kryonix.backup.restore_plan import RestorePlan, same_state
from kryonix.backup.restoring import TenantRestore
from kryonix.backup.snapshot import TenantSnapshot
from kryonix.engines.deployments import emptied
from kryonix.engines.engine import StackSpec
from kryonix.engines.errors import Refused
from kryonix.rabbitmq.broker import Broker
from kryonix.registry.connection import connect
from kryonix.registry.errors import RegistryUnavailable
from kryonix.registry.routing_models import fetch_models, fetch_routing, publish, set_mode
from kryonix.tenants.credentials import Credentials
from kryonix.tenants.errors import TenantBusy, TenantExists, WouldLoseMessages
from kryonix.tenants.rows import TenantRows
from kryonix.tenants.specs import spec_for
from kryonix.topology.naming import Names
from tests.support.lifecycle_env import LifecycleEnv, cells_of, connects
from tests.support.live_broker import LiveBroker
from tests.support.project import Project
from tests.support.routing_models import model_file
from tests.support.waiting import eventually

pytestmark = pytest.mark.usefixtures("counted_at_once")

EXTRA = "queue extra: extra"
STEPS = ("objects", "rows", "users", "state")


class Stop(BaseException):
    """Ends a restore at a step, as an interrupt would."""


class Restores:
    """A tenant with a stack of its own, its snapshot, and restores of it."""

    def __init__(self, env: LifecycleEnv, id: str = "lost", *modules: str) -> None:
        self.env, self.id, self.names = env, id, Names(id)
        self.dsn = str(env.broker.outputs["registry_dsn"])
        self.broker = Broker.of(env.broker.outputs)
        self.credentials = env.create(id, *(modules or ("crm",)))
        with connect(self.dsn) as connection:
            for messages in (1, 2):
                content, version = model_file(messages)
                publish(connection, id, version, content)
            set_mode(connection, id, "canary", 12.5)
        self.snapshot, self.facts = read_tenant(self.broker, self.dsn, env.engine, id)
        self.queue = f"cliente_{id}.crm.leads.create"

    @property
    def restore(self) -> TenantRestore:
        return TenantRestore(self.broker, self.dsn, self.env.engine, cells_of(self.env.project.stack))

    def now(self, id: str | None = None) -> TenantSnapshot:
        return read_live(self.broker, self.dsn, self.env.engine, id or self.id)

    def plan(self, as_id: str | None = None) -> RestorePlan:
        return self.restore.plan(self.snapshot, as_id=as_id)

    def run(self, **options: object) -> RestorePlan:
        return self.restore.run(self.plan(), **options).plan  # type: ignore[arg-type]

    def unchanged(self, id: str | None = None) -> bool:
        """Return True if the next run of the tenant's stack changes nothing."""
        state = self.env.lifecycle.state(id or self.id)
        assert state.converged
        return not self.env.engine.preview(spec_for(state, cells_of(self.env.project.stack))).changed

    def lose(self, id: str | None = None) -> None:
        """Take everything of the tenant away: vhost, users, rows and state."""
        names = Names(id or self.id)
        remove_vhost(self.broker, names.vhost, (names.user, names.stats_user_of(1)))
        for table in (
            *("routing_modes", "routing_models", "final_exports"),
            *("rabbitmq_credentials", "rabbitmq_configurations", "desired_states"),
        ):
            self.env.execute(f"DELETE FROM tenants.{table} WHERE cliente_id = '{names.tenant_id}'")
        self.env.engine.rewrite(StackSpec(name=names.stack, config={}), emptied)

    def damage(self) -> None:
        """Delete, change and add objects by hand, and leave messages."""
        broker, vhost = self.env.broker, self.names.vhost
        broker.publish(vhost, self.queue, 3)
        broker.delete("queues", vhost, f"{self.queue}.dlq")
        broker.delete("exchanges", vhost, f"cliente_{self.id}.automation")
        rule = {"pattern": ".*", "definition": {"delivery-limit": 9}, "priority": 7, "apply-to": "queues"}
        broker.call("PUT", "policies", vhost, "modulo-crm", json=rule).raise_for_status()
        broker.call("PUT", "queues", vhost, "extra", json={"durable": True}).raise_for_status()
        broker.publish(vhost, "extra", 2)
        limit = {"value": 1}
        broker.call("PUT", "vhost-limits", vhost, "max-queues", json=limit).raise_for_status()
        broker.call("PUT", "users", self.names.user, json={"password": "another", "tags": ""}).raise_for_status()
        broker.call("DELETE", "permissions", vhost, self.names.user)
        self.env.execute(f"UPDATE tenants.desired_states SET plan = 'pro' WHERE cliente_id = '{self.id}'")

    def mend(self) -> None:
        """Bring the tenant back to its snapshot, without messages and without more than it holds."""
        broker, vhost = self.env.broker, self.names.vhost
        if broker.has("vhosts", vhost):
            broker.call("DELETE", "queues", vhost, "extra")
            for queue in broker.get("queues", vhost, disable_stats="true"):
                broker.call("DELETE", "queues", vhost, queue["name"], "contents").raise_for_status()
        self.run()
        for each in self.plan().extras:
            assert each.kind == "policy"
            broker.call("DELETE", "policies", vhost, each.name)

    def stopping(self, step: str, how: Callable[[], None]) -> Callable[[str], None]:
        """Return a watcher of steps that ends the restore at one."""
        return lambda reached: how() if reached == step else None


@pytest.fixture(scope="module")
def env(platform: Project) -> Iterator[LifecycleEnv]:
    """Operations on tenants of the shared platform."""
    with pytest.MonkeyPatch.context() as patch, LiveBroker(platform.outputs()) as broker:
        patch.setenv("PULUMI_CONFIG_PASSPHRASE", platform.env["PULUMI_CONFIG_PASSPHRASE"])
        patch.delenv("PULUMI_CONFIG_PASSPHRASE_FILE", raising=False)
        with LifecycleEnv.on(platform, broker) as made:
            yield made


@pytest.fixture(scope="module")
def kept(env: LifecycleEnv) -> Iterator[Restores]:
    found = Restores(env)
    yield found
    found.lose()


@pytest.fixture
def tenant(kept: Restores) -> Iterator[Restores]:
    """One tenant for all tests; each ends with a restore."""
    yield kept
    kept.mend()


def names(found: list[Difference]) -> list[str]:
    return [str(each) for each in found]


def stop() -> None:
    raise Stop


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def killed(run: Callable[[], object]) -> None:
    """Run it in a process that ends in the midst of it."""
    child = os.fork()
    if child == 0:
        try:
            run()
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def test_a_lost_tenant_comes_back_with_its_password(tenant: Restores) -> None:
    tenant.lose()
    plan = tenant.plan()
    assert (plan.exists, plan.state, plan.extras) == (False, "restored", [])
    tenant.run()
    assert differences(tenant.snapshot, tenant.now()) == []
    assert same_state(tenant.now().state, tenant.snapshot.state)
    assert connects(tenant.credentials)
    assert tenant.unchanged()
    assert tenant.run().differences == (), "a second restore finds nothing to do"


def test_a_lost_tenants_models_and_mode_come_back(tenant: Restores) -> None:
    tenant.lose()
    tenant.run()
    content, version = model_file(2)
    with connect(tenant.dsn) as connection:
        assert len(fetch_models(connection, tenant.id)) == 2
        found = fetch_routing(connection, tenant.id)
    assert found is not None
    assert (found.mode, found.canary, found.version, found.content) == ("canary", 12.5, version, content)


def test_a_bundle_from_before_routing_leaves_it_as_it_is(tenant: Restores) -> None:
    rows = {name: each for name, each in tenant.snapshot.rows.items() if "routing" not in name}
    tenant.damage()
    tenant.restore.run(tenant.restore.plan(replace(tenant.snapshot, rows=rows)))
    assert tenant.now().rows == tenant.snapshot.rows


def test_a_damaged_tenant_is_mended_and_keeps_every_message(tenant: Restores) -> None:
    tenant.damage()
    tenant.run()
    assert names(differences(tenant.snapshot, tenant.now())) == [EXTRA]
    assert connects(tenant.credentials)
    assert tenant.unchanged()
    assert tenant.env.broker.take(tenant.names.vhost, tenant.queue, 9) == 3
    assert tenant.env.broker.take(tenant.names.vhost, "extra", 9) == 2


@pytest.mark.parametrize("lost", [True, False], ids=["lost", "damaged"])
def test_an_interrupted_restore_leaves_what_was_there(tenant: Restores, lost: bool) -> None:
    (tenant.lose if lost else tenant.damage)()
    if not lost:
        tenant.env.engine.rewrite(StackSpec(name=tenant.names.stack, config={}), emptied)
    before = tenant.now()
    for step in STEPS if lost else STEPS[1:3]:
        with pytest.raises(Stop):
            tenant.run(on_step=tenant.stopping(step, stop))
        assert names(differences(before, tenant.now())) == [], step
    tenant.run()
    assert names(differences(tenant.snapshot, tenant.now())) == ([] if lost else [EXTRA])
    assert connects(tenant.credentials)


@pytest.mark.parametrize(("lost", "steps"), [(True, ("rows", "open")), (False, ("objects", "users"))])
def test_a_killed_restore_is_completed_by_the_next(tenant: Restores, lost: bool, steps: tuple[str, ...]) -> None:
    (tenant.lose if lost else tenant.damage)()
    for step in steps:
        killed(lambda step=step: tenant.run(on_step=tenant.stopping(step, die)))  # type: ignore[misc]
        assert not connects(tenant.credentials), f"killed at {step}: nobody may use a tenant that is not complete"
    tenant.run()
    assert names(differences(tenant.snapshot, tenant.now())) == ([] if lost else [EXTRA])
    assert connects(tenant.credentials)
    if not lost:
        held = {tenant.queue: 3, "extra": 2}
        assert {queue: tenant.env.broker.take(tenant.names.vhost, queue, 9) for queue in held} == held


def test_a_queue_with_other_arguments_is_replaced_if_allowed(tenant: Restores) -> None:
    broker, vhost = tenant.env.broker, tenant.names.vhost
    broker.delete("queues", vhost, tenant.queue)
    other = {"durable": True, "arguments": {"x-queue-type": "classic"}}
    broker.call("PUT", "queues", vhost, tenant.queue, json=other).raise_for_status()
    broker.publish(vhost, tenant.queue, 2)
    eventually("the broker counts them", lambda: tenant.broker.messages(vhost).get(tenant.queue) == 2)
    before = tenant.now()
    with pytest.raises(WouldLoseMessages, match=f"{tenant.queue}: it has other arguments") as caught:
        tenant.run()
    assert set(caught.value.queues) == {tenant.queue}
    assert differences(before, tenant.now()) == []
    tenant.run(allow_delete=[tenant.queue])
    assert differences(tenant.snapshot, tenant.now()) == []


def test_messages_over_the_bundles_bound_are_kept(tenant: Restores) -> None:
    broker, vhost, letters = tenant.env.broker, tenant.names.vhost, f"{tenant.queue}.dlq"
    rule = {"pattern": "dlq$", "definition": {"max-length": 1}, "priority": 900, "apply-to": "queues"}
    bounded = [*tenant.snapshot.definitions["policies"], {"name": "narrow", **rule}]
    snapshot = replace(tenant.snapshot, definitions={**tenant.snapshot.definitions, "policies": bounded})
    broker.publish(vhost, letters, 3)
    eventually("the broker counts them", lambda: tenant.broker.messages(vhost).get(letters) == 3)
    with pytest.raises(WouldLoseMessages, match="keeps fewer"):
        tenant.restore.run(tenant.restore.plan(snapshot))
    assert broker.take(vhost, letters, 9) == 3


def test_a_tenant_is_restored_beside_itself_under_another_id(tenant: Restores) -> None:
    plan = tenant.plan("crm")
    assert not plan.exists
    tenant.restore.run(plan)
    twin = tenant.env.engine.outputs(StackSpec(name="tenant-crm"))["tenants"]["crm"]
    assert (twin["username"], twin["password"]) == ("kryonix_crm", tenant.credentials.password)
    assert connects(Credentials.of(twin))
    with connect(tenant.dsn) as connection:
        assert (fetch_routing(connection, "crm"), fetch_models(connection, "crm")) == (None, [])
    assert tenant.unchanged("crm")
    assert differences(tenant.snapshot, tenant.now()) == []
    assert connects(tenant.credentials)
    with pytest.raises(TenantExists, match="kryonix tenant converge crm"):
        tenant.plan("crm")
    tenant.lose("crm")


def test_a_restore_is_refused_for_a_tenant_in_use_or_moved(tenant: Restores) -> None:
    with TenantRows(tenant.dsn).lock(tenant.id), pytest.raises(TenantBusy):
        tenant.run()
    moved = replace(tenant.snapshot, vhost={**(tenant.snapshot.vhost or {}), "description": "Tenant lost, of dev"})
    with pytest.raises(Refused, match=r"'tenant-lost' manages the tenant 'lost' now, and.*'dev' did"):
        tenant.restore.plan(moved)


def test_a_wrong_passphrase_leaves_nothing_behind(tenant: Restores, monkeypatch: pytest.MonkeyPatch) -> None:
    tenant.lose()
    before = tenant.now()
    with monkeypatch.context() as patch:
        patch.setenv("PULUMI_CONFIG_PASSPHRASE", "another")
        with pytest.raises(Exception, match="passphrase"):
            tenant.run()
    assert differences(before, tenant.now()) == []
    assert not tenant.env.broker.has("users", tenant.names.user)
    tenant.run()
    assert connects(tenant.credentials)


def test_a_tenant_of_a_platforms_list_keeps_the_platforms_state(env: LifecycleEnv) -> None:
    broker, dsn = Broker.of(env.broker.outputs), str(env.broker.outputs["registry_dsn"])
    snapshot, _ = read_tenant(broker, dsn, env.engine, "beta")
    env.broker.delete("queues", "/cliente_beta", "cliente_beta.crm.leads.create")
    env.execute("UPDATE tenants.rabbitmq_configurations SET plano = 'pro' WHERE cliente_id = 'beta'")
    restore = TenantRestore(broker, dsn, env.engine)
    plan = restore.plan(snapshot)
    assert (plan.state, sorted({each.op for each in plan.differences})) == ("platform", ["changed", "missing"])
    restore.run(plan)
    assert differences(snapshot, read_live(broker, dsn, env.engine, "beta")) == []
    with pytest.raises(Refused, match="no stack made by"):
        restore.plan(snapshot, as_id="gamma")


def container_of(env: LifecycleEnv, role: str) -> Any:
    (found,) = (each for each in env.project.containers() if each.name.endswith(f"-{role}"))
    return found


def test_a_broker_killed_during_a_restore_gets_it_by_the_next(tenant: Restores, env: LifecycleEnv) -> None:
    tenant.lose()
    container = container_of(env, "rabbitmq")
    with pytest.raises(NotUndone, match=r"takes no connections\. Run the restore again") as caught:
        tenant.run(on_step=tenant.stopping("rows", container.kill))
    assert caught.value.exit_status == 3
    container.start()
    eventually("the broker serves its vhosts", lambda: env.broker.get("vhosts", "/"), ignoring=(httpx.HTTPError,))
    tenant.run()
    assert differences(tenant.snapshot, tenant.now()) == []
    assert connects(tenant.credentials)


def test_a_registry_killed_during_a_restore_leaves_what_was_there(tenant: Restores, env: LifecycleEnv) -> None:
    tenant.damage()
    before, container = tenant.now(), container_of(env, "postgres")
    with pytest.raises(RegistryUnavailable):
        tenant.run(on_step=tenant.stopping("users", container.kill))
    container.start()
    eventually("the registry answers", lambda: tenant.now(), ignoring=(RegistryUnavailable,))
    assert names(differences(before, tenant.now())) == []
    tenant.run()
    assert names(differences(tenant.snapshot, tenant.now())) == [EXTRA]
