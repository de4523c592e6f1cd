"""A tenant stack finds its platform and registry in the outputs of the stacks in its config."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from kryonix.engines.local.errors import ProgramFailed
from tests.support.engine_testbed import EngineTestbed

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
    testbed.program(TENANT + f"pulumi.export('nodes', {nodes})\n")
    testbed.stack("tenant").up()
    found = testbed.stack("tenant").outputs()["nodes"]
    assert found == ([*urls, *(url[7:] for url in urls)] if count > 1 else [])


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
    }
    advertised = {"management_url": "https://panel.example", "amqp_host": "amqp.example", "amqp_port": 5671}
    file.write_text(json.dumps({"cell": outputs | {"advertised": advertised}}))
    monkeypatch.setenv("KRYONIX_PLATFORM_FILE", str(file))
    (testbed.folder / "Pulumi.tenant.yaml").write_text(
        yaml.safe_dump({"config": {"kryonix:platform": "organization/demo/cell"}})
    )
    testbed.program(TENANT + "pulumi.export('reached', [found.endpoint, found.amqp_host, found.amqp_port])\n")
    testbed.stack("tenant").up()
    found = testbed.stack("tenant").outputs()
    assert found["found"] == ["https://panel.example", "[secret]"]
    assert found["reached"] == ["http://rabbitmq:15672", "amqp.example", 5671]

    file.write_text(json.dumps({"cell": {"management_url": "http://rabbitmq:15672"}}))
    with pytest.raises(ProgramFailed, match="lacks admin_username, admin_password, amqp_host, amqp_port, registry_dsn"):
        testbed.stack("tenant").up()
