"""Which changed inputs replace a resource, by type, and in which order."""

from __future__ import annotations

from typing import Any

import pytest

from kryonix.engines.local.errors import InvalidInputs, UnsupportedResource
from kryonix.engines.local.handlers import UNKNOWN, Handler, provider

CONFIG = {
    "rabbitmq": {"endpoint": "http://127.0.0.1:15672", "username": "u", "password": "p"},
    "postgresql": {"host": "127.0.0.1", "username": "u", "password": "p"},
}
QUEUE = {"name": "q", "vhost": "v", "settings": {"durable": True, "argumentsJson": '{"x-queue-type": "quorum"}'}}
BINDING = {"source": "e", "vhost": "v", "destination": "q", "destinationType": "queue", "routingKey": "k"}
BLOCK = {"pattern": "^a", "priority": 1, "applyTo": "queues", "definition": {"max-length": "1"}}
POLICY = {"name": "p", "vhost": "v", "policy": BLOCK}
GRANT = {
    "role": "r",
    "database": "d",
    "objectType": "table",
    "schema": "s",
    "objects": ["t"],
    "privileges": ["SELECT"],
}
PERMISSIONS = {"user": "u", "vhost": "v", "permissions": dict.fromkeys(("configure", "write", "read"), "")}
DATABASE = {"name": "d", "owner": "o"}
SCHEMA = {"name": "s", "database": "d", "owner": "o"}
CONTAINER = {"name": "c", "image": "i:1"}


def handler(type: str) -> Handler:
    package, noun = type.split(":")
    token = f"{package}:index/{noun[0].lower()}{noun[1:]}:{noun}"
    return provider(package, CONFIG.get(package, {})).handler(token)


def diff(type: str, inputs: dict[str, Any], **changed: Any) -> Any:
    at = handler(type)
    old = at.check(None, inputs)
    return at.diff("id", old, old, at.check(old, {**inputs, **changed}))


@pytest.mark.parametrize(
    ("type", "inputs", "changed"),
    [
        ("rabbitmq:VHost", {"name": "v"}, {"name": "w"}),
        ("rabbitmq:User", {"name": "u", "password": "p"}, {"name": "w"}),
        (
            "rabbitmq:Permissions",
            PERMISSIONS,
            {"user": "w"},
        ),
        (
            "rabbitmq:Permissions",
            PERMISSIONS,
            {"vhost": "w"},
        ),
        (
            "rabbitmq:Exchange",
            {"name": "e", "vhost": "v", "settings": {"type": "topic"}},
            {"settings": {"type": "direct"}},
        ),
        ("rabbitmq:Queue", QUEUE, {"name": "w"}),
        ("rabbitmq:Queue", QUEUE, {"vhost": "w"}),
        ("rabbitmq:Queue", QUEUE, {"settings": {"durable": True}}),
        *(("rabbitmq:Binding", BINDING, {key: "w"}) for key in BINDING if key != "destinationType"),
        ("rabbitmq:Policy", POLICY, {"name": "w"}),
        ("rabbitmq:OperatorPolicy", POLICY, {"vhost": "w"}),
        ("postgresql:Schema", SCHEMA, {"database": "w"}),
        ("postgresql:Grant", GRANT, {"role": "w"}),
        ("postgresql:Grant", GRANT, {"objects": ["u"]}),
        ("docker:Network", {"name": "n"}, {"driver": "bridge"}),
        ("docker:Volume", {"name": "v"}, {"name": "w"}),
        ("docker:Container", CONTAINER, {"image": "i:2"}),
        ("docker:Container", CONTAINER, {"envs": ["A=1"]}),
        ("docker:Container", CONTAINER, {"ports": [{"internal": 80, "external": 80, "ip": "::"}]}),
        ("docker:Container", CONTAINER, {"uploads": [{"file": "/f", "content": "c"}]}),
        ("docker:Container", CONTAINER, {"hosts": [{"host": "other", "ip": "10.0.0.12"}]}),
        ("random:RandomPassword", {"length": 8}, {"length": 9}),
        ("random:RandomPassword", {"length": 8}, {"special": False}),
    ],
)
def test_this_change_makes_a_new_resource(type: str, inputs: dict[str, Any], changed: dict[str, Any]) -> None:
    found = diff(type, inputs, **changed)
    assert found.replaces == tuple(changed)


@pytest.mark.parametrize(
    ("type", "inputs", "changed"),
    [
        (
            "rabbitmq:VHost",
            {"name": "v", "maxQueues": "5"},
            {"maxQueues": "6", "maxConnections": "1", "description": "d"},
        ),
        ("rabbitmq:User", {"name": "u", "password": "p"}, {"password": "q", "tags": ["management"]}),
        ("rabbitmq:Policy", POLICY, {"policy": {**BLOCK, "definition": {"max-length": "2"}}}),
        ("rabbitmq:OperatorPolicy", POLICY, {"policy": {**BLOCK, "priority": 2}}),
        ("postgresql:Role", {"name": "r"}, {"password": "p", "login": True}),
        ("postgresql:Database", DATABASE, {"name": "e", "owner": "p"}),
        ("postgresql:Grant", GRANT, {"privileges": ["INSERT"]}),
        (
            "docker:Container",
            CONTAINER,
            {"restart": "always", "memory": 64, "healthcheck": {"tests": ["x"]}},
        ),
    ],
)
def test_this_change_is_made_in_place(type: str, inputs: dict[str, Any], changed: dict[str, Any]) -> None:
    found = diff(type, inputs, **changed)
    assert (found.changed, found.replaces) == (tuple(sorted(changed)), ())


def test_a_resource_with_a_fixed_name_is_deleted_before_replacement() -> None:
    assert diff("rabbitmq:Queue", QUEUE, settings={"durable": True}).delete_before_replace
    assert not diff("rabbitmq:Queue", QUEUE, name="w").delete_before_replace
    assert not diff("rabbitmq:Queue", QUEUE, name=UNKNOWN).delete_before_replace
    assert diff("docker:Container", CONTAINER, name="w").delete_before_replace
    assert diff("postgresql:Grant", GRANT, role="w").delete_before_replace
    assert not diff("rabbitmq:Binding", BINDING, routingKey="w").delete_before_replace


@pytest.mark.parametrize("type", ["rabbitmq:Queue", "docker:Container", "postgresql:Grant", "random:RandomPassword"])
def test_equal_inputs_are_no_change(type: str) -> None:
    examples: dict[str, dict[str, Any]] = {
        "rabbitmq:Queue": QUEUE,
        "docker:Container": CONTAINER,
        "postgresql:Grant": GRANT,
        "random:RandomPassword": {"length": 8},
    }
    assert diff(type, examples[type]).changed == ()


@pytest.mark.parametrize(
    ("type", "inputs", "problem"),
    [
        ("rabbitmq:VHost", {"name": "v", "maxConnections": "ten"}, "`maxConnections` is 'ten'"),
        ("rabbitmq:Binding", {**BINDING, "destinationType": "topic"}, "`destinationType` is 'topic'"),
        ("rabbitmq:Policy", {"name": "p", "vhost": "v", "policy": {}}, "`policy.pattern` is required"),
        ("docker:Container", {**CONTAINER, "devices": []}, "`devices` is not an input of the local engine"),
        ("docker:Container", {**CONTAINER, "restart": "sometimes"}, "`restart` is 'sometimes'"),
        ("docker:Container", {**CONTAINER, "hosts": ["x"]}, r"`hosts\[0\]` is 'x'; it must be an object"),
        ("postgresql:Grant", {**GRANT, "privileges": ["SELECT; DROP TABLE x"]}, "is not a privilege on a table"),
        ("postgresql:Grant", {**GRANT, "schema": ""}, "`schema` is required"),
        ("postgresql:Grant", {**GRANT, "objectType": "function"}, "is not a privilege on a function"),
        (
            "postgresql:Grant",
            {**GRANT, "objectType": "schema", "privileges": ["USAGE"], "objects": ["t"]},
            "`objects` can't be given",
        ),
        ("random:RandomPassword", {"length": "long"}, "`length` is 'long'; it must be a whole number"),
    ],
)
def test_invalid_inputs_are_refused(type: str, inputs: dict[str, Any], problem: str) -> None:
    with pytest.raises(InvalidInputs, match=f"(?s){type.split(':')[1]}.*{problem}"):
        handler(type).check(None, inputs)


REMOVED: dict[str, tuple[dict[str, Any], str]] = {
    "docker:Container": (
        CONTAINER,
        "cpus cpuSet cpuShares devices dns domainname gpus groupAdds init ipcMode logDriver logOpts "
        "maxRetryCount mounts pidMode platform privileged runtime stopSignal stopTimeout storageOpts sysctls ulimits "
        "user usernsMode workingDir",
    ),
    "docker:Network": ({"name": "n"}, "attachable ingress internal ipamConfigs ipamOptions ipv6 labels options"),
    "docker:Volume": ({"name": "v"}, "driver driverOpts labels"),
    "postgresql:Database": (DATABASE, "encoding isTemplate lcCollate lcCtype tablespaceName template"),
    "postgresql:Role": (
        {"name": "r"},
        "assumeRole idleInTransactionSessionTimeout roles searchPaths statementTimeout",
    ),
    "rabbitmq:Binding": (BINDING, "arguments argumentsJson"),
    "rabbitmq:VHost": ({"name": "v"}, "tracing"),
    "random:RandomPassword": ({"length": 8}, "keepers overrideSpecial number"),
}
"""Inputs of the provider plugins that the local engine does not have."""

CONSTANT: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "docker:Container": (
        CONTAINER,
        {
            **dict.fromkeys(("attach", "logs", "rm", "stdinOpen", "tty"), True),
            **dict.fromkeys(("mustRun", "removeVolumes", "start"), False),
            "containerReadRefreshTimeoutMilliseconds": 1,
            "memoryReservation": 1,
            "networkMode": "host",
        },
    ),
    "docker:Network": ({"name": "n"}, {"ipamDriver": "other"}),
    "postgresql:Database": (
        DATABASE,
        {"connectionLimit": 3, "allowConnections": False, "alterObjectOwnership": True},
    ),
    "postgresql:Schema": (SCHEMA, {"ifNotExists": False, "dropCascade": True}),
    "postgresql:Role": (
        {"name": "r"},
        {
            **dict.fromkeys(("bypassRowLevelSecurity", "createDatabase"), True),
            **dict.fromkeys(("replication", "skipDropRole", "skipReassignOwned", "superuser"), True),
            **dict.fromkeys(("encryptedPassword", "inherit"), False),
            "connectionLimit": 3,
            "validUntil": "2030-01-01",
        },
    ),
    "postgresql:Grant": (GRANT, {"withGrantOption": True}),
    "random:RandomPassword": (
        {"length": 8},
        {
            **dict.fromkeys(("lower", "numeric", "upper"), False),
            **dict.fromkeys(("minLower", "minNumeric", "minSpecial", "minUpper"), 1),
        },
    ),
}
"""Inputs that have the provider plugin's default in the state, and can't be given."""

REFUSED = [
    *((type, {**inputs, name: ["x"]}, name) for type, (inputs, names) in REMOVED.items() for name in names.split()),
    *(
        (type, {**inputs, name: value}, name)
        for type, (inputs, given) in CONSTANT.items()
        for name, value in given.items()
    ),
    *(
        ("docker:Container", {**CONTAINER, block: [{**needed, name: "x"}]}, rf"{block}\[0\]\.{name}")
        for block, needed, names in (
            ("networksAdvanced", {"name": "n"}, "driverOpts ipv4Address ipv6Address linkLocalIps macAddress"),
            ("uploads", {"file": "f", "content": "c"}, "contentBase64 permissions source sourceHash"),
            ("volumes", {"containerPath": "/d", "volumeName": "v"}, "fromContainer selinuxRelabel"),
        )
        for name in names.split()
    ),
    *(
        ("docker:Container", {**CONTAINER, "volumes": [{"containerPath": "/d", **source}]}, r"volumes\[0\]")
        for source in ({}, {"volumeName": "v", "hostPath": "/h"})
    ),
    ("docker:Container", {**CONTAINER, "healthcheck": {"startInterval": "1s"}}, "healthcheck.startInterval"),
    ("rabbitmq:Queue", {**QUEUE, "settings": {"arguments": {"a": "b"}}}, "settings.arguments"),
    ("rabbitmq:Binding", {**BINDING, "destinationType": "exchange"}, "destinationType"),
    *(
        ("postgresql:Grant", {**GRANT, "objectType": kind, "privileges": ["EXECUTE"]}, "objectType")
        for kind in ("procedure", "routine", "sequence")
    ),
]


@pytest.mark.parametrize(("type", "inputs", "name"), REFUSED, ids=[f"{case[0]}.{case[2]}" for case in REFUSED])
def test_an_unsupported_input_is_refused_by_name(type: str, inputs: dict[str, Any], name: str) -> None:
    with pytest.raises(InvalidInputs, match=f"{type.split(':')[1]}: `{name}` is "):
        handler(type).check(None, inputs)


@pytest.mark.parametrize("noun", ["randomBytes:RandomBytes", "randomId:RandomId", "randomString:RandomString"])
def test_unsupported_random_resources_are_refused_by_name(noun: str) -> None:
    with pytest.raises(UnsupportedResource, match=f"random:index/{noun}"):
        provider("random", {}).handler(f"random:index/{noun}")


def test_an_unknown_type_or_package_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedResource, match=r"rabbitmq:index/quue:Queue'.*did you mean 'rabbitmq:index/queue"):
        provider("rabbitmq", CONFIG["rabbitmq"]).handler("rabbitmq:index/quue:Queue")
    with pytest.raises(UnsupportedResource, match="'aws', only for docker"):
        provider("aws", {})


@pytest.mark.parametrize("package", ["rabbitmq", "postgresql"])
def test_a_provider_with_unknown_settings_checks_and_compares(package: str) -> None:
    names = {"rabbitmq": "endpoint username password", "postgresql": "host username password"}[package]
    opened = provider(package, dict.fromkeys(names.split(), UNKNOWN))
    type, inputs = ("queue:Queue", QUEUE) if package == "rabbitmq" else ("grant:Grant", GRANT)
    at = opened.handler(f"{package}:index/{type}")
    assert at.diff("id", at.check(None, inputs), {}, at.check(None, inputs)).changed == ()
    opened.close()


@pytest.mark.parametrize(
    ("package", "config", "problem"),
    [
        ("rabbitmq", {"username": "u", "password": "p"}, "`endpoint` is required"),
        ("rabbitmq", {**CONFIG["rabbitmq"], "proxy": "http://p:1"}, "`proxy` is not an input"),
        ("rabbitmq", {**CONFIG["rabbitmq"], "clientcertFile": "c"}, "`clientcertFile` is not an input"),
        ("rabbitmq", {"endpoint": "broker:15672", "username": "u", "password": "p"}, "is not a URL"),
        ("rabbitmq", {"endpoint": "http://a:secret@b", "username": "u", "password": "p"}, "without credentials"),
        ("postgresql", {**CONFIG["postgresql"], "port": "x"}, "`port` "),
        ("postgresql", {"host": "h"}, "`password` is required"),
        ("docker", {"host": "unix:///x", "sshOpts": ["-p"]}, "`sshOpts` is not an input"),
        (
            "postgresql",
            {**CONFIG["postgresql"], "clientcert": {"cert": "c", "key": "k"}},
            "`clientcert` is not an input",
        ),
    ],
)
def test_invalid_provider_settings_are_refused(package: str, config: dict[str, Any], problem: str) -> None:
    with pytest.raises(InvalidInputs, match=problem) as error:
        provider(package, config)
    assert "secret" not in str(error.value)
