"""`kryonix plan` works offline and matches the deployment."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.project import ROOT, Project, tenant

EXCHANGES, QUEUES, BINDINGS = (
    {"name", "type", "arguments"},
    {"name", "arguments"},
    {"source", "destination", "routing_key"},
)
POLICIES = {"name", "kind", "pattern", "priority", "apply_to", "definition"}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project that could not reach anything: no passphrase, no Docker, and a stack file that is no YAML."""
    made = Project(tmp_path / "project", "dev")
    made.env = {"PATH": made.env["PATH"], "DOCKER_HOST": "unix:///nonexistent", "COLUMNS": "200", "NO_COLOR": "1"}
    made.config_file.write_text("config: [")
    made.tenants(tenant("acme", "crm", "portal", plan="pro"), tenant("beta", "financeiro", plan="basic"))
    return made


def plan(project: Project, *arguments: str) -> dict[str, Any]:
    result = project.kryonix("plan", "--json", *arguments)
    assert (result.returncode, result.stderr) == (0, "")
    assert not (project.folder / ".kryonix").exists()
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_the_json_has_the_documented_shape(project: Project) -> None:
    found = plan(project)
    assert [entry["id"] for entry in found["tenants"]] == ["acme", "beta"]
    acme = found["tenants"][0]
    assert (acme["plan"], acme["modules"]) == ("pro", ["crm", "portal"])
    assert (acme["vhost"], acme["user"]) == ("/cliente_acme", "kryonix_acme")
    assert acme["stats_user"] == {"name": "kryonix_acme.stats", "tags": ["management"]}
    assert acme["limits"] == {"max_connections": 50, "max_queues": 200, "max_exchanges": 25, "max_channels": 500}
    for kind, keys in {
        "exchanges": EXCHANGES,
        "queues": QUEUES,
        "bindings": BINDINGS,
        "policies": POLICIES,
    }.items():
        assert acme["counts"][kind] == len(acme[kind]) > 0
        assert all(set(entry) == keys for entry in acme[kind])
    assert acme["counts"]["queues"] == 2 * 7 + 2 * 5 + 1
    assert {
        "source": "cliente_acme",
        "destination": "cliente_acme.crm.leads.create",
        "routing_key": "crm.leads.create.*",
    } in (acme["bindings"])
    operator = [policy for policy in acme["policies"] if policy["kind"] == "operator"]
    assert [(policy["name"], policy["definition"]["max-length"]) for policy in operator] == [("autoscaling-acme", 5000)]


def test_a_plan_can_select_one_tenant(project: Project) -> None:
    assert [entry["id"] for entry in plan(project, "--tenant", "beta")["tenants"]] == ["beta"]
    shown = project.kryonix("plan", "--tenant", "beta").stdout
    assert " financeiro.faturas.create.dlq " in shown
    assert "financeiro.faturas.create.*" in shown
    result = project.kryonix("plan", "--tenant", "betta")
    assert result.returncode == 2
    assert "did you mean 'beta'?" in result.stderr


def test_a_comparison_lists_changes_and_marks_message_loss(project: Project) -> None:
    before = [tenant("acme", "crm", "portal", "analytics", plan="pro"), tenant("gone", "crm", plan="basic")]
    project.write("before.yaml", yaml.safe_dump({"tenants": before}))
    changes = plan(project, "--against", "before.yaml")["changes"]
    assert {"tenant", "kind", "action", "name", "loses_messages"} <= set(changes[0])
    losing = {change["name"] for change in changes if change["loses_messages"]}
    assert "cliente_acme.analytics.eventos.processar" in losing
    assert "cliente_gone.crm.leads.create" in losing
    assert not any(name.startswith(("cliente_acme.crm", "cliente_beta")) for name in losing)
    actions = {(change["tenant"], change["kind"], change["action"]) for change in changes}
    assert {("gone", "tenant", "remove"), ("beta", "tenant", "add"), ("acme", "queue", "remove")} <= actions
    only = plan(project, "--against", "before.yaml", "--tenant", "acme")["changes"]
    assert {change["tenant"] for change in only} == {"acme"}
    shown = project.kryonix("plan", "--against", "before.yaml").stdout
    assert "loses its messages" in shown
    assert "10 queues of analytics" in shown
    assert re.search(r"^Also .*\d+ bindings.* deleted; ", shown, re.M)
    assert len(shown.splitlines()) < 40
    assert project.kryonix("plan", "--against", "tenants.yaml").stdout.strip() == "No changes."


def test_a_tenant_of_the_other_list_alone_can_be_compared(project: Project) -> None:
    project.write("before.yaml", yaml.safe_dump({"tenants": [tenant("gone", "crm", plan="basic")]}))
    changes = plan(project, "--against", "before.yaml", "--tenant", "gone")["changes"]
    assert {(change["tenant"], change["action"]) for change in changes} == {("gone", "remove")}


@pytest.mark.parametrize(("columns", "width"), [("80", 80), ("120", 120), ("", 140), ("none", 140)])
def test_tables_use_the_variable_columns_without_a_terminal(
    project: Project, monkeypatch: pytest.MonkeyPatch, columns: str, width: int
) -> None:
    monkeypatch.setitem(project.env, "COLUMNS", columns)
    shown = project.kryonix("plan", "--tenant", "beta").stdout
    assert max(map(len, shown.splitlines())) <= width
    assert ("policies" in shown) == (width > 80)


def test_the_committed_editor_schema_is_current_and_complete(project: Project) -> None:
    schema = json.loads(project.kryonix("schema").stdout)
    assert schema == json.loads((ROOT / "tenants.schema.json").read_text())
    fields = schema["properties"]["tenants"]["items"]["properties"]
    assert fields["plan"]["enum"] == ["basic", "pro", "enterprise"]
    assert len(fields["modules"]["items"]["enum"]) == 8
