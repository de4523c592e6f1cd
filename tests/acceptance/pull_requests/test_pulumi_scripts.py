"""The scripts of the workflow steps that run the Pulumi CLI with the policy pack."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.support.checkout import Checkout
from tests.support.project import ROOT, Project, tenant

needs_pulumi = pytest.mark.skipif(
    shutil.which("pulumi") is None, reason="these run the real CLI, and there is no `pulumi` on PATH"
)


def accepted(object_: str) -> str:
    entry = {"guardrail": "queue-lost", "tenant": "acme", "object": object_, "reason": "nobody uses it"}
    return yaml.safe_dump({"accepted": [entry]})


def pulumi(checkout: Checkout, *arguments: str, given: str | None = None) -> None:
    done = subprocess.run(
        ["pulumi", *arguments, "--non-interactive"],
        cwd=checkout.folder, env=checkout.project.env, input=given, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"pulumi {arguments[0]}:\n{done.stdout}\n{done.stderr}"


def begun(project: Project, backend: Path) -> Checkout:
    """A checkout whose stack exists in a backend of its own."""
    backend.mkdir()
    project.env |= {"PULUMI_BACKEND_URL": f"file://{backend}", "PULUMI_SKIP_UPDATE_CHECK": "true"}
    checkout = Checkout(project)
    pulumi(checkout, "stack", "init", project.stack)
    checkout.commit()
    return checkout


@pytest.fixture
def new_platform(tmp_path: Path) -> Checkout:
    """A platform that has never been made: a preview of it needs no service."""
    project = Project.platform(tmp_path / "project", tenant("acme", "crm", "financeiro"))
    return begun(project, tmp_path / "backend")


@pytest.fixture
def one_tenant(platform: Project, tmp_path: Path) -> Iterator[Checkout]:
    """A stack of one tenant on a platform that is up, which it knows by address and credentials."""
    outputs = platform.outputs()
    project = Project(tmp_path / "project", "tenant-acme2")
    known = {"advertisedHost": outputs["amqp_host"], "amqpPort": outputs["amqp_port"]}
    known |= {"managementUrl": outputs["management_url"], "adminUsername": outputs["admin_username"]}
    project.configure(tenant=tenant("acme2", "crm", "financeiro", plan="pro"), deletionProtection=False, **known)
    project.tenants()
    checkout = begun(project, tmp_path / "backend")
    for key, output in (("adminPassword", "admin_password"), ("registryDsn", "registry_dsn")):
        where = ("--secret", "--stack", project.stack, f"kryonix:{key}")
        pulumi(checkout, "config", "set", *where, given=outputs[output])
    checkout.commit()
    yield checkout
    pulumi(checkout, "destroy", "--yes", "--skip-preview", "--stack", project.stack)


@needs_pulumi
def test_a_preview_of_a_new_stack_passes_and_blocks_unintended_changes(new_platform: Checkout) -> None:
    stack = new_platform.project.stack
    passed = new_platform.script("preview", stack, "HEAD")
    assert passed.returncode == 0, passed.stdout + passed.stderr
    assert "kryonix-guardrails" in passed.stdout
    new_platform.project.tenants(tenant("acme", "crm"))
    held = new_platform.script("preview", stack, "HEAD")
    assert held.returncode != 0
    assert "queue-lost" in held.stdout
    assert "cliente_acme.financeiro." in held.stdout
    new_platform.write("accepted-changes.yaml", accepted("cliente_acme.financeiro.*"))
    assert new_platform.script("preview", stack, "HEAD").returncode == 0


@needs_pulumi
def test_a_program_with_a_password_is_blocked_and_the_password_hidden(new_platform: Checkout) -> None:
    program = (ROOT / "__main__.py").read_text()
    (new_platform.folder / "__main__.py").unlink()
    # Where an SDK knows that an input is a secret it marks it by itself; of this one it can't know.
    extra = 'random.RandomPassword("extra", length=9, keepers={"password": "correct-horse-battery"})'
    new_platform.write("__main__.py", f"{program}\nimport pulumi_random as random\n{extra}\n")
    new_platform.commit()  # the line itself is in the base: only the resource is left to tell
    held = new_platform.script("preview", new_platform.project.stack, "HEAD")
    assert held.returncode != 0
    assert "secret-in-plain-text-input" in held.stdout
    assert "correct-horse" not in held.stdout + held.stderr


@needs_pulumi
def test_a_tenant_stack_is_deployed_checked_and_blocked(one_tenant: Checkout) -> None:
    project, base = one_tenant.project, one_tenant.commit()
    done = one_tenant.script("deploy", project.stack, "0" * 40)
    assert done.returncode == 0, done.stdout + done.stderr
    same = one_tenant.script("drift", project.stack)
    assert same.returncode == 0, same.stdout + same.stderr
    project.configure(tenant=tenant("acme2", "crm", plan="pro"))
    held = one_tenant.script("deploy", project.stack, base)
    assert held.returncode != 0
    assert "queue-lost" in held.stdout
    assert one_tenant.script("drift", project.stack).returncode != 0, "what the program wants now is not there yet"
    one_tenant.write("accepted-changes.yaml", accepted("cliente_acme2.financeiro.*").replace("acme\n", "acme2\n"))
    passed = one_tenant.script("deploy", project.stack, base)
    assert passed.returncode == 0, passed.stdout + passed.stderr
    for said in (done.stdout, same.stdout, held.stdout, passed.stdout):
        assert "amqp://kryonix" not in said


@pytest.mark.parametrize("name", ["preview", "deploy", "drift"])
def test_a_missing_cli_is_reported_with_a_remedy(tmp_path: Path, name: str) -> None:
    project = Project(tmp_path / "project", "dev")
    project.tenants()
    checkout = Checkout(project)
    bare = tmp_path / "bin"
    bare.mkdir()
    for tool in ("bash", "env", "dirname"):
        found = shutil.which(tool)
        assert found is not None
        (bare / tool).symlink_to(found)
    project.env["PATH"] = str(bare)
    done = checkout.script(name, "dev")
    assert done.returncode == 3
    assert "no 'pulumi' on PATH" in done.stderr


WRONG = [
    (name, *wrong) for name in ("review", "preview", "deploy", "drift") for wrong in ((), ("--help",), ("a", "b", "c"))
]


@pytest.mark.parametrize("command", [*WRONG, ("with-pulumi", "base")], ids=" ".join)
def test_wrong_usage_is_reported_and_starts_nothing(command: tuple[str, ...]) -> None:
    name, *arguments = command
    script = str(ROOT / "scripts" / name)
    done = subprocess.run([script, *arguments], capture_output=True, text=True, env=dict(os.environ), check=False)
    assert done.returncode == 2
    assert f"usage: scripts/{name}" in done.stderr
