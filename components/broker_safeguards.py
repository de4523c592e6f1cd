"""BrokerSafeguards: refuse to remove a broker that carries other stacks' tenants or holds messages."""

from __future__ import annotations

from typing import Any

import pulumi
from pulumi.dynamic import Resource

from components.accepting_provider import AcceptingProvider
from components.guard import refuse_orphans
from components.losses import AFTER_AN_UP, refuse_losses
from components.management import access_properties
from components.settings import Settings
from components.withdrawal import withdraw_vhosts
from kryonix.rabbitmq.counts import BrokerAccess
from kryonix.topology.naming import Names
from kryonix.topology.ownership import owned_tenants
from kryonix.topology.shared import EVENTS_VHOST


class _BrokerSafeguardsProvider(AcceptingProvider):
    id_property = "managementUrl"

    def delete(self, _id: str, _props: dict[str, Any]) -> None:
        if _props["protected"]:
            with self.before_deletion(_props) as broker:
                refuse_orphans(broker, _props.get("stack"))  # absent in the state of an older version
                # Check all of the stack's tenants before the first is deleted: a refusal leaves every one unchanged.
                # The platform's own events are copies of registry rows.
                own = owned_tenants(broker.vhosts(), _props.get("stack") or "")
                tenants = [Names(tenant).vhost for tenant in sorted(own)]
                going = [queue for queue in broker.queues() if queue.vhost not in (EVENTS_VHOST, *tenants)]
                refuse_losses(broker.exact(going), self.accepted(_props), AFTER_AN_UP)
                withdraw_vhosts(broker, tenants, self.accepted(_props))


class BrokerSafeguards(Resource, module="kryonix", name="BrokerSafeguards"):
    """Created after everything else on the broker, and so the first that `destroy` deletes."""

    def __init__(
        self,
        name: str,
        access: pulumi.Output[BrokerAccess],
        settings: Settings,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        properties = {
            **access_properties(access),
            "stack": pulumi.get_stack(),
            "protected": settings.deletion_protection,
            "allowDelete": list(settings.allow_delete),
        }
        super().__init__(_BrokerSafeguardsProvider(), name, properties, opts)
