"""Errors of operations on tenants. A command in parentheses and backquotes is removed for callers of the HTTP service.

NotRemoved              1  the broker still has objects of a removed tenant
Overtaken               3  another operation took over the tenant
Refused                 2  (in `kryonix.engines.errors`) the request is not valid; nothing has been changed
├── InvalidTenant       2  the tenant's fields are not valid; carries every problem
├── DoesNotFit          2  the modules exceed the plan; carries what to remove
├── TenantExists        2
├── UnknownTenant       2
├── NoCredentials       2  no stack has credentials of the tenant
├── WouldLoseMessages   2  queues that hold messages would be deleted; carries them
├── WrongState          2  the tenant's state does not allow the operation
├── StateElsewhere      2  the state of the tenant's stack is in the signup service's container
└── TenantBusy          3  another operation holds the tenant
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

from kryonix.engines.errors import EngineFailed, LifecycleError, Refused
from kryonix.topology.errors import nearest


class Overtaken(LifecycleError):
    """A run lost its lock on the tenant, and another operation ran before it had ended."""

    exit_status = 3

    def __init__(self, tenant: str) -> None:
        super().__init__(
            f"this operation on the tenant {tenant!r} has been overtaken by another: its connection to the registry "
            "was lost. The tenant gets the state of the last request; send this one again if it differs"
        )


class NotRemoved(LifecycleError):
    """A removal has ended, but the broker still has objects of the tenant."""

    def __init__(self, tenant: str, remains: Sequence[str]) -> None:
        super().__init__(
            f"the tenant {tenant!r} is not removed: the broker still has {', '.join(remains)}. Find out what "
            "recreates them, then run the removal again"
        )


class NoCredentials(Refused):
    """Neither the tenant's own stack nor the platform's has credentials of the tenant."""

    def __init__(self, tenant: str, platform: str, known: Sequence[str]) -> None:
        hint = f"; {nearest(tenant, dict.fromkeys(known))}" if known else ""
        super().__init__(
            f"no stack has credentials of a tenant {tenant!r}: neither 'tenant-{tenant}' nor the platform's "
            f"{platform!r}{hint}. Name the platform with --stack; `kryonix up` deploys "
            "the tenants of tenants.yaml, and `kryonix tenant list` shows those with a stack of their own"
        )


class StateElsewhere(Refused):
    """The signup service's worker made the tenant's stack. A run without its state would change the password."""

    def __init__(self, tenant: str, container: str) -> None:
        super().__init__(
            f"the stack of the tenant {tenant!r} has no state here: the signup service has made it, and its worker "
            f"keeps the state in the container {container}. Use the service, or run this there: `docker exec "
            f"{container} kryonix tenant ...`"
        )


class InvalidTenant(Refused):
    """The tenant's fields are not valid. `problems` has all of them, each a sentence."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class DoesNotFit(Refused):
    """The modules do not fit the plan.

    `remove` is the smallest set of modules whose removal makes it fit, `plan` the smallest plan that would do.
    """

    def __init__(self, message: str, *, remove: Sequence[str], plan: str | None) -> None:
        super().__init__(message)
        self.remove = tuple(remove)
        self.plan = plan


class TenantExists(Refused):
    """A tenant with this id exists already."""


class UnknownTenant(Refused):
    """No tenant with this id has a desired state."""

    def __init__(self, tenant: str) -> None:
        shown = tenant if len(tenant) <= 60 else f"{tenant[:57]}..."
        super().__init__(
            f"there is no tenant {shown!r}. List the tenants to find its id (`kryonix tenant list`); a tenant of a "
            "platform's tenants.yaml is changed in that file"
        )
        self.tenant = tenant


class WouldLoseMessages(Refused):
    """Queues that hold messages would be deleted. `queues` maps their names to their messages."""

    def __init__(self, message: str, queues: Mapping[str, int]) -> None:
        super().__init__(message)
        self.queues = dict(queues)


class WrongState(Refused):
    """The tenant's state does not allow the operation."""


class TenantBusy(Refused):
    """Another operation holds the tenant; try again once it has ended."""

    exit_status = 3

    def __init__(self, tenant: str) -> None:
        super().__init__(
            f"another operation on the tenant {tenant!r} is in progress. Wait for it to end, then try again"
        )


_REFUSALS: Final = {
    "would-lose-messages": "this change would delete {count} queue(s) that still hold messages",
    "would-lose-oldest-messages": "this change would delete the oldest messages of {count} queue(s), which hold more "
    "than their policy will allow",
}


@contextmanager
def translate_loss_errors(*, ignore_protection: bool = False) -> Iterator[None]:
    """Raise WouldLoseMessages for the program's refusal to lose messages.

    With `ignore_protection`, ignore an engine's own refusal to delete protected resources: the program runs before
    the engine deletes anything, and has refused nothing.
    """
    try:
        yield
    except EngineFailed as error:
        if error.failure and (refusal := _REFUSALS.get(error.kind)):
            queues = error.failure.queues
            raise WouldLoseMessages(_message(refusal, queues), queues) from error
        if not (ignore_protection and error.kind == "protected"):
            raise


def _message(refusal: str, queues: Mapping[str, int]) -> str:
    counts = "\n".join(f"  {messages:,} messages in {name}" for name, messages in queues.items())
    return (
        f"{refusal.format(count=len(queues))}; nothing has been changed:\n{counts}\n"
        "Consume or move them first, or accept the loss by naming each queue in `allow_delete` (`--allow-delete QUEUE`)"
    )
