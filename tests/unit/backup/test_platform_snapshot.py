"""A platform's own objects, and bundles of platforms that bring something else along."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kryonix.backup.errors import InvalidBundle
from kryonix.backup.platform_objects import left_out, missing, own_objects
from kryonix.backup.platform_snapshot import PlatformSnapshot
from tests.support.bundles import bundle

DEFINITIONS: dict[str, Any] = {
    "rabbit_version": "4.3.6",
    "vhosts": [{"name": "/"}, {"name": "/extra"}, {"name": "/cliente_acme"}],
    "users": [
        {"name": "kryonix_admin", "tags": ["administrator"]},
        {"name": "kryonix-master", "tags": []},
        {"name": "operator", "tags": ["management"]},
        {"name": "kryonix_acme", "tags": []},
        {"name": "kryonix_acme.2", "tags": []},
        {"name": "kryonix_acme.2.stats", "tags": ["management"]},
    ],
    "permissions": [
        {"user": "operator", "vhost": "/extra", "configure": ".*", "write": ".*", "read": ".*"},
        {"user": "kryonix_admin", "vhost": "/cliente_acme", "configure": ".*", "write": ".*", "read": ".*"},
        {"user": "kryonix_acme", "vhost": "/extra", "configure": "", "write": "", "read": ""},
    ],
    "queues": [{"name": "q", "vhost": "/extra", "arguments": {}}, {"name": "q", "vhost": "/cliente_acme"}],
    "parameters": [
        {"component": "shovel", "name": "mover", "vhost": "/extra", "value": {"src-uri": "amqp://u:secret@h"}},
        {"component": "vhost-limits", "name": "limits", "vhost": "/extra", "value": {"max-queues": 5}},
    ],
    "global_parameters": [{"name": "cluster_tags", "value": []}],
}
ROWS = {"signup.operations": [{"id": "a", "ended_at": None}], "tenants.desired_states": []}
STATE = {
    "version": 3,
    "deployment": {"resources": [{"urn": "urn:pulumi:prod::kryonix::pulumi:pulumi:Stack::kryonix-prod"}]},
}
PLATFORM = PlatformSnapshot(stack="prod", definitions=DEFINITIONS, rows=ROWS, state=STATE)


def opened(**changed: Any) -> PlatformSnapshot:
    members = PLATFORM.members() | {f"{name}.json": json.dumps(value).encode() for name, value in changed.items()}
    return PlatformSnapshot.of(bundle(members, kind="platform", subject="prod"))


def test_a_platforms_own_objects_are_those_of_no_tenant() -> None:
    own = own_objects(DEFINITIONS)
    assert list(own["vhosts"]) == ["/", "/extra"]
    assert list(own["users"]) == ["kryonix_admin", "kryonix-master", "operator"]
    assert list(own["permissions"]) == ["operator /extra"]
    assert list(own["queues"]) == ["q /extra"]


def test_what_is_there_is_not_missing() -> None:
    own = own_objects(DEFINITIONS)
    assert missing(own, own) == {}
    now = own_objects({**DEFINITIONS, "users": [{"name": "kryonix_admin", "tags": []}], "queues": []})
    assert {kind: list(found) for kind, found in missing(own, now).items()} == {
        "users": ["kryonix-master", "operator"],
        "queues": ["q /extra"],
    }


def test_what_could_take_over_the_broker_is_named_and_left_out() -> None:
    own, none = own_objects(DEFINITIONS), own_objects({})
    assert left_out(own, none) == ["user kryonix_admin", "parameter shovel mover /extra"]
    assert left_out(own, own) == []
    rights = {"user": "kryonix_admin", "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"}
    found = missing(own_objects({**DEFINITIONS, "permissions": [*DEFINITIONS["permissions"], rights]}), none)
    assert list(found["permissions"]) == ["operator /extra"]
    assert list(found["parameters"]) == ["vhost-limits limits /extra"]
    assert "kryonix_admin" not in found["users"]


def test_what_a_verification_makes_for_a_moment_is_nobodys() -> None:
    scratch = {"vhosts": [{"name": "/kryonix-verify-a-b"}], "users": [{"name": "kryonix-verify-a-b", "tags": []}]}
    assert [name for entries in own_objects(scratch).values() for name in entries] == []


def test_a_platform_is_the_same_in_its_bundle() -> None:
    found = opened()
    assert found == PLATFORM
    assert found.members() == PLATFORM.members()
    assert found.counts["rows"] == 1
    assert "secret" not in repr(found)


def test_a_platform_without_a_state_is_one_where_the_engine_has_none() -> None:
    members = PlatformSnapshot(stack="prod", definitions=DEFINITIONS, rows=ROWS).members()
    assert sorted(members) == ["definitions.json", "rows.json"]
    assert PlatformSnapshot.of(bundle(members, kind="platform", subject="prod")).state is None


def stated(**resource: Any) -> dict[str, Any]:
    return {"version": 3, "deployment": {"resources": [{**STATE["deployment"]["resources"][0], **resource}]}}  # type: ignore[index]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"rows": {"pg_catalog.pg_authid": [{}]}}, "rows of the table 'pg_catalog.pg_authid'"),
        ({"rows": {'tenants.x"; DROP': []}}, "rows of the table"),
        ({"rows": {"tenants.desired_states": ["x"]}}, "rows of tenants.desired_states are no objects"),
        ({"rows": []}, "not formed"),
        ({"definitions": []}, "not formed"),
        ({"definitions": {"queues": [{"name": "q"}]}}, "not formed"),
        ({"state": stated(urn="urn:pulumi:other::kryonix::x::y")}, "of another stack"),
        ({"state": stated(inputs={"__provider": "Y29zCnN5c3RlbQ=="})}, "code of somebody else"),
        ({"state": stated(inputs={"pluginDownloadURL": "https://evil"})}, "downloads a program"),
        ({"state": {"deployment": {"resources": [7]}}}, "not formed"),
    ],
)
def test_a_bundle_that_is_not_a_platforms_is_refused(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidBundle, match=said):
        opened(**changed)


def test_a_tenants_bundle_is_no_platforms() -> None:
    with pytest.raises(InvalidBundle, match="holds no platform"):
        PlatformSnapshot.of(bundle())
