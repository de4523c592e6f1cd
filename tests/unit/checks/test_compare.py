"""The comparison of one tenant with what a broker and the registry report."""

from __future__ import annotations

import copy
from dataclasses import asdict, replace
from typing import Any

import pytest

from kryonix.certificates.authority import Authority
from kryonix.checks.compare import Comparison, registry_findings
from kryonix.checks.declared import Declared, declared_tenants
from kryonix.checks.findings import TENANT_CHECKS, Finding, complete, junit
from kryonix.checks.live import Live
from kryonix.registry.desired_states import DesiredState
from kryonix.registry.rows import TenantRow
from kryonix.topology.catalog import default_catalog
from kryonix.topology.credentials import rabbitmq_hash
from kryonix.topology.expansion import Topology, expand
from kryonix.topology.objects import effective_policy
from kryonix.topology.tenants import Tenant

PASSWORD = "of-acme"


def declared(**fields: Any) -> Declared:
    tenant = Tenant.model_validate({"id": "acme", "modules": ("crm",), "plan": "basic", **fields})
    users = ("kryonix_acme", "kryonix_acme.stats")
    return Declared(
        tenant=tenant,
        stack="dev",
        username=users[0],
        users=users,
        protected=True,
        mend="mend it",
        password=PASSWORD,
    )


def definitions(one: Declared, topology: Topology) -> dict[str, Any]:
    """What a broker exports that has exactly this tenant."""
    vhost, limits = topology.vhost, topology.limits
    granted = {"kryonix_admin": (".*",) * 3, one.username: tuple(asdict(topology.granted).values())}
    granted[topology.stats_user] = ("^$",) * 3
    policies = [
        (each, {**asdict(each), "apply-to": each.apply_to, "definition": dict(each.definition)})
        for each in topology.policies
    ]
    own = {"max-connections": limits.max_connections, "max-channels": limits.max_channels}
    users = {one.username: ([], own), topology.stats_user: (list(topology.stats_tags), {"max-connections": 0})}
    durable = {"durable": True, "vhost": vhost}
    return {
        "vhosts": [
            {
                "name": vhost,
                "limits": {"max-connections": topology.max_connections, "max-queues": limits.max_queues},
                "metadata": {
                    "description": "Tenant acme, managed by the stack dev",
                    "default_queue_type": "quorum",
                    "tags": [],
                    "protected_from_deletion": True,
                },
            }
        ],
        "users": [
            {
                "name": name,
                "tags": tags,
                "limits": allowed,
                "password_hash": rabbitmq_hash(name, one.password_of(name) or ""),
            }
            for name, (tags, allowed) in users.items()
        ],
        "permissions": [
            {"user": user, "vhost": vhost, **dict(zip(("configure", "write", "read"), patterns, strict=True))}
            for user, patterns in granted.items()
        ],
        "topic_permissions": [],
        "exchanges": [{**durable, **asdict(each)} for each in topology.exchanges],
        "queues": [{**durable, "name": each.name, "arguments": dict(each.arguments)} for each in topology.queues],
        "bindings": [
            {"vhost": vhost, **asdict(each), "destination_type": "queue", "arguments": {}} for each in topology.bindings
        ],
        "policies": [{"vhost": vhost, **value} for each, value in policies if each.kind == "policy"],
        "parameters": [
            {"vhost": vhost, "component": "operator_policy", "name": each.name, "value": value}
            for each, value in policies
            if each.kind == "operator"
        ],
    }


class Case:
    """A tenant and a broker that has it."""

    def __init__(self, **fields: Any) -> None:
        self.declared = declared(**fields)
        self.topology = expand(self.declared.tenant, default_catalog())
        self.definitions = copy.deepcopy(definitions(self.declared, self.topology))
        self.queues = [
            {
                "vhost": self.topology.vhost,
                "name": each.name,
                "effective_policy_definition": effective_policy(each.name, self.topology.policies),
            }
            for each in self.topology.queues
        ]

    @property
    def comparison(self) -> Comparison:
        live = Live.of(self.definitions, self.queues)
        return Comparison(self.declared, self.topology, live, "kryonix_admin", "http://broker:15672")

    def found(self) -> list[tuple[str, str, str]]:
        return [(each.check, each.why, each.remedy) for each in self.comparison.findings()]


@pytest.mark.parametrize("status", ["active", "suspended"])
def test_a_tenant_as_declared_has_no_findings(status: str) -> None:
    assert Case(status=status).found() == []


def certified(days: float) -> Case:
    """A tenant with a certificate for so many days more."""
    case = Case(auth="certificate")
    leaf = Authority.create("a CA").issue_client("kryonix_acme", days=days)
    case.declared = replace(case.declared, client_certificate=leaf.chain)
    return case


def test_a_tenant_with_a_certificate_has_no_password_on_the_broker() -> None:
    case = certified(days=365)
    assert [user["password_hash"] != "" for user in case.definitions["users"]] == [False, True]
    assert case.found() == []
    case.definitions["users"][0]["password_hash"] = rabbitmq_hash("kryonix_acme", "by hand")
    assert case.found() == [
        ("users", "the user kryonix_acme has another password than its stack's outputs", "mend it"),
    ]


@pytest.mark.parametrize(("days", "verb"), [(20, "expires"), (-0.02, "expired")])
def test_a_tenants_certificate_needs_a_rotation_before_it_ends(days: float, verb: str) -> None:
    ((check, why, remedy),) = certified(days).found()
    assert (check, remedy) == ("users", "Hand out a new one (`kryonix tenant rotate acme`)")
    assert why.startswith(f"the certificate of kryonix_acme {verb} on 20")


def test_a_tenant_suspended_by_hand_is_found() -> None:
    case = Case()
    case.definitions["vhosts"][0]["limits"]["max-connections"] = 0
    assert case.found() == [("limits", "the vhost's max-connections is 0 instead of 10", "mend it")]


def test_of_a_missing_vhost_nothing_else_is_reported() -> None:
    case = Case()
    case.definitions["vhosts"] = []
    assert case.found() == [("vhost", "the vhost /cliente_acme is missing", "mend it")]
    rest = complete(case.comparison.findings(), tenant="acme", blocked="the vhost is missing")
    assert [each.check for each in rest] == list(TENANT_CHECKS)
    assert {each.outcome for each in rest[1:]} == {"not tried"}


def test_the_effective_policy_is_the_one_a_broker_reported() -> None:
    """Both answers are RabbitMQ 4.3.6's."""
    tenant = Tenant.model_validate({"id": "beta", "modules": ("crm", "financeiro"), "plan": "basic"})
    policies = expand(tenant, default_catalog()).policies
    assert effective_policy("cliente_beta.crm.contacts.sync", policies) == {
        "dead-letter-strategy": "at-least-once",
        "delayed-retry-max": 60000,
        "delayed-retry-min": 1000,
        "delayed-retry-type": "all",
        "delivery-limit": 3,
        "max-length": 1000,
        "max-length-bytes": 8388608,
        "message-ttl": 86400000,
        "overflow": "reject-publish",
    }
    assert effective_policy("cliente_beta.crm.contacts.sync.dlq", policies) == {
        "delivery-limit": -1,
        "max-length": 10000,
        "max-length-bytes": 16777216,
        "message-ttl": 86400000,
    }


def test_a_queue_without_its_policy_is_found_though_the_policies_are_right() -> None:
    case = Case()
    case.queues[1]["effective_policy_definition"] = {}
    ((check, why, remedy),) = case.found()
    assert (check, why) == ("effective policies", f"1 queue with another effective policy: {case.queues[1]['name']}")
    assert remedy.startswith("rabbitmqctl set_policy -p /cliente_acme")


def test_no_message_goes_through_an_exchange_that_may_reach_a_queue() -> None:
    case = Case()
    everything = {each.name for each in case.topology.exchanges}
    assert case.comparison.trustworthy() == everything
    main, mobile = case.topology.tenant.names.exchange, case.topology.tenant.names.mobile_exchange
    (binding, *_) = case.definitions["bindings"]
    case.definitions["bindings"].append({**binding, "source": main, "routing_key": "#"})
    for exchange in case.definitions["exchanges"]:
        exchange["type"] = "fanout" if exchange["name"] == mobile else exchange["type"]
    assert case.comparison.trustworthy() == everything - {main, mobile}


def test_another_check_is_no_finding_and_a_queue_with_such_a_name_is_one() -> None:
    case = Case()
    (binding, *_) = case.definitions["bindings"]
    trial = {**binding, "destination": "kryonix-check.1", "routing_key": "kryonix-check.1"}
    case.definitions["bindings"].append(trial)
    assert case.found() == []
    assert case.comparison.trustworthy() == {each.name for each in case.topology.exchanges}
    case.definitions["queues"].append({**case.definitions["queues"][0], "name": "kryonix-check.1"})
    assert {check for check, _, _ in case.found()} == {"queues", "bindings"}


def test_many_strangers_are_counted_and_a_parameter_is_one() -> None:
    case = Case()
    (queue, *_) = case.definitions["queues"]
    case.definitions["queues"] += [{**queue, "name": f"mine{at}"} for at in range(30)]
    shovel = {"vhost": case.topology.vhost, "component": "shovel", "name": "away", "value": {}}
    case.definitions["parameters"].append(shovel)
    *queues, last, parameter = case.found()
    assert len(queues) == 20
    assert queues[0][2].endswith("-X DELETE 'http://broker:15672/api/queues/%2Fcliente_acme/mine0'")
    assert last[1] == "10 more that no stack declares"
    assert parameter[:2] == ("parameters", "no stack declares the parameter shovel away")


def test_a_missing_user_and_a_leftover_are_found() -> None:
    case = Case()
    case.definitions["users"][1]["name"] = "kryonix_acme.2"
    assert [why for _, why, _ in case.found()] == [
        "no stack declares the user kryonix_acme.2",
        "the user kryonix_acme.stats is missing",
    ]


ROW = TenantRow(
    cliente_id="acme",
    vhost="/cliente_acme",
    modulos=("crm",),
    plano="basic",
    status="ativo",
    username="kryonix_acme",
    password_hash=rabbitmq_hash("kryonix_acme", PASSWORD),
)


@pytest.mark.parametrize(
    ("row", "state", "whys"),
    [
        (ROW, None, []),
        (None, None, ["its row in tenants.rabbitmq_configurations is missing or says removido"]),
        (replace(ROW, modulos=("portal", "crm")), None, ["its row has another modulos: portal, crm instead of crm"]),
        (
            ROW,
            DesiredState(cliente_id="acme", modules=("crm",), plan="premium"),
            ["the last change of its desired state is not applied"],
        ),
    ],
)
def test_rows_of_the_registry(row: TenantRow | None, state: DesiredState | None, whys: list[str]) -> None:
    assert [each.why for each in registry_findings(declared(), row, state)] == whys


def test_a_stacks_tenants_are_read_from_its_deployment() -> None:
    record = {
        "clienteId": "acme",
        "vhost": "/cliente_acme",
        "modulos": ["crm"],
        "plano": "basic",
        "status": "suspenso",
        "username": "kryonix_acme.2",
    }
    users = ("kryonix_acme", "kryonix_acme.2", "kryonix_acme2", "kryonix-metrics")
    resources = [
        {"type": "pulumi-python:dynamic/kryonix:TenantRecord", "inputs": record},
        {"type": "pulumi-python:dynamic/kryonix:TenantRecord", "inputs": {"clienteId": "gone"}, "delete": True},
        *({"type": "rabbitmq:index/user:User", "inputs": {"name": name}} for name in users),
    ]
    (found,) = declared_tenants("dev", {"deployment": {"resources": resources}}, {}, {})
    assert (found.tenant.status, found.users, found.protected, found.password) == (
        "suspended",
        ("kryonix_acme", "kryonix_acme.2"),
        False,
        None,
    )
    assert found.mend == "kryonix refresh --stack dev && kryonix up --stack dev"
    assert list(declared_tenants("tenant-none", {}, {}, {})) == []


def test_junit_counts_outcomes_and_survives_any_name() -> None:
    text = junit(
        [
            Finding(check="broker", outcome="unreachable", why="it is down"),
            Finding(check="queues", outcome="fail", tenant="acme", why="a queue \x01<&", remedy="delete it"),
            Finding(check="messages", outcome="not tried", tenant="acme", why="suspended"),
            Finding(check="vhost", outcome="pass", tenant="acme"),
        ]
    ).decode()
    assert '<testsuite name="acme" tests="3" failures="1" errors="0" skipped="1">' in text
    assert '<failure message="a queue \N{REPLACEMENT CHARACTER}&lt;&amp;">delete it</failure>' in text
    assert '<error message="it is down"' in text
