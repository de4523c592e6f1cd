"""Any tenant that a broker can hold comes back as it was, whatever of it was lost."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from random import Random
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from kryonix.backup.differences import differences
from kryonix.backup.objects import remove_vhost
from kryonix.backup.reading import read_live
from kryonix.backup.restoring import TenantRestore
from kryonix.backup.snapshot import TenantSnapshot
from kryonix.engines.process import LocalEngine
from kryonix.rabbitmq.broker import Broker
from kryonix.rabbitmq.client import BrokerUnavailable
from kryonix.registry.connection import connect
from tests.support.project import Project

ID: Final = "random"
USERS: Final = (f"kryonix_{ID}", f"kryonix_{ID}.stats", f"kryonix_{ID}.2", f"kryonix_{ID}.2.stats")
TENANTS: Final = int(os.environ.get("KRYONIX_RANDOM_TENANTS", "12"))
"""200 take minutes: one by one, none is made smaller after a failure."""

# A path of the management API can't name `.` and `..`.
words = st.text("abz.-_/#*~%é\u4e16 ", min_size=1, max_size=6).filter(lambda text: text.strip("."))
names = words.map(lambda text: f"cliente_{ID}.{text}")
values = st.one_of(st.booleans(), st.integers(-(2**40), 2**40), st.text("ab é\\\"'", max_size=5))
arguments = st.dictionaries(st.sampled_from(("a", "b b", "x-é")), values, max_size=2)
patterns = st.sampled_from(("", ".*", rf"^cliente_{ID}\.", "^$"))


def entries(name: st.SearchStrategy[str], most: int = 4, **fields: Any) -> st.SearchStrategy[list[dict[str, Any]]]:
    """Return lists of things with a name each."""
    return st.lists(st.fixed_dictionaries({"name": name, **fields}), max_size=most, unique_by=lambda each: each["name"])


exchanges = entries(
    names,
    type=st.sampled_from(("topic", "direct", "fanout", "headers")),
    durable=st.just(True),
    auto_delete=st.just(False),
    internal=st.just(False),
    arguments=st.sampled_from(({}, {"alternate-exchange": f"cliente_{ID}.unrouted"})),
)
queues = entries(
    names,
    durable=st.just(True),
    auto_delete=st.just(False),
    arguments=st.sampled_from(
        (
            {"x-queue-type": "quorum"},
            {"x-queue-type": "quorum", "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "é"},
            {"x-queue-type": "classic", "x-max-priority": 3},
            {"x-queue-type": "stream"},
        )
    ),
)
rules = {
    "pattern": patterns,
    "priority": st.integers(-3, 999),
    "apply-to": st.sampled_from(("queues", "all", "exchanges")),
    "definition": st.dictionaries(st.just("max-length"), st.integers(10**6, 10**9), min_size=1),
}
operator_policies = entries(words, 2, **{**rules, "apply-to": st.just("queues")})
rights = dict.fromkeys(("configure", "write", "read"), patterns)


@st.composite
def tenants(draw: st.DrawFn) -> TenantSnapshot:
    """A tenant of a platform's list with any objects."""
    found, waiting = draw(exchanges), draw(queues)
    operators = [
        {"component": "operator_policy", "name": rule.pop("name"), "value": rule} for rule in draw(operator_policies)
    ]
    limits = draw(st.sampled_from(({}, {"max-connections": 7}, {"max-connections": 7, "max-queues": 99})))
    users = draw(st.sampled_from((USERS[:2], USERS)))
    sources = st.sampled_from([each["name"] for each in found] or [f"amq.{kind}" for kind in ("topic", "fanout")])
    ends = [(each["name"], "queue") for each in waiting] + [(each["name"], "exchange") for each in found]
    bound = st.tuples(sources, st.sampled_from(ends or [("amq.direct", "exchange")]), words, arguments)
    return TenantSnapshot(
        tenant=ID,
        vhost={
            "name": f"/cliente_{ID}",
            "description": f"Tenant {ID}, managed by the stack dev",
            "tags": draw(st.sampled_from(([], ["a", "b"]))),
            "default_queue_type": draw(st.sampled_from(("quorum", "classic"))),
            "protected": draw(st.booleans()),
        },
        definitions={
            "exchanges": found,
            "queues": waiting,
            "bindings": [
                {
                    "source": source,
                    "destination": end,
                    "destination_type": kind,
                    "routing_key": key,
                    "arguments": more,
                }
                for source, (end, kind), key, more in draw(st.lists(bound, max_size=5))
            ],
            "policies": draw(entries(words, 3, **rules)),
            "parameters": [*operators, {"component": "vhost-limits", "name": "limits", "value": limits}],
        },
        users=[
            {
                "name": user,
                "password_hash": "AQIDBHkWgXhMiOUTgnyHVmDgWrWjYBAGTvZ5eUqMAhWHrfhp",
                "hashing_algorithm": "rabbit_password_hashing_sha256",
                "tags": ["management"] if user.endswith(".stats") else [],
                "limits": draw(st.sampled_from(({}, {"max-connections": 0}, {"max-channels": 5}))),
            }
            for user in users
        ],
        permissions=[{"user": user, **draw(st.fixed_dictionaries(rights))} for user in users],
        topic_permissions=[
            {"user": users[0], "exchange": "amq.topic", "write": pattern, "read": ".*"}
            for pattern in draw(st.lists(patterns, max_size=1))
        ],
        rows={
            "tenants.rabbitmq_configurations": [
                {
                    "cliente_id": ID,
                    "vhost": f"/cliente_{ID}",
                    "modulos_habilitados": ["crm"],
                    "plano": draw(words),
                    "status": draw(st.sampled_from(("ativo", "suspenso"))),
                    "created_at": "2026-11-28T02:00:00.123456+00:00",
                    "updated_at": "2026-11-28T02:00:00+00:00",
                }
            ],
        },
        entry={"id": ID, "modules": ["crm"], "plan": "basic"},
    )


@dataclass(frozen=True)
class Place:
    """A broker and a registry for one tenant."""

    broker: Broker
    dsn: str
    engine: LocalEngine

    def restored(self, snapshot: TenantSnapshot) -> TenantSnapshot:
        """Restore it, and return what there is then. Beside a queue without a count it is refused: then all is lost."""
        restore = TenantRestore(self.broker, self.dsn, self.engine)
        try:
            restore.run(restore.plan(snapshot))
        except BrokerUnavailable:
            self.clear()
            restore.run(restore.plan(snapshot))
        return read_live(self.broker, self.dsn, self.engine, ID)

    def lose(self, snapshot: TenantSnapshot, random: Random) -> None:
        """Take some of the tenant away, or all of it."""
        vhost = snapshot.names.vhost
        if random.random() < 0.3:
            self.clear()
        doomed: list[tuple[str, ...]] = [
            ("exchanges", vhost, each["name"]) for each in snapshot.definitions["exchanges"]
        ]
        doomed += [("queues", vhost, each["name"]) for each in snapshot.definitions["queues"]]
        doomed += [("policies", vhost, each["name"]) for each in snapshot.definitions["policies"]]
        doomed += [("users", user["name"]) for user in snapshot.users]
        self.broker.delete_all([path for path in doomed if random.random() < 0.5])

    def clear(self) -> None:
        remove_vhost(self.broker, f"/cliente_{ID}", USERS)
        with connect(self.dsn) as connection:
            connection.execute("DELETE FROM tenants.rabbitmq_configurations WHERE cliente_id = %s", [ID])


@pytest.fixture(scope="module")
def place(platform: Project, counted_at_once: None) -> Iterator[Place]:
    outputs = platform.outputs()
    with closing(LocalEngine(platform.folder, keep=True)) as engine:
        found = Place(Broker.of(outputs), str(outputs["registry_dsn"]), engine)
        found.clear()
        yield found
        found.clear()


@settings(
    max_examples=TENANTS,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(tenants(), st.randoms(use_true_random=False))
def test_a_random_tenant_is_restored_as_it_was(place: Place, snapshot: TenantSnapshot, random: Random) -> None:
    place.clear()
    made = place.restored(snapshot)
    place.lose(made, random)
    assert [str(each) for each in differences(made, place.restored(made))] == []
