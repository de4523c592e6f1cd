"""A tenant stack finds its platform and registry in the outputs of the stacks in its config."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pulumi
import pytest
import yaml

from components import existing_platform
from components.existing_platform import ExistingPlatform
from components.guard import Guard
from kryonix.engines.local.errors import ProgramFailed
from kryonix.rabbitmq.counts import BrokerAccess
from tests.support.engine_testbed import EngineTestbed
from tests.support.mocked import registered

PLATFORM = """
for name in ("management_url", "admin_username", "admin_password", "amqp_host", "registry_dsn"):
    pulumi.export(name, f"{name} of " + pulumi.get_stack())
pulumi.export("amqp_port", 5672)
"""
TENANT = """
from components import existing_platform
from components.existing_platform import ExistingPlatform

existing_platform.answering = pulumi.Output.from_input  # there is no registry

class Open:
    def before_tenants(self, access):
        return access

found = ExistingPlatform.load(Open())
pulumi.export("found", [found.management_url, found.registry_dsn])
"""


@pytest.fixture
def testbed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EngineTestbed:
    """A project with two platforms."""
    monkeypatch.setenv("PULUMI_CONFIG_PASSPHRASE", "a test's own")
    monkeypatch.delenv("PULUMI_CONFIG_PASSPHRASE_FILE", raising=False)
    monkeypatch.delenv("KRYONIX_STATE_DIR", raising=False)
    testbed = EngineTestbed(tmp_path)
    testbed.program(PLATFORM)
    for stack in ("cell", "main"):
        testbed.stack(stack).up()
    return testbed


@pytest.mark.parametrize(
    ("registry", "stack"), [(None, "cell"), ("organization/demo/cell", "cell"), ("organization/demo/main", "main")]
)
def test_a_registry_is_found_in_the_named_stack(testbed: EngineTestbed, registry: str | None, stack: str) -> None:
    config = {"kryonix:platform": "organization/demo/cell"} | ({"kryonix:registry": registry} if registry else {})
    (testbed.folder / "Pulumi.tenant.yaml").write_text(yaml.safe_dump({"config": config}))
    testbed.program(TENANT)
    testbed.stack("tenant").up()
    assert testbed.stack("tenant").outputs()["found"] == ["management_url of cell", f"registry_dsn of {stack}"]


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_tenants_stack_names_the_nodes_only_if_there_are_several(testbed: EngineTestbed, count: int) -> None:
    """A platform of one node, or of an older version, has the tenants' stacks that it always had."""
    urls = [f"http://127.0.0.1:{port}" for port in range(1, count + 1)]
    platform = f"pulumi.export('management_urls', {urls})\n" if urls else ""
    testbed.program(PLATFORM + platform + f"pulumi.export('amqp_addresses', {[url[7:] for url in urls]})\n")
    testbed.stack("cell").up()
    config = {"kryonix:platform": "organization/demo/cell"}
    (testbed.folder / "Pulumi.tenant.yaml").write_text(yaml.safe_dump({"config": config}))
    nodes = "found.access.apply(lambda known: [*known.management_urls, *known.amqp_addresses])"
    testbed.program(TENANT + f"pulumi.export('nodes', {nodes})\npulumi.export('own', found.nodes)\n")
    testbed.stack("tenant").up()
    found = testbed.stack("tenant").outputs()["nodes"]
    assert found == ([*urls, *(url[7:] for url in urls)] if count > 1 else [])
    assert testbed.stack("tenant").outputs()["own"] == {
        "management_urls": urls,
        "amqp_addresses": [url[7:] for url in urls],
    }


@pytest.mark.parametrize("tls", ["true", "auto"])
def test_a_platform_in_the_config_has_every_node_that_it_names(tls: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its tenants have TLS by the config's own word: the management API may be behind a proxy."""
    urls, addresses = ["https://one:15671", "https://two:15671"], ["one:5671", "two:5671"]
    monkeypatch.setattr(existing_platform, "answering", pulumi.Output.from_input)
    monkeypatch.setattr(existing_platform, "endpoint_of", lambda access: access.management_urls[1])
    monkeypatch.delenv("KRYONIX_PLATFORM_FILE", raising=False)
    given = {
        "managementUrl": urls[0],
        "managementUrls": json.dumps(urls),
        "amqpAddresses": json.dumps(addresses),
        "advertisedHost": "one",
        "amqpPort": "5671",
        "adminUsername": "admin",
        "adminPassword": "the admin's",
        "registryDsn": "postgresql://r:its-own@postgres/kryonix_main",
        "tls": tls,
    }
    found: list[BrokerAccess] = []
    nodes: dict[str, object] = {}

    def program() -> None:
        secrets = ["kryonix:adminPassword", "kryonix:registryDsn"]
        pulumi.runtime.set_all_config({f"kryonix:{key}": value for key, value in given.items()}, secrets)
        platform = ExistingPlatform.load(cast("Guard", SimpleNamespace(before_tenants=lambda access: access)))
        platform.access.apply(found.append)
        pulumi.Output.all(**platform.nodes).apply(nodes.update)
        pulumi.Output.from_input(platform.endpoint).apply(lambda known: nodes.update(endpoint=known))

    registered(program)
    (access,) = found
    assert (list(access.management_urls), list(access.amqp_addresses)) == (urls, addresses)
    assert (access.management_url, access.amqp_port, access.amqp_tls) == (urls[0], 5671, tls == "true")
    assert nodes == {"management_urls": urls, "amqp_addresses": addresses, "endpoint": urls[1]}


def test_a_described_platform_needs_no_stack_and_keeps_its_public_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PULUMI_CONFIG_PASSPHRASE", "a test's own")
    monkeypatch.delenv("KRYONIX_STATE_DIR", raising=False)
    testbed, file = EngineTestbed(tmp_path), tmp_path / "platform.json"
    outputs = {
        "management_url": "http://rabbitmq:15672",
        "admin_username": "admin",
        "admin_password": "the admin's",
        "amqp_host": "rabbitmq",
        "amqp_port": 5672,
        "registry_dsn": "postgresql://r:its-own@postgres/kryonix_main",
        "amqp_addresses": ["rabbitmq:5671"],
    }
    advertised: dict[str, Any] = {
        "management_url": "https://panel.example",
        "amqp_host": "amqp.example",
        "amqp_port": 5671,
    }
    file.write_text(json.dumps({"cell": outputs | {"advertised": advertised}}))
    monkeypatch.setenv("KRYONIX_PLATFORM_FILE", str(file))
    (testbed.folder / "Pulumi.tenant.yaml").write_text(
        yaml.safe_dump({"config": {"kryonix:platform": "organization/demo/cell"}})
    )
    reached = "[found.endpoint, found.amqp_host, found.amqp_port]"
    testbed.program(TENANT + f"pulumi.export('reached', {reached})\npulumi.export('nodes', found.nodes)\n")
    testbed.stack("tenant").up()
    found = testbed.stack("tenant").outputs()
    assert found["nodes"] == {"management_urls": [], "amqp_addresses": []}, "those in it are not the tenant's"
    assert found["found"] == ["https://panel.example", "[secret]"]
    assert found["reached"] == ["http://rabbitmq:15672", "amqp.example", 5671]

    advertised["amqp_addresses"] = ["amqp.example:5671", "amqp2.example:5671"]
    file.write_text(json.dumps({"cell": outputs | {"advertised": advertised}}))
    testbed.stack("tenant").up()
    assert testbed.stack("tenant").outputs()["nodes"]["amqp_addresses"] == advertised["amqp_addresses"]

    file.write_text(json.dumps({"cell": {"management_url": "http://rabbitmq:15672"}}))
    with pytest.raises(ProgramFailed, match="lacks admin_username, admin_password, amqp_host, amqp_port, registry_dsn"):
        testbed.stack("tenant").up()
