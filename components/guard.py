"""The guard: ask the broker, before any change, whether it would delete queues that hold messages.

It is part of the program, so it works for the CLI, the Automation API and the local engine, in preview and up.
`components.safeguards` covers the cases without the program: `destroy`, and replacements that an engine decides itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

import pulumi

from components.errors import AdoptionUnfinished, BrokerRefuses, BrokerUnreachable, StateLost, TenantsWouldBeLost
from components.losses import refuse_losses, refuse_trims
from components.management import administration, refuse_fewer_nodes, refuse_minority
from components.previous_run import PreviousRun
from components.withdrawal import let_in, put_back, withdraw_queues
from kryonix.rabbitmq.counts import BrokerAccess, CountingBroker
from kryonix.topology.expansion import Topology
from kryonix.topology.naming import Names
from kryonix.topology.objects import QueueState, VhostState
from kryonix.topology.ownership import doomed, owned_tenants, tenants_of_others

_SHOWN: Final = 3
"""Number of tenants whose removal command is shown."""


@dataclass(kw_only=True)
class Guard:
    """A stack's topologies on a broker, and the queues whose loss it accepts."""

    stack: str
    topologies: Sequence[Topology]
    allow_delete: Collection[str]
    whole_broker: bool
    """True to look for tenants that the stack no longer lists. A stack of one tenant has no others."""
    previous: PreviousRun
    nodes: int = 0
    """The number of nodes that the broker has after the run; 0 for a stack that has no broker of its own."""
    _agreed: bool = field(default=False, init=False)

    def before_changes(self, access: pulumi.Output[BrokerAccess]) -> pulumi.Output[BrokerAccess]:
        """Return the access once the broker has been asked; one that does not exist yet has nothing to lose.

        A broker whose address this run changes is asked at its old address.
        """
        return access.apply(self._ask_first)

    def before_tenants(self, access: pulumi.Output[BrokerAccess]) -> pulumi.Output[BrokerAccess]:
        """Return the access once the broker has confirmed that nothing would be lost."""
        return access.apply(self._ask)

    async def _ask_first(self, access: BrokerAccess) -> BrokerAccess:
        for address in dict.fromkeys((access, self._before(access))):
            try:
                await self._ask(address)
                break
            except BrokerRefuses as refusal:
                if self.previous.never_succeeded:
                    raise StateLost(_state_lost(self.stack, address.management_url)) from refusal
                raise
            except BrokerUnreachable as reason:
                pulumi.log.debug(f"the broker does not answer yet; it is asked again once it is up: {reason.message}")
        return access

    def _before(self, access: BrokerAccess) -> BrokerAccess:
        """Return the access at the previous run's addresses, which may be others, and without TLS."""
        if not (outputs := self.previous.outputs).get("management_url"):
            return access
        here = {"amqp_host": access.amqp_host, "amqp_port": access.amqp_port}
        login = {"admin_username": access.username, "admin_password": access.password}
        return BrokerAccess.of({**here, **outputs, **login})

    async def _ask(self, access: BrokerAccess) -> BrokerAccess:
        if self._agreed:
            return access
        going = await asyncio.to_thread(self._going, access)
        kept = {topology.vhost for topology in self.topologies}
        if any(queue.vhost in kept for queue in going):
            # A queue created by others in a tenant's vhost stays: no engine knows it.
            managed = await self.previous.managed_queues()
            if managed is not None:
                going = [queue for queue in going if queue.vhost not in kept or (queue.vhost, queue.name) in managed]
        await asyncio.to_thread(self._hold, access, going, kept)
        self._agreed = True
        return access

    def _going(self, access: BrokerAccess) -> list[QueueState]:
        with administration(access) as broker:
            refuse_minority(broker)
            if self.nodes:
                refuse_fewer_nodes(broker, self.nodes, self.stack)
            vhosts = broker.vhosts() if self.whole_broker else []
            self._refuse_adopted(vhosts)
            queues = [queue for vhost in self._scope for queue in broker.queues(*vhost)]
            return doomed(queues, self.topologies, owned_tenants(vhosts, self.stack))

    @property
    def _scope(self) -> list[tuple[str, ...]]:
        """Return the arguments for the lists of queues: none for a whole broker's, or one vhost after the other."""
        return [()] if self.whole_broker else [(topology.vhost,) for topology in self.topologies]

    def _refuse_adopted(self, vhosts: Iterable[VhostState]) -> None:
        """Raise AdoptionUnfinished for a tenant with a stack of its own that this stack lists, or has in its state.

        The run would give it a new password, or delete it.
        """
        mine = {*(self.previous.outputs.get("tenants") or ()), *(topology.tenant.id for topology in self.topologies)}
        for tenant, stack in tenants_of_others(vhosts, None).items():
            if tenant in mine:
                raise AdoptionUnfinished(
                    f"the tenant {tenant!r} belongs to the stack {stack!r}, and is still in the list or the state of "
                    f"{self.stack!r}; nothing has been changed. Run `kryonix tenant adopt {tenant} --stack "
                    f"{self.stack}`: it removes the tenant there, and changes nothing on the broker"
                )

    def _hold(self, access: BrokerAccess, going: list[QueueState], kept: Collection[str]) -> None:
        with administration(access) as broker:
            refuse_losses(broker.exact(going), self.allow_delete)
            fillings = [filling for vhost in self._scope for filling in broker.fillings(*vhost)]
            refuse_trims(fillings, self.topologies, self.allow_delete)
            if not pulumi.runtime.is_dry_run():
                let_in(broker, kept)
                put_back(broker, self.stack, going)
                withdraw_queues(broker, self.stack, [q for q in going if q.vhost in kept], self.allow_delete)


def refuse_orphans(broker: CountingBroker, stack: str | None) -> None:
    """Raise TenantsWouldBeLost if the broker, about to be removed, carries tenants of other stacks."""
    others = tenants_of_others(broker.vhosts(), stack)
    if not others:
        return
    of_stack = "the stack" if stack is None else f"the stack {stack!r}"
    remedies = ", ".join(_how_to_remove(tenant, other) for tenant, other in islice(others.items(), _SHOWN))
    raise TenantsWouldBeLost(
        f"{of_stack} carries {len(others)} tenant(s) with a stack of their own: {', '.join(others)}; nothing has been "
        "changed. Offboard them, and remove them when their grace period has ended: "
        f"{remedies}{', ...' if len(others) > _SHOWN else ''}. `kryonix tenant remove --force` does not wait; it first "
        "shows the messages that it deletes. To destroy the platform with their messages, set "
        "kryonix:deletionProtection to false, run `kryonix up` (or `pulumi up`) and destroy again"
    )


def _how_to_remove(tenant: str, stack: str) -> str:
    if stack != Names(tenant).stack:
        return f"`kryonix destroy --stack {stack}`"
    return f"`kryonix tenant offboard {tenant}`, then `kryonix tenant remove {tenant}`"


def _state_lost(stack: str, url: str) -> str:
    containers = " ".join(f"kryonix-{stack}-{name}" for name in ("rabbitmq", "postgres"))
    volumes = " ".join(f"kryonix-{stack}-{name}-data" for name in ("rabbitmq", "postgres"))
    return (
        f"the broker at {url} refuses the administrator's password of the stack {stack!r}, whose state is empty: "
        "another run made this broker. Nothing has been changed.\n"
        f"  If the state was lost, restore it: the folder .kryonix/stacks/{stack} from a backup, or `pulumi stack "
        f"import --stack {stack} --file DEPLOYMENT` with an export.\n"
        f"  If it is another platform's broker, set other ports in Pulumi.{stack}.yaml (kryonix:amqpPort, "
        "managementPort, metricsPort, registryPort).\n"
        f"  To start over and delete all its messages: `docker rm -f {containers}`, then "
        f"`docker volume rm {volumes}`"
    )
