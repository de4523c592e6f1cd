"""A tenant's lifecycle, operation by operation, on a real broker and registry."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from kryonix.engines.engine import StackSpec
from kryonix.engines.errors import EngineFailed
from kryonix.engines.events import OnEvent, Summary
from kryonix.engines.process import LocalEngine
from kryonix.registry.connection import tenant_lock
from kryonix.tenants.admission import admit
from kryonix.tenants.credentials import Credentials
from kryonix.tenants.errors import (
    DoesNotFit,
    InvalidTenant,
    Overtaken,
    TenantBusy,
    TenantExists,
    UnknownTenant,
    WouldLoseMessages,
    WrongState,
)
from kryonix.tenants.lifecycle import TenantLifecycle
from kryonix.tenants.specs import spec_for
from kryonix.topology.catalog import default_catalog
from kryonix.topology.naming import stats_user
from kryonix.topology.notify import Notify
from kryonix.topology.tenants import Tenant
from tests.support.lifecycle_env import LifecycleEnv, cells_of, connects, cut_off_during

ID, VHOST = "env-a", "/cliente_env-a"
LEADS, SALES = "cliente_env-a.crm.leads.create", "cliente_env-a.crm.contacts.sync"
EVERYTHING = ("crm", "whatsapp", "agendamento", "financeiro", "marketing", "analytics", "portal", "whitelabel")


@pytest.fixture(scope="module")
def home(env: LifecycleEnv) -> Iterator[LifecycleEnv]:
    with env.leaving_nothing() as found:
        yield found


@pytest.fixture(scope="module")
def credentials(home: LifecycleEnv) -> Credentials:
    """Those of a tenant that is there for all tests, each of which leaves it active."""
    return home.create(ID, "crm", "portal")


def would_change(env: LifecycleEnv, id: str) -> bool:
    """Whether the next rollout would change anything of a tenant."""
    spec = spec_for(env.lifecycle.state(id), cells_of(env.project.stack))
    return env.engine.preview(spec).changed


def test_a_new_tenant_works_and_its_password_is_stored_nowhere(home: LifecycleEnv, credentials: Credentials) -> None:
    assert (credentials.vhost, credentials.username) == (VHOST, "kryonix_env-a")
    assert connects(credentials)
    state = home.lifecycle.state(ID)
    assert (state.status, state.plan, state.converged) == ("active", "basic", True)
    rows = home.query("SELECT * FROM tenants.rabbitmq_credentials, tenants.desired_states")
    assert credentials.password not in str(rows)
    stack = home.project.folder / ".kryonix" / "stacks" / "tenant-env-a"
    assert not [path for path in stack.iterdir() if credentials.password in path.read_text()]
    assert credentials.password not in repr(credentials)
    with pytest.raises(TenantExists):
        home.create(ID, "crm")


def test_where_alerts_go_is_changed_without_a_run(home: LifecycleEnv, credentials: Credentials) -> None:
    before, notify = home.lifecycle.state(ID), Notify(webhook="https://hooks.example.com/a-token")

    def no_run(event: object) -> None:
        raise AssertionError(event)

    home.lifecycle.change(ID, notify=notify, on_event=no_run)
    assert home.lifecycle.state(ID) == replace(before, notify=notify)
    home.lifecycle.suspend(ID)
    home.lifecycle.resume(ID)
    assert home.lifecycle.state(ID).notify == notify, "other operations keep it"
    assert not would_change(home, ID)
    home.lifecycle.change(ID, notify=None, on_event=no_run)
    assert home.lifecycle.state(ID).notify is None


def test_a_downgrade_beyond_the_plan_names_what_to_remove(home: LifecycleEnv, credentials: Credentials) -> None:
    before = home.lifecycle.state(ID)
    with pytest.raises(DoesNotFit) as caught:
        home.lifecycle.change(ID, modules=EVERYTHING, plan="basic")
    assert (caught.value.plan, caught.value.exit_status) == ("pro", 2)
    rest = tuple(module for module in EVERYTHING if module not in caught.value.remove)
    admit(Tenant(id=ID, modules=rest, plan="basic"), default_catalog())
    assert all(module in str(caught.value) for module in caught.value.remove)
    with pytest.raises(InvalidTenant, match="in the list twice"):
        home.lifecycle.change(ID, modules=["crm", "crm"])
    for change in (home.lifecycle.change, home.lifecycle.preview_change):
        with pytest.raises(InvalidTenant, match="is not a queue name"):
            change(ID, modules=["crm"], allow_delete=["\udcff"])
    assert home.lifecycle.state(ID) == before


def test_a_change_deletes_only_accepted_queues_with_messages(home: LifecycleEnv, credentials: Credentials) -> None:
    """Slow: each refused and accepted change is a run of the tenant's stack."""
    home.broker.publish(VHOST, LEADS, 2)
    home.broker.publish(VHOST, SALES, 1)
    before = home.lifecycle.state(ID)
    without_crm = partial(home.lifecycle.change, ID, modules=["portal"], plan="pro")
    with pytest.raises(WouldLoseMessages) as caught:
        without_crm()
    assert caught.value.queues == {LEADS: 2, SALES: 1}
    assert f"2 messages in {LEADS}" in str(caught.value)
    assert "`allow_delete` (`--allow-delete QUEUE`)" in str(caught.value)
    assert "kryonix:allowDelete" not in str(caught.value)
    with pytest.raises(WouldLoseMessages) as caught:
        without_crm(allow_delete=[LEADS])
    assert caught.value.queues == {SALES: 1}
    assert home.lifecycle.state(ID) == before
    without_crm(allow_delete=[LEADS, SALES])
    assert not home.broker.has("queues", VHOST, LEADS)
    assert home.lifecycle.state(ID).plan == "pro"
    assert not would_change(home, ID), "what was accepted was accepted once, and is not kept for later"
    home.lifecycle.change(ID, modules=["crm", "portal"])
    assert home.broker.take(VHOST, LEADS, 10) == 0


def test_a_suspended_tenant_is_disconnected_and_loses_nothing(home: LifecycleEnv, credentials: Credentials) -> None:
    home.broker.publish(VHOST, LEADS, 3)
    assert cut_off_during(credentials, partial(home.lifecycle.suspend, ID))
    assert not connects(credentials)
    assert home.query(f"SELECT status FROM tenants.rabbitmq_configurations WHERE cliente_id = '{ID}'") == [
        ("suspenso",)
    ]
    home.lifecycle.resume(ID)
    assert connects(credentials)
    assert home.broker.take(VHOST, LEADS, 10) == 3


def test_a_suspended_tenants_users_have_no_http_access(home: LifecycleEnv) -> None:
    tenant = Tenant(id="env-http", modules=("portal",), plan="basic")
    first = home.lifecycle.create(tenant)
    both = (first, home.lifecycle.rotate("env-http", overlap=timedelta(hours=1)))
    assert [by_http(home, each) for each in both] == [200, 200]
    home.lifecycle.suspend("env-http")
    assert [by_http(home, each) for each in both] == [401, 401]
    home.lifecycle.offboard("env-http")
    assert [by_http(home, each) for each in both] == [401, 401]
    rights = home.broker.permissions("/cliente_env-http")
    users = [user for each in both for user in (each.username, stats_user(each.username))]
    assert {user: rights[user] for user in users} == dict.fromkeys(users, ("^$", "^$", "^$"))
    assert rights.keys() == {*users, home.broker.outputs["admin_username"]}
    home.lifecycle.resume("env-http")
    assert [by_http(home, each) for each in both] == [200, 200]
    assert all(map(connects, both))


def by_http(home: LifecycleEnv, credentials: Credentials) -> int:
    """The status of the answer to a list of the tenant's queues, asked for as its user for figures."""
    url = f"{home.broker.outputs['management_url']}/api/queues/{quote(credentials.vhost, safe='')}"
    application, figures = (
        httpx.get(url, auth=(user, credentials.password), timeout=30).status_code
        for user in (credentials.username, stats_user(credentials.username))
    )
    assert application == httpx.codes.UNAUTHORIZED
    return figures


def test_settle_ends_old_credentials_after_the_overlap(home: LifecycleEnv, credentials: Credentials) -> None:
    fresh = home.lifecycle.rotate(ID)  # the env's overlap is 4 s
    assert (fresh.username, fresh.password != credentials.password) == ("kryonix_env-a.2", True)
    assert connects(fresh)
    assert connects(credentials)
    state = home.lifecycle.state(ID)
    assert state.retiring_until is not None
    time.sleep(max(0.0, (state.retiring_until - datetime.now(UTC)).total_seconds()) + 0.5)
    assert home.lifecycle.due() == [ID]
    assert cut_off_during(credentials, partial(home.lifecycle.settle, ID))
    assert (connects(fresh), connects(credentials)) == (True, False)
    assert not home.broker.has("users", "kryonix_env-a")
    assert not home.broker.has("users", "kryonix_env-a.stats")
    assert by_http(home, fresh) == httpx.codes.OK
    assert home.lifecycle.due() == []


def test_a_locked_tenant_is_busy_and_blocks_no_other_tenant(home: LifecycleEnv, credentials: Credentials) -> None:
    before, operations = home.lifecycle.state(ID), home.lifecycle
    home.create("env-b", "portal")
    with tenant_lock(str(home.broker.outputs["registry_dsn"]), ID) as alone:  # as an operation in another process does
        assert alone
        for run in (
            partial(operations.change, ID, plan="enterprise"),
            partial(operations.suspend, ID),
            partial(operations.rotate, ID),
            partial(operations.offboard, ID),
            partial(operations.converge, ID),
        ):
            with pytest.raises(TenantBusy, match="env-a") as caught:
                run()
            assert caught.value.exit_status == 3
        operations.suspend("env-b")
    assert operations.state(ID) == before
    assert operations.state("env-b").status == "suspended"
    assert operations.converge(ID).changed is False


def test_an_invalid_id_is_refused(home: LifecycleEnv) -> None:
    hostile = ("../etc", "a'; DROP TABLE tenants; --", "аcme", "ACME", "x" * 10_000, "%2F", "a\nb", "a\0b", "", ".*")
    for id in hostile:
        for run in (home.lifecycle.suspend, home.lifecycle.state, home.lifecycle.final_exports, home.lifecycle.remove):
            with pytest.raises(UnknownTenant) as caught:
                run(id)
            assert len(str(caught.value)) < 300


def test_an_offboarded_tenant_can_return_until_it_is_removed(home: LifecycleEnv, credentials: Credentials) -> None:
    current = home.lifecycle.rotate(ID, overlap=timedelta(0))
    home.broker.publish(VHOST, LEADS, 2)
    until = home.lifecycle.offboard(ID)
    assert timedelta(days=29) < until - datetime.now(UTC) < timedelta(days=31)
    assert not connects(current)
    (export,) = home.lifecycle.final_exports(ID)
    assert LEADS in {queue["name"] for queue in export.definitions["queues"]}
    assert export.rows["configuration"]["plano"] == "pro"
    hash_ = home.query(f"SELECT password_hash FROM tenants.rabbitmq_credentials WHERE cliente_id = '{ID}'")[0][0]
    text = json.dumps([dict(export.definitions), dict(export.rows)])
    assert not [secret for secret in (current.password, hash_, '"password": ', "password_hash") if secret in text]
    with pytest.raises(WrongState, match=r"can be resumed until .*`kryonix tenant remove env-a --force`"):
        home.lifecycle.remove(ID)
    with pytest.raises(WrongState, match="is offboarding and can't be changed"):
        home.lifecycle.change(ID, plan="pro")
    assert home.lifecycle.due() == []
    home.lifecycle.resume(ID)
    assert connects(current)
    assert home.lifecycle.state(ID).remove_after is None
    home.lifecycle.offboard(ID)
    home.lifecycle.remove(ID, force=True)
    assert not home.broker.has("vhosts", VHOST)
    assert not home.broker.has("users", current.username)
    assert not home.broker.has("users", stats_user(current.username))
    kept = home.query(f"SELECT status, plano FROM tenants.rabbitmq_configurations WHERE cliente_id = '{ID}'")
    assert kept == [("removido", "pro")]
    assert home.query(f"SELECT 1 FROM tenants.rabbitmq_credentials WHERE cliente_id = '{ID}'") == []
    assert len(home.lifecycle.final_exports(ID)) == 2
    assert "tenant-env-a" not in home.engine.stacks()
    with pytest.raises(WrongState, match="is removed and can't be resumed"):
        home.lifecycle.resume(ID)


def test_settle_removes_a_tenant_after_its_grace_period(home: LifecycleEnv) -> None:
    if "env-b" not in {state.cliente_id for state in home.lifecycle.states()}:
        home.create("env-b", "portal")
    home.lifecycle.offboard("env-b")
    home.execute("UPDATE tenants.desired_states SET remove_after = now() WHERE cliente_id = 'env-b'")
    assert home.lifecycle.due() == ["env-b"]
    home.lifecycle.settle("env-b")
    assert home.lifecycle.state("env-b").status == "removed"
    assert not home.broker.has("vhosts", "/cliente_env-b")
    assert home.lifecycle.due() == []


def test_a_tenant_beyond_its_plan_resumes_only_with_a_fitting_plan(
    env: LifecycleEnv,
) -> None:
    with env.leaving_nothing():
        credentials = env.create("oversold", *EVERYTHING, plan="pro")
        # What a catalog that was made smaller does, to this one tenant.
        env.execute("UPDATE tenants.desired_states SET plan = 'basic' WHERE cliente_id = 'oversold'")
        before = env.lifecycle.state("oversold")
        with pytest.raises(DoesNotFit):
            env.lifecycle.rotate("oversold")
        assert env.lifecycle.state("oversold") == before
        env.lifecycle.suspend("oversold")
        assert not connects(credentials)
        before = env.lifecycle.state("oversold")
        with pytest.raises(DoesNotFit, match="The smallest plan that fits is 'pro'"):
            env.lifecycle.resume("oversold")
        with pytest.raises(DoesNotFit):
            env.lifecycle.change("oversold", modules=EVERYTHING[:-1])
        assert env.lifecycle.state("oversold") == before
        env.lifecycle.change("oversold", plan="pro")
        env.lifecycle.resume("oversold")
        assert connects(credentials)
        env.execute("UPDATE tenants.desired_states SET plan = 'basic' WHERE cliente_id = 'oversold'")
        env.lifecycle.offboard("oversold")
        env.lifecycle.remove("oversold", force=True)
        assert not env.broker.has("vhosts", "/cliente_oversold")


class Frozen:
    """A engine whose machine is frozen before a run; what its lock's session was meanwhile, and what others did."""

    def __init__(self, engine: LocalEngine, meanwhile: Callable[[], None]) -> None:
        self._engine, self._meanwhile = engine, [meanwhile]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def up(self, stack: StackSpec, on_event: OnEvent) -> Summary:
        while self._meanwhile:
            self._meanwhile.pop()()
        return self._engine.up(stack, on_event)


@pytest.mark.parametrize(("late", "status"), [("suspend", "active"), ("rotate", "active"), ("settle", "suspended")])
def test_an_overtaken_run_undoes_no_later_request(env: LifecycleEnv, late: str, status: str) -> None:
    """Slow: a tenant is deployed and removed for each kind of overtaken run."""
    with env.leaving_nothing():
        credentials = env.create("frozen", "portal")
        if late == "settle":
            credentials = env.lifecycle.rotate("frozen")
            env.execute("UPDATE tenants.desired_states SET retiring_until = now() WHERE cliente_id = 'frozen'")

        def meanwhile() -> None:
            env.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND pid <> pg_backend_pid()"
            )
            env.lifecycle.suspend("frozen")
            if status == "active":
                env.lifecycle.resume("frozen")

        engine: Any = Frozen(env.engine, meanwhile)
        dsn, cells = str(env.broker.outputs["registry_dsn"]), cells_of(env.project.stack)
        thawed = TenantLifecycle(dsn, engine, cells, default_catalog())
        with pytest.raises(Overtaken, match="has been overtaken by another"):
            getattr(thawed, late)("frozen")
        state = env.lifecycle.state("frozen")
        assert (state.status, state.converged) == (status, True)
        assert connects(credentials) is (status == "active")
        assert not would_change(env, "frozen")


def test_only_its_own_removal_deletes_a_protected_tenant(env: LifecycleEnv) -> None:
    """Slow: each way to delete a tenant is a run of its stack."""
    vhost, queue = "/cliente_env-c", "cliente_env-c.crm.leads.create"
    stack = StackSpec(name="tenant-env-c", config={})
    with env.leaving_nothing():
        env.create("env-c", "crm", "portal", cell="guarded")
        refused = env.broker.call("DELETE", "vhosts", vhost)
        assert refused.status_code == 412, refused.text
        with pytest.raises(EngineFailed, match="Protected against deletion") as caught:
            env.engine.destroy(stack)
        assert "'env-c/" in str(caught.value)
        env.broker.publish(vhost, queue)
        with pytest.raises(WouldLoseMessages):
            env.lifecycle.change("env-c", modules=["portal"])
        env.lifecycle.change("env-c", modules=["portal"], allow_delete=[queue])
        assert not env.broker.has("queues", vhost, queue)
        with pytest.raises(EngineFailed, match="Protected against deletion"):  # the change has put it on again
            env.engine.destroy(stack)
        assert env.broker.has("queues", vhost, "cliente_env-c.portal.interacoes.track")
        env.lifecycle.offboard("env-c")
        env.lifecycle.remove("env-c", force=True)
        assert not env.broker.has("vhosts", vhost)
