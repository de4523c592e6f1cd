"""Differences name every thing of a tenant that differs, and show no secret."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kryonix.backup.differences import Difference, differences
from tests.support.snapshots import snapshot, values

Change = Callable[[dict[str, Any]], object]


def changed(change: Change) -> list[Difference]:
    fields = values()
    change(fields)
    return differences(snapshot(), snapshot(**fields))


def test_equal_snapshots_have_no_differences() -> None:
    assert differences(snapshot(), snapshot()) == []


CHANGES: dict[str, tuple[Change, Difference]] = {
    "vhost": (
        lambda f: f["vhost"].update(protected=False),
        Difference("vhost", "/cliente_acme", "changed", "protected: true -> false"),
    ),
    "tag": (
        lambda f: f["vhost"].update(tags=["a"]),
        Difference("vhost", "/cliente_acme", "changed", 'tags: ["a", "b"] -> ["a"]'),
    ),
    "limit": (
        lambda f: f["definitions"]["parameters"][1]["value"].update({"max-queues": 7}),
        Difference("limit", "max-queues", "changed", "50 -> 7"),
    ),
    "missing limit": (
        lambda f: f["definitions"]["parameters"].pop(),
        Difference("limit", "max-connections", "missing"),
    ),
    "missing queue": (
        lambda f: f["definitions"]["queues"].pop(),
        Difference("queue", "cliente_acme.crm.q", "missing"),
    ),
    "queue": (
        lambda f: f["definitions"]["queues"][0].update(arguments={}),
        Difference("queue", "cliente_acme.crm.q", "changed", 'arguments.x-queue-type: "quorum" -> null'),
    ),
    "extra exchange": (
        lambda f: f["definitions"]["exchanges"].append({"name": "x", "type": "topic"}),
        Difference("exchange", "x", "extra"),
    ),
    "binding with another argument": (
        lambda f: f["definitions"]["bindings"][0].update(arguments={"x": 1}),
        Difference("binding", 'cliente_acme -> cliente_acme.crm.q [crm.*] {"x": 1}', "extra"),
    ),
    "policy": (
        lambda f: f["definitions"]["policies"][0].update(priority=2),
        Difference("policy", "modulo-crm", "changed", "priority: 1 -> 2"),
    ),
    "operator policy": (
        lambda f: f["definitions"]["parameters"].pop(0),
        Difference("operator policy", "autoscaling", "missing"),
    ),
    "permission": (
        lambda f: f["permissions"][1].update(write=".*"),
        Difference("permission", "kryonix_acme", "changed", 'write: "^w" -> ".*"'),
    ),
    "permission of an administrator": (
        lambda f: f["permissions"].pop(0),
        Difference("permission", "of the administrator", "missing"),
    ),
    "topic permission": (
        lambda f: f["topic_permissions"].pop(),
        Difference("topic permission", "kryonix_acme on cliente_acme", "missing"),
    ),
    "user limit": (
        lambda f: f["users"][0].update(limits={}),
        Difference("user", "kryonix_acme", "changed", "limits"),
    ),
    "user": (lambda f: f["users"].pop(), Difference("user", "kryonix_acme.stats", "missing")),
    "row": (
        lambda f: f["rows"]["tenants.rabbitmq_configurations"][0].update(plano="enterprise"),
        Difference("row", "tenants.rabbitmq_configurations 1", "changed", "plano"),
    ),
    "missing row": (
        lambda f: f["rows"]["tenants.rabbitmq_credentials"].pop(),
        Difference("row", "tenants.rabbitmq_credentials 1", "missing"),
    ),
    "entry": (lambda f: f["entry"].update(plan="x"), Difference("entry", "acme", "changed", "plan")),
    "resource": (
        lambda f: f["state"]["deployment"]["resources"][0].update(inputs={}),
        Difference("state", "urn:pulumi:tenant-acme::kryonix::rabbitmq:index/vHost:VHost::vhost", "changed", "inputs"),
    ),
    "missing vhost": (lambda f: f.update(vhost=None), Difference("vhost", "/cliente_acme", "missing")),
}


@pytest.mark.parametrize("case", CHANGES)
def test_a_difference_is_named_with_its_values(case: str) -> None:
    change, expected = CHANGES[case]
    assert expected in changed(change)


SAME: dict[str, Change] = {
    "order": lambda f: [f[name].reverse() for name in ("users", "permissions")],
    "order of tags": lambda f: f["vhost"]["tags"].reverse(),
    "another administrator": lambda f: f["permissions"][0].update(user="root"),
    "the time of a run": lambda f: f["state"]["deployment"]["resources"][0].update(modified="now"),
    "what a refresh reads": lambda f: f["state"]["deployment"]["resources"][0].update(outputs={"arguments": {}}),
}


@pytest.mark.parametrize("case", SAME)
def test_what_a_reading_happens_to_find_is_no_difference(case: str) -> None:
    assert changed(SAME[case]) == []


SECRETS: dict[str, Change] = {
    "hash": lambda f: f["users"][0].update(password_hash="bGVha2Vk"),
    "row": lambda f: f["rows"]["tenants.rabbitmq_credentials"][0].update(password_hash="bGVha2Vk"),
    "webhook": lambda f: f["entry"].update(notify={"webhook": "https://x/bGVha2Vk"}),
    "parameter": lambda f: f["definitions"]["parameters"].append(
        {"component": "shovel", "name": "s", "value": {"src-uri": "amqp://u:bGVha2Vk@h"}}
    ),
    "state": lambda f: f["state"]["deployment"]["resources"][0].update(inputs={"password": "bGVha2Vk"}),
}


@pytest.mark.parametrize("case", SECRETS)
def test_a_difference_shows_no_secret(case: str) -> None:
    found = changed(SECRETS[case])
    assert found
    assert not any(secret in f"{found!r} {[str(each) for each in found]}" for secret in ("bGVha2Vk", "c2VjcmV0"))


def test_a_name_can_not_write_over_the_terminal() -> None:
    found = changed(lambda f: f["definitions"]["exchanges"].append({"name": "\x1b[2J\n", "type": "topic"}))
    assert [str(each) for each in found] == ["exchange \\x1b[2J\\n: extra"]
