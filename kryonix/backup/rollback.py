"""Bring a tenant back to what it was before a restore that failed. No message is deleted."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable
from contextlib import ExitStack
from dataclasses import replace
from typing import Final

from kryonix.backup.differences import binding_name
from kryonix.backup.objects import open_vhost, put_objects, put_users, read_vhost, remove_vhost
from kryonix.backup.ownership import own_users
from kryonix.backup.restore_plan import RestorePlan, policies_of, same_state
from kryonix.backup.snapshot import Entry, TenantSnapshot
from kryonix.engines.deployments import emptied
from kryonix.engines.engine import Engine, StackSpec
from kryonix.rabbitmq.broker import Broker

COUNTS_AGE_S: Final = 8
"""Maximum age of the broker's message counts, with a margin: a quorum queue reports every 5 s."""

_COUNTED_S: Final = 15
"""Maximum wait for a first count."""


class Rollback:
    """What there was of a tenant before a restore. `with_state`: the state of its stack may have been replaced."""

    def __init__(self, broker: Broker, engine: Engine, plan: RestorePlan) -> None:
        self.plan = plan
        self.with_state = False
        self._broker, self._engine = broker, engine
        self._vhost = plan.snapshot.names.vhost
        before = read_vhost(broker, self._vhost, [user["name"] for user in plan.snapshot.users])
        self._before = replace(plan.now, **{key: before[key] for key in ("users", "permissions", "topic_permissions")})

    def run(self) -> None:
        """Bring it back. Rows are not written: their transaction has been rolled back."""
        with ExitStack() as all_of_it:
            all_of_it.callback(self._put_broker_back)
            if self.with_state:
                all_of_it.callback(self._put_state_back)

    def _put_broker_back(self) -> None:
        made = [user["name"] for user in _lacking(self.plan.snapshot.users, self._before.users)]
        if self._before.vhost is None:
            remove_vhost(self._broker, self._vhost, made)
            put_users(self._broker, self._before, self._vhost)
            return
        self._put_objects_back()
        rights = [("permissions", self._vhost, user) for user in self._without_rights()]
        self._broker.delete_all([*(("users", name) for name in made), *rights])
        put_users(self._broker, self._before, self._vhost)
        open_vhost(self._broker, self._before, self._vhost)

    def _put_state_back(self) -> None:
        spec, before = StackSpec(name=self.plan.snapshot.names.stack, config={}), self.plan.now.state
        if same_state(self._engine.export(spec), before):
            return
        if before is None:
            self._engine.rewrite(spec, emptied)
        else:
            self._engine.restore(spec, dict(before))

    def _put_objects_back(self) -> None:
        """Declare what there was again, after what was made, or made anew with other arguments, is gone."""
        snapshot, before, broker = self.plan.snapshot, self._before, self._broker
        put_policies(broker, before, snapshot)
        delete_bindings(broker, self._vhost, _new_bindings(snapshot, before))
        for kind, path in (("operator", "operator-policies"), ("policy", "policies")):
            there = {each.name for each in policies_of(before) if each.kind == kind}
            made = {each.name for each in policies_of(snapshot) if each.kind == kind} - there
            delete_objects(broker, self._vhost, path, made)
        for path in ("exchanges", "queues"):
            made = {each["name"] for each in snapshot.definitions[path] if each not in before.definitions[path]}
            if path == "queues" and made:
                counts = settled_messages(broker, self._vhost, made)
                made = {name for name in made if counts.get(name) == 0}
            delete_objects(broker, self._vhost, path, made)
        put_objects(broker, before, self._vhost)

    def _without_rights(self) -> set[str]:
        """Return the users who were there and had no permissions in the vhost."""
        had = {right["user"] for right in self._before.permissions}
        return {user["name"] for user in self._before.users} - had


def close_vhost(broker: Broker, now: TenantSnapshot) -> None:
    """Refuse new connections to a tenant's vhost, and close the tenant's own."""
    vhost = now.names.vhost
    broker.call("PUT", "vhost-limits", vhost, "max-connections", json={"value": 0})
    broker.cut_off([user for user in broker.users(vhost) if own_users(now.names).fullmatch(user)])


def put_policies(broker: Broker, wanted: TenantSnapshot, now: TenantSnapshot) -> None:
    """Write the policies that differ, one after the other.

    For each, the broker reads all policies and queues, and then writes each queue's effective policy. Two at a time, as
    in an import, can leave a queue without limits for good.
    """
    there = policies_of(now)
    for policy in policies_of(wanted):
        if policy not in there:
            path = "policies" if policy.kind == "policy" else "operator-policies"
            body = {
                "pattern": policy.pattern,
                "priority": policy.priority,
                "apply-to": policy.apply_to,
                "definition": dict(policy.definition),
            }
            broker.call("PUT", path, wanted.names.vhost, policy.name, json=body)


def settled_messages(broker: Broker, vhost: str, queues: Collection[str]) -> dict[str, int | None]:
    """Return the messages of queues in a closed vhost, counted after it was closed. Missing queues are left out.

    None for a queue without a count: it has just been declared, the broker has just started, or it has no leader.
    """
    if not queues:
        return {}
    time.sleep(COUNTS_AGE_S)
    until = time.monotonic() + _COUNTED_S
    while True:
        counts = {name: count for name, count in broker.counts(vhost).items() if name in queues}
        if None not in counts.values() or time.monotonic() > until:
            return counts
        time.sleep(0.5)


def delete_objects(broker: Broker, vhost: str, kind: str, names: Iterable[str]) -> None:
    """Delete objects of a kind, as the management API calls it."""
    broker.delete_all([(kind, vhost, name) for name in names])


def delete_bindings(broker: Broker, vhost: str, bindings: Iterable[Entry]) -> None:
    """Delete bindings, each by its two ends, its key and its arguments."""
    for each in bindings:
        path = ("bindings", vhost, "e", each["source"], each["destination_type"][0], each["destination"])
        for found in broker.find(*path) or []:
            if all(found[key] == each[key] for key in ("routing_key", "arguments")):
                broker.call("DELETE", *path, found["properties_key"], missing_ok=True)


def _new_bindings(snapshot: TenantSnapshot, before: TenantSnapshot) -> list[Entry]:
    there = {binding_name(each) for each in before.definitions["bindings"]}
    return [each for each in snapshot.definitions["bindings"] if binding_name(each) not in there]


def _lacking(wanted: Iterable[Entry], there: Iterable[Entry]) -> list[Entry]:
    names = {each["name"] for each in there}
    return [each for each in wanted if each["name"] not in names]
