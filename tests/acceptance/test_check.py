"""`kryonix check` passes on a healthy platform, and names each fault made by hand with the command that mends it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree

import psycopg
import pytest
from psycopg.rows import dict_row
from typer.testing import CliRunner, Result

from kryonix.checks import trials
from kryonix.checks.findings import PLATFORM_CHECKS, TENANT_CHECKS
from kryonix.cli.check import app
from tests.support.live_broker import LiveBroker
from tests.support.project import Project, tenant
from tests.support.waiting import eventually

V = "/cliente_beta"
USER = "kryonix_beta"
QUEUE = "cliente_beta.crm.tasks.assign"
MINE = "kryonix-check."

Finding = dict[str, str]
Check = Callable[..., Result]


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A platform of this module's own: other tests' tenants may be half made, which a check reports."""
    both = (tenant("acme", "crm", plan="basic"), tenant("beta", "crm", "financeiro", plan="basic"))
    project = Project.platform(tmp_path_factory.mktemp("check") / "project", *both)
    with project.running():
        yield project


@pytest.fixture(scope="module")
def broker(platform: Project) -> Iterator[LiveBroker]:
    with LiveBroker(platform.outputs()) as found:
        yield found


@pytest.fixture
def whole_check(platform: Project, monkeypatch: pytest.MonkeyPatch) -> Check:
    monkeypatch.chdir(platform.folder)
    monkeypatch.setenv("PULUMI_CONFIG_PASSPHRASE", platform.env["PULUMI_CONFIG_PASSPHRASE"])

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(app, ["--stack", platform.stack, "--engine", "local", *arguments])

    return run


@pytest.fixture
def check(whole_check: Check, monkeypatch: pytest.MonkeyPatch) -> Check:
    """A check that does not wait for a retry."""
    monkeypatch.setattr(trials, "_LONGEST_DELAY_S", 0)
    return whole_check


def problems(result: Result) -> list[Finding]:
    return [each for each in json.loads(result.stdout)["findings"] if each["outcome"] not in ("pass", "not tried")]


def test_a_healthy_platform_passes_and_keeps_what_it_has(
    whole_check: Check, broker: LiveBroker, tmp_path: Path
) -> None:
    before = {vhost: broker.topology(vhost) for vhost in (V, "/cliente_acme")}
    result = whole_check("--json", "--junit", str(tmp_path / "junit.xml"))
    assert (result.exit_code, problems(result)) == (0, [])
    found = json.loads(result.stdout)["findings"]
    assert {(each["tenant"], each["check"]) for each in found} == {
        *(("", name) for name in PLATFORM_CHECKS),
        *((tenant, name) for tenant in ("acme", "beta") for name in TENANT_CHECKS),
    }
    assert {each["check"]: each["why"] for each in found if each["outcome"] != "pass"} == {
        "monitoring": "kryonix:monitoring is off",
        "certificates": "no address of the platform has TLS",
        "backups": "no schedule makes backups: kryonix:backup is off",
    }
    suites = ElementTree.parse(tmp_path / "junit.xml").getroot()
    assert [suite.get("name") for suite in suites] == ["platform", "acme", "beta"]
    assert suites.findall(".//failure") == []
    assert {vhost: broker.topology(vhost) for vhost in before} == before


def test_one_tenant_is_checked_alone_and_an_unknown_one_refused(check: Check) -> None:
    found = json.loads(check("--json", "--tenant", "beta").stdout)["findings"]
    assert {each["tenant"] for each in found} == {"", "beta"}
    not_tried = [each["check"] for each in found if each["outcome"] == "not tried"]
    assert not_tried == ["monitoring", "certificates", "backups", "strange vhosts", "retry"]
    refused = check("--tenant", "nobody")
    assert refused.exit_code != 0
    assert "there is no tenant 'nobody'" in str(refused.exception)


def put(*path: str, **body: Any) -> Callable[[LiveBroker], None]:
    return lambda broker: broker.put(*path, json=body)


def delete(*path: str) -> Callable[[LiveBroker], None]:
    return lambda broker: broker.delete(*path)


def post(*path: str, **body: Any) -> Callable[[LiveBroker], None]:
    def send(broker: LiveBroker) -> None:
        broker.call("POST", *path, json=body).raise_for_status()

    return send


def sql(column: str, value: str, table: str = "rabbitmq_configurations") -> Callable[[LiveBroker], None]:
    def run(broker: LiveBroker) -> None:
        with psycopg.connect(broker.outputs["registry_dsn"]) as connection:
            connection.execute(f"UPDATE tenants.{table} SET {column} = %s WHERE cliente_id = 'beta'", [value])

    return run


def other_policy(**changed: int | None) -> Callable[[LiveBroker], None]:
    """Change keys of a policy's definition, written with underscores; None removes one."""

    def change(broker: LiveBroker) -> None:
        policy = broker.get("policies", V, "modulo-crm")
        keys = {key.replace("_", "-"): value for key, value in changed.items()}
        definition = {key: value for key, value in {**policy["definition"], **keys}.items() if value is not None}
        broker.put("policies", V, "modulo-crm", json={**policy, "definition": definition})

    return change


ROW = "SELECT * FROM tenants.{} WHERE cliente_id = 'beta'"
MEND = "kryonix refresh --stack"
GONE = ("bindings", V, "e", "cliente_beta.mobile_priority", "q", QUEUE)
FAULTS: dict[str, tuple[Callable[[LiveBroker], None], list[tuple[str, str, str]]]] = {
    "connections limit": (
        put("vhost-limits", V, "max-connections", value=7),
        [("limits", "the vhost's max-connections is 7 instead of 10", MEND)],
    ),
    "queues limit": (
        delete("vhost-limits", V, "max-queues"),
        [("limits", "the vhost's max-queues is not set instead of 50", MEND)],
    ),
    "protection": (
        delete("vhosts", V, "deletion", "protection"),
        [("protection", "the vhost is not protected from deletion", MEND)],
    ),
    "tags": (
        put("users", f"{USER}.stats", tags="monitoring", password_hash=""),
        [
            ("users", f"the user {USER}.stats has the tags ['monitoring'] instead of ['management']", MEND),
            ("users", f"the user {USER}.stats has another password", MEND),
        ],
    ),
    "password": (
        put("users", USER, tags="", password="another"),
        [("users", f"the user {USER} has another password than its stack's outputs", MEND)],
    ),
    "channels limit": (
        put("user-limits", USER, "max-channels", value=3),
        [("user limits", f"the user {USER}'s max-channels is 3 instead of 100", MEND)],
    ),
    "wider permission": (
        put("permissions", V, USER, configure=".*", write=".*", read=".*"),
        [("permissions", f"1 permission of other than declared: {USER}", MEND)],
    ),
    "binding gone": (
        delete(*GONE, "mobile.crm.tasks.assign"),
        [("bindings", f"1 binding missing: cliente_beta.mobile_priority -> {QUEUE} [mobile.crm.tasks.assign]", MEND)],
    ),
    "policy changed": (
        other_policy(message_ttl=1000),
        [
            ("policies", "1 policy other than declared: modulo-crm", MEND),
            ("effective policies", "queue(s) with another effective policy: cliente_beta.crm.", "Mend the policies"),
        ],
    ),
    "delivery limit": (
        other_policy(delivery_limit=99),
        [
            ("policies", "1 policy other than declared: modulo-crm", MEND),
            ("effective policies", "queue(s) with another effective policy: cliente_beta.crm.", "Mend the policies"),
        ],
    ),
    "operator policy gone": (
        delete("operator-policies", V, "autoscaling-beta"),
        [
            ("policies", "1 operator policy missing: autoscaling-beta", MEND),
            ("effective policies", "queue(s) with another effective policy: cliente_beta.", "Mend the policies"),
        ],
    ),
    "row with another plan": (
        sql("plano", "enterprise"),
        [("registry", "its row has another plano: enterprise instead of basic", MEND)],
    ),
    "row says suspended": (
        sql("status", "suspenso"),
        [("registry", "its row has another status: suspenso instead of ativo", MEND)],
    ),
    "row removed": (sql("status", "removido"), [("registry", "its row in tenants.rabbitmq_configurations", MEND)]),
    "other hash": (
        sql("password_hash", "x", "rabbitmq_credentials"),
        [("registry", "its row has another password_hash", MEND)],
    ),
    "queue gone": (
        delete("queues", V, "cliente_beta.crm.leads.create.dlq"),
        [
            ("queues", "1 queue missing: cliente_beta.crm.leads.create.dlq", MEND),
            ("bindings", "1 binding missing: cliente_beta.crm.dlx -> cliente_beta.crm.leads.create.dlq", MEND),
        ],
    ),
}
"""What the program can put right: how it is made, and the findings as check, part of why, part of the remedy."""

STRANGERS: dict[str, tuple[Callable[[LiveBroker], None], list[tuple[str, str]]]] = {
    "user": (put("users", f"{USER}.7", tags="", password="x"), [("users", f"no stack declares the user {USER}.7")]),
    "topic permission": (
        put("topic-permissions", V, USER, exchange="cliente_beta", write=".*", read=".*"),
        [("permissions", f"no stack declares the topic permission of {USER}")],
    ),
    "exchange": (
        put("exchanges", V, "mine", type="topic", durable=True),
        [("exchanges", "no stack declares the exchange mine")],
    ),
    "queue": (
        put("queues", V, "cliente_beta.mine", durable=True),
        [
            ("queues", "no stack declares the queue cliente_beta.mine"),
        ],
    ),
    "binding": (
        post("bindings", V, "e", "cliente_beta", "q", QUEUE, routing_key="#.odd~ key", arguments={}),
        [("bindings", f"no stack declares the binding cliente_beta -> {QUEUE} [#.odd~ key]")],
    ),
    "binding of everything": (
        post("bindings", V, "e", "cliente_beta", "q", QUEUE, routing_key="#", arguments={}),
        [("bindings", f"no stack declares the binding cliente_beta -> {QUEUE} [#]")],
    ),
    "policy": (
        put("policies", V, "mine", pattern="^cliente_beta.crm", priority=9, definition={"max-length": 1}),
        [("policies", "no stack declares the policy mine")],
    ),
    "vhost": (put("vhosts", "/cliente_stray"), [("strange vhosts", "the vhost /cliente_stray belongs to no tenant")]),
    "permission": (
        put("permissions", V, "kryonix_acme", configure="^$", write="^$", read="^$"),
        [("permissions", "no stack declares the permission of kryonix_acme")],
    ),
}
"""Objects that nobody declares: the remedy deletes each."""


@pytest.fixture
def put_right(broker: LiveBroker) -> Iterator[None]:
    """Write back the definitions and the rows that were there before."""
    definitions = broker.get("definitions")
    tables = ("rabbitmq_configurations", "rabbitmq_credentials")
    with psycopg.connect(broker.outputs["registry_dsn"], row_factory=dict_row) as connection:
        rows = [connection.execute(ROW.format(table)).fetchone() or {} for table in tables]
    yield
    post("definitions", **definitions)(broker)
    post("vhosts", V, "deletion", "protection")(broker)
    for at, column in enumerate(("plano", "password_hash")):
        sql(column, rows[at][column], tables[at])(broker)
    sql("status", rows[0]["status"])(broker)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.usefixtures("put_right")
def test_each_fault_is_named_with_its_remedy(fault: str, check: Check, broker: LiveBroker) -> None:
    make, expected = FAULTS[fault]
    make(broker)
    result = check("--json")
    found = [(each["tenant"], each["check"], each["why"], each["remedy"]) for each in problems(result)]
    assert (result.exit_code, len(found)) == (1, len(expected)), found
    for (of, name, why, remedy), (check_name, part, mend) in zip(found, expected, strict=True):
        assert (of, name) == ("beta", check_name)
        assert part in why
        assert mend in remedy


@pytest.mark.usefixtures("put_right")
def test_a_failed_message_that_comes_again_at_once_is_found(whole_check: Check, broker: LiveBroker) -> None:
    other_policy(delayed_retry_type=None, delayed_retry_min=None, delayed_retry_max=None)(broker)
    (found,) = [each for each in problems(whole_check("--json", "--tenant", "beta")) if each["check"] == "retry"]
    assert "a failed message came again after 0." in found["why"]
    assert "s instead of 1 s" in found["why"]
    assert found["remedy"].startswith(MEND)


def follow(found: list[Finding], broker: LiveBroker) -> None:
    """Send the requests that the remedies name."""
    for path in {match[1] for each in found if (match := re.search(r"-X DELETE '[^']*/api/([^']*)'", each["remedy"]))}:
        broker.delete(*(unquote(part) for part in path.split("/")))


@pytest.mark.parametrize("kind", STRANGERS)
def test_the_remedy_deletes_what_nobody_declares(kind: str, check: Check, broker: LiveBroker) -> None:
    make, expected = STRANGERS[kind]
    make(broker)
    result = check("--json")
    found = problems(result)
    try:
        assert result.exit_code == 1
        for name, why in expected:
            assert [why in each["why"] for each in found if each["check"] == name] == [True], found
    finally:
        follow(found, broker)
    assert broker.take(V, QUEUE, 1) == 0, "a message of the check reached a tenant's queue"


def healthy(check: Check) -> None:
    """Wait until a check finds nothing: the broker reports some changes late."""
    found: list[Finding] = []

    def nothing() -> bool:
        found[:] = problems(check("--json"))
        return not found

    try:
        eventually("a check finds nothing", nothing)
    except AssertionError as error:
        raise AssertionError(found) from error


def test_the_remedy_mends_every_fault_at_once(check: Check, broker: LiveBroker, platform: Project) -> None:
    healthy(check)
    for make, _ in FAULTS.values():
        make(broker)
    assert check("--tenant", "beta").exit_code == 1
    remedies = [each["remedy"] for each in problems(check("--tenant", "beta", "--json"))]
    assert remedies[0].startswith(f"kryonix refresh --stack {platform.stack} && kryonix up")
    for operation in ("refresh", "up"):
        platform.must(operation)
    healthy(check)
    assert check().exit_code == 0


def test_another_tenants_permission_is_tried_and_taken_away(check: Check, broker: LiveBroker) -> None:
    for user in ("kryonix_acme", "kryonix_acme.stats"):
        broker.put("permissions", V, user, json={"configure": "^$", "write": "^$", "read": "^$"})
    found = [each for each in problems(check("--json")) if each["check"] == "isolation"]
    follow(found, broker)
    assert [(each["tenant"], each["why"]) for each in found] == [
        ("acme", f"the credentials of kryonix_acme.stats open the vhost {V} over the management API"),
        ("acme", f"the credentials of kryonix_acme open the vhost {V} over AMQP"),
    ]
    assert check().exit_code == 0


def test_a_user_that_became_an_administrator_is_found(check: Check, broker: LiveBroker) -> None:
    user = broker.get("users", USER)
    broker.put("users", USER, json={**user, "tags": ["administrator"]})
    found = [(each["check"], each["why"]) for each in problems(check("--json"))]
    broker.put("users", USER, json=user)
    assert found == [
        ("users", f"the user {USER} has the tags ['administrator'] instead of []"),
        ("isolation", f"the credentials of {USER} open the vhost /cliente_acme over the management API"),
    ]


_FOREVER = """
import asyncio, sys
from kryonix.checks import trials
from kryonix.cli.app import main

async def forever(*_):
    await asyncio.sleep(60)

trials._Trial.{} = forever
trials._EXPIRES_MS = 1_000
main()
"""


@pytest.mark.parametrize(("hung", "kept"), [("_arrived", MINE), ("_got", f"crm.{MINE}")])
def test_a_killed_check_leaves_nothing(platform: Project, broker: LiveBroker, hung: str, kept: str) -> None:
    def of_check() -> list[str]:
        return [queue["name"] for queue in broker.get("queues") if kept in queue["name"]]

    command = [sys.executable, "-c", _FOREVER.format(hung), "check", "--stack", platform.stack, "--engine", "local"]
    with subprocess.Popen(command, cwd=platform.folder, env=platform.env) as process:
        try:
            eventually("both trials have begun", lambda: len(of_check()) >= 2)
        finally:
            process.kill()
    eventually("the broker has deleted their queues", lambda: not of_check())
    unrouted = [broker.take(f"/{name}", f"{name}.unrouted", 9) for name in ("cliente_acme", "cliente_beta")]
    assert unrouted == [0, 0]
