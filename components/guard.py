"""The guard: asks the broker, before anything changes, whether a change would delete queues that hold messages.

It works in the program itself, so it holds through every door: the CLI, the Automation API, the local engine; preview
and up. What `destroy` removes, where the program does not run, is held by `components.safeguards`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

import pulumi

from components.errors import BrokerUnreachable, MessagesWouldBeLost, TenantsWouldBeLost
from components.management import BrokerAccess, Management, QueueState
from kryonix.topology.accepted_losses import accepted
from kryonix.topology.expansion import Topology
from kryonix.topology.naming import Names
from kryonix.topology.ownership import doomed, owned_tenants, tenants_of_others

__all__ = ["Guard", "refuse_losses", "refuse_orphans"]

_SHOWN: Final = 3
"""How many tenants' removal is spelled out; it is the same for all."""


@dataclass(frozen=True, kw_only=True)
class Guard:
    """What a stack wants to have on a broker, and the queues whose loss it accepts."""

    stack: str
    topologies: Sequence[Topology]
    allow_delete: Collection[str]
    whole_broker: bool
    """Whether tenants that the stack no longer lists are looked for too: a stack of one tenant has no others."""

    def before_changes(self, access: pulumi.Output[BrokerAccess]) -> pulumi.Output[BrokerAccess]:
        """The same access, once the broker has been asked; a broker that is not there yet has nothing to lose."""

        async def ask(broker: BrokerAccess) -> BrokerAccess:
            try:
                await asyncio.to_thread(self._ask, broker)
            except BrokerUnreachable as reason:
                pulumi.log.debug(f"the broker can't be asked yet, it is asked again once it is up: {reason}")
            return broker

        return access.apply(ask)

    def before_tenants(self, access: pulumi.Output[BrokerAccess]) -> pulumi.Output[BrokerAccess]:
        """The same access, once the broker has answered that nothing is lost."""

        async def ask(broker: BrokerAccess) -> BrokerAccess:
            await asyncio.to_thread(self._ask, broker)
            return broker

        return access.apply(ask)

    def _ask(self, access: BrokerAccess) -> None:
        with Management(access) as broker:
            if self.whole_broker:
                owned = owned_tenants(broker.vhosts(), self.stack)
                queues = broker.queues()
            else:
                owned = set()
                queues = [queue for topology in self.topologies for queue in broker.queues(topology.vhost)]
            refuse_losses(broker, doomed(queues, self.topologies, owned), self.allow_delete)


def refuse_losses(broker: Management, going: Sequence[QueueState], allow_delete: Collection[str]) -> None:
    """Raise MessagesWouldBeLost where queues that are about to go hold messages, unless their loss is accepted."""
    held = [queue for queue in broker.exact([q for q in going if not accepted(q.name, allow_delete)]) if queue.messages]
    if not held:
        return
    counts = "\n".join(f"  {queue.messages:,} messages in {queue.name} (vhost {queue.vhost})" for queue in held)
    raise MessagesWouldBeLost(
        f"this change would delete {len(held)} queue(s) that still hold messages; nothing has been changed:\n{counts}\n"
        f"Consume or move them first, or accept the loss in the stack's config, and run again:\n"
        f"  kryonix:allowDelete: [{', '.join(dict.fromkeys([*allow_delete, *(queue.name for queue in held)]))}]"
    )


def refuse_orphans(broker: Management, stack: str | None) -> None:
    """Raise TenantsWouldBeLost where the broker carries tenants of other stacks than this, which is about to go."""
    others = tenants_of_others(broker.vhosts(), stack)
    if not others:
        return
    of_stack = "the stack" if stack is None else f"the stack {stack!r}"
    remedies = ", ".join(_how_to_remove(tenant, other) for tenant, other in islice(others.items(), _SHOWN))
    raise TenantsWouldBeLost(
        f"{of_stack} carries {len(others)} tenant(s) with a stack of their own: {', '.join(others)}; nothing has been "
        f"changed. Offboard and remove them first ({remedies}{', ...' if len(others) > _SHOWN else ''}), or set "
        "kryonix:deletionProtection to false, run `kryonix up` (or `pulumi up`) and destroy again"
    )


def _how_to_remove(tenant: str, stack: str) -> str:
    if stack != Names(tenant).stack:
        return f"`kryonix destroy --stack {stack}`"
    return f"`kryonix tenant offboard {tenant}`, `kryonix tenant remove {tenant} --force --yes`"
