"""Platform changes keep the tenants' queues, whatever config key or container changes."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import docker
import pytest
import yaml

from kryonix.messaging import MessagingClient, MessagingError
from tests.acceptance.conftest import OWN, Stacks, changed
from tests.support.live_broker import LiveBroker
from tests.support.project import ROOT, Project, free_port, tenant
from tests.support.tls import CA
from tests.support.waiting import eventually_async

CONTAINERS: Final = frozenset({"platform-rabbitmq-container", "platform-postgres-container"})


def copied(name: str) -> Callable[[Stacks], dict[str, Any]]:
    """The same file under another name."""

    def entry(stacks: Stacks) -> dict[str, Any]:
        key = {"tenants.yaml": "tenantsFile"}.get(name, "catalogFile")
        stacks.platform.write(f"copied-{key}.yaml", (stacks.platform.folder / name).read_bytes())
        return {key: f"copied-{key}.yaml"}

    return entry


def value(key: str, of: Any) -> Callable[[Stacks], dict[str, Any]]:
    return lambda _: {key: of() if callable(of) else of}


def by_address(stacks: Stacks) -> dict[str, Any]:
    """The platform named by its address and credentials instead of its stack."""
    outputs = stacks.platform.must("outputs", "--show-secrets", engine=stacks.engine)
    return {
        "platform": None,
        "managementUrl": outputs["management_url"],
        "managementUrls": outputs["management_urls"],
        "amqpAddresses": outputs["amqp_addresses"],
        "advertisedHost": outputs["amqp_host"],
        "amqpPort": outputs["amqp_port"],
        "adminUsername": outputs["admin_username"],
        "adminPassword": stacks.own.secret(outputs["admin_password"]),
        "registryDsn": stacks.own.secret(outputs["registry_dsn"]),
        "caCertificate": outputs["ca_certificate"],
    }


def by_acme() -> dict[str, Any]:
    return {
        "tls": "true",
        "acmeDirectory": "https://ca.example.com/directory",
        "acmeNames": ["messaging.example.com"],
        "acmeContact": "operators@example.com",
        "acmePort": free_port(),
        "caCertificate": CA.pem,
    }


OF_A_PLATFORM: Final[dict[str, Callable[[Stacks], dict[str, Any]]]] = {
    "tenantsFile": copied("tenants.yaml"),
    "catalogFile": copied("kryonix/topology/catalog.yaml"),
    "bindAddress": value("bindAddress", "127.0.0.2"),
    "advertisedHost": value("advertisedHost", "mensagens.test"),
    "amqpPort": value("amqpPort", free_port),
    "managementPort": value("managementPort", free_port),
    "metricsAddress": value("metricsAddress", "0.0.0.0"),
    "metricsPort": value("metricsPort", free_port),
    "receiveTime": value("receiveTime", True),
    "registryPort": value("registryPort", free_port),
    "domain": value("domain", "example.com"),
    "tls": value("tls", "true"),
    "caTrusted": value("caTrusted", [1, 2]),
    "caIssuing": lambda _: {"caTrusted": [1, 2], "caIssuing": 2},
    "certificateDir": lambda _: {"tls": "true", "certificateDir": "/etc/certificates", "caCertificate": CA.pem},
    **dict.fromkeys(("acmeDirectory", "acmeNames", "acmeContact", "acmePort"), lambda _: by_acme()),
    "brokerImage": value("brokerImage", "rabbitmq:4.3.99-management"),
    "brokerMemoryMb": value("brokerMemoryMb", 1280),
    "postgresImage": value("postgresImage", "postgres:17.99"),
    "deletionProtection": value("deletionProtection", False),
    "allowDelete": value("allowDelete", ["cliente_acme.crm.leads.create"]),
    "protect": value("protect", True),
}
OF_SERVICES: Final[dict[str, Any]] = {
    "balancer": True,
    "balancerImage": "haproxy:3.2.99",
    "balancerPort": free_port(),
    "monitoring": True,
    "prometheusImage": "prom/prometheus:v3.5.99",
    "alertmanagerImage": "prom/alertmanager:v0.33.99",
    "grafanaImage": "grafana/grafana:12.99",
    "monitoringAddress": "0.0.0.0",
    "prometheusPort": free_port(),
    "alertmanagerPort": free_port(),
    "grafanaPort": free_port(),
    "metricsRetention": "3d",
    "workerTargets": ["127.0.0.1:9500"],
    "alertWebhook": "https://hooks.example.com/alerts",
    "smtpHost": "mail.example.com:587",
    "smtpFrom": "kryonix@example.com",
    "smtpUsername": "kryonix",
    "smtpPassword": "example",
    "smtpTls": False,
    "signup": True,
    "signupAddress": "0.0.0.0",
    "signupPort": free_port(),
    "productImage": "kryonix:9.9.9",
    "backup": True,
    "backupTo": "s3://bundles/messaging",
    "backupRecipients": ["age1lggyhqrw2nlhcxprm67z43rta597azn8gknawjehu9d9dl0jq3yqqvfafg"],
    "backupCredentials": '{"aws_region": "sa-east-1"}',
    "backupAt": "03:30",
    "backupTimeZone": "America/Sao_Paulo",
    "backupJitterMinutes": 0,
    "backupKeepDaily": 3,
    "backupKeepWeekly": 0,
    "backupKeepMonthly": 1,
}
"""Keys of the services beside the broker. They have containers of their own, so one change tries all."""
OF_A_CLUSTER: Final = frozenset({"brokerNodes", "hosts"})
"""Keys that no run changes by itself: test_cluster.py tries them."""
OF_ONE_TENANT: Final[dict[str, Callable[[Stacks], dict[str, Any]]]] = {
    "tenant": value("tenant", {**OWN, "plan": "enterprise", "status": "suspended"}),
    "platform": by_address,
    "registry": lambda stacks: {"registry": f"organization/kryonix/{stacks.platform.stack}"},
    "credentials": value("credentials", {"generation": 2, "retiring": 1}),
    "sold": value("sold", ["crm"]),
    "managementUrl": by_address,
    "managementUrls": by_address,
    "amqpAddresses": by_address,
    "adminUsername": by_address,
    "adminPassword": by_address,
    "registryDsn": by_address,
    "caCertificate": by_address,
}


def test_every_config_key_is_tried() -> None:
    declared = yaml.safe_load((ROOT / "Pulumi.yaml").read_text())["config"]
    assert declared.keys() == OF_A_CLUSTER | OF_A_PLATFORM.keys() | OF_SERVICES.keys() | OF_ONE_TENANT.keys()


def assert_tenants_stay(stacks: Stacks, stack: Project, changes: dict[str, Any]) -> None:
    """That nothing but containers would be replaced, and nothing deleted."""
    before = yaml.safe_load(stack.config_file.read_text())["config"]
    stack.configure(**changes)
    try:
        steps = stacks.preview(stack)["steps"]
    finally:
        stack.configure(**{key: before.get(f"kryonix:{key}") for key in changes})
    read = "pulumi:pulumi:StackReference"
    lost = {step["name"] for step in steps if step["op"] in ("replace", "delete") and step["type"] != read}
    assert lost <= CONTAINERS, sorted(lost - CONTAINERS)


@pytest.mark.parametrize("key", OF_A_PLATFORM)
def test_no_platform_config_key_replaces_a_tenants_resource(stacks: Stacks, key: str) -> None:
    assert_tenants_stay(stacks, stacks.platform, OF_A_PLATFORM[key](stacks))


def test_no_key_of_the_services_replaces_a_tenants_resource(stacks: Stacks) -> None:
    secrets = {key: stacks.platform.secret(OF_SERVICES[key]) for key in ("smtpPassword", "backupCredentials")}
    assert_tenants_stay(stacks, stacks.platform, {**OF_SERVICES, **secrets})


@pytest.mark.parametrize("key", OF_ONE_TENANT)
def test_no_tenant_stack_config_key_replaces_a_resource(stacks: Stacks, key: str) -> None:
    assert_tenants_stay(stacks, stacks.own, OF_ONE_TENANT[key](stacks))


def test_replacing_a_platform_part_replaces_containers_only(stacks: Stacks) -> None:
    """Compute from the state which resources an engine would replace with each platform resource."""
    result = stacks.platform.run("export", engine=stacks.engine)
    resources = {entry["urn"]: entry for entry in json.loads(result.stdout)["deployment"]["resources"]}
    needed_by = defaultdict(set)
    for urn, entry in resources.items():
        dependencies = (entry.get("propertyDependencies") or {}).values()
        for needed in (
            entry.get("provider", "").rpartition("::")[0],
            *(d for deps in dependencies for d in deps or ()),
        ):
            needed_by[needed].add(urn)
    parts = [urn for urn, entry in resources.items() if entry["type"].startswith("docker:")]
    parts += [urn for urn in resources if "kryonix:messaging:Exporter$" in urn or "PostgresContainer$" in urn]
    assert len(parts) > 6
    for part in parts:
        falling = needed_by[part] | {u for urn in needed_by[part] for u in needed_by[urn]}
        held = {urn for urn in falling if "TenantMessaging" in urn or "postgresql:" in urn or "SharedVhosts" in urn}
        # Safeguards are dynamic resources, which take other values in place.
        replaced = {urn for urn in held if not urn.split("::")[2].endswith(("TenantRecord", "Safeguards"))}
        own_password = "random:index/randomPassword:RandomPassword" in part
        assert own_password or not replaced, (part, sorted(replaced))


def test_an_unchanged_stack_previews_no_change(stacks: Stacks) -> None:
    for stack in (stacks.platform, stacks.own):
        assert changed(stacks.preview(stack)) == []


@dataclass
class Traffic:
    """An application that publishes with confirms and consumes, on its own, through whatever the platform does."""

    client: MessagingClient
    confirmed: list[tuple[int, float]] = field(default_factory=list)
    handled: set[int] = field(default_factory=set)
    _ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def publish(self) -> None:
        number = 0
        while not self._ended.is_set():
            number += 1
            try:
                await self.client.crm.send("leads.create", {"number": number}, timeout=2)
            except MessagingError:
                continue  # not confirmed, so it may be lost
            self.confirmed.append((number, time.monotonic()))

    async def handle(self, message: Any) -> None:
        self.handled.add(message.data["number"])

    async def confirms(self, more: int) -> None:
        """Wait until so many more are confirmed."""
        wanted = len(self.confirmed) + more
        await eventually_async(lambda: len(self.confirmed) >= wanted)

    async def all_handled(self) -> None:
        self._ended.set()
        await eventually_async(lambda: {number for number, _ in self.confirmed} <= self.handled, every=0.1)

    def gap_s(self) -> float:
        times = [at for _, at in self.confirmed]
        return max(after - before for before, after in pairwise(times))


@asynccontextmanager
async def traffic(uri: str) -> AsyncIterator[Traffic]:
    client = await MessagingClient.connect(uri, application="traffic", timeout=30)
    async with client:
        running = Traffic(client)
        await client.crm.consume("leads.create", running.handle)
        publishing = asyncio.create_task(running.publish())
        await running.confirms(20)
        try:
            yield running
            await running.all_handled()
        finally:
            running._ended.set()
            await publishing


@pytest.fixture(scope="module")
def another_image() -> Iterator[str]:
    """The broker's image under another tag: to Docker and to the engines, another version."""
    client = docker.from_env()
    image = yaml.safe_load((ROOT / "Pulumi.yaml").read_text())["config"]["brokerImage"]["default"]
    tag = f"kryonix-tests-{free_port()}"
    client.images.get(image).tag("rabbitmq", tag)
    yield f"rabbitmq:{tag}"
    client.images.remove(f"rabbitmq:{tag}", noprune=True)
    client.close()


@pytest.mark.parametrize("change", ["a new image", "a port", "memory and receive time", "the registry's port"])
def test_no_confirmed_message_is_lost_while_the_platform_changes(
    stacks: Stacks, change: str, another_image: str
) -> None:
    changes: dict[str, dict[str, Any]] = {
        "a new image": {"brokerImage": another_image},
        "a port": {"metricsPort": free_port()},
        "memory and receive time": {"brokerMemoryMb": 1100, "receiveTime": True},
        "the registry's port": {"registryPort": free_port()},
    }
    platform, engine = stacks.platform, stacks.engine
    outputs = platform.must("outputs", "--show-secrets", engine=engine)
    kept = "cliente_acme.crm.contacts.sync"
    with LiveBroker(outputs) as broker:
        broker.publish("/cliente_acme", kept, 5)

        async def through() -> float:
            async with traffic(outputs["tenants"]["acme"]["amqp_uri"]) as running:
                platform.configure(**changes[change])
                summary = await asyncio.to_thread(platform.must, "up", engine=engine)
                assert "delete" not in summary["changes"]
                replaced = {step["name"] for step in summary["steps"] if step["op"] == "replace"}
                assert replaced <= CONTAINERS
                await running.confirms(20)
            return running.gap_s()

        print(f"{change}: the longest gap between two confirmed messages was {asyncio.run(through()):.1f} s")
        assert broker.take("/cliente_acme", kept, 10) == 5
    assert changed(stacks.preview(platform)) == []
    # What a tenant's own stack reads of the platform may have moved: it follows in place.
    assert_tenants_stay(stacks, stacks.own, {})


def test_one_run_moves_a_platform_and_removes_a_tenant(stacks: Stacks) -> None:
    """The removed tenant's resources hold the address of the last `up`, which no longer answers."""
    platform, engine = stacks.platform, stacks.engine
    listed = tenant("acme", "crm", plan="basic")
    platform.tenants(listed, tenant("leaving", "crm", plan="basic"))
    platform.must("up", engine=engine)
    platform.tenants(listed)
    platform.configure(managementPort=free_port(), registryPort=free_port())
    platform.must("up", engine=engine)
    with LiveBroker(platform.must("outputs", "--show-secrets", engine=engine)) as broker:
        assert "/cliente_leaving" not in broker.vhosts()
        assert "/cliente_acme" in broker.vhosts()
    assert changed(stacks.preview(platform)) == []


@pytest.mark.parametrize("stacks", ["local"], indirect=True)
@pytest.mark.parametrize("mistake", ["a port that is taken", "an image that there is none of"])
def test_a_running_container_survives_a_failing_replacement(stacks: Stacks, mistake: str) -> None:
    platform = stacks.platform
    before = yaml.safe_load(platform.config_file.read_text())["config"]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        wrong = {"metricsPort": port} if "port" in mistake else {"brokerImage": "rabbitmq:there-is-none"}
        platform.configure(**wrong)
        refused = platform.run("up")
    platform.configure(**{key: before.get(f"kryonix:{key}") for key in wrong})
    assert refused.returncode == 3, (refused.stdout, refused.stderr)
    assert (f"127.0.0.1:{port}" if "port" in mistake else "rabbitmq:there-is-none") in refused.stderr
    with LiveBroker(platform.outputs()) as broker:
        assert "/cliente_acme" in broker.vhosts()
    assert changed(platform.must("up")) == []


def test_a_protected_platform_can_be_changed(stacks: Stacks) -> None:
    platform = stacks.platform
    platform.configure(protect=True)
    platform.must("up", engine=stacks.engine)
    platform.configure(domain="protected.example.com")
    summary = platform.must("up", engine=stacks.engine)
    assert {step["name"] for step in summary["steps"] if step["op"] == "replace"} == {"platform-rabbitmq-container"}
    platform.configure(protect=False)
    platform.must("up", engine=stacks.engine)


def test_a_stopped_broker_restarts_with_more_memory_and_all_messages(stacks: Stacks) -> None:
    """The way out for a broker that is killed at every start: no question has to be answered by it first."""
    platform = stacks.platform
    with LiveBroker(platform.must("outputs", "--show-secrets", engine=stacks.engine)) as broker:
        broker.publish("/cliente_acme", "cliente_acme.crm.contacts.sync", 2)
        client = docker.from_env()
        client.containers.get(f"kryonix-{platform.stack}-rabbitmq").kill()
        client.close()
        platform.configure(brokerMemoryMb=1300)
        platform.must("up", engine=stacks.engine)
        assert broker.take("/cliente_acme", "cliente_acme.crm.contacts.sync", 10) == 2


def test_a_platform_with_lost_state_is_not_taken_over(stacks: Stacks, tmp_path: Path) -> None:
    """Whatever is still there: it runs, its containers are stopped, or only their data is left."""
    lost = object.__new__(Project)
    lost.__dict__.update(stacks.platform.__dict__)
    lost.env = {**stacks.platform.env, "KRYONIX_STATE_DIR": str(tmp_path / "empty")}
    (tmp_path / "backend").mkdir()
    lost.env["PULUMI_BACKEND_URL"] = f"file://{tmp_path / 'backend'}"
    refused = lost.run("up", engine=stacks.engine)
    assert refused.returncode == 2, (refused.stdout, refused.stderr)
    assert "whose state is empty: another run made this broker" in refused.stderr
    assert "Traceback" not in refused.stderr
    outputs = stacks.platform.must("outputs", "--show-secrets", engine=stacks.engine)
    with LiveBroker(outputs) as broker:
        assert "/cliente_acme" in broker.vhosts()  # with the password that it had
    assert changed(stacks.preview(stacks.platform)) == []
