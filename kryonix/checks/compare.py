"""One tenant's objects against what a broker and the registry report."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple, Self
from urllib.parse import quote_plus

from kryonix.certificates.leaf import Leaf
from kryonix.checks.declared import Declared
from kryonix.checks.findings import Finding
from kryonix.checks.live import Entry, Live
from kryonix.rabbitmq.client import api_path
from kryonix.registry.desired_states import DesiredState
from kryonix.registry.rows import STATUS_NAMES, TenantRow
from kryonix.topology.credentials import is_hash_of, rabbitmq_hash
from kryonix.topology.expansion import Topology
from kryonix.topology.naming import TRIAL_PREFIX, stats_user
from kryonix.topology.objects import NO_PERMISSIONS, Binding, Permissions, Policy, effective_policy
from kryonix.topology.ownership import description

_SOON: Final = timedelta(days=30)
"""How long before its end a tenant's certificate needs a rotation: the tenant has to put the next one in place."""
_NAMED: Final = 5
"""Names in one finding; all are counted."""
_STRANGERS: Final = 20
"""Findings on undeclared objects per kind: each has a command of its own."""
_LISTED_ALONE: Final = ("operator_policy", "vhost-limits")

Values = Mapping[Any, Any]
ApiPath = Callable[[Any], tuple[str, ...]]
"""The management API's path of an object; empty if the broker alone knows it."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """A declared tenant, its expansion, and the broker that carries it."""

    declared: Declared
    topology: Topology
    live: Live
    admin: str
    url: str

    def findings(self) -> Iterator[Finding]:
        """Yield what differs on the broker. Of a missing vhost, nothing else."""
        vhost = self.live.vhosts.get(self.topology.vhost)
        if vhost is None:
            yield self._problem("vhost", f"the vhost {self.topology.vhost} is missing")
            return
        yield from self._vhost(vhost)
        yield from self._users()
        yield from self._permissions()
        yield from self._objects()
        yield from self._policies()
        yield from self._parameters()

    def trustworthy(self) -> set[str]:
        """Return the exchanges that are as declared: only these route a message of ours to nobody else's queue."""
        found = {entry["name"]: entry for entry in self._entries("exchanges")}
        bound = {_Link.declared(each) for each in self.topology.bindings}
        strange = {entry["source"] for entry in self._bindings() if _Link.found(entry) not in bound}
        return {
            exchange.name
            for exchange in self.topology.exchanges
            if exchange.name not in strange
            and (entry := found.get(exchange.name)) is not None
            and _exchange(entry) == (exchange.type, dict(exchange.arguments), True)
        }

    def _entries(self, kind: str) -> list[Entry]:
        return self.live.of_kind(kind, self.topology.vhost)

    def _bindings(self) -> list[Entry]:
        """Return the bindings, without those of another check: the broker does not list its exclusive queues."""
        queues = {entry["name"] for entry in self._entries("queues")}
        return [
            entry
            for entry in self._entries("bindings")
            if not entry["destination"].startswith(TRIAL_PREFIX) or entry["destination"] in queues
        ]

    def _problem(self, check: str, why: str, remedy: str = "") -> Finding:
        remedy = remedy or self.declared.mend
        return Finding(check=check, outcome="fail", tenant=self.declared.tenant.id, why=why, remedy=remedy)

    def _vhost(self, found: Entry) -> Iterator[Finding]:
        metadata, topology = found["metadata"], self.topology
        wanted = {
            "description": description(topology.tenant.id, self.declared.stack),
            "default_queue_type": "quorum",
            "tags": [],
        }
        for key, value in wanted.items():
            if (other := metadata.get(key)) != value:
                yield self._problem("vhost", f"its {key} is {other!r} instead of {value!r}")
        limits = {"max-connections": topology.max_connections, "max-queues": topology.limits.max_queues}
        yield from self._changed("limits", "the vhost's", limits, found.get("limits") or {})
        if bool(metadata.get("protected_from_deletion")) != self.declared.protected:
            state = "not protected" if self.declared.protected else "protected"
            yield self._problem("protection", f"the vhost is {state} from deletion, other than its stack declares")

    def _users(self) -> Iterator[Finding]:
        plan = self.topology.limits
        limits = {"max-connections": plan.max_connections, "max-channels": plan.max_channels}
        first = self.topology.tenant.names.user
        own = {name for name in self.live.users if name == first or name.startswith(f"{first}.")}
        strange = sorted(own.difference(self.declared.users))
        yield from self._strangers("users", ((name, ("users", name)) for name in strange), "user")
        for name in self.declared.users:
            user = self.live.users.get(name)
            if user is None:
                yield self._problem("users", f"the user {name} is missing")
                continue
            for_figures = name.endswith(stats_user(""))
            tags = self.topology.stats_tags if for_figures else ()
            if sorted(user["tags"]) != sorted(tags):
                yield self._problem("users", f"the user {name} has the tags {user['tags']} instead of {list(tags)}")
            current = name in (self.declared.username, stats_user(self.declared.username))
            password = self.declared.password_of(name)
            if current and password is not None and not is_hash_of(user["password_hash"], password):
                yield self._problem("users", f"the user {name} has another password than its stack's outputs")
            allowed = {"max-connections": 0} if for_figures else limits
            yield from self._changed("user limits", f"the user {name}'s", allowed, user.get("limits") or {})

        if self.declared.client_certificate:
            expires = Leaf(chain=self.declared.client_certificate, key="").expires
            if (left := expires - datetime.now(UTC)) < _SOON:
                ends = f"expires on {expires:%Y-%m-%d}" if left > timedelta() else f"expired on {expires:%Y-%m-%d}"
                remedy = f"Hand out a new one (`kryonix tenant rotate {self.topology.tenant.id}`)"
                yield self._problem("users", f"the certificate of {self.declared.username} {ends}", remedy)

    def _permissions(self) -> Iterator[Finding]:
        wanted = {
            name: NO_PERMISSIONS if name.endswith(stats_user("")) else self.topology.granted
            for name in self.declared.users
        } | {self.admin: Permissions(".*", ".*", ".*")}
        found = {
            entry["user"]: Permissions(entry["configure"], entry["write"], entry["read"])
            for entry in self._entries("permissions")
        }
        yield from self._compared("permissions", "permission of", wanted, found, self._in("permissions"))
        for entry in self._entries("topic_permissions"):
            path = self._in("topic-permissions")(entry["user"])
            yield from self._strangers("permissions", [(f"of {entry['user']}", path)], "topic permission")

    def _objects(self) -> Iterator[Finding]:
        topology = self.topology
        exchanges = {
            entry["name"]: _exchange(entry)
            for entry in self._entries("exchanges")
            if entry["name"] and not entry["name"].startswith("amq.")
        }
        wanted: Values = {each.name: (each.type, dict(each.arguments), True) for each in topology.exchanges}
        yield from self._compared("exchanges", "exchange", wanted, exchanges, self._in("exchanges"))
        queues = {
            entry["name"]: (dict(entry["arguments"]), entry["durable"])
            for entry in self._entries("queues")
            if f".{TRIAL_PREFIX}" not in entry["name"]  # another check is running
        }
        wanted = {each.name: (dict(each.arguments), True) for each in topology.queues}
        yield from self._compared("queues", "queue", wanted, queues, self._in("queues"))
        bindings = dict.fromkeys(map(_Link.found, self._bindings()))
        wanted = dict.fromkeys(map(_Link.declared, topology.bindings))
        yield from self._compared("bindings", "binding", wanted, bindings, lambda link: link.path(topology.vhost))

    def _policies(self) -> Iterator[Finding]:
        operator = [each for each in self._entries("parameters") if each["component"] == "operator_policy"]
        operator = [{"name": each["name"], **each["value"]} for each in operator]
        differing: list[Finding] = []
        for kind, noun, collection, entries in (
            ("policy", "policy", "policies", self._entries("policies")),
            ("operator", "operator policy", "operator-policies", operator),
        ):
            wanted = {each.name: each for each in self.topology.policies if each.kind == kind}
            found = {each["name"]: _policy(kind, each) for each in entries}
            differing += self._compared("policies", noun, wanted, found, self._in(collection))
        yield from differing
        reported = self.live.effective.get(self.topology.vhost, {})
        wrong = [
            queue.name
            for queue in self.topology.queues
            if queue.name in reported
            and dict(reported[queue.name]) != effective_policy(queue.name, self.topology.policies)
        ]
        if wrong:
            vhost = self.topology.vhost
            again = (
                f"rabbitmqctl set_policy -p {vhost} --apply-to queues recheck '^recheck$' '{{\"max-length\": 1}}' && "
                f"rabbitmqctl clear_policy -p {vhost} recheck"
            )
            remedy = "Mend the policies first: see above" if differing else again
            what = f"{_several(wrong, 'queue')} with another effective policy"
            yield self._problem("effective policies", f"{what}: {_names(wrong)}", remedy)

    def _parameters(self) -> Iterator[Finding]:
        strange = [each for each in self._entries("parameters") if each["component"] not in _LISTED_ALONE]
        named = [(each["component"], each["name"]) for each in strange]
        found = (
            (f"{component} {name}", ("parameters", component, self.topology.vhost, name)) for component, name in named
        )
        yield from self._strangers("parameters", found, "parameter")

    def _changed(self, check: str, whose: str, wanted: Values, found: Values) -> Iterator[Finding]:
        for key in dict.fromkeys([*wanted, *found]):
            if (other := found.get(key)) != (value := wanted.get(key)):
                is_, should = ("not set" if each is None else each for each in (other, value))
                yield self._problem(check, f"{whose} {key} is {is_} instead of {should}")

    def _in(self, collection: str) -> ApiPath:
        """Return the path of an object in a collection of the vhost, by its name."""
        return lambda name: (collection, self.topology.vhost, name)

    def _compared(self, check: str, noun: str, wanted: Values, found: Values, path: ApiPath) -> Iterator[Finding]:
        """Yield missing objects, those with other values, and undeclared ones."""
        missing = [str(key) for key in wanted if key not in found]
        other = [str(key) for key in wanted if key in found and found[key] != wanted[key]]
        if missing:
            yield self._problem(check, f"{_several(missing, noun)} missing: {_names(missing)}")
        if other:
            yield self._problem(check, f"{_several(other, noun)} other than declared: {_names(other)}")
        yield from self._strangers(check, ((str(key), path(key)) for key in found if key not in wanted), noun)

    def _strangers(self, check: str, found: Iterable[tuple[str, tuple[str, ...]]], noun: str) -> Iterator[Finding]:
        """Yield undeclared objects, each with the request that deletes it."""
        for at, (name, path) in enumerate(strangers := list(found)):
            if at == _STRANGERS:
                why = f"{len(strangers) - at} more that no stack declares"
                yield self._problem(check, why, "Mend the ones above, then check again")
                return
            request = delete_command(self.admin, self.url, path) if path else f"Delete it at {self.url}"
            holds = noun in ("queue", "user")
            remedy = f"Ask its owner, then: {request}" if holds else request
            yield self._problem(check, f"no stack declares the {noun} {name}", remedy)


def delete_command(admin: str, url: str, path: Sequence[str]) -> str:
    """Return the command that deletes an object; curl asks for the administrator's password."""
    return f"curl -u {admin} -X DELETE '{url}{api_path(*path)}'"


def registry_findings(declared: Declared, row: TenantRow | None, state: DesiredState | None) -> Iterator[Finding]:
    """Yield where the registry's rows differ from what the tenant's stack declares."""
    tenant, mend = declared.tenant, declared.mend
    password = declared.password_of(declared.username)
    known = row.password_hash if row else None
    wanted = TenantRow(
        cliente_id=tenant.id,
        vhost=tenant.names.vhost,
        modulos=tenant.modules,
        plano=tenant.plan,
        status=STATUS_NAMES[tenant.status],
        username=declared.username,
        password_hash=known if password is None else rabbitmq_hash(declared.username, password),
        notify=row.notify if row else None,  # a secret of the stack's state, and nothing of the broker
    )
    problem = Finding(check="registry", outcome="fail", tenant=tenant.id, remedy=mend)
    if row is None or row.status == "removido":
        yield replace(problem, why="its row in tenants.rabbitmq_configurations is missing or says removido")
        return
    found, expected = asdict(row), asdict(wanted)
    for key, value in expected.items():
        if found[key] != value:
            text = "" if key == "password_hash" else f": {_shown(found[key])} instead of {_shown(value)}"
            yield replace(problem, why=f"its row has another {key}{text}")
    if state is not None and not state.converged:
        yield replace(problem, why="the last change of its desired state is not applied")


def _policy(kind: Any, entry: Entry) -> Policy:
    return Policy(entry["name"], kind, entry["pattern"], entry["priority"], entry["apply-to"], entry["definition"])


def _exchange(entry: Entry) -> tuple[str, dict[str, Any], bool]:
    return entry["type"], dict(entry["arguments"]), entry["durable"]


class _Link(NamedTuple):
    """What tells a binding from others."""

    source: str
    destination: str
    routing_key: str
    kind: str = "queue"
    arguments: str = ""

    @classmethod
    def declared(cls, binding: Binding) -> Self:
        return cls(binding.source, binding.destination, binding.routing_key)

    @classmethod
    def found(cls, entry: Entry) -> Self:
        arguments = repr(dict(entry["arguments"])) if entry["arguments"] else ""
        return cls(entry["source"], entry["destination"], entry["routing_key"], entry["destination_type"], arguments)

    def path(self, vhost: str) -> tuple[str, ...]:
        if self.arguments:  # the broker alone knows their hash in the path
            return ()
        properties = quote_plus(self.routing_key).replace("~", "%7E") or "~"
        return "bindings", vhost, "e", self.source, self.kind[0], self.destination, properties

    def __str__(self) -> str:
        return f"{self.source} -> {self.destination} [{self.routing_key}]"


def _several(names: Sequence[str], noun: str) -> str:
    return f"{len(names)} {noun}{'' if len(names) == 1 else '(s)'}"


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _shown(value: Any) -> str:
    return ", ".join(value) if isinstance(value, tuple) else str(value)
