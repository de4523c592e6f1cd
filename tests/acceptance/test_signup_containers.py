"""A platform with `kryonix:signup: true`: the service, its worker and the exporter in containers."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import docker
import httpx
import pytest

from components.product import IMAGE, source_hash
from kryonix import __version__
from kryonix.tenants.credentials import Credentials
from tests.acceptance.conftest import changed
from tests.support.containers import output_of, process_status
from tests.support.live_broker import LiveBroker
from tests.support.project import ROOT, Project, free_port
from tests.support.signup_service import Caller
from tests.support.waiting import eventually

ROLES = ("exporter", "web", "worker")
SECRETS = ("admin_password", "registry_dsn", "signup_dsn", "events_uri", "metrics_password")


class Service:
    """The platform, and a caller with a key that may do everything."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.outputs = project.outputs()
        self.caller = Caller(self.outputs["signup_url"], self._key())
        self.docker = docker.from_env()

    def _key(self) -> str:
        stack = ("--stack", self.project.stack, "--engine", "local", "--json")
        made = self.project.kryonix("signup", "keys", "create", "a shop", "--scope", "admin", *stack)
        assert made.returncode == 0, made.stderr
        return str(json.loads(made.stdout)["key"])

    def container(self, role: str) -> Any:
        return self.docker.containers.get(f"kryonix-{self.project.stack}-{role}")

    def in_worker(self, *arguments: str) -> str:
        """Run a command that may run twice in the worker's container, where the state of its tenants is."""
        return output_of(self.container("worker"), "kryonix", *arguments, "--stack", self.project.stack)

    def kill(self, role: str) -> None:
        """Kill a container's process from outside, as a crash: `docker kill` would count as a stop by hand."""
        process = self.container(role).attrs["State"]["Pid"]
        command = ["-c", f"import os; os.kill({process}, 9)"]
        self.docker.containers.run(IMAGE, command, entrypoint="python", user="0", pid_mode="host", remove=True)

    def started(self, role: str) -> str:
        return str(self.container(role).attrs["State"]["StartedAt"])

    def all_back(self, started: dict[str, str]) -> bool:
        """Return True if every container is healthy after another start than this one."""
        states = {role: self.container(role).attrs["State"] for role in started}
        healthy = all(state.get("Health", {}).get("Status") == "healthy" for state in states.values())
        return healthy and all(state["StartedAt"] != started[role] for role, state in states.items())


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    # At once, unless the source has changed since the image was built.
    subprocess.run([ROOT / "scripts/product-image", IMAGE], check=True)
    folder = tmp_path_factory.mktemp("containers") / "project"
    project = Project.platform(folder, signup=True, signupPort=free_port())
    with project.running():
        made = Service(project)
        with closing(made.docker):
            yield made


def connects(credentials: Credentials, service: Service) -> bool:
    """Return True if the credentials open a connection at the broker's published address."""
    import aio_pika

    async def connect() -> None:
        async with await aio_pika.connect(credentials.amqp_uri, timeout=30):
            pass

    assert f":{service.outputs['amqp_port']}/" in credentials.amqp_uri
    asyncio.run(connect())
    return True


def test_the_image_has_no_build_tools_and_no_rights(service: Service) -> None:
    look = "id -u; command -v gcc cc make ld pip pip3 uv; find / -xdev -perm /6000 -type f; ls -A /root ~/.cache; true"
    printed = service.docker.containers.run(IMAGE, ["-c", look], entrypoint="sh", remove=True, stderr=False)
    assert printed.decode().split() == ["10001"]
    found = service.docker.images.get(IMAGE)
    assert found.labels["org.opencontainers.image.version"] == __version__
    assert found.attrs["Config"]["Healthcheck"]["Test"]
    assert not re.search(r"(?i)index-url|proxy|/opt/wheels", json.dumps(found.attrs) + json.dumps(found.history()))


def test_an_image_is_built_once_of_a_source(service: Service) -> None:
    def said(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(ROOT / "scripts/product-image"), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True)

    assert said("--source").stdout.strip() == source_hash(ROOT)
    reference = f"kryonix:{service.project.stack}"
    try:
        assert f"{reference} is this project's" in said(reference).stderr
        assert said(reference).stderr == f"images: {reference} is here\n"
    finally:
        service.docker.images.remove(reference)


@pytest.mark.parametrize("role", ROLES)
def test_a_container_has_no_capability_and_shows_no_secret(service: Service, role: str) -> None:
    container = service.container(role)
    fields = process_status(container)
    assert {int(fields[key], 16) for key in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {0}
    assert fields["Uid"].split()[0] != "0"
    assert fields["NoNewPrivs"].strip() == "1"
    assert container.exec_run(["touch", "/srv/kryonix/x"]).exit_code != 0
    secrets = [re.sub(r".*:([^@]+)@.*", r"\1", service.outputs[name]) for name in SECRETS]
    assert all(len(secret) > 20 for secret in secrets)
    shown = json.dumps(container.attrs) + container.logs().decode()
    assert not [secret for secret in secrets if secret in shown]
    state = (service.project.folder / ".kryonix" / "stacks" / service.project.stack / "checkpoint.json").read_text()
    assert not [secret for secret in secrets if secret in state]


def test_the_exporter_needs_no_rights_to_read_every_tenant(service: Service) -> None:
    service.caller.done("POST", "/v1/tenants", {"id": "counted", "modules": ["crm"], "plan": "basic"})
    ask = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:9420/metrics', timeout=30).read().decode())"

    def look() -> bool:
        metrics = output_of(service.container("exporter"), "python", "-c", ask)
        read = re.findall(r'source_readable\{source="(\w+)[^}]*"\} ([\d.]+)', metrics)
        return 'tenant_info{cliente_id="counted"' in metrics and {value for _, value in read} == {"1.0"}

    eventually("the exporter has the tenant", look)
    files = output_of(service.container("exporter"), "cat", "/etc/kryonix/platform.json")
    (known,) = json.loads(files).values()
    assert "admin_password" not in known
    assert "kryonix_exporter:" in known["registry_dsn"]


def test_a_tenant_is_created_over_http_and_its_credentials_work(service: Service) -> None:
    assert httpx.get(f"{service.outputs['signup_url']}/readyz", timeout=30).status_code == 200
    created = service.caller.done("POST", "/v1/tenants", {"id": "bought", "modules": ["crm"], "plan": "basic"})
    assert connects(service.caller.credentials(created), service)
    service.caller.done("PATCH", "/v1/tenants/bought", {"modules": ["crm", "financeiro"]})
    with LiveBroker(service.outputs) as broker:
        assert broker.has("vhosts", "/cliente_bought")


def test_a_command_without_the_services_state_changes_none_of_its_tenants(service: Service) -> None:
    created = service.caller.done("POST", "/v1/tenants", {"id": "guarded", "modules": ["crm"], "plan": "basic"})
    credentials = service.caller.credentials(created)
    stack = ("--stack", service.project.stack, "--engine", "local")
    for operation in ("converge", "rotate"):
        refused = service.project.kryonix("tenant", operation, "guarded", *stack)
        assert refused.returncode == 2, refused.stderr
        assert f"docker exec kryonix-{service.project.stack}-worker kryonix tenant" in refused.stderr
    assert connects(credentials, service)
    service.in_worker("tenant", "converge", "guarded")
    assert connects(credentials, service)
    mine = service.project.kryonix("tenant", "create", "own-made", "--modules", "crm", "--plan", "basic", *stack)
    assert mine.returncode == 0, mine.stderr
    assert service.project.kryonix("tenant", "converge", "own-made", *stack).returncode == 0


def test_killed_containers_come_back_and_the_operation_is_resumed(service: Service) -> None:
    started = {role: service.started(role) for role in ROLES}
    modules = ["crm", "financeiro", "agendamento", "whatsapp"]
    taken = service.caller.taken("POST", "/v1/tenants", {"id": "resumed", "modules": modules, "plan": "enterprise"})
    with LiveBroker(service.outputs) as broker:
        eventually("the worker has begun", lambda: broker.has("vhosts", "/cliente_resumed"))
    for role in ROLES:
        service.kill(role)
    eventually("all containers are back", lambda: service.all_back(started), 180)
    assert service.caller.ended(taken, 180)["status"] == "succeeded"
    assert connects(service.caller.credentials(taken), service)


def test_a_second_up_changes_nothing(service: Service) -> None:
    again = service.project.must("up")
    assert changed(again) == []


def test_turned_off_the_containers_go_and_the_tenants_stay(service: Service, tmp_path: Path) -> None:
    created = service.caller.done("POST", "/v1/tenants", {"id": "lasting", "modules": ["crm"], "plan": "basic"})
    credentials = service.caller.credentials(created)
    service.project.configure(signup=None)
    service.project.must("up")
    left = {container.name.rsplit("-", 1)[-1] for container in service.project.containers()}
    assert left == {"rabbitmq", "postgres"}
    assert connects(credentials, service)
    assert "signup_url" not in service.project.outputs()

    service.project.configure(signup=True)
    service.project.must("up")
    assert credentials.password in service.in_worker("tenant", "credentials", "lasting")
    service.caller.done("POST", "/v1/tenants/lasting/suspend")
