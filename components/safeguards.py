"""Safeguards: user limits, and protection of a vhost with messages, for which the provider plugin has no resource.

One dynamic resource per tenant, created last and deleted first. Its deletion is refused while messages would be lost,
before anything of the tenant changes, also by `destroy`, where the program does not run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pulumi
from pulumi.dynamic import DiffResult, ReadResult, Resource
from pulumi.output import Unknown
from pulumi.runtime.rpc import UNKNOWN

from components.accepting_provider import AcceptingProvider, changed_keys
from components.errors import BrokerRefuses
from components.management import access_of, access_properties, administration
from components.withdrawal import withdraw_vhosts
from kryonix.rabbitmq.counts import BrokerAccess
from kryonix.topology.catalog import Limits

_CONNECTIONS = "max-connections"
_LIMITS = {"maxConnections": _CONNECTIONS, "maxChannels": "max-channels"}


class _SafeguardsProvider(AcceptingProvider):
    id_property = "vhost"

    def diff(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> DiffResult:
        changed = changed_keys(_olds, _news)
        replaces = [key for key in changed if key == "vhost" or (key == "queues" and _unknown(_news[key]))]
        if _unknown(_news["managementUrl"]):  # a preview that does not know the broker knows no name either
            replaces = [key for key in replaces if not _unknown(_news[key])]
        return DiffResult(changes=bool(changed), replaces=replaces, delete_before_replace=True)

    def apply(self, props: dict[str, Any]) -> None:
        with administration(access_of(props)) as broker:
            for user in (props["user"], *props.get("retiringUsers", ())):
                for key, limit in _LIMITS.items():
                    broker.set_user_limit(user, limit, int(props[key]))
            for user in props.get("statsUsers", ()):
                broker.set_user_limit(user, _CONNECTIONS, 0)
            broker.protect(props["vhost"], protected=props["protected"])
            broker.start(props["vhost"])

    def read(self, id_: str, props: dict[str, Any]) -> ReadResult:
        try:
            with administration(access_of(props)) as broker:
                protected = broker.protected(props["vhost"])
                limits = broker.user_limits(props["user"])
                held = [u for u in props.get("statsUsers", ()) if broker.user_limits(u).get(_CONNECTIONS) == 0]
        except BrokerRefuses:  # a recreated platform has another password, which the next `up` stores here
            return ReadResult(id_, props)
        if protected is None:
            return ReadResult("", {})  # no id: deleted
        live: dict[str, Any] = {key: limits.get(name, -1) for key, name in _LIMITS.items()}
        if "statsUsers" in props:  # absent in the state of an older version
            live["statsUsers"] = held
        return ReadResult(id_, {**props, **live, "protected": protected})

    def delete(self, _id: str, _props: dict[str, Any]) -> None:
        with self.before_deletion(_props) as broker:
            if _props["protected"]:
                withdraw_vhosts(broker, [_props["vhost"]], self.accepted(_props))
            broker.protect(_props["vhost"], protected=False)


def _unknown(value: Any) -> bool:
    """Return True for a value, or a list with one, that is known after the run only, as a replaced queue's name is."""
    values = value if isinstance(value, list) else [value]
    return any(isinstance(each, Unknown) or each == UNKNOWN for each in values)


class Safeguards(Resource, module="kryonix", name="Safeguards"):
    """The limits of a tenant's users (connections, channels), and the protection of its vhost from deletion.

    `users` has the current user first, then retiring ones. `stats_users` read figures by HTTP, and may open no
    connection. An engine that replaces one of the `queues` for any reason has to delete these safeguards first.
    """

    def __init__(
        self,
        name: str,
        *,
        access: pulumi.Output[BrokerAccess],
        vhost: pulumi.Input[str],
        users: Sequence[pulumi.Input[str]],
        stats_users: Sequence[pulumi.Input[str]],
        queues: pulumi.Input[Sequence[str]],
        limits: Limits,
        protected: bool,
        allow_delete: Sequence[str],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        current, *retiring = users
        properties = {
            **access_properties(access),
            **({"retiringUsers": retiring} if retiring else {}),
            "statsUsers": stats_users,
            "vhost": vhost,
            "user": current,
            "queues": queues,
            "maxConnections": limits.max_connections,
            "maxChannels": limits.max_channels,
            "protected": protected,
            "allowDelete": list(allow_delete),
        }
        super().__init__(_SafeguardsProvider(), name, properties, opts)
