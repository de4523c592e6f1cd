"""Adoption: a tenant of the platform's list gets a stack of its own, also if the run is killed at any moment."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from kryonix.engines.engine import StackSpec, ignore
from kryonix.engines.errors import Refused
from kryonix.engines.events import OnEvent, Step, Summary
from kryonix.registry.desired_states import DesiredState
from kryonix.tenants.adoption import Adoption, TenantsFile
from kryonix.tenants.errors import UnknownTenant
from kryonix.topology.catalog import default_catalog
from kryonix.topology.cells import single_cell
from kryonix.topology.errors import InvalidInput
from kryonix.topology.notify import Notify
from kryonix.topology.objects import VhostState
from kryonix.topology.ownership import description

ENTRY = "  - id: acme\n    modules: [crm]\n    plan: basic\n"
LIST = f"# customers\ntenants:\n{ENTRY}  - {{id: beta, modules: [crm], plan: pro}}\n"
LEFT = "# customers\ntenants:\n  - {id: beta, modules: [crm], plan: pro}\n"
SIGNATURE = {"4dabf18193072939515e22adb298388d": "1b47061264138c4ac30d75fd1eb44270"}
ROOT = "pulumi:pulumi:Stack::kryonix-"
DESCRIBED = Step("", "acme/vhost", "rabbitmq:index/vHost:VHost", "update", ("description",))


class Killed(BaseException):
    """The end of the process."""


def urn(of: str, stack: str = "dev") -> str:
    return f"urn:pulumi:{stack}::kryonix::{of}{stack if of == ROOT else ''}"


def resource(of: str, type_: str, **fields: Any) -> dict[str, Any]:
    return {"urn": urn(of), "type": type_, "custom": "kryonix:" not in type_, "parent": urn(ROOT), **fields}


def component(id: str) -> str:
    return f"kryonix:messaging:TenantMessaging::{id}"


def platform_state() -> dict[str, Any]:
    made: dict[str, Any] = {"plan": "basic", "modules": ["crm"], "password": {**SIGNATURE, "plaintext": '"p"'}}
    outputs = {
        "management_url": "http://b",
        "registry_dsn": "x",
        "tenants": {"acme": made, "beta": {**made, "plan": "pro"}},
    }
    provider = f"{urn('pulumi:providers:rabbitmq::broker')}::uuid"
    resources = [
        {"urn": urn(ROOT), "type": "pulumi:pulumi:Stack", "custom": False, "outputs": outputs},
        resource("docker:index/volume:Volume::data", "docker:index/volume:Volume", id="v"),
        resource("pulumi:providers:rabbitmq::broker", "pulumi:providers:rabbitmq", id="uuid"),
    ]
    for id in ("acme", "beta"):
        vhost = f"kryonix:messaging:TenantMessaging$rabbitmq:index/vHost:VHost::{id}/vhost"
        resources += [
            resource(component(id), "kryonix:messaging:TenantMessaging"),
            resource(vhost, "rabbitmq:index/vHost:VHost")
            | {
                "parent": urn(component(id)),
                "provider": provider,
                "deletedWith": urn("docker:index/volume:Volume::data"),
                "dependencies": [urn("docker:index/volume:Volume::data"), urn("pulumi:providers:rabbitmq::broker")],
            },
        ]
    after = [urn(component("acme")), urn(component("beta"))]
    resources.append(resource("a::safeguards", "pulumi-python:dynamic/kryonix:BrokerSafeguards", dependencies=after))
    return {"version": 3, "deployment": {"manifest": {}, "resources": resources}}


class World:
    """Both stacks' states, the registry's rows and the vhost's owner; dies before or after its n-th change."""

    def __init__(self) -> None:
        self.states = {"dev": platform_state()}
        self.row: DesiredState | None = None
        self.status = "active"
        self.notify: Notify | None = None
        self.owner = "dev"
        self.steps: tuple[Step, ...] = (DESCRIBED,)
        self.dies: tuple[int, str] | None = None
        self.changes = 0

    def change(self, apply: Callable[[], None]) -> None:
        self.changes += 1
        if self.dies == (self.changes, "before"):
            raise Killed
        apply()
        if self.dies == (self.changes, "after"):
            raise Killed

    # the engine
    def export(self, stack: StackSpec, *, show_secrets: bool = False) -> dict[str, Any]:
        return self.states.get(stack.name, {})

    def rewrite(self, stack: StackSpec, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        before = self.states.get(stack.name, {"version": 3, "deployment": {}})
        after = json.loads(json.dumps(change(before)))
        self.change(lambda: self.states.update({stack.name: after}))

    def restore(self, stack: StackSpec, deployment: dict[str, Any]) -> None:
        raise NotImplementedError

    def outputs(self, stack: StackSpec, *, show_secrets: bool = True) -> dict[str, Any]:
        resources = self.states.get(stack.name, {}).get("deployment", {}).get("resources") or [{}]
        found: dict[str, Any] = resources[0].get("outputs") or {}
        return found

    def preview(self, stack: StackSpec, on_event: OnEvent = ignore) -> Summary:
        return Summary({}, self.steps)

    def up(self, stack: StackSpec, on_event: OnEvent = ignore) -> Summary:
        def apply() -> None:
            self.owner, self.notify = stack.name, None  # its own stack declares none

        self.change(apply)
        return Summary({"create": 1}, ())

    # the broker
    def vhosts(self) -> list[VhostState]:
        return [VhostState("/cliente_acme", description("acme", self.owner))]

    # the rows
    @contextmanager
    def lock(self, tenant_id: str) -> Iterator[None]:
        yield

    def live(self, tenant_id: str) -> DesiredState | None:
        return self.row

    def registered(self, tenant_id: str) -> tuple[str, Notify | None]:
        return self.status, self.notify

    def adopt(self, state: DesiredState) -> None:
        self.change(lambda: setattr(self, "row", state))

    def urns(self, stack: str) -> list[str]:
        return [data["urn"] for data in self.states[stack]["deployment"]["resources"]]


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "tenants.yaml").write_text(LIST)
    return tmp_path / "tenants.yaml"


@pytest.fixture
def adoption(world: World, file: Path, monkeypatch: pytest.MonkeyPatch) -> Adoption:
    monkeypatch.setattr("kryonix.tenants.adoption.TenantRows", lambda _: world)
    monkeypatch.setattr("kryonix.tenants.adoption.Broker.of", lambda _: world)
    engine: Any = world
    spec, cells = StackSpec(name="dev"), single_cell("dev")
    return Adoption("", engine, cells, default_catalog(), spec, TenantsFile(path=file))


def assert_adopted(world: World, file: Path) -> None:
    assert (world.owner, file.read_text()) == ("tenant-acme", LEFT)
    assert world.row == DesiredState(cliente_id="acme", modules=("crm",), plan="basic")
    vhost = "kryonix:messaging:TenantMessaging$rabbitmq:index/vHost:VHost::acme/vhost"
    names = (ROOT, "pulumi:providers:rabbitmq::broker", component("acme"), vhost)
    assert world.urns("tenant-acme") == [urn(name, "tenant-acme") for name in names]
    assert not [found for found in world.urns("dev") if "acme" in found]
    assert list(world.outputs(StackSpec(name="dev"))["tenants"]) == ["beta"]


def test_a_tenant_moves_with_what_its_resources_refer_to(world: World, adoption: Adoption, file: Path) -> None:
    done = adoption.run("acme")
    assert (done.stack, done.resources, done.lines) == ("tenant-acme", 2, (3, 5))
    assert_adopted(world, file)
    root, _, _, vhost = world.states["tenant-acme"]["deployment"]["resources"]
    assert root["outputs"]["tenants"]["acme"]["password"]["plaintext"] == '"p"'
    assert "registry_dsn" not in root["outputs"]
    assert vhost["provider"] == f"{urn('pulumi:providers:rabbitmq::broker', 'tenant-acme')}::uuid"
    assert vhost["dependencies"] == [urn("pulumi:providers:rabbitmq::broker", "tenant-acme")]
    assert "deletedWith" not in vhost
    assert vhost["protect"], "a `destroy` before the first `up` of its own stack deletes nothing"
    assert world.states["dev"]["deployment"]["resources"][-1]["dependencies"] == [urn(component("beta"))]


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_a_killed_adoption_is_finished_by_the_next(
    number: int, moment: str, world: World, adoption: Adoption, file: Path
) -> None:
    world.dies = (number, moment)
    with pytest.raises(Killed):
        adoption.run("acme")
    if urn(component("acme")) not in world.urns("dev"):
        assert world.row, "what manages the tenant is known before the platform forgets it"
    world.dies, world.changes = None, 0
    adoption.run("acme")
    assert_adopted(world, file)
    world.changes = 0
    assert adoption.run("acme").resources == 0
    assert world.changes == 0


@pytest.mark.parametrize("number", [1, 2, 3, 4, None])
def test_where_alerts_go_moves_along(number: int | None, world: World, adoption: Adoption, file: Path) -> None:
    notify = Notify(email=("ops@example.com",))
    file.write_text(LIST.replace("plan: basic", "plan: basic\n    notify: {email: [ops@example.com]}"))
    with pytest.raises(Refused, match="changes of 'acme' that are not applied: notify"):
        adoption.run("acme")
    world.notify = notify
    if number is not None:
        world.dies = (number, "after")
        with pytest.raises(Killed):
            adoption.run("acme")
        world.dies = None
    adoption.run("acme")
    assert world.row == DesiredState(cliente_id="acme", modules=("crm",), plan="basic", notify=notify)


def test_an_entry_put_back_into_the_list_is_removed_again(world: World, adoption: Adoption, file: Path) -> None:
    adoption.run("acme")
    file.write_text(LIST)
    world.changes = 0
    assert adoption.run("acme").lines == (3, 5)
    assert (file.read_text(), world.changes) == (LEFT, 0)


def test_an_entry_gone_meanwhile_is_not_missed(file: Path) -> None:
    file.write_text(LEFT)
    TenantsFile(path=file).remove("acme")
    assert file.read_text() == LEFT


def test_adoptions_at_once_change_the_list_one_after_the_other(file: Path) -> None:
    """The second waits for the first, which has read the list already."""
    folder = os.open(file.parent, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    with ThreadPoolExecutor(1) as pool:
        second = pool.submit(TenantsFile(path=file).remove, "acme")
        assert not wait([second], timeout=0.2).done
        file.write_text(f"# meanwhile\n{LIST}")
        os.close(folder)
        second.result(timeout=30)
    assert file.read_text() == f"# meanwhile\n{LEFT}"


def test_an_id_that_is_in_the_list_twice_is_refused(world: World, adoption: Adoption, file: Path) -> None:
    file.write_text(LIST + ENTRY)
    with pytest.raises(InvalidInput, match=r"tenants\.yaml:7: .*'acme' is already on line 3"):
        adoption.run("acme")
    assert world.changes == 0


def test_a_dry_run_changes_nothing(world: World, adoption: Adoption, file: Path) -> None:
    assert adoption.plan("acme").resources == 2
    assert (world.changes, file.read_text()) == (0, LIST)


def test_the_platforms_public_addresses_are_no_change(world: World, adoption: Adoption, file: Path) -> None:
    """The platform's own stack uses those of its machine, of each node too."""
    moved = ("managementUrl", "managementUrls", "amqpHost", "amqpAddresses", "dsn")
    world.steps = (DESCRIBED, Step("", "acme/safeguards", "pulumi-python:dynamic/kryonix:Safeguards", "update", moved))
    adoption.run("acme")
    assert_adopted(world, file)


def test_a_tenant_that_would_change_is_refused_and_stays(world: World, adoption: Adoption, file: Path) -> None:
    """Its queue would be replaced: the program or the catalog is another than that of the platform's last run."""
    world.steps = (DESCRIBED, Step("", "acme/crm.leads.create", "rabbitmq:index/queue:Queue", "replace", ("settings",)))
    with pytest.raises(Refused, match=r"replace acme/crm\.leads\.create"):
        adoption.run("acme")
    assert (world.owner, world.row, file.read_text()) == ("dev", None, LIST)
    assert world.urns("tenant-acme") == []
    assert urn(component("acme")) in world.urns("dev")


def test_a_suspended_tenant_stays_suspended(world: World, adoption: Adoption, file: Path) -> None:
    file.write_text(LIST.replace("plan: basic", "plan: basic\n    status: suspended"))
    world.status = "suspended"
    adoption.plan("acme")
    world.status = "active"
    with pytest.raises(Refused, match="changes of 'acme' that are not applied: status"):
        adoption.plan("acme")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (LIST.replace("[crm]\n    plan: basic", "[crm, portal]\n    plan: basic"), "not applied: modules"),
        (LEFT, "has no tenant 'acme', and the next `up` would remove it"),
    ],
)
def test_a_pending_change_of_the_list_comes_first(adoption: Adoption, file: Path, text: str, problem: str) -> None:
    file.write_text(text)
    with pytest.raises(Refused, match=problem):
        adoption.run("acme")


def test_an_unfinished_run_of_the_platform_comes_first(world: World, adoption: Adoption) -> None:
    pending = {"type": "updating", "resource": world.states["dev"]["deployment"]["resources"][4]}
    world.states["dev"]["deployment"]["pending_operations"] = [pending]
    with pytest.raises(Refused, match="unfinished"):
        adoption.run("acme")


def test_a_stale_copy_is_replaced_and_a_stack_in_charge_is_not(world: World, adoption: Adoption, file: Path) -> None:
    """The vhost's description decides: a stack in charge may have another password than the platform's state."""
    other = resource("rabbitmq:index/queue:Queue::own", "rabbitmq:index/queue:Queue")
    world.states["tenant-acme"] = {"version": 3, "deployment": {"resources": [other]}}
    world.owner = "tenant-acme"
    adoption.run("acme")
    assert world.urns("tenant-acme") == [other["urn"]]
    world.states["dev"], world.row, world.owner = platform_state(), None, "dev"
    file.write_text(LIST)
    adoption.run("acme")
    assert_adopted(world, file)


def test_a_vhost_that_the_broker_has_lost_comes_first(
    world: World, adoption: Adoption, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(world, "vhosts", list)
    with pytest.raises(Refused, match="the broker has no vhost /cliente_acme"):
        adoption.run("acme")
    assert world.changes == 0


def test_a_tenant_nobody_knows_is_not_found(adoption: Adoption) -> None:
    with pytest.raises(UnknownTenant):
        adoption.run("nobody")
