"""What can go wrong when a stack is run, or when a tenant is asked to change.

LifecycleError              1  base
├── EngineUnavailable       3  the engine that was asked for is not on this machine
├── EngineFailed            *  the engine ran and ended with errors; carries its exit status
│   └── OperationDied       1  the process that ran a stack ended without a result
├── NotRemoved              1  a removal has ended, and the broker still has something of the tenant
├── BrokerUnavailable       3  a broker does not answer (in `broker`)
├── RolloutRunning          3  another rollout is under way (in `rollout_journal`)
└── Refused                 2  a request that can't be accepted; nothing has been changed
    ├── BegunLocally        2  the CLI is asked for a stack that the local engine has made
    ├── NoCredentials       2  no stack has made a tenant of that id
    ├── InvalidTenant       2  what is asked of a tenant is wrong in itself; carries every problem
    ├── DoesNotFit          2  the modules do not fit the plan; carries what to remove
    ├── TenantExists        2
    ├── UnknownTenant       2
    ├── WouldLoseMessages   2  queues that hold messages would be deleted; carries them
    ├── WrongState          2  the tenant is not in a state that allows it
    ├── InvalidRollout      2  what is asked of a rollout is wrong in itself
    ├── NoRoom              2  no cell has room for a tenant; carries what is said of each
    └── TenantBusy          3  another operation holds the tenant
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kryonix.errors import Failure, KryonixError
from kryonix.topology.errors import nearest

__all__ = [
    "BegunLocally",
    "DoesNotFit",
    "EngineFailed",
    "EngineUnavailable",
    "InvalidRollout",
    "InvalidTenant",
    "LifecycleError",
    "NoCredentials",
    "NoRoom",
    "NotRemoved",
    "OperationDied",
    "Refused",
    "TenantBusy",
    "TenantExists",
    "UnknownTenant",
    "WouldLoseMessages",
    "WrongState",
]


class LifecycleError(KryonixError):
    """Base of every error of this package."""

    exit_status = 1


class EngineUnavailable(LifecycleError):
    """The engine that was asked for is not on this machine."""

    exit_status = 3


class EngineFailed(LifecycleError):
    """The engine ran and ended with errors. `failure` is what they say as data, if that is known."""

    def __init__(self, message: str, exit_status: int = 1, failure: Failure | None = None) -> None:
        super().__init__(message)
        self.failure = failure
        self.exit_status = exit_status if failure is None else failure.exit_status

    @property
    def kind(self) -> str:
        """The kind of the failure; empty where it is not known."""
        return self.failure.kind if self.failure else ""


class OperationDied(EngineFailed):
    """The process that ran a stack ended without a result: killed, or out of memory. Running again goes on."""

    def __init__(self, stack: str, ended: str) -> None:
        super().__init__(
            f"the process that ran the stack {stack!r} {ended} before it had a result. Run the same again to go on", 1
        )
        self.stack = stack


class Overtaken(LifecycleError):
    """A run lost its hold on the tenant, and another operation went on before it had ended."""

    exit_status = 3

    def __init__(self, tenant: str) -> None:
        super().__init__(
            f"this operation on the tenant {tenant!r} has been overtaken by another: its connection to the registry "
            "was lost. The tenant is brought to what was asked for last; ask again for what that is not"
        )
        self.tenant = tenant


class NotRemoved(LifecycleError):
    """A removal has ended, and the broker still has something of the tenant. `remains` names it."""

    def __init__(self, tenant: str, remains: Sequence[str]) -> None:
        super().__init__(
            f"the tenant {tenant!r} is not removed: the broker still has {', '.join(remains)}. Look who makes it anew, "
            "and run the removal again"
        )
        self.remains = tuple(remains)


class Refused(LifecycleError):
    """A request that can't be accepted; nothing has been changed."""

    exit_status = 2


class BegunLocally(Refused):
    """The Pulumi CLI is asked for a stack that the local engine has made and that it does not know."""

    def __init__(self, stack: str) -> None:
        super().__init__(
            f"the stack {stack!r} has been made by the local engine, and the Pulumi CLI knows none of that name: it "
            f"would make everything again. Let it take the stack over first (`kryonix export --stack {stack} --engine "
            f"local > deployment.json`, `pulumi stack init {stack}`, `pulumi stack import --file deployment.json`), or "
            "go on with `--engine local`"
        )


class NoCredentials(Refused):
    """Neither the stack of its own nor the platform's has made a tenant of this id."""

    def __init__(self, tenant: str, platform: str, known: Sequence[str]) -> None:
        hint = f"; {nearest(tenant, dict.fromkeys(known))}" if known else ""
        super().__init__(
            f"no stack has credentials of a tenant {tenant!r}: neither 'tenant-{tenant}' nor the platform's "
            f"{platform!r}{hint}. Name the platform with --stack; `kryonix tenant list` shows tenants with a stack of "
            "their own"
        )
        self.tenant = tenant


class InvalidTenant(Refused):
    """What is asked of a tenant is wrong in itself. `problems` is every one of them, each a sentence."""

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
    """A tenant with this id is there already."""

    def __init__(self, tenant: str, message: str) -> None:
        super().__init__(message)
        self.tenant = tenant


class UnknownTenant(Refused):
    """No tenant of this id has a desired state."""

    def __init__(self, tenant: str) -> None:
        shown = tenant if len(tenant) <= 60 else f"{tenant[:57]}..."
        super().__init__(
            f"there is no tenant {shown!r}. `kryonix tenant list` shows those that there are; tenants of a platform's "
            "own tenants.yaml are changed there"
        )
        self.tenant = tenant


class WouldLoseMessages(Refused):
    """Queues that hold messages would be deleted. `queues` maps the name of each to its messages."""

    def __init__(self, message: str, queues: Mapping[str, int]) -> None:
        super().__init__(message)
        self.queues = dict(queues)


class WrongState(Refused):
    """The tenant is not in a state that allows what was asked. `status` is the one that it is in."""

    def __init__(self, tenant: str, status: str, message: str) -> None:
        super().__init__(message)
        self.tenant = tenant
        self.status = status


class TenantBusy(Refused):
    """Another operation holds the tenant; what was asked can be asked again once it has ended."""

    exit_status = 3

    def __init__(self, tenant: str) -> None:
        super().__init__(f"another operation on the tenant {tenant!r} is under way. Wait for it to end and run again")
        self.tenant = tenant


class InvalidRollout(Refused):
    """What is asked of a rollout is wrong in itself, or there is none that could be resumed."""


class NoRoom(Refused):
    """No cell has room for a tenant. `cells` is what is said of each of them."""

    def __init__(self, message: str, cells: Sequence[str]) -> None:
        super().__init__(message)
        self.cells = tuple(cells)
