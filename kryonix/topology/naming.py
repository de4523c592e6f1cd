"""Every name in a tenant's topology, in one place: nobody else concatenates names."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Final, Literal

__all__ = [
    "ADMIN_USER",
    "PRIORITIES",
    "TENANT_ID",
    "TENANT_STACK",
    "Names",
    "Priority",
    "priority_name",
    "stats_user",
    "tenant_of_vhost",
]

TENANT_ID: Final = r"[a-z][a-z0-9-]{2,39}"
"""The form of a tenant's id, 3 to 40 characters."""

ADMIN_USER: Final = "kryonix_admin"

TENANT_STACK: Final = "tenant-"
"""What the name of a tenant's own stack begins with; its id follows."""

Priority = Literal["high", "medium", "low"]
PRIORITIES: Final[tuple[Priority, ...]] = ("high", "medium", "low")

_VHOST = re.compile(rf"^/cliente_({TENANT_ID})$")


def priority_name(priority: int) -> Priority:
    """The name a numeric priority (0 to 10) has in a routing key."""
    if priority >= 8:
        return "high"
    return "medium" if priority >= 5 else "low"


def stats_user(user: str) -> str:
    """Return the user that reads figures by HTTP beside an application's user, with the same password."""
    return f"{user}.stats"


def tenant_of_vhost(vhost: str) -> str | None:
    """The id of the tenant that owns a vhost, or None where it is no tenant's."""
    match = _VHOST.match(vhost)
    return match.group(1) if match else None


@dataclass(frozen=True)
class Names:
    """The names of one tenant's objects."""

    tenant_id: str

    @cached_property
    def exchange(self) -> str:
        """The main exchange; every other object's name begins with it and a dot."""
        return f"cliente_{self.tenant_id}"

    @cached_property
    def vhost(self) -> str:
        return f"/{self.exchange}"

    @cached_property
    def user(self) -> str:
        return self.user_of(1)

    def user_of(self, generation: int) -> str:
        """The user of a generation of credentials. An id has no period, so no tenant's user is another's."""
        first = f"kryonix_{self.tenant_id}"
        return first if generation == 1 else f"{first}.{generation}"

    def stats_user_of(self, generation: int) -> str:
        """The user of the same generation that reads figures only."""
        return stats_user(self.user_of(generation))

    @cached_property
    def stack(self) -> str:
        """The tenant's own stack."""
        return f"{TENANT_STACK}{self.tenant_id}"

    @cached_property
    def mobile_exchange(self) -> str:
        return f"{self.exchange}.mobile_priority"

    @cached_property
    def critical_exchange(self) -> str:
        return f"{self.exchange}.business_critical"

    @cached_property
    def automation_exchange(self) -> str:
        return f"{self.exchange}.automation"

    @cached_property
    def unrouted(self) -> str:
        """The alternate exchange and the queue behind it: one name for both, so no application may read it."""
        return f"{self.exchange}.unrouted"

    def dead_letter_exchange(self, module: str) -> str:
        return f"{self.exchange}.{module}.dlx"

    def queue(self, module: str, action: str) -> str:
        return f"{self.exchange}.{module}.{action}"

    def lane(self, module: str, action: str, priority: Priority) -> str:
        """The queue of one priority of an action that has a lane for it."""
        return f"{self.queue(module, action)}.{priority}"

    def dead_letter_queue(self, module: str, action: str) -> str:
        return f"{self.queue(module, action)}.dlq"

    @staticmethod
    def retry_queue(queue: str, attempt: int) -> str:
        """The queue where a message of `queue` waits after its failure number `attempt`, counted from 1."""
        return f"{queue}.retry.{attempt}"

    @staticmethod
    def routing_key(module: str, action: str, priority: Priority | Literal["*"]) -> str:
        return f"{module}.{action}.{priority}"

    @staticmethod
    def mobile_key(module: str, action: str) -> str:
        return f"mobile.{module}.{action}"

    @staticmethod
    def critical_key(module: str, action: str) -> str:
        return f"critical.{module}.{action}"

    @staticmethod
    def dead_letter_key(module: str, action: str) -> str:
        return f"{module}.{action}.dlq"

    def retry_key(self, queue: str, attempt: int) -> str:
        """The key on the module's dead-letter exchange that puts a message into a retry queue."""
        return self.retry_queue(queue, attempt).removeprefix(f"{self.exchange}.")

    @staticmethod
    def module_policy(module: str) -> str:
        return f"modulo-{module}"

    dead_letter_policy: ClassVar[str] = "dlq"

    @staticmethod
    def retry_policy(attempt: int) -> str:
        return f"retry-{attempt}"

    @cached_property
    def scaling_policy(self) -> str:
        return f"autoscaling-{self.tenant_id}"

    def module_of(self, name: str) -> str | None:
        """The module that one of this tenant's objects belongs to, or None where it belongs to none."""
        module, _, rest = name.removeprefix(f"{self.exchange}.").partition(".")
        return module if rest and name.startswith(f"{self.exchange}.") else None

    @cached_property
    def own_objects(self) -> str:
        """The pattern of everything that is this tenant's."""
        return rf"^{self.exchange}(\.|$)"

    @cached_property
    def writable_objects(self) -> str:
        """Return the pattern of what an application publishes to: the publish and the dead-letter exchanges.

        No queue is among them, and no exchange among the readable objects: a user that may write to a destination and
        read a source may bind the two, and the broker has no limit on bindings.
        """
        return rf"^{self.exchange}(\.(mobile_priority|business_critical|automation|[a-z0-9_]+\.dlx))?$"

    @cached_property
    def readable_objects(self) -> str:
        """Return the pattern of what an application consumes from: the queues of its modules.

        The unrouted queue isn't among them: permissions go by the name, and an exchange has the same one.
        """
        return rf"^{self.exchange}\.[a-z0-9_]+\.(?!dlx$)"

    def module_objects(self, module: str) -> str:
        return rf"^{self.exchange}\.{module}\."

    @cached_property
    def dead_letter_objects(self) -> str:
        return rf"^{self.exchange}\..*\.dlq$"

    def retry_objects(self, attempt: int) -> str:
        return rf"^{self.exchange}\..*\.retry\.{attempt}$"

    @cached_property
    def limited_objects(self) -> str:
        """All queues but dead-letter ones: a full dead-letter queue would block at-least-once dead-lettering."""
        return rf"^{self.exchange}\.(?!.*\.dlq$)"
