"""What a restore would change, and what it must not do without consent: delete queues, or trim them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from kryonix.backup.differences import Difference, binding_name, differences
from kryonix.backup.errors import ShortOfNodes
from kryonix.backup.snapshot import OPERATOR_POLICY, Entry, TenantSnapshot
from kryonix.rabbitmq.broker import Broker, Filling
from kryonix.tenants.errors import WouldLoseMessages
from kryonix.topology.objects import Policy, effective_policy
from kryonix.topology.ownership import accepted

StateFate = Literal["restored", "unchanged", "kept", "missing", "platform"]

_WRITTEN: Final = ("manifest", "metadata")
"""Parts of a deployment that tell who wrote it, and when."""
_BOUNDS: Final = ("max-length", "max-length-bytes")
"""Bounds at which a queue drops its oldest messages, unless it refuses new ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RestorePlan:
    """A tenant as it was, as it is, and what lies between.

    `replaced` are the queues that have other arguments now: a restore deletes them and declares them again. `trimmed`
    are those that hold more than the restored policies allow. Both map names to messages, up to 5 s old.
    """

    snapshot: TenantSnapshot
    now: TenantSnapshot
    nodes: int
    """The members of the cluster that the snapshot was made on."""
    replaced: Mapping[str, int]
    trimmed: Mapping[str, int]
    renamed_from: str | None = None
    narrowed: bool = False
    """True if a queue gets a lower bound than now, whether it holds too much for it or not."""
    differences: tuple[Difference, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "differences", tuple(differences(self.snapshot, self.now, back=True)))

    @property
    def tenant(self) -> str:
        return self.snapshot.tenant

    @property
    def exists(self) -> bool:
        """Return True if the broker has the tenant's vhost."""
        return self.now.vhost is not None

    @property
    def extras(self) -> list[Difference]:
        """Return what the snapshot does not have. All of it stays."""
        return [each for each in self.differences if each.op == "extra"]

    @property
    def state(self) -> StateFate:
        """Return what becomes of the state of the tenant's stack.

        `platform`: the tenant has no stack of its own. `missing`: neither the snapshot has it nor this machine, so the
        next run gives the tenant a new password.
        """
        if self.snapshot.state is not None:
            return "unchanged" if same_state(self.snapshot.state, self.now.state) else "restored"
        if owner_of(self.snapshot) != self.snapshot.names.stack:
            return "platform"
        return "missing" if self.now.state is None else "kept"

    @property
    def severed(self) -> list[Entry]:
        """Return the bindings beside the snapshot's that go with a queue or an exchange that is declared again."""
        gone = {*self.replaced, *self.changed("exchange")}
        kept = {each.name for each in self.extras if each.kind == "binding"}
        return [
            each
            for each in self.now.definitions["bindings"]
            if binding_name(each) in kept and not gone.isdisjoint((each["source"], each["destination"]))
        ]

    def changed(self, kind: str) -> list[str]:
        """Return the names of the objects of a kind that are there and differ."""
        return [each.name for each in self.differences if each.kind == kind and each.op == "changed"]

    def refuse_losses(self, allow_delete: Collection[str]) -> None:
        """Raise WouldLoseMessages for messages that a restore would delete, unless it is allowed for their queues."""
        losses = {name: count for name, count in self.replaced.items() if count} | dict(self.trimmed)
        held = {name: count for name, count in losses.items() if not accepted(name, allow_delete)}
        if held:
            counts = "\n".join(f"  {count:,} messages in {name}: {self._reason(name)}" for name, count in held.items())
            raise WouldLoseMessages(
                f"the restore of the tenant {self.tenant!r} would delete messages of {len(held)} queue(s); nothing has "
                f"been changed:\n{counts}\nConsume or move them first, or accept the loss by naming each queue "
                "(`--allow-delete QUEUE`)",
                held,
            )

    def _reason(self, queue: str) -> str:
        return "it has other arguments" if queue in self.replaced else "the bundle's policy keeps fewer of them"


def same_state(one: Entry | None, other: Entry | None) -> bool:
    """Return True for equal deployments, whenever they were written; None is one without resources."""

    def content(document: Entry | None) -> dict[str, Any]:
        deployment = dict((document or {}).get("deployment") or {})
        return {key: value for key, value in deployment.items() if key not in _WRITTEN and value}

    found = content(one), content(other)
    return found[0] == found[1] or not any(each.get("resources") or each.get("pending_operations") for each in found)


def owner_of(snapshot: TenantSnapshot) -> str:
    """Return the stack that manages a tenant, from its vhost's description; empty without a vhost."""
    return str((snapshot.vhost or {}).get("description", "")).rpartition(" ")[2]


def refuse_few_nodes(broker: Broker, wanted: int, *, fewer: bool) -> None:
    """Raise ShortOfNodes while a member of the cluster does not run, or there are fewer members than `wanted`.

    The broker then skips queues of a definitions import and says that it took them. `fewer` accepts the second.
    """
    nodes = broker.nodes()
    if down := sorted(name for name, runs in nodes.items() if not runs):
        remedy = "Start them, or remove what is gone for good from the cluster (`rabbitmqctl forget_cluster_node`)"
        raise ShortOfNodes(f"of the cluster's {len(nodes)} nodes, {', '.join(down)} do not run. {remedy}")
    if len(nodes) < wanted and not fewer:
        remedy = "Let the others join, or accept fewer copies of each queue (`--fewer-nodes`)"
        raise ShortOfNodes(f"the bundle was made on {wanted} nodes, and this cluster has {len(nodes)}. {remedy}")


def replaced_queues(broker: Broker, snapshot: TenantSnapshot, now: TenantSnapshot) -> dict[str, int]:
    """Return the queues that exist with other arguments, and their messages."""
    changed = {each.name for each in differences(snapshot, now) if (each.kind, each.op) == ("queue", "changed")}
    counts = {queue.name: queue.messages for queue in broker.queues(snapshot.names.vhost)} if changed else {}
    return {name: counts.get(name, 0) for name in sorted(changed)}


def trimmed_queues(broker: Broker, snapshot: TenantSnapshot, now: TenantSnapshot) -> dict[str, int]:
    """Return the queues that hold more than the snapshot's policies allow, and their messages."""
    narrowed = narrowed_queues(broker, snapshot, now)
    counts = {queue.name: queue.messages for queue in broker.queues(snapshot.names.vhost)} if narrowed else {}
    found = {}
    for filling, bound in narrowed:
        messages = max(filling.messages, counts.get(filling.name, 0))
        held = {"max-length": messages, "max-length-bytes": filling.message_bytes}
        if any(held[key] > bound[key] for key in _BOUNDS if key in bound):
            found[filling.name] = messages
    return found


def narrowed_queues(
    broker: Broker, snapshot: TenantSnapshot, now: TenantSnapshot
) -> list[tuple[Filling, Mapping[str, Any]]]:
    """Return the queues that would drop their oldest messages at a lower bound than now, and their policy then.

    Policies that the snapshot does not have stay.
    """
    if now.vhost is None:
        return []
    policies = {(each.kind, each.name): each for each in (*policies_of(now), *policies_of(snapshot))}
    bounds = ((each, effective_policy(each.name, policies.values())) for each in broker.fillings(snapshot.names.vhost))
    return [
        (filling, bound)
        for filling, bound in bounds
        if bound.get("overflow", "drop-head") == "drop-head"
        and any(_lower(bound[key], filling.policy.get(key)) for key in _BOUNDS if key in bound)
    ]


def policies_of(snapshot: TenantSnapshot) -> list[Policy]:
    """Return a snapshot's policies and operator policies."""
    rules: list[tuple[Literal["policy", "operator"], str, Mapping[str, Any]]] = [
        ("policy", each["name"], each) for each in snapshot.definitions["policies"]
    ]
    parameters = snapshot.definitions["parameters"]
    rules += [("operator", p["name"], p["value"]) for p in parameters if p["component"] == OPERATOR_POLICY]
    return [
        Policy(name, kind, rule["pattern"], rule["priority"], rule["apply-to"], rule["definition"])
        for kind, name, rule in rules
    ]


def _lower(new: Any, old: Any) -> bool:
    return isinstance(new, int) and (not isinstance(old, int) or new < old)
