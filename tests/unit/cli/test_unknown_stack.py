"""A mistyped `--stack`: refused before anything runs, with the stacks that exist."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from kryonix.cli.app import app
from kryonix.engines.errors import Refused
from kryonix.engines.local.errors import StateCorrupt
from kryonix.errors import InvalidChoice

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(ROOT / "Pulumi.yaml", tmp_path)
    (tmp_path / "__main__.py").touch()
    (tmp_path / "Pulumi.dev.yaml").write_text("config: {}\n")
    (tmp_path / "Pulumi.prod.yaml").write_text("config: {}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KRYONIX_STATE_DIR", str(tmp_path / "state"))


def refusal(*arguments: str) -> str:
    result = CliRunner().invoke(app, arguments)
    assert isinstance(result.exception, InvalidChoice), result.exception
    return str(result.exception)


@pytest.mark.parametrize("command", ["preview", "up --yes", "refresh --yes", "destroy --yes", "outputs", "status"])
def test_a_mistyped_stack_is_refused_with_the_nearest_one(command: str) -> None:
    said = refusal(*command.split(), "--stack", "dve", "--engine", "local")
    assert "there is no stack 'dve'; did you mean 'dev'? Allowed: dev, prod" in said
    assert "For a new stack, write Pulumi.dve.yaml first" in said


def test_messages_of_a_mistyped_stack_are_refused_too() -> None:
    assert "there is no stack 'dve'; did you mean 'dev'?" in refusal("stats", "--stack", "dve")


def test_tenants_of_a_mistyped_stack_are_refused_with_the_nearest_one() -> None:
    said = refusal("tenant", "list", "--stack", "dve", "--engine", "local")
    assert "stack 'dve' has no registry in its outputs: nothing is deployed" in said
    assert "did you mean 'dev'? Allowed: dev, prod" in said


@pytest.mark.parametrize("command", ["tenant list", "check"])
def test_a_tenants_stack_is_not_taken_for_a_platform(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    outputs = {"registry_stack": "organization/kryonix/dev"}
    monkeypatch.setattr("kryonix.cli.site.engine_for", lambda *_, **__: SimpleNamespace(outputs=lambda _: outputs))
    said = refusal(*command.split(), "--stack", "tenant-acme")
    assert said == "stack 'tenant-acme' is a tenant's, not a platform's. Give the platform's: --stack dev"


@pytest.mark.parametrize("name", ["", "a b", "../dev"])
@pytest.mark.parametrize("command", ["preview", "status", "tenant list", "fleet status", "signup keys list"])
def test_an_invalid_stack_name_is_refused_by_every_command(command: str, name: str) -> None:
    refused = CliRunner().invoke(app, [*command.split(), "--stack", name]).exception
    assert isinstance(refused, Refused), refused
    assert "is not a valid stack name (letters, digits" in str(refused)


def test_a_stack_that_is_not_deployed_yet_can_be_created() -> None:
    assert "Run `kryonix up --stack prod`" in refusal("stats", "--stack", "prod")


@pytest.mark.parametrize("state", [b"{", b"[]", b'{"version": 3}', b"\xff"], ids=repr)
def test_a_stack_can_be_read_beside_one_whose_state_is_damaged(tmp_path: Path, state: bytes) -> None:
    made = gzip.decompress((ROOT / "tests/fixtures/made_by_f0fe35a/tenant-own.json.gz").read_bytes())
    for stack, content in (("tenant-own", made), ("tenant-bad", state)):
        folder = tmp_path / "state" / stack
        folder.mkdir(parents=True)
        (folder / "checkpoint.json").write_bytes(content)
    result = CliRunner().invoke(app, ["export", "--stack", "tenant-own", "--engine", "local"])
    assert result.exit_code == 0, result.exception
    result = CliRunner().invoke(app, ["export", "--stack", "tenant-bad", "--engine", "local"])
    assert isinstance(result.exception, StateCorrupt)
    assert "did you mean 'tenant-bad'" in refusal("export", "--stack", "tenant-bed", "--engine", "local")


@pytest.mark.parametrize("command", ["stats", "send crm.leads.create 1", "consume crm.leads.create", "redrive"])
def test_every_command_takes_the_same_stack_by_default(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("KRYONIX_AMQP_URI", "KRYONIX_OUTPUTS"):
        monkeypatch.delenv(name, raising=False)
    assert "stack 'dev' has no outputs" in refusal(*command.split())
