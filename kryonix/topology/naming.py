"""Every name in a tenant's topology: no other module concatenates names."""

from __future__ import annotations

import re
from typing import Final, Literal

TENANT_ID: Final = r"[a-z][a-z0-9-]{2,39}"
"""The pattern of a tenant's id, 3 to 40 characters."""

ADMIN_USER: Final = "kryonix_admin"

TENANT_STACK: Final = "tenant-"
"""The prefix of a tenant's own stack; the id follows."""

TRIAL_PREFIX: Final = "kryonix-check."
"""The prefix of what a check's trial makes for a moment."""

Priority = Literal["high", "medium", "low"]
PRIORITIES: Final[tuple[Priority, ...]] = ("high", "medium", "low")

_VHOST = re.compile(rf"/cliente_({TENANT_ID})")


def priority_name(priority: int) -> Priority:
    """Return the name of a numeric priority (0 to 10) in a routing key."""
    if priority >= 8:
        return "high"
    return "medium" if priority >= 5 else "low"


def stats_user(user: str) -> str:
    """Return the name of the user for figures by HTTP, with the password of the application's user."""
    return f"{user}.stats"


def platform_container(stack: str, role: str) -> str:
    """Return the name of a container of a platform's stack. `role` is its part on the network."""
    return f"kryonix-{stack}-{role}"


def tenant_of_vhost(vhost: str) -> str | None:
    """Return the id of a vhost's tenant, or None."""
    match = _VHOST.fullmatch(vhost)
    return match.group(1) if match else None


class Names:
    """The names of one tenant's objects, and patterns of them."""

    dead_letter_policy: Final = "dlq"

    def __init__(self, tenant_id: str) -> None:
        self.tenant_id: Final = tenant_id
        self.stack: Final = f"{TENANT_STACK}{tenant_id}"
        """The tenant's own stack."""
        self.exchange: Final = f"cliente_{tenant_id}"
        """The main exchange; every other object's name begins with it and a dot."""
        self.vhost: Final = f"/{self.exchange}"
        self.user: Final = self.user_of(1)
        self.mobile_exchange: Final = f"{self.exchange}.mobile_priority"
        self.critical_exchange: Final = f"{self.exchange}.business_critical"
        self.automation_exchange: Final = f"{self.exchange}.automation"
        self.unrouted: Final = f"{self.exchange}.unrouted"
        """The alternate exchange and the queue behind it. No application may read the queue."""
        self.scaling_policy: Final = f"autoscaling-{tenant_id}"
        self.own_objects: Final = rf"^{self.exchange}(\.|$)"
        """The pattern of all this tenant's objects."""
        self.writable_objects: Final = (
            rf"^{self.exchange}(\.(mobile_priority|business_critical|automation|[a-z0-9_]+\.dlx))?$"
        )
        """The pattern of the exchanges for publishing by applications.

        Applications write to exchanges only and read from queues only: write access to a destination and read access to
        a source allow a binding between them, and the broker does not limit bindings.
        """
        self.readable_objects: Final = rf"^{self.exchange}\.[a-z0-9_]+\.(?!dlx$)"
        """The pattern of the queues for consuming by applications: those of the modules.

        The unrouted queue is excluded: permissions go by name, and an exchange has the same name.
        """
        self.dead_letter_objects: Final = rf"^{self.exchange}\..*\.dlq$"
        self.limited_objects: Final = rf"^{self.exchange}\.(?!.*\.dlq$)"
        """The pattern of all queues but dead-letter ones: a full one would block dead-lettering."""

    def user_of(self, generation: int) -> str:
        """Return the user of a generation of credentials. Ids have no period, so users of two tenants never collide."""
        first = f"kryonix_{self.tenant_id}"
        return first if generation == 1 else f"{first}.{generation}"

    def stats_user_of(self, generation: int) -> str:
        """Return the user of the same generation for figures only."""
        return stats_user(self.user_of(generation))

    def module_of(self, name: str) -> str | None:
        """Return the module of one of this tenant's objects, or None."""
        module, _, rest = name.removeprefix(f"{self.exchange}.").partition(".")
        return module if rest and name.startswith(f"{self.exchange}.") else None

    def dead_letter_exchange(self, module: str) -> str:
        return f"{self.exchange}.{module}.dlx"

    def queue(self, module: str, action: str) -> str:
        return f"{self.exchange}.{module}.{action}"

    def lane(self, module: str, action: str, priority: Priority) -> str:
        """Return the queue of one priority of an action with a lane for it."""
        return f"{self.queue(module, action)}.{priority}"

    def dead_letter_queue(self, module: str, action: str) -> str:
        return f"{self.queue(module, action)}.dlq"

    @staticmethod
    def retry_queue(queue: str, attempt: int) -> str:
        """Return the queue for messages of `queue` after failure number `attempt`, counted from 1."""
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
        """Return the routing key from the module's dead-letter exchange to a retry queue."""
        return self.retry_queue(queue, attempt).removeprefix(f"{self.exchange}.")

    @staticmethod
    def module_policy(module: str) -> str:
        return f"modulo-{module}"

    @staticmethod
    def retry_policy(attempt: int) -> str:
        return f"retry-{attempt}"

    def module_objects(self, module: str) -> str:
        return rf"^{self.exchange}\.{module}\."

    def retry_objects(self, attempt: int) -> str:
        return rf"^{self.exchange}\..*\.retry\.{attempt}$"
