"""What a tenant has on a broker, read and written: a vhost with its objects, and users with their rights in it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final

from kryonix.backup.differences import differences
from kryonix.backup.errors import Incomplete
from kryonix.backup.ownership import EVERYTHING
from kryonix.backup.snapshot import LIMITS, OBJECTS, RESTORED, Entry, TenantSnapshot
from kryonix.rabbitmq.broker import Broker
from kryonix.rabbitmq.client import BrokerFailed
from kryonix.topology.naming import TRIAL_PREFIX

_VHOST: Final = ("name", "description", "tags", "default_queue_type")
_USER: Final = ("name", "password_hash", "hashing_algorithm", "tags", "limits")
_OBJECTS: Final = frozenset({"exchange", "queue", "binding", "policy", "operator policy"})
_REFUSED: Final = 400
_BUILT_IN: Final = "amq."
_CLOSED: Final = {"max-connections": 0}
_MAX_QUEUES: Final = "max-queues"
_SHOWN: Final = 5


def read_vhost(
    broker: Broker, vhost: str, users: Iterable[str], administrators: Collection[str] = ()
) -> dict[str, Any]:
    """Return the fields of a snapshot that the broker has: a vhost, and those of the users that exist.

    Permissions are those of these users, and of the first of `administrators` who may do everything.
    """
    found = [broker.find("users", name) for name in sorted(users)]
    known = {user["name"] for user in found if user}
    rights = _listed(broker, vhost, "permissions")
    everything = [each["user"] for each in rights if (each["configure"], each["write"], each["read"]) == EVERYTHING]
    administrator = next((user for user in administrators if user in everything), None)
    made = _vhost(broker, vhost)
    definitions = broker.definitions(vhost) if made else {}
    return {
        "vhost": made,
        "definitions": {kind: sorted(found, key=_order) for kind, found in _lasting(definitions).items()},
        "users": [{key: user[key] for key in _USER} for user in found if user],
        "permissions": [each for each in rights if each["user"] in known or each["user"] == administrator],
        "topic_permissions": [each for each in _listed(broker, vhost, "topic-permissions") if each["user"] in known],
    }


def put_objects(broker: Broker, snapshot: TenantSnapshot, vhost: str) -> None:
    """Declare a snapshot's objects in a vhost that takes no connections. Raises Incomplete, naming what is missing.

    The vhost is made if it is missing. What it has beside the snapshot's objects stays. `open_vhost` opens it.
    """
    made = snapshot.vhost or {}
    parameters = [each for each in snapshot.definitions["parameters"] if each["component"] in RESTORED - {LIMITS}]
    with _accepted(vhost):
        broker.call("PUT", "vhosts", vhost, json={key: made[key] for key in _VHOST if key in made and key != "name"})
        _set_limits(broker, vhost, _CLOSED)
        # The vhost may have a lower limit than the snapshot, and extra queues; nobody can declare any meanwhile.
        broker.call("DELETE", "vhost-limits", vhost, _MAX_QUEUES, missing_ok=True)
        broker.import_definitions(vhost, {**snapshot.definitions, "parameters": parameters})
    came = replace(snapshot, definitions=read_vhost(broker, vhost, ())["definitions"])
    lacking = [each for each in differences(snapshot, came) if each.kind in _OBJECTS and each.op != "extra"]
    if lacking:
        more = f" and {len(lacking) - _SHOWN} more" if len(lacking) > _SHOWN else ""
        problem = f"the broker says that it took the objects of {vhost}, but {len(lacking)} did not come"
        raise Incomplete(f"{problem}: {'; '.join(map(str, lacking[:_SHOWN]))}{more}. Run again once all its nodes run")


def open_vhost(broker: Broker, snapshot: TenantSnapshot, vhost: str) -> None:
    """Give a vhost the snapshot's limits and protection: from now on it takes connections."""
    wanted = snapshot.limits
    protected = bool(snapshot.vhost and snapshot.vhost["protected"])
    with _accepted(vhost):
        broker.protect(vhost, protected=protected)
        broker.start(vhost)
        for limit in _CLOSED.keys() - wanted.keys():
            broker.call("DELETE", "vhost-limits", vhost, limit, missing_ok=True)
        _set_limits(broker, vhost, wanted)


def put_users(
    broker: Broker,
    snapshot: TenantSnapshot,
    vhost: str,
    names: Mapping[str, str] | None = None,
    administrator: str | None = None,
) -> None:
    """Make or overwrite a snapshot's users, with their limits and their rights in a vhost.

    `names` maps users to the names they get, by default their own. `administrator` gets the rights of the snapshot's.
    """
    called = {user["name"]: user["name"] for user in snapshot.users} | dict(names or {})
    with _accepted(vhost):
        for user in snapshot.users:
            _put_user(broker, user, called[user["name"]])
        for right in snapshot.permissions:
            if name := called.get(right["user"], administrator):
                body = {key: right[key] for key in ("configure", "write", "read")}
                broker.call("PUT", "permissions", vhost, name, json=body)
        for right in snapshot.topic_permissions:
            if name := called.get(right["user"]):
                body = {key: right[key] for key in ("exchange", "write", "read")}
                broker.call("PUT", "topic-permissions", vhost, name, json=body)


def remove_vhost(broker: Broker, vhost: str, users: Iterable[str]) -> None:
    """Delete a vhost with its messages, even a protected one, and users. Accepts missing ones."""
    broker.protect(vhost, protected=False)
    broker.delete_all([("users", user) for user in users])
    broker.delete_all([("vhosts", vhost)])


def _put_user(broker: Broker, user: Entry, name: str) -> None:
    body = {key: user[key] for key in ("password_hash", "hashing_algorithm")}
    broker.call("PUT", "users", name, json={**body, "tags": ",".join(user["tags"])})
    for limit in broker.user_limits(name).keys() - user["limits"].keys():
        broker.call("DELETE", "user-limits", name, limit, missing_ok=True)
    for limit, value in user["limits"].items():
        broker.set_user_limit(name, limit, value)


@contextmanager
def _accepted(vhost: str) -> Iterator[None]:
    """Tell an entry that the broker refuses from a broker that fails."""
    try:
        yield
    except BrokerFailed as error:
        if error.status != _REFUSED:
            raise
        reason = " ".join(error.reason.split())
        remedy = "Restore an older bundle, or onto the version of the broker that it was made on"
        raise Incomplete(f"the broker refuses what {vhost} had: {reason}. {remedy}") from error


def _set_limits(broker: Broker, vhost: str, limits: Mapping[str, int]) -> None:
    for limit, value in limits.items():
        broker.call("PUT", "vhost-limits", vhost, limit, json={"value": value})


def _vhost(broker: Broker, name: str) -> dict[str, Any] | None:
    if (found := broker.find("vhosts", name)) is None:
        return None
    return {key: found[key] for key in _VHOST} | {"protected": bool(found["protected_from_deletion"])}


def _lasting(definitions: Mapping[str, Any]) -> dict[str, list[Entry]]:
    """Return the objects of a vhost without those of a moment: a check's trial, and bindings to what no export has.

    An export leaves out exclusive queues and internal exchanges and has their bindings, which no broker takes back.
    """
    found: dict[str, list[Entry]] = {kind: list(definitions.get(kind, ())) for kind in OBJECTS}
    found["queues"] = [each for each in found["queues"] if f".{TRIAL_PREFIX}" not in each["name"]]
    queues, exchanges = ({each["name"] for each in found[kind]} for kind in ("queues", "exchanges"))

    def is_there(kind: str, name: str) -> bool:
        return name in queues if kind == "queue" else name in exchanges or name.startswith(_BUILT_IN)

    found["bindings"] = [
        each
        for each in found["bindings"]
        if is_there("exchange", each["source"]) and is_there(each["destination_type"], each["destination"])
    ]
    return found


def _listed(broker: Broker, vhost: str, what: str) -> list[dict[str, Any]]:
    found = broker.find("vhosts", vhost, what) or []
    return sorted(({key: value for key, value in each.items() if key != "vhost"} for each in found), key=_order)


def _order(entry: Entry) -> list[tuple[str, str]]:
    return sorted((key, str(value)) for key, value in entry.items())
