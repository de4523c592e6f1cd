"""Tenants read from a live platform, and bundles proven to restore on it, without a trace of either."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import aio_pika
import psycopg
import pytest

from kryonix.backup.errors import BackupError, Changing, Incomplete
from kryonix.backup.objects import open_vhost, put_objects, put_users, remove_vhost
from kryonix.backup.platform_reading import read_platform, whole_registry_dsn
from kryonix.backup.reading import read_live, read_tenant
from kryonix.backup.scratch import PREFIX, scratch_user, scratch_vhost
from kryonix.backup.snapshot import TenantSnapshot
from kryonix.backup.verification import verify
from kryonix.engines.process import LocalEngine
from kryonix.rabbitmq.broker import Broker
from kryonix.rabbitmq.client import BrokerUnavailable
from kryonix.registry.connection import connect
from kryonix.registry.errors import RegistryRefused
from kryonix.registry.tables import put_rows, tenant_tables
from kryonix.tenants.errors import UnknownTenant
from kryonix.topology.naming import TRIAL_PREFIX
from tests.support.bundles import bundle
from tests.support.project import ROOT, Project
from tests.support.routing_models import model_file
from tests.support.snapshots import bundle_of, snapshot, values
from tests.support.waiting import eventually

KEPT = "kept"

LEAVE_SCRATCH = """
import os, signal, sys
from kryonix.backup.scratch import scratch_user, scratch_vhost
from kryonix.rabbitmq.broker import Broker
url, password, dsn = sys.stdin.read().split()
broker = Broker(url, "kryonix_admin", password)
with scratch_vhost(broker, dsn) as vhost:
    broker.call("PUT", "vhosts", vhost, json={})
    broker.protect(vhost, protected=True)
    broker.call("PUT", "users", scratch_user(vhost, "u"), json={"password": "x", "tags": ""})
    os.kill(os.getpid(), signal.SIGKILL)
"""


@dataclass
class Live:
    """A platform's broker and the DSN of its registry's owner."""

    project: Project
    broker: Broker
    engine: LocalEngine
    dsn: str

    def read(self, tenant: str = KEPT) -> TenantSnapshot:
        return read_tenant(self.broker, self.dsn, None, tenant)[0]

    def scratch(self) -> list[str]:
        """Everything that verifications have left."""
        found = [each["name"] for kind in ("vhosts", "users") for each in self.broker.get(kind)]
        with psycopg.connect(self.dsn) as connection:
            found += [name for (name,) in connection.execute("SELECT nspname FROM pg_namespace")]
        return [name for name in found if PREFIX in name or "kryonix_verify" in name]


@pytest.fixture(scope="module")
def live(platform: Project) -> Iterator[Live]:
    outputs = platform.outputs()
    with pytest.MonkeyPatch.context() as patch, Broker.of(outputs) as broker:
        patch.setenv("PULUMI_CONFIG_PASSPHRASE", platform.env["PULUMI_CONFIG_PASSPHRASE"])
        with closing(LocalEngine(platform.folder, keep=True)) as engine:
            dsn = whole_registry_dsn(engine, platform.stack, outputs["registry_dsn"])
            yield Live(platform, broker, engine, dsn)


def kept() -> TenantSnapshot:
    """A tenant with two generations of credentials and a final export from an earlier life."""
    fields = values(KEPT)
    for user in tuple(fields["users"]):
        first, stats, _ = user["name"].partition(".stats")
        fields["users"].append({**user, "name": f"{first}.2{stats}"})
    own, vhost = {"cliente_id": KEPT}, {"vhost": f"/cliente_{KEPT}"}
    times = {"created_at": "2026-11-28T01:02:03.456789+00:00", "updated_at": "2026-11-28T01:02:03.4+00:00"}
    desired = {"modules": ["crm"], "plan": "basic", "status": "active", "cell": "main", "applied_generation": 2}
    generations = {"credentials_generation": 2, "retiring_generation": 1, "retiring_until": times["updated_at"]}
    sold = {"modulos_habilitados": ["crm"], "plano": "basic", "status": "ativo"}
    login = {"username": f"kryonix_{KEPT}.2", "password_hash": "c2VjcmV0"}
    export = {"id": 7001, "definitions": {"queues": []}, "rows": {"n": 0.1}, "exported_at": times["created_at"]}
    content, version = model_file()
    trained = {"version": version, "made_at": times["created_at"]}
    published = {"content": f"\\x{content.hex()}", "messages": 9, "made_of": [KEPT], "published_by": "ana"}
    mode = {"mode": "canary", "canary": 12.5, "changed_at": times["updated_at"], "changed_by": "bo"}
    fields["rows"] = {
        "tenants.routing_models": [own | trained | published | {"published_at": times["created_at"]}],
        "tenants.routing_modes": [own | trained | mode],
        "tenants.desired_states": [own | desired | generations | times],
        "tenants.rabbitmq_configurations": [own | vhost | sold | times],
        "tenants.rabbitmq_credentials": [own | vhost | login | times],
        "tenants.final_exports": [own | export],
    }
    return snapshot(**fields)


@pytest.fixture(scope="module")
def tenant(live: Live) -> Iterator[TenantSnapshot]:
    """The tenant on the platform, made without a stack."""
    made, names = kept(), [user["name"] for user in kept().users]
    put_objects(live.broker, made, made.names.vhost)
    put_users(live.broker, made, made.names.vhost, administrator=live.broker.username)
    open_vhost(live.broker, made, made.names.vhost)
    with connect(live.dsn) as connection:
        for table in tenant_tables(connection):
            put_rows(connection, table, made.rows[table.name])
    yield live.read()
    remove_vhost(live.broker, made.names.vhost, names)
    with connect(live.dsn) as connection:
        for table in reversed(tenant_tables(connection)):
            connection.execute(f"DELETE FROM {table.name} WHERE cliente_id = %s", [KEPT])


def test_a_tenant_is_read_as_it_was_written(tenant: TenantSnapshot) -> None:
    wanted = kept()
    assert tenant.vhost == wanted.vhost
    assert tenant.definitions == wanted.definitions
    assert {user["name"]: user for user in tenant.users} == {user["name"]: user for user in wanted.users}
    assert tenant.topic_permissions == wanted.topic_permissions
    assert sorted(each["user"] for each in tenant.permissions) == ["kryonix_admin", f"kryonix_{KEPT}"]
    found = tenant.rows["tenants.desired_states"][0]
    assert found.items() >= wanted.rows["tenants.desired_states"][0].items()
    assert tenant.entry == {"id": KEPT, "modules": ["crm"], "plan": "basic", "status": "active", "cell": "main"}
    assert tenant.state is None


def test_the_facts_are_the_platforms(live: Live, tenant: TenantSnapshot) -> None:
    facts = read_tenant(live.broker, live.dsn, None, KEPT)[1]
    assert facts.broker == live.broker.version()
    assert (facts.broker_nodes, facts.etag, facts.counts) == (1, live.broker.definitions_version(), tenant.counts)
    assert facts.registry.isdigit()


def test_a_bundle_survives_and_proves_to_restore(live: Live, tenant: TenantSnapshot) -> None:
    whole = bundle_of(tenant)
    assert TenantSnapshot.of(whole) == tenant
    assert verify(whole, live.broker, live.dsn).differences == []
    assert live.scratch() == []
    assert live.read() == tenant


def test_a_tenant_with_eight_modules_is_proven(live: Live) -> None:
    found = live.read("acme")
    assert len(found.definitions["queues"]) > 80
    verification = verify(bundle_of(found), live.broker, live.dsn)
    assert verification.proven
    assert verification.error == ""


def test_a_platform_is_proven_without_a_copy_of_its_administrator(live: Live) -> None:
    found, _ = read_platform(live.broker, live.dsn, live.engine, live.project.stack)
    made: list[str] = []

    class Watched(Broker):
        def call(self, method: str, *path: str, **options: Any) -> Any:
            made.extend(path[1:] if (method, path[0]) == ("PUT", "users") else ())
            return super().call(method, *path, **options)

    with Watched.of(live.project.outputs()) as broker:
        whole = bundle(found.members(), kind="platform", subject=live.project.stack)
        assert verify(whole, broker, live.dsn).differences == []
    users = sorted(name.partition(".")[2] for name in made)
    assert users == ["kryonix-backup-operations", "kryonix-master", "kryonix-monitoring", "kryonix-shared-services"]
    assert live.scratch() == []


def changed(tenant: TenantSnapshot, kind: str, **entry: Any) -> TenantSnapshot:
    """The snapshot with one more object of a kind."""
    return replace(tenant, definitions={**tenant.definitions, kind: [*tenant.definitions[kind], entry]})


def test_an_object_that_the_broker_refuses_is_named(live: Live, tenant: TenantSnapshot) -> None:
    lost = {"source": f"cliente_{KEPT}", "destination": "nowhere", "destination_type": "queue", "routing_key": "k"}
    with pytest.raises(Incomplete, match=r"the broker refuses what /kryonix-verify.* had: .*nowhere") as refused:
        verify(bundle_of(changed(tenant, "bindings", **lost, arguments={})), live.broker, live.dsn)
    assert refused.value.exit_status == 1
    assert live.scratch() == []


def test_a_right_that_the_broker_refuses_is_no_outage(live: Live, tenant: TenantSnapshot) -> None:
    wrong = [{**each, "write": "["} for each in tenant.permissions if each["user"] == f"kryonix_{KEPT}"]
    with pytest.raises(Incomplete, match="the broker refuses"):
        verify(bundle_of(replace(tenant, permissions=wrong)), live.broker, live.dsn)
    assert live.scratch() == []


def test_an_object_that_the_broker_skips_is_named(live: Live, tenant: TenantSnapshot) -> None:
    class Short(Broker):
        """A broker that skips queues and says success, as one does whose cluster is short of nodes."""

        def import_definitions(self, vhost: str, definitions: Mapping[str, Any]) -> None:
            super().import_definitions(vhost, {**definitions, "queues": [], "bindings": []})

    with (
        Short.of(live.project.outputs()) as broker,
        pytest.raises(Incomplete, match="2 did not come: binding") as refused,
    ):
        verify(bundle_of(tenant), broker, live.dsn)
    assert f"queue cliente_{KEPT}.crm.q: missing" in str(refused.value)
    assert live.scratch() == []


def test_a_parameter_with_a_login_of_its_own_never_runs(live: Live, tenant: TenantSnapshot) -> None:
    shovel = {"component": "shovel", "name": "s", "value": {"src-uri": "amqp:///%2Fcliente_acme"}}
    assert verify(bundle_of(changed(tenant, "parameters", **shovel)), live.broker, live.dsn).proven


def test_a_column_that_the_registry_lacks_is_a_difference(live: Live, tenant: TenantSnapshot) -> None:
    (row,) = tenant.rows["tenants.rabbitmq_configurations"]
    newer = replace(tenant, rows={**tenant.rows, "tenants.rabbitmq_configurations": [{**row, "region": "eu"}]})
    assert verify(bundle_of(newer), live.broker, live.dsn).error == (
        "row tenants.rabbitmq_configurations 1: changed (region)"
    )


def test_a_column_newer_than_the_bundle_is_no_difference(live: Live, tenant: TenantSnapshot) -> None:
    (row,) = tenant.rows["tenants.rabbitmq_configurations"]
    older = {key: value for key, value in row.items() if key != "notify"}
    rows = {**tenant.rows, "tenants.rabbitmq_configurations": [older]}
    assert verify(bundle_of(replace(tenant, rows=rows)), live.broker, live.dsn).proven


def test_rows_that_the_registry_refuses_are_refused(live: Live, tenant: TenantSnapshot) -> None:
    (row,) = tenant.rows["tenants.rabbitmq_configurations"]
    wrong = replace(tenant, rows={**tenant.rows, "tenants.rabbitmq_configurations": [{**row, "status": "gone"}]})
    with pytest.raises(RegistryRefused, match="status"):
        verify(bundle_of(wrong), live.broker, live.dsn)
    assert live.scratch() == []


class Meddled(Broker):
    """A broker on which a policy changes each time a vhost's definitions are read."""

    meddled_in = ""
    times = 0

    def definitions(self, vhost: str) -> dict[str, Any]:
        self.times += 1
        policy = {"pattern": "^never$", "definition": {"max-length": self.times}}
        self.call("PUT", "policies", self.meddled_in, "meddled", json=policy)
        return super().definitions(vhost)


@pytest.fixture
def meddled(live: Live) -> Iterator[Meddled]:
    with Meddled.of(live.project.outputs()) as broker:
        yield broker
        broker.call("DELETE", "policies", broker.meddled_in, "meddled", missing_ok=True)


def test_a_tenant_is_read_while_others_change(live: Live, tenant: TenantSnapshot, meddled: Meddled) -> None:
    meddled.meddled_in = "/"
    assert read_tenant(meddled, live.dsn, None, KEPT)[0] == tenant
    assert meddled.times == 2


def test_a_tenant_that_keeps_changing_is_not_read(live: Live, tenant: TenantSnapshot, meddled: Meddled) -> None:
    meddled.meddled_in = tenant.names.vhost
    with pytest.raises(Changing, match="'kept' changed while it was read, 3 times"):
        read_tenant(meddled, live.dsn, None, KEPT)


def test_queues_of_a_moment_are_not_read(live: Live, tenant: TenantSnapshot) -> None:
    """Such as an operator's exclusive queue, a plugin's internal exchange, and the queue of a check's trial."""

    async def read_beside_them() -> TenantSnapshot:
        outputs = live.project.outputs()
        where = {"host": outputs["amqp_host"], "port": outputs["amqp_port"], "virtualhost": tenant.names.vhost}
        connection = await aio_pika.connect(login=live.broker.username, password=outputs["admin_password"], **where)
        async with connection:
            channel = await connection.channel()
            exclusive = await channel.declare_queue("reply", exclusive=True)
            trial = await channel.declare_queue(f"{tenant.names.exchange}.crm.{TRIAL_PREFIX}1", durable=True)
            internal = await channel.declare_exchange("plugin", internal=True, auto_delete=True)
            for each in (exclusive, trial, internal):
                await each.bind(tenant.names.exchange, "crm.#")
            found = await asyncio.to_thread(live.read)
            await internal.delete()
            await channel.queue_delete(trial.name)
        return found

    assert asyncio.run(read_beside_them()) == tenant


def test_a_tenant_that_is_nowhere_is_unknown(live: Live) -> None:
    with pytest.raises(UnknownTenant):
        live.read("nobody")
    assert read_live(live.broker, live.dsn, None, "nobody").vhost is None


def test_a_tenant_without_a_vhost_has_nothing_to_back_up(live: Live) -> None:
    names = {"cliente_id": "lost", "vhost": "/cliente_lost"}
    with connect(live.dsn) as connection:
        table = next(each for each in tenant_tables(connection) if each.name == "tenants.rabbitmq_configurations")
        put_rows(connection, table, [{**kept().rows[table.name][0], **names}])
    try:
        with pytest.raises(BackupError, match="the broker has no vhost /cliente_lost"):
            live.read("lost")
    finally:
        with connect(live.dsn) as connection:
            connection.execute("DELETE FROM tenants.rabbitmq_configurations WHERE cliente_id = 'lost'")


def test_scratch_of_a_killed_verification_is_removed(live: Live, tenant: TenantSnapshot) -> None:
    given = "\n".join((live.broker.url, live.project.outputs()["admin_password"], live.dsn))
    killed = subprocess.run([sys.executable, "-c", LEAVE_SCRATCH], input=given, text=True, cwd=ROOT, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert len(live.scratch()) == 2

    def swept() -> bool:
        """The server may take a moment to end the killed process' session."""
        verify(bundle_of(tenant), live.broker, live.dsn)
        return live.scratch() == []

    eventually("the scratch is removed", swept)


def test_scratch_of_a_running_verification_stays(live: Live, tenant: TenantSnapshot) -> None:
    with scratch_vhost(live.broker, live.dsn) as running:
        live.broker.call("PUT", "vhosts", running, json={})
        live.broker.call("PUT", "users", scratch_user(running, "u"), json={"password": "x", "tags": ""})
        assert verify(bundle_of(tenant), live.broker, live.dsn).proven
        assert len(live.scratch()) == 2
    assert live.scratch() == []


def test_a_broker_killed_meanwhile_loses_nothing(live: Live, tenant: TenantSnapshot) -> None:
    (container,) = (each for each in live.project.containers() if each.name.endswith("-rabbitmq"))

    class Killed(Broker):
        """A broker that dies once it has the scratch's objects."""

        def import_definitions(self, vhost: str, definitions: Mapping[str, Any]) -> None:
            super().import_definitions(vhost, definitions)
            container.kill()

    try:
        with Killed.of(live.project.outputs()) as dying, pytest.raises(BrokerUnavailable) as refused:
            verify(bundle_of(tenant), dying, live.dsn)
        assert refused.value.exit_status == 3
        with pytest.raises(BrokerUnavailable):
            live.read()
    finally:
        container.start()
    eventually("the broker answers", lambda: live.broker.get("vhosts"), ignoring=(BrokerUnavailable,))
    assert eventually("the tenant is read", live.read, ignoring=(BrokerUnavailable, Changing)) == tenant
    assert verify(bundle_of(tenant), live.broker, live.dsn).proven
    assert live.scratch() == []
