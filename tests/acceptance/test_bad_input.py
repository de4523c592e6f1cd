"""Invalid input: exit 2, every error with its place, on stderr only, no change."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.project import Project, Result, tenant

MANY_ERRORS = """\
tenants:
  - id: Foo Bar
    modules: [crn]
    plam: pro
  - {id: acme, modules: crm, plan: gold}
  - {id: acme, modules: [crm], plan: pro}
"""
SAID = (
    "tenants.yaml:2: tenant 'Foo Bar' id: 'Foo Bar' is not a valid tenant ID",
    "did you mean 'foo-bar'?",
    "tenants.yaml:3: tenant 'Foo Bar' modules.0: unknown module 'crn'",
    "did you mean 'crm'?",
    "tenants.yaml:4: tenant 'Foo Bar' plam: unknown field 'plam'",
    "did you mean 'plan'?",
    "tenants.yaml:5: tenant 'acme' modules: expected a list, such as [crm]; got 'crm'",
    "tenants.yaml:5: tenant 'acme' plan: unknown plan 'gold'; allowed: basic, pro, enterprise",
    "tenants.yaml:6: tenant 'acme' id: 'acme' is already on line 5",
)
BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = Project(tmp_path / "project")
    # A Docker that must not be asked, so that a run that gets past its input fails with another status.
    made.env["DOCKER_HOST"] = "unix:///nonexistent"
    made.tenants(tenant("acme"))
    return made


def run(project: Project, command: str) -> Result:
    return project.kryonix("plan") if command == "plan" else project.run(command)


def assert_refused(project: Project, result: Result, *said: str) -> None:
    assert result.returncode == 2, (result.stdout, result.stderr)
    for part in said:
        assert part in result.stderr, f"{part!r} is not in:\n{result.stderr}"
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    assert_nothing_made(project)


def assert_nothing_made(project: Project) -> None:
    """That the state, where there is one, knows of nothing but the stack itself, as Pulumi's own does."""
    for state in (project.folder / ".kryonix").rglob("checkpoint.json"):
        resources = json.loads(state.read_text())["deployment"]["resources"]
        assert [resource["type"] for resource in resources] == ["pulumi:pulumi:Stack"]
    assert list((project.folder / ".kryonix").rglob("journal.jsonl")) == []


@pytest.mark.parametrize("command", ["plan", "preview", "up"])
def test_every_command_reports_every_tenant_list_error_with_its_line(project: Project, command: str) -> None:
    project.write("tenants.yaml", MANY_ERRORS)
    assert_refused(project, run(project, command), *SAID)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param(b"", "tenants.yaml:1: the file is empty", id="empty"),
        pytest.param(b"[]", "tenants.yaml:1: expected a mapping", id="not-a-mapping"),
        pytest.param(
            b"tenants: []\ntenants: []\n", "tenants.yaml:2: tenants: the key 'tenants' is duplicated", id="twice"
        ),
        pytest.param(b"tenants:\n\t- id: acme\n", "tenants.yaml:2: ", id="tab"),
        pytest.param(BOMB.encode(), "anchors and nesting expand beyond", id="bomb"),
        pytest.param(b"x" * 5_000_000, "5,000,000 bytes", id="junk"),
        pytest.param(b"tenants: []\n# \xe7\xe3o\n", "tenants.yaml:2: byte 0xe7 is not UTF-8", id="latin-1"),
        pytest.param(b"tenants: []\n\x00\x01", "tenants.yaml", id="binary"),
        pytest.param(b"tenants:\n- {id: acme, modules: [crm], plan: pro, status: off}\n", "status", id="status"),
    ],
)
def test_a_file_without_a_tenant_list_is_refused(project: Project, content: bytes, said: str) -> None:
    project.write("tenants.yaml", content)
    assert_refused(project, project.kryonix("plan"), said)


def test_a_missing_tenant_list_is_named(project: Project) -> None:
    (project.folder / "tenants.yaml").unlink()
    assert_refused(project, project.kryonix("plan"), "'tenants.yaml' can't be read: No such file or directory")
    assert_refused(project, project.run("up"), "kryonix:tenantsFile: 'tenants.yaml' can't be read")


@pytest.mark.parametrize("command", ["plan", "preview", "up"])
def test_modules_beyond_the_plan_are_refused_with_the_smallest_plan(project: Project, command: str) -> None:
    big = ("crm", "whatsapp", "agendamento", "financeiro", "marketing")
    project.tenants(tenant("acme", *big, plan="basic"), tenant("beta", *big, plan="basic"))
    assert_refused(
        project,
        run(project, command),
        "tenants.yaml:3: tenant 'acme' modules: does not fit the plan 'basic': 57 queues of 50 allowed",
        "crm 14, whatsapp 12, agendamento 10, financeiro 10, marketing 10, shared 1",
        "The smallest plan that fits is 'pro'; or remove modules: for the plan 'basic', agendamento",
        "tenants.yaml:11: tenant 'beta'",
    )


@pytest.mark.parametrize(
    ("config", "said"),
    [
        pytest.param({"amqpPrt": 5672}, ("amqpPrt", ".yaml:2: ", "did you mean 'kryonix:amqpPort'?"), id="unknown-key"),
        pytest.param({"amqpPort": "many"}, ("kryonix:amqpPort", "'many'", "a whole number"), id="wrong-type"),
        pytest.param({"allowDelete": "queue"}, ("kryonix:allowDelete", "a list"), id="text-for-list"),
        pytest.param(
            {"allowDelete": ["*", "cliente_*"]},
            ("kryonix:allowDelete", "'*', 'cliente_*'", "cliente_acme.*"),
            id="any-tenants-queues",
        ),
        pytest.param({"allowDelete": [1]}, ("kryonix:allowDelete",), id="number-for-text-in-list"),
        pytest.param({"amqpPort": 0}, (".yaml:", ": kryonix:amqpPort: 0 is not a valid port", "1-65535"), id="port-0"),
        pytest.param({"registryPort": 99999}, ("kryonix:registryPort: 99999 is not a valid port",), id="port-99999"),
        pytest.param({"amqpPort": 7000, "managementPort": 7000}, ("7000", "same port"), id="same-port"),
        pytest.param(
            {"amqpPort": 7000, "registryPort": 7000},
            ("kryonix:registryPort 7000", "same port"),
            id="registry-same-port",
        ),
        pytest.param({"bindAddress": "everywhere"}, ("kryonix:bindAddress", "'everywhere'"), id="address"),
        pytest.param(
            {"metricsAddress": "nowhere"},
            ("kryonix:metricsAddress: 'nowhere' is not a valid IP address",),
            id="metrics",
        ),
        pytest.param({"domain": "bad domain"}, ("kryonix:domain: 'bad domain' is not a valid host name",), id="domain"),
        pytest.param(
            {"advertisedHost": "x`) || y"}, ("kryonix:advertisedHost:", "is not a valid host name"), id="host"
        ),
        pytest.param(
            {"brokerImage": "rabbitmq@sha256:" + 64 * "0", "postgresImage": "postgres:17@sha256:12"},
            ("kryonix:brokerImage: 'rabbitmq@sha256:", "kryonix:postgresImage: 'postgres:17@sha256:12'", "--digests"),
            id="image by digest",
        ),
        pytest.param({"brokerImage": ""}, ("kryonix:brokerImage: '' is not a valid image name",), id="image"),
        pytest.param({"brokerMemoryMb": 1}, ("kryonix:brokerMemoryMb: 1 MiB is too small",), id="memory"),
        pytest.param(
            {"catalogFile": "none.yaml"}, ("kryonix:catalogFile: 'none.yaml' can't be read",), id="no-catalog"
        ),
        pytest.param(
            {"tenant": {"id": "acme"}}, ("kryonix:tenant", "'modules' is missing", "'plan' is missing"), id="tenant"
        ),
        pytest.param(
            {"tenant": {"id": "acme", "modules": ["crm"], "plan": "pro"}},
            ("has to know its platform; missing: kryonix:managementUrl", "kryonix:platform"),
            id="no-platform",
        ),
        pytest.param(
            {
                "tenant": {"id": "acme", "modules": ["crm"], "plan": "pro"},
                "managementUrl": "http://127.0.0.1:1",
                "adminUsername": "kryonix_admin",
                "adminPassword": "open to read",
                "advertisedHost": "127.0.0.1",
                "registryDsn": "postgresql://127.0.0.1/x",
            },
            ("kryonix:adminPassword is stored in plain text",),
            id="plain-password",
        ),
        pytest.param({"managementUrls": "http://127.0.0.1:1"}, ("kryonix:managementUrls",), id="text-for-list"),
        pytest.param(
            {"tenant": {"id": "acme", "modules": ["crm"], "plan": "pro"}, "platform": "organization/kryonix/none"},
            ("organization/kryonix/none",),
            id="platform-that-is-not-there",
        ),
    ],
)
def test_invalid_config_is_refused_with_its_key(
    project: Project, config: dict[str, object], said: tuple[str, ...]
) -> None:
    project.configure(**config)
    result = project.run("up")
    assert_refused(project, result, *said)
    assert "open to read" not in result.stderr


def test_a_broken_catalog_is_refused_with_its_place(project: Project) -> None:
    project.write("catalog.yaml", "modules: {crm: {actions: []}}\n")
    project.configure(catalogFile="catalog.yaml")
    assert_refused(project, project.run("up"), "catalog.yaml:1: modules.crm.actions: expected at least one entry")
    assert_refused(project, project.kryonix("plan", "--catalog", "catalog.yaml"), "catalog.yaml:1:")


@pytest.mark.parametrize(
    ("content", "said"),
    [("config: [", "Pulumi."), ("config: text\n", "`config` is not a mapping"), ("config:\n\tx: 1\n", ".yaml:2: ")],
)
def test_a_broken_stack_file_is_refused_with_its_line(project: Project, content: str, said: str) -> None:
    project.config_file.write_text(content)
    assert_refused(project, project.run("up"), project.config_file.name, said)


@pytest.mark.parametrize(
    "content",
    ["name: [", "runtime: python\n", "name: kryonix\nruntime: nodejs\n", "name: kryonix\nruntime: python\nconfig: 3\n"],
)
def test_a_broken_project_file_is_refused_by_name(project: Project, content: str) -> None:
    (project.folder / "Pulumi.yaml").unlink()
    project.write("Pulumi.yaml", content)
    assert_refused(project, project.run("up"), "Pulumi.yaml")


def test_a_missing_config_file_is_named(project: Project) -> None:
    assert_refused(project, project.run("up", "--config-file", "none.yaml"), "none.yaml")


def test_a_folder_without_a_project_is_reported(project: Project) -> None:
    (project.folder / "Pulumi.yaml").unlink()
    assert_refused(project, project.run("up"), "has no Pulumi.yaml")


@pytest.mark.parametrize("stack", ["../other", ".hidden", "a/b", ""])
def test_an_invalid_stack_name_is_refused(project: Project, stack: str) -> None:
    assert_refused(project, project.kryonix("up", "--stack", stack, "--engine", "local", "--yes"), "stack name")


def test_an_unconfirmed_run_changes_nothing(project: Project) -> None:
    result = project.kryonix("up", "--stack", project.stack, "--engine", "local")
    assert result.returncode == 2
    assert "--yes" in result.stderr
    assert_nothing_made(project)


def test_errors_are_json_with_the_option_json(project: Project) -> None:
    project.write("tenants.yaml", MANY_ERRORS)
    result = project.run("up", "--json")
    said = json.loads(result.stdout)
    assert (result.returncode, said["exit_status"]) == (2, 2)
    assert all(part in said["error"] for part in SAID)
