"""`kryonix tenant adopt`: a tenant leaves the platform's list for a stack of its own; the broker does not notice."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import aio_pika
import pytest

from tests.acceptance.conftest import ENGINES
from tests.support.live_broker import LiveBroker
from tests.support.project import Project, Result, tenant
from tests.support.waiting import eventually

QUEUE = "cliente_acme.crm.leads.create"
VHOST = "/cliente_acme"
LIST = """# Customers of this stack
tenants:
  - id: acme
    modules: [crm]
    plan: basic

  # asked for a break until May
  - id: beta
    modules: [portal]
    plan: basic
    status: suspended
  - {id: gamma, modules: [portal], plan: basic}
"""


@dataclass(frozen=True)
class Listed:
    """A platform with tenants in its list only, and the engine that made it."""

    platform: Project
    engine: str
    broker: LiveBroker

    @property
    def list(self) -> str:
        return (self.platform.folder / "tenants.yaml").read_text()

    def tenant(self, *arguments: str) -> Result:
        return self.platform.kryonix("tenant", *arguments, "--stack", self.platform.stack, "--engine", self.engine)

    def adopt(self, id: str, *arguments: str) -> Result:
        return self.tenant("adopt", id, *arguments)

    def begin(self, id: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self.platform.command("tenant", "adopt", id, "--stack", self.platform.stack, "--engine", self.engine),
            cwd=self.platform.folder,
            env=self.platform.env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def kill(self, id: str, once: Callable[[], object]) -> None:
        """Begin an adoption, and kill it as soon as something holds."""
        with self.begin(id) as process:
            try:
                eventually("the adoption can be killed", once, process=process)
            finally:
                process.kill()

    def has_state(self, stack: str) -> bool:
        """Return True if an engine has written the state of a stack."""
        folder = self.platform.folder
        places = (folder / ".kryonix" / "stacks" / stack / "checkpoint.json", folder.parent / "backend")
        return places[0].exists() or any("pending" not in p.name for p in places[1].rglob(f"{stack}.json"))

    def described(self, vhost: str) -> str:
        return str(self.broker.get("vhosts", vhost)["description"])

    def definitions(self) -> dict[str, Any]:
        """Return everything on the broker, without the vhosts' descriptions, and without the platform's notes."""
        found: dict[str, Any] = self.broker.get("definitions")
        found["vhosts"] = sorted(vhost["name"] for vhost in found["vhosts"])
        return {key: value for key, value in found.items() if key != "global_parameters"}

    def preview(self) -> Any:
        return self.changes(self.platform.run("preview", "--json", engine=self.engine))

    def converge(self, id: str) -> Any:
        return self.changes(self.tenant("converge", id, "--json"))

    @staticmethod
    def changes(result: Result) -> set[str]:
        assert result.returncode == 0, result.stderr
        changes = json.loads(result.stdout)["changes"]
        return {op for op, count in changes.items() if count and op not in ("same", "read", "refresh")}


@pytest.fixture(scope="module", params=ENGINES)
def listed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Listed]:
    folder = tmp_path_factory.mktemp("adopting")
    platform = Project.platform(folder / "project", tenant("acme"))
    platform.write("tenants.yaml", LIST)
    if request.param == "pulumi":
        platform.use_cli(folder / "backend")
    with platform.running(request.param):
        outputs = platform.must("outputs", "--show-secrets", engine=request.param)
        with LiveBroker(outputs) as broker:
            yield Listed(platform, request.param, broker)


def test_applications_do_not_notice_an_adoption_killed_twice(listed: Listed) -> None:
    """Killed once its own stack has a state, and again once the vhost names that stack."""
    before = listed.definitions()
    login = listed.broker.outputs["tenants"]["acme"]
    listed.broker.publish(VHOST, QUEUE, 3)

    async def stay_connected() -> None:
        async with await aio_pika.connect(login["amqp_uri"]) as connection:
            channel = await connection.channel()
            await channel.set_qos(prefetch_count=1)
            queue = await channel.get_queue(QUEUE, ensure=False)
            first = await queue.get()
            await asyncio.to_thread(listed.kill, "acme", lambda: listed.has_state("tenant-acme"))
            await asyncio.to_thread(listed.kill, "acme", lambda: "tenant-acme" in listed.described(VHOST))
            assert "acme" in listed.list, "killed before the end"
            await asyncio.to_thread(refused_meanwhile)
            await asyncio.to_thread(eventually, "adopted", lambda: listed.adopt("acme").returncode == 0)
            assert not connection.is_closed
            await first.ack()
            for _ in range(2):
                await (await queue.get()).ack()
            assert await queue.get(fail=False) is None

    def refused_meanwhile() -> None:
        result = listed.platform.run("preview", engine=listed.engine)
        assert (result.returncode, "kryonix tenant adopt acme" in result.stderr) == (2, True), result.stderr

    asyncio.run(stay_connected())
    assert listed.definitions() == before
    assert listed.list == LIST.replace("  - id: acme\n    modules: [crm]\n    plan: basic\n", "")


def test_both_stacks_have_nothing_to_change_afterwards(listed: Listed) -> None:
    assert listed.preview() == set()
    assert listed.converge("acme") == set()
    shown = listed.tenant("list", "--json")
    managed = {found["id"]: (found["managed_by"], found["converged"]) for found in json.loads(shown.stdout)}
    assert managed == {"acme": ("own stack", True), "beta": ("tenants.yaml", True), "gamma": ("tenants.yaml", True)}
    credentials = listed.tenant("credentials", "acme", "--json")
    assert json.loads(credentials.stdout)["password"] == listed.broker.outputs["tenants"]["acme"]["password"]


def test_a_suspended_tenant_is_adopted_suspended_and_resumes(listed: Listed) -> None:
    dry = json.loads(listed.adopt("beta", "--dry-run", "--json").stdout)
    assert (dry["stack"], dry["lines"], dry["dry_run"]) == ("tenant-beta", [5, 8], True)
    assert "beta" in listed.list
    before = listed.definitions()
    assert listed.adopt("beta").returncode == 0
    assert listed.definitions() == before
    assert "# asked for a break until May" in listed.list
    resumed = listed.tenant("resume", "beta", "--json")
    assert json.loads(resumed.stdout)["status"] == "active", resumed.stderr


def test_the_platform_runs_on_without_the_adopted_and_keeps_them(listed: Listed) -> None:
    """An entry put back into the list is refused; a tenant of the list still changes."""
    gamma = "  - {id: gamma, modules: [portal], plan: basic}\n"
    listed.platform.write("tenants.yaml", LIST[: LIST.index("\n  # asked")] + gamma)
    refused = listed.platform.run("up", engine=listed.engine)
    assert (refused.returncode, "'acme' belongs to the stack 'tenant-acme'" in refused.stderr) == (2, True)
    assert listed.adopt("acme").returncode == 0
    listed.platform.write("tenants.yaml", listed.list.replace("portal", "crm"))
    listed.platform.must("up", engine=listed.engine)
    assert {VHOST, "/cliente_beta", "/cliente_gamma"} <= listed.broker.vhosts()
