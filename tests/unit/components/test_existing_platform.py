"""A tenant stack finds its platform and registry in the outputs of the stacks in its config."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

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
