"""The summary of a preview by tenant, and the changes that it always names."""

from __future__ import annotations

import re

from kryonix.cli.output.changes import change_lines, notable
from kryonix.engines.events import Op, Step

TENANT = "kryonix:messaging:TenantMessaging"
QUEUE, BINDING, VHOST = "rabbitmq:index/queue:Queue", "rabbitmq:index/binding:Binding", "rabbitmq:index/vHost:VHost"
CONTAINER, RECORD = "docker:index/container:Container", "pulumi-python:dynamic/kryonix:TenantRecord"


def step(op: Op, type_: str, name: str, *changed: str) -> Step:
    chain = type_ if type_ == TENANT or "/" not in name else f"{TENANT}${type_}"
    return Step(f"urn:pulumi:dev::kryonix::{chain}::{name}", name, type_, op, changed)


NEW = [
    step("create", TENANT, "nova"),
    step("create", VHOST, "nova/vhost"),
    step("create", QUEUE, "nova/crm.a"),
    step("create", QUEUE, "nova/crm.b"),
    step("create", BINDING, "nova/crm.a"),
    step("create", RECORD, "nova/record"),
]
CHANGED = [
    step("same", TENANT, "acme"),
    step("update", VHOST, "acme/vhost", "max_queues"),
    step("delete", QUEUE, "acme/crm.a"),
    step("delete", BINDING, "acme/crm.a"),
    step("replace", QUEUE, "acme/crm.b", "arguments"),
]
REMOVED = [step("delete", TENANT, "beta"), step("delete", VHOST, "beta/vhost"), step("delete", QUEUE, "beta/crm.a")]
PLATFORM = [step("replace", CONTAINER, "platform-rabbitmq", "image"), step("same", RECORD, "registry")]


def test_each_tenants_changes_are_one_line_with_removals_first() -> None:
    lines = [re.sub(r"\[.*?\]", "", line) for line in change_lines([*NEW, *PLATFORM, *CHANGED, *REMOVED])]
    assert lines == [
        "Removes tenant beta: 1 queue, 1 vhost",
        "acme: 1 queue, 1 binding deleted; 1 queue replaced; 1 vhost changed in place",
        "rest of the stack: 1 container replaced",
        "nova: new tenant, 2 queues, 1 binding, 1 vhost, 1 other object",
    ]


def test_without_changes_there_is_no_line() -> None:
    assert change_lines([step("same", QUEUE, "acme/crm.a"), step("read", RECORD, "acme/record")]) == []


def test_changed_and_removed_objects_with_messages_are_always_named() -> None:
    assert [f"{each.op} {each.name}" for each in notable([*NEW, *CHANGED, *REMOVED, *PLATFORM])] == [
        "delete acme/crm.a",
        "replace acme/crm.b",
        "update acme/vhost",
        "delete beta/vhost",
        "replace platform-rabbitmq",
    ]
