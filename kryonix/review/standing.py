"""What has to hold of a tenant whatever it was before: rules that need no base, only what is about to be made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from kryonix.review.bounds import bounds
from kryonix.review.guardrails import Finding, Guardrail
from kryonix.topology.capacity import use
from kryonix.topology.expansion import Topology
from kryonix.topology.naming import Names, stats_user
from kryonix.topology.objects import Permissions

__all__ = ["Standing", "standing_findings"]

_NOTHING: Final = "^$"
_LENGTHS: Final = ("max-length", "max-length-bytes")


@dataclass(frozen=True, slots=True)
class Standing:
    """A tenant as it is about to be made, with what an expansion takes for granted."""

    topology: Topology
    rights: Mapping[str, Permissions]
    """What each user but the administrator may do in the tenant's vhost."""
    unlimited: tuple[str, ...] = ()
    """Limits that nothing sets, such as `vhost max_connections`."""
    fleeting: Mapping[str, str] = field(default_factory=dict)
    """Queues that go by themselves, with the reason."""


def standing_findings(standing: Standing) -> Iterator[Finding]:
    """Everything that breaks a rule. The object of a finding is named as a comparison with a base names it."""
    yield from _queues(standing)
    yield from _fit(standing.topology)
    yield from _rights(standing)
    yield from _limits(standing)


def _queues(standing: Standing) -> Iterator[Finding]:
    tenant = standing.topology.tenant.id
    for queue in standing.topology.queues:
        if (kind := queue.arguments.get("x-queue-type")) != "quorum":
            message = f"the queue's type is {kind!r}, not 'quorum': its messages are lost with the node that holds them"
            yield Finding(Guardrail.queue_lost, tenant, queue.name, message)
        if queue.name in standing.fleeting:
            message = f"the queue {standing.fleeting[queue.name]}: the messages in it are lost then"
            yield Finding(Guardrail.queue_lost, tenant, queue.name, message)


def _fit(topology: Topology) -> Iterator[Finding]:
    used, limits, plan = use(topology), topology.limits, topology.tenant.plan
    counts = (("queues", used.queues, limits.max_queues), ("exchanges", used.exchanges, limits.max_exchanges))
    for noun, count, allowed in counts:
        if count > allowed:
            message = f"{count} {noun} where {allowed} are allowed. Choose a larger plan or fewer modules"
            yield Finding(Guardrail.plan_does_not_fit, topology.tenant.id, plan, message)


def _rights(standing: Standing) -> Iterator[Finding]:
    names = standing.topology.tenant.names
    applications = {"configure": _NOTHING, "write": names.writable_objects, "read": names.readable_objects}
    for user, rights in standing.rights.items():
        allowed = dict.fromkeys(applications, _NOTHING) if _reads_figures(user, names) else applications
        if allowed is applications and not _is_an_applications(user, names):
            message = f"the user {user!r} has rights in {names.vhost!r} and is not the tenant's. Take them away"
            yield Finding(Guardrail.permission_widened, names.tenant_id, user, message)
            continue
        for right, most in allowed.items():
            pattern = getattr(rights, right)
            if pattern not in (most, _NOTHING):
                message = f"the right to {right} is {pattern!r}, where the names of this tenant allow {most!r}"
                yield Finding(Guardrail.permission_widened, names.tenant_id, right, message)


def _is_an_applications(user: str, names: Names) -> bool:
    generation = user.removeprefix(f"{names.user}.")
    return user == names.user or (generation.isdecimal() and user == names.user_of(int(generation)))


def _reads_figures(user: str, names: Names) -> bool:
    application = user.removesuffix(stats_user(""))
    return user == stats_user(application) and _is_an_applications(application, names)


def _limits(standing: Standing) -> Iterator[Finding]:
    tenant = standing.topology.tenant
    for name in standing.unlimited:
        message = f"nothing sets the limit {name}. Every tenant's vhost and user has one"
        yield Finding(Guardrail.limit_lifted, tenant.id, name, message)
    held = {queue for queue, key in bounds(standing.topology) if key in _LENGTHS}
    boundless = [queue.name for queue in standing.topology.queues if queue.name not in held]
    if boundless:
        several = f" and {len(boundless) - 1} more" if len(boundless) > 1 else ""
        message = f"no policy limits the length of the queue {boundless[0]!r}{several}"
        yield Finding(Guardrail.limit_lifted, tenant.id, f"{tenant.names.scaling_policy} max-length", message)
