"""`kryonix check`: exit statuses, and the tenants of each stack."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from kryonix.checks.findings import TENANT_CHECKS, Finding
from kryonix.checks.run import Registered
from kryonix.cli import check
from kryonix.registry.desired_states import DesiredState
from kryonix.topology.catalog import default_catalog
from kryonix.topology.cells import single_cell

OUTPUTS = {
    "management_url": "http://127.0.0.1:9",
    "metrics_url": "http://127.0.0.1:9/metrics",
    "amqp_host": "127.0.0.1",
    "amqp_port": 9,
    "admin_username": "kryonix_admin",
    "admin_password": "x",
    "tenants": {},
}


def deployment(*tenants: str, platform: str = "") -> dict[str, Any]:
    fields = {"modulos": ["crm"], "plano": "basic", "status": "ativo", "username": "u", "vhost": "v"}
    resources: list[dict[str, Any]] = [
        {"type": "pulumi-python:dynamic/kryonix:TenantRecord", "inputs": {"clienteId": id, **fields}} for id in tenants
    ]
    if not platform:
        resources.append({"type": "pulumi:pulumi:Stack", "inputs": {}, "outputs": OUTPUTS})
    else:
        resources.append(
            {"type": "pulumi:pulumi:StackReference", "inputs": {"name": f"organization/kryonix/{platform}"}}
        )
    return {"deployment": {"resources": resources}}


STACKS = {
    "dev": deployment("acme"),
    "tenant-own": deployment("own", platform="dev"),
    "tenant-far": deployment("far", platform="elsewhere"),
}


def site() -> SimpleNamespace:
    engine = SimpleNamespace(export=lambda spec, show_secrets: STACKS[spec.name], stacks=lambda: sorted(STACKS))
    dsn = "postgresql://nobody@127.0.0.1:9/none"
    return SimpleNamespace(registry_dsn=dsn, cells=single_cell("dev"), engine=engine, catalog=default_catalog())


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Result:
    monkeypatch.setattr(check, "open_site", lambda platform, concurrency: site())
    monkeypatch.setattr(check, "print_outage", lambda platform: None)
    return CliRunner().invoke(check.app, list(arguments))


def test_services_that_do_not_answer_end_with_3(monkeypatch: pytest.MonkeyPatch) -> None:
    result = run(monkeypatch, "--json")
    assert result.exit_code == 3
    found = json.loads(result.stdout)["findings"]
    assert {each["check"] for each in found if each["outcome"] == "unreachable"} == {"broker", "registry"}
    assert {each["tenant"] for each in found} == {"", "acme", "own"}
    assert {each["outcome"] for each in found} == {"unreachable", "not tried"}
    assert run(monkeypatch, "--tenant", "own").exit_code == 3


def test_findings_end_with_1_and_are_shown_with_their_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [
        Finding(check="broker", outcome="pass"),
        Finding(check="queues", outcome="fail", tenant="acme", why="1 queue missing: [x]", remedy="kryonix up"),
    ]
    monkeypatch.setattr(check, "check_site", lambda *_: found)
    result = run(monkeypatch)
    assert result.exit_code == 1
    for text in ("1 fail, 1 pass", "1 queue missing: [x]", "kryonix up"):
        assert text in result.stdout
    found.pop()
    assert run(monkeypatch).exit_code == 0


def test_findings_of_one_cause_are_one_row() -> None:
    down = [Finding(check=name, outcome="not tried", tenant="a", why="down") for name in TENANT_CHECKS]
    cells = [Finding(check="broker", outcome="pass")] * 2
    assert check.rows(cells)[0][1] == "1 of 9"
    names = [row[1:4] for row in check.rows([*down, Finding(check="vhost", outcome="fail", tenant="a", why="[gone]")])]
    assert names == [
        [f"{len(down)} of {len(down)}", "not tried", "down"],
        ["vhost", "fail", "[gone]"],
    ]


def test_a_file_that_cannot_be_written_is_refused_before_the_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "check_site", lambda *_: pytest.fail("it began"))
    assert "can't be written" in str(run(monkeypatch, "--junit", "/none/here.xml").exception)


def test_a_registered_tenant_that_no_stack_declares_is_reported() -> None:
    state = DesiredState(cliente_id="lost", modules=("crm",), plan="basic")
    registered = Registered(rows={}, states={"lost": state})
    (finding,) = check._undeclared(registered, {"dev": []}, "", "dev", None)
    assert (finding.tenant, finding.outcome, finding.remedy) == (
        "lost",
        "fail",
        "kryonix tenant converge lost --stack dev",
    )
    assert check._undeclared(registered, {"dev": []}, "", "dev", "acme") == []
    (elsewhere,) = check._undeclared(registered, {"dev": []}, "kryonix-dev-worker", "dev", None)
    assert (elsewhere.outcome, "kryonix-dev-worker" in elsewhere.why) == ("not tried", True)
