"""Secrets appear only where they are requested."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.acceptance.conftest import Beside
from tests.support.project import Project


def secrets_of(shown: Any, hidden: Any) -> Iterator[str]:
    """Every value that `outputs` hides and `outputs --show-secrets` shows."""
    if hidden == "[secret]":
        yield str(shown)
    elif isinstance(shown, dict):
        for key, value in shown.items():
            yield from secrets_of(value, hidden[key])


def children(pid: int) -> Iterator[int]:
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            yield int(child)
            yield from children(int(child))


def watched(stack: Project, operation: str) -> tuple[str, set[bytes]]:
    """What a run prints, and what the kernel shows of it and its children's arguments while it runs."""
    process = stack.start(operation)
    seen: set[bytes] = set()
    while process.poll() is None:
        try:
            for pid in (process.pid, *children(process.pid)):
                seen.add(Path(f"/proc/{pid}/cmdline").read_bytes())
        except OSError:
            continue  # ended between two looks
    out, _ = process.communicate()
    assert process.returncode == 0, out
    return out, seen


def test_a_run_neither_prints_nor_stores_a_secret(beside: Beside) -> None:
    stack = beside("discreet", "crm")
    printed, arguments = watched(stack, "up")
    shown, hidden = stack.outputs(), stack.must("outputs")
    secrets = set(secrets_of(shown, hidden))
    assert shown["tenants"]["discreet"]["password"] in secrets
    secrets |= {value.rpartition("@")[0].rpartition(":")[2] for value in secrets if "@" in value}

    exported = stack.run("export").stdout
    for operation in ("refresh", "preview", "up"):
        result = stack.run(operation, "--json")
        printed += result.stdout + result.stderr
    files = [path for path in stack.folder.rglob("*") if path.is_file()]
    assert any(path.name == "checkpoint.json" for path in files)
    for secret in secrets:
        assert secret not in printed
        assert secret not in exported
        assert not any(secret.encode() in line for line in arguments)
        assert [path for path in files if secret.encode() in path.read_bytes()] == []
    stack.must("destroy")


def test_a_tenants_outputs_hold_no_administrator_credentials(platform: Project, beside: Beside, tmp_path: Path) -> None:
    stack = beside("private", "crm")
    stack.must("up")
    administrators = {str(platform.outputs()[name]) for name in ("admin_password", "registry_dsn", "signup_dsn")}
    own, shown = stack.outputs(), stack.run("outputs", "--show-secrets", "--json").stdout
    addresses = {"amqp_addresses", "amqp_host", "amqp_port", "ca_certificate", "management_url", "management_urls"}
    assert set(own) == addresses | {"registry_stack", "tenants"}
    assert not any(secret in shown for secret in administrators)
    (status,) = stack.must("status")["tenants"]
    assert status["registry"] == "ativo", "found by way of the platform's stack"

    nobody = {**stack.env, "DOCKER_HOST": "unix:///nowhere"}
    for id, source in (("private", own), (next(iter(platform.outputs()["tenants"])), platform.outputs())):
        file = tmp_path / f"{id}.json"
        arguments = ("tenant", "credentials", id, "--stack", platform.stack, "--engine", "local")
        result = subprocess.run(
            platform.command(*arguments, "--output", str(file)),
            cwd=platform.folder,
            env=nobody,
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stderr
        assert file.stat().st_mode & 0o777 == 0o600
        written = json.loads(file.read_text())
        assert written["amqp_uri"] == source["tenants"][id]["amqp_uri"]
        assert written["password"] not in result.stdout + result.stderr
        assert not any(secret in file.read_text() for secret in administrators)
        stats = platform.kryonix("stats", "--outputs", str(file), "--json", "--module", "crm")
        assert stats.returncode == 0, stats.stderr
        file.chmod(0o644)
        refused = platform.kryonix(*arguments, "--output", str(file))
        assert (refused.returncode, "chmod 600" in refused.stderr) == (2, True)
        file.chmod(0o600)
    stack.must("destroy")


def test_an_exported_deployment_has_pulumis_version_3(platform: Project) -> None:
    deployment = json.loads(platform.run("export").stdout)
    assert deployment["version"] == 3
    assert deployment["deployment"]["secrets_providers"]["type"] == "passphrase"
    resources = deployment["deployment"]["resources"]
    assert all({"urn", "type", "custom"} <= set(resource) for resource in resources)
    assert platform.outputs()["admin_password"] not in json.dumps(deployment)


def test_the_journal_of_a_killed_run_holds_no_secret(beside: Beside) -> None:
    stack = beside("cut-off", "crm")
    stack.kill("up", lambda: "cut-off/main" in stack.journal)
    left = stack.journal
    stack.must("up")
    for secret in secrets_of(stack.outputs(), stack.must("outputs")):
        assert secret not in left
    assert (stack.folder / ".kryonix" / "stacks" / stack.stack / "checkpoint.json").stat().st_mode & 0o077 == 0
    stack.must("destroy")
