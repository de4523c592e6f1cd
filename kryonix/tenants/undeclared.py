"""Find and show undeclared objects in a tenant's vhost, and remove the harmless ones.

The declared objects are read from the stack's state, so they are right for every catalog and engine.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from kryonix.rabbitmq.broker import Broker
from kryonix.rabbitmq.client import BrokerFailed, api_path
from kryonix.topology.naming import Names, tenant_of_vhost
from kryonix.topology.objects import KINDS, ObjectKind

LEFT_ALONE: Final = (
    "Ask their owner before deleting them. Save the messages you need, then delete the objects in the "
    "management interface, or with `rabbitmqctl delete_queue`, `delete_user` and the like"
)

_SHOWN: Final = 20
"""Maximum number of objects named per kind; all are counted."""

_PASSES: Final = 20
"""Maximum number of passes over a truncated list, to end even if objects are added as fast."""

_BINDING: Final = {"columns": "source,destination,destination_type,routing_key,properties_key"}
"""Without arguments: a tenant controls their size."""

_LIST_BINDINGS: Final = "rabbitmqctl list_bindings -p VHOST source_name destination_name routing_key arguments"

_COUNTS: Final = {"disable_stats": "true", "enable_queue_totals": "true"}
_HARMLESS: Final = ("binding", "policy", "operator policy", "permission", "topic permission")
_OURS: Final = ("operator_policy", "policy", "vhost-limits")
"""Parameters also listed as objects of their own."""

_NAMED: Final = ("queue", "exchange", "policy", "operator policy")
_TYPES: Final = "rabbitmq:index/"
_PLURALS: Final = {kind.name: kind.plural for kind in KINDS.values()}


Declared = Mapping[str, frozenset[Any]]
"""One stack's declared names in one vhost, by kind. A binding is source, destination, its type and key."""


@dataclass(frozen=True, slots=True)
class Stranger:
    """An undeclared object. `path` is its path in the management API."""

    kind: str
    name: str
    path: tuple[str, ...]
    messages: int | None = None

    def __str__(self) -> str:
        held = f" ({self.messages:,} messages)" if self.messages is not None else ""
        return f"{self.kind} {self.name}{held}"

    def as_json(self) -> dict[str, Any]:
        held = {} if self.messages is None else {"messages": self.messages}
        return {"name": self.name, **held, "path": api_path(*self.path)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Undeclared:
    """The strangers of one vhost. `complete` is False after a truncated list."""

    vhost: str
    strangers: tuple[Stranger, ...] = ()
    complete: bool = True

    def __bool__(self) -> bool:
        return bool(self.strangers) or not self.complete

    @property
    def counts(self) -> dict[str, int]:
        return dict(Counter(stranger.kind for stranger in self.strangers))

    @property
    def harmless(self) -> list[Stranger]:
        """Return those whose removal deletes no message and no user."""
        return [stranger for stranger in self.strangers if stranger.kind in _HARMLESS]

    def lines(self) -> list[str]:
        """Return one line per kind: its count, and the first names."""
        at_least = "" if self.complete else "at least "
        return [
            f"{at_least}{count:,} {kind if count == 1 else _PLURALS.get(kind, f'{kind}s')} that nobody declared: "
            + ", ".join([str(each).removeprefix(f"{kind} ") for each in self._of(kind)[:_SHOWN]])
            + (", ..." if count > _SHOWN else "")
            for kind, count in self.counts.items()
        ]

    def as_json(self) -> dict[str, Any]:
        return {
            "vhost": self.vhost,
            "complete": self.complete,
            "kinds": {
                kind: {
                    "count": count,
                    "removed_by_converge": kind in _HARMLESS,
                    "first": [each.as_json() for each in self._of(kind)[:_SHOWN]],
                }
                for kind, count in self.counts.items()
            },
        }

    def _of(self, kind: str) -> list[Stranger]:
        return [stranger for stranger in self.strangers if stranger.kind == kind]


def declared_vhosts(deployment: Mapping[str, Any]) -> dict[str, Declared]:
    """Return the declared names per tenant's vhost of an exported deployment."""
    resources = (deployment.get("deployment") or {}).get("resources") or []
    vhosts = [name for name in _names(resources, "vHost:VHost") if tenant_of_vhost(name)]
    return {vhost: _declared(resources, vhost) for vhost in vhosts}


def find_undeclared(broker: Broker, vhost: str, declared: Declared) -> Undeclared:
    """Return the undeclared objects of a vhost. Raises BrokerUnavailable."""
    found: list[Stranger] = []
    complete = True
    for strangers, whole in (
        _bindings(broker, vhost, declared),
        *(_named(broker, KINDS[kind], vhost, declared[kind]) for kind in _NAMED),
        _permissions(broker, "permission", vhost, declared["permission"] | {broker.username}),
        _permissions(broker, "topic permission", vhost, frozenset()),
        _parameters(broker, vhost),
        _users(broker, vhost, declared["user"]),
    ):
        found += strangers
        complete = complete and whole
    return Undeclared(vhost=vhost, strangers=tuple(found), complete=complete)


def remove_harmless(broker: Broker, vhost: str, declared: Declared) -> tuple[Undeclared, Undeclared]:
    """Remove undeclared bindings, policies and permissions. Return the removed and the remaining objects."""
    removed: list[Stranger] = []
    left = find_undeclared(broker, vhost, declared)
    for _ in range(_PASSES):  # a truncated list shows its rest after the removal
        if not (harmless := left.harmless):
            break
        broker.delete_all([stranger.path for stranger in harmless])
        removed += harmless
        left = find_undeclared(broker, vhost, declared)
    return Undeclared(vhost=vhost, strangers=tuple(removed)), left


_Found = tuple[list[Stranger], bool]


def _bindings(broker: Broker, vhost: str, declared: Declared) -> _Found:
    try:
        listed, whole = broker.listed("bindings", vhost, **_BINDING)
    except BrokerFailed:
        return _bindings_by_exchange(broker, vhost, declared)
    return [_binding_found(vhost, b) for b in listed if not _is_declared(b, declared["binding"])], whole


def _bindings_by_exchange(broker: Broker, vhost: str, declared: Declared) -> _Found:
    """List per exchange: RabbitMQ 4.3.6 fails on a binding with arguments and a `~` in its key."""
    exchanges, complete = broker.listed("exchanges", vhost, columns="name")
    found: list[Stranger] = []
    for name in (exchange["name"] for exchange in exchanges if exchange["name"]):
        path = ("exchanges", vhost, name, "bindings", "source")
        try:
            listed, whole = broker.listed(*path, **_BINDING)
        except BrokerFailed:
            found.append(Stranger("unreadable list", f"of the bindings from {name}: see `{_LIST_BINDINGS}`", path))
            continue
        found += [_binding_found(vhost, b) for b in listed if not _is_declared(b, declared["binding"])]
        complete = complete and whole
    return found, complete


def _binding_found(vhost: str, binding: Mapping[str, Any]) -> Stranger:
    name = f"{binding['source']} -> {binding['destination']} ({binding['routing_key']})"
    to = "q" if binding["destination_type"] == "queue" else "e"
    source, key = binding["source"], binding["properties_key"]
    return Stranger("binding", name, ("bindings", vhost, "e", source, to, binding["destination"], key))


def _is_declared(binding: Mapping[str, Any], declared: frozenset[tuple[str, str, str, str]]) -> bool:
    """Return True for a declared binding. The program declares none with arguments."""
    key = tuple(binding[name] for name in ("source", "destination", "destination_type", "routing_key"))
    if not binding["source"]:
        return True  # every queue's binding to the default exchange
    properties = binding["properties_key"]  # the key, or `~` where it is empty; with arguments `key~hash`
    return key in declared and (properties == "~" or "~" not in properties)


def _named(broker: Broker, kind: ObjectKind, vhost: str, known: frozenset[str]) -> _Found:
    path = kind.plural.replace(" ", "-")
    listed, whole = broker.listed(path, vhost, **(_COUNTS if kind.holds_messages else {"columns": "name"}))
    strange = [entry for entry in listed if entry["name"] not in known]
    if kind.name == "exchange":  # the broker's own have no name, or begin with `amq.`
        strange = [entry for entry in strange if entry["name"] and not entry["name"].startswith("amq.")]
    held = (lambda entry: entry.get("messages", 0)) if kind.holds_messages else (lambda entry: None)
    return [Stranger(kind.name, each["name"], (path, vhost, each["name"]), held(each)) for each in strange], whole


def _permissions(broker: Broker, kind: str, vhost: str, known: frozenset[str]) -> _Found:
    path = f"{kind.replace(' ', '-')}s"
    listed, whole = broker.listed("vhosts", vhost, path)
    users = dict.fromkeys(entry["user"] for entry in listed if entry["user"] not in known)
    return [Stranger(kind, f"of the user {user}", (path, vhost, user)) for user in users], whole


def _parameters(broker: Broker, vhost: str) -> _Found:
    listed, whole = broker.listed("parameters")
    strange = [entry for entry in listed if entry["vhost"] == vhost and entry["component"] not in _OURS]
    named = [(f"{e['component']} {e['name']}", ("parameters", e["component"], vhost, e["name"])) for e in strange]
    return [Stranger("parameter", name, path) for name, path in named], whole


def _users(broker: Broker, vhost: str, known: frozenset[str]) -> _Found:
    """List users named like the tenant's own, such as leftovers."""
    first = Names(tenant_of_vhost(vhost) or "").user
    listed, whole = broker.listed("users", columns="name")
    names = [entry["name"] for entry in listed if entry["name"] not in known]
    like = [name for name in names if name == first or name.startswith(f"{first}.")]
    return [Stranger("user", name, ("users", name)) for name in like], whole


def _declared(resources: Sequence[Mapping[str, Any]], vhost: str) -> Declared:
    inside = [resource for resource in resources if resource.get("inputs", {}).get("vhost") == vhost]
    bindings = [resource["inputs"] for resource in _of_type(inside, "binding:Binding")]
    users = [resource["id"] for resource in _of_type(inside, "permissions:Permissions")]
    return {
        **{kind: frozenset(_names(inside, KINDS[kind].resource_type.removeprefix(_TYPES))) for kind in _NAMED},
        "binding": frozenset(
            (each["source"], each["destination"], each["destinationType"], each.get("routingKey") or "")
            for each in bindings
        ),
        "permission": frozenset(user.removesuffix(f"@{vhost}") for user in users),
        "user": frozenset(_names(resources, "user:User")),
    }


def _names(resources: Iterable[Mapping[str, Any]], type_: str) -> list[str]:
    return [resource["inputs"]["name"] for resource in _of_type(resources, type_)]


def _of_type(resources: Iterable[Mapping[str, Any]], type_: str) -> list[Mapping[str, Any]]:
    return [resource for resource in resources if resource["type"] == _TYPES + type_]
