"""A snapshot survives its bundle, and no bundle restores anything of somebody else."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings, strategies

from kryonix.backup.bundle import Bundle
from kryonix.backup.differences import differences
from kryonix.backup.errors import InvalidBundle
from kryonix.backup.snapshot import TenantSnapshot
from tests.support.snapshots import bundle_of, snapshot, values

Change = Callable[[dict[str, Any]], object]

SHOVEL = {"component": "shovel", "name": "s", "value": {"src-uri": "amqp:///%2Fcliente_beta"}}


def test_a_snapshot_is_the_same_after_its_bundle() -> None:
    found = snapshot()
    assert TenantSnapshot.of(bundle_of(found)) == found


def test_a_providers_login_in_a_state_is_the_administrators() -> None:
    state = copy.deepcopy(values()["state"])
    login = {"username": "kryonix_admin", "endpoint": "http://127.0.0.1:15672"}
    urn = "urn:pulumi:tenant-acme::kryonix::pulumi:providers:rabbitmq::broker"
    provider = {"urn": urn, "type": "pulumi:providers:rabbitmq", "id": "x", "inputs": login, "outputs": login}
    state["deployment"]["resources"].append(provider)
    assert TenantSnapshot.of(bundle_of(snapshot(state=state))).state == state


def test_a_snapshot_without_a_state_is_the_same_after_its_bundle() -> None:
    found = snapshot(state=None)
    assert TenantSnapshot.of(bundle_of(found)) == found


def test_the_same_tenant_gives_the_same_bytes() -> None:
    fields = values()
    assert snapshot(**dict(reversed(fields.items()))).members() == snapshot().members()


def test_no_secret_is_in_the_repr() -> None:
    assert "c2VjcmV0" not in repr(snapshot())
    assert "token" not in repr(snapshot())


def test_counts_are_by_noun() -> None:
    assert snapshot().counts == {
        "exchanges": 1,
        "queues": 1,
        "bindings": 1,
        "policies": 1,
        "parameters": 2,
        "users": 2,
        "permissions": 3,
        "rows": 2,
    }


def test_parameters_with_a_login_of_their_own_are_left_out() -> None:
    fields = values()
    fields["definitions"]["parameters"].append(SHOVEL)
    assert TenantSnapshot.of(bundle_of(snapshot(**fields))).left_out == ["shovel s"]


def user(fields: dict[str, Any], at: int, **changes: Any) -> None:
    fields["users"][at].update(changes)


def right(fields: dict[str, Any], **changes: Any) -> None:
    fields["permissions"].append({"user": "kryonix_acme", "configure": "", "write": "", "read": "", **changes})


def row(fields: dict[str, Any], table: str, **changes: Any) -> None:
    fields["rows"][f"tenants.{table}"][0].update(changes)


def resource(fields: dict[str, Any], **changes: Any) -> None:
    fields["state"]["deployment"]["resources"][0].update(changes)


OTHER_URN = "urn:pulumi:tenant-beta::kryonix::rabbitmq:index/vHost:VHost::vhost"

HOSTILE: dict[str, tuple[Change, str]] = {
    "another vhost": (lambda f: f["vhost"].update(name="/cliente_beta"), "the vhost '/cliente_beta'"),
    "no vhost": (lambda f: f.update(vhost=None), "vhost"),
    "another field of the vhost": (lambda f: f["vhost"].update(tracing=True), "tracing"),
    "users in the definitions": (lambda f: f["definitions"].update(users=[{}]), "users"),
    "an object in another vhost": (
        lambda f: f["definitions"]["queues"][0].update(vhost="/cliente_beta"),
        "queues.0.vhost",
    ),
    "another tenant's user": (lambda f: user(f, 0, name="kryonix_beta"), "the user 'kryonix_beta'"),
    "the administrator": (lambda f: user(f, 0, name="kryonix_admin"), "the user 'kryonix_admin'"),
    "a user like the tenant's": (lambda f: user(f, 0, name="kryonix_acme2"), "kryonix_acme2"),
    "a user with a line break": (lambda f: user(f, 0, name="kryonix_acme\n"), "the user"),
    "an administrator by tag": (lambda f: user(f, 0, tags=["administrator"]), "the tags administrator"),
    "figures by more than a tag": (lambda f: user(f, 1, tags=["management", "administrator"]), "the tags"),
    "HTTP for the application's user": (lambda f: user(f, 0, tags=["management"]), "the tags management"),
    "a user with no hash": (lambda f: user(f, 0, password_hash=None), "users.0.password_hash"),
    "an unknown hash": (lambda f: user(f, 0, hashing_algorithm="md5"), "users.0.hashing_algorithm"),
    "a right of another tenant": (lambda f: right(f, user="kryonix_beta"), "the user 'kryonix_beta'"),
    "a second administrator": (lambda f: right(f, user="eve", configure=".*", write=".*", read=".*"), "'eve'"),
    "a right in another vhost": (lambda f: right(f, vhost="/cliente_beta"), "the vhost '/cliente_beta'"),
    "a topic right of another": (lambda f: f["topic_permissions"][0].update(user="eve"), "the user 'eve'"),
    "a row of another table": (lambda f: f["rows"].update({"signup.api_keys": [{}]}), "'signup.api_keys'"),
    "a row of another tenant": (lambda f: row(f, "rabbitmq_configurations", cliente_id="beta"), "tenant 'beta'"),
    "a row of another vhost": (lambda f: row(f, "rabbitmq_credentials", vhost="/cliente_beta"), "rabbitmq_cred"),
    "a row of another user": (lambda f: row(f, "rabbitmq_credentials", username="kryonix_beta"), "kryonix_beta"),
    "another tenant's entry": (lambda f: f["entry"].update(id="beta"), "the entry of the tenant 'beta'"),
    "another stack's state": (lambda f: resource(f, urn=OTHER_URN), "tenant-beta"),
    "a container in the state": (lambda f: resource(f, type="docker:index/container:Container"), "docker"),
    "another vhost in the state": (lambda f: resource(f, inputs={"name": "/cliente_beta"}), "'/cliente_beta'"),
    "another id in the state": (lambda f: resource(f, id="/cliente_beta"), "'/cliente_beta'"),
    "another tenant's queue in the state": (
        lambda f: resource(f, type="rabbitmq:index/queue:Queue", id="q@/cliente_beta"),
        "'q@/cliente_beta'",
    ),
    "a user in the state": (
        lambda f: resource(f, type="rabbitmq:index/user:User", id="", inputs={"name": "kryonix_beta"}),
        "'kryonix_beta'",
    ),
    "a tenant in the state": (
        lambda f: resource(f, type="pulumi-python:dynamic/kryonix:TenantRecord", inputs={"clienteId": "beta"}),
        "'beta'",
    ),
    "code in the state": (lambda f: resource(f, inputs={"__provider": "gASVAAAA"}), "a program"),
    "a download in the state": (lambda f: resource(f, inputs={"pluginDownloadURL": "https://x"}), "downloads a prog"),
    "an object in the state": (lambda f: resource(f, inputs={"vhost": "/"}), "its state holds '/'"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_bundle_with_what_is_not_the_tenants_is_refused(case: str) -> None:
    change, named = HOSTILE[case]
    fields = values()
    change(fields)
    with pytest.raises(InvalidBundle, match="the bundle of tenant 'acme'") as refused:
        TenantSnapshot.of(bundle_of(snapshot(**fields)))
    assert named in str(refused.value)
    assert refused.value.exit_status == 2


@pytest.mark.parametrize("tenant", ["Acme", "../acme", "acme ", ""])
def test_a_bundle_of_no_valid_tenant_is_refused(tenant: str) -> None:
    with pytest.raises(InvalidBundle):
        TenantSnapshot.of(bundle_of(snapshot(), subject=tenant))


def test_a_platforms_bundle_is_not_a_tenants() -> None:
    with pytest.raises(InvalidBundle, match="holds no tenant"):
        TenantSnapshot.of(bundle_of(snapshot(), kind="platform"))


MALFORMED = {
    "no JSON": b"{",
    "too deep for Python": b"[" * 100_000,
    "too deep": b"[" * 100 + b"]" * 100,
    "no number of JSON": b"NaN",
    "another shape": b"[]",
    "a number": b"1",
    "text in place of an object": b'["a"]',
    "objects of nothing": b"[{}]",
    "text": b'"a"',
}
MEMBERS = ("vhost", "definitions", "users", "permissions", "rows", "tenant", "state")
EMPTY_LISTS = [("users", "another shape")]
"""Valid: a tenant may have lost its users."""


@pytest.mark.parametrize("member", MEMBERS)
@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_member_is_refused(member: str, case: str) -> None:
    whole = bundle_of(snapshot())
    changed = Bundle(whole.manifest, {**whole.members, f"{member}.json": MALFORMED[case]})
    if (member, case) in EMPTY_LISTS:
        assert TenantSnapshot.of(changed).users == []
        return
    with pytest.raises(InvalidBundle):
        TenantSnapshot.of(changed)


@given(strategies.data())
@settings(max_examples=200, deadline=None)
def test_no_change_of_any_value_ends_in_a_traceback(data: strategies.DataObject) -> None:
    """A forged bundle is refused, or it is one that differences and counts can read."""
    members = bundle_of(snapshot()).members
    name = data.draw(strategies.sampled_from(sorted(members)))
    value = json.loads(members[name])
    holder, key = data.draw(strategies.sampled_from(list(places(value))))
    holder[key] = data.draw(JSON)
    forged = Bundle(bundle_of(snapshot()).manifest, {**members, name: json.dumps(value).encode()})
    try:
        found = TenantSnapshot.of(forged)
    except InvalidBundle:
        return
    assert differences(found, found) == []
    assert all(str(each) for each in differences(snapshot(), found))
    assert sum(found.counts.values()) >= 0
    assert isinstance(found.left_out, list)
    assert isinstance(found.limits, dict)


JSON: strategies.SearchStrategy[Any] = strategies.sampled_from(
    [None, True, 0, -1.5, "", "x", "\x1b[2J\n", [], {}, [None], [[]], {"a": None}, {"name": 1}, [{"name": "x"}], [1]]
)


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every place in nested values, as what holds it and its key there."""
    for key in list(value) if isinstance(value, dict) else range(len(value)):
        yield value, key
        if isinstance(value[key], dict | list):
            yield from places(value[key])


@pytest.mark.parametrize("member", [name for name in MEMBERS if name != "state"])
def test_a_missing_member_is_named(member: str) -> None:
    whole = bundle_of(snapshot())
    left = {name: text for name, text in whole.members.items() if name != f"{member}.json"}
    with pytest.raises(InvalidBundle, match=rf"{member}\.json"):
        TenantSnapshot.of(Bundle(whole.manifest, left))
