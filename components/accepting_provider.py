"""Bases of dynamic providers: one that writes all properties at once, and one that guards messages from deletion."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Final

from psycopg import pq
from pulumi.dynamic import ConfigureRequest, CreateResult, DiffResult, ResourceProvider, UpdateResult

from components.current_address import CurrentAddress
from components.errors import BrokerUnreachable, ComponentError
from components.management import access_of, administration
from components.registry_check import ping
from kryonix.rabbitmq.counts import BrokerAccess, CountingBroker
from kryonix.topology.ownership import too_wide


def changed_keys(olds: Mapping[str, Any], news: Mapping[str, Any]) -> list[str]:
    """Return the names of inputs with different values, except the SDK's `__provider`."""
    return [key for key in news if key != "__provider" and olds.get(key) != news[key]]


GIVEN_UP: Final = "KRYONIX_GIVE_UP_BROKER"
"""Environment variable: the management URL of a broker that may be removed although it does not answer."""


class ApplyingProvider(ResourceProvider):
    """Base of providers that create and update a resource by the same `apply` of all its properties."""

    # The pickled provider is a reference to its class and holds no secret; the secrets are properties.
    serialize_as_secret_always = False
    id_property: ClassVar[str]
    replaced_by: ClassVar[Sequence[str]] = ()
    """Properties whose change replaces the resource."""
    optional: ClassVar[Sequence[str]] = ()
    """Properties that the program may leave out, which is a change if they were there."""
    current: CurrentAddress | None = None

    def configure(self, req: ConfigureRequest) -> None:
        self.current = CurrentAddress.of(req.config)

    def apply(self, props: dict[str, Any]) -> None:
        """Write the properties."""

    def found_registry(self, dsn: str) -> str:
        """Return the registry's current address: the run that deletes a resource may have moved it."""
        if self.current is None:
            return dsn
        moved = self.current.registry(dsn)
        return moved if ping(moved) == pq.Ping.OK else dsn

    def diff(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> DiffResult:
        changed = changed_keys(_olds, {**dict.fromkeys(self.optional), **_news})
        return DiffResult(changes=bool(changed), replaces=[key for key in changed if key in self.replaced_by])

    def create(self, props: dict[str, Any]) -> CreateResult:
        self.apply(props)
        return CreateResult(props[self.id_property], props)

    def update(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> UpdateResult:
        self.apply(_news)
        return UpdateResult(_news)


class AcceptingProvider(ApplyingProvider):
    """Base of providers that refuse a deletion while messages would be lost.

    Without the program (`destroy`, or a resource it no longer declares) a resource has only the list of its last `up`.
    """

    _accepted_now: Sequence[str] = ()

    def configure(self, req: ConfigureRequest) -> None:
        super().configure(req)
        entries = json.loads(req.config.get("kryonix:allowDelete") or "[]")
        # The program refuses entries for several tenants. A destroy runs without it, so they are ignored here.
        self._accepted_now = [entry for entry in entries if entry not in too_wide(entries)]

    def accepted(self, props: dict[str, Any]) -> list[str]:
        """Return the names of queues whose messages may be lost."""
        return [*props["allowDelete"], *self._accepted_now]

    def found(self, access: BrokerAccess) -> BrokerAccess:
        """Return the access with the broker's current address.

        A resource stores the address of its last `up`; this run, or an interrupted one, may have moved the broker.
        """
        if self.current is None:
            return access
        moved = self.current.broker(access)
        with administration(moved) as broker:
            return moved if broker.answers() else access

    @contextmanager
    def before_deletion(self, props: dict[str, Any]) -> Iterator[CountingBroker]:
        """Connect to the broker. Accept that it does not answer, if the environment gives it up.

        The environment and not the config, as `up` can't store a changed config while the broker is down.
        """
        try:
            with administration(self.found(access_of(props))) as broker:
                yield broker
        except ComponentError as error:
            refusal = error
            if type(error) is BrokerUnreachable:
                url = props["managementUrl"]
                if os.environ.get(GIVEN_UP) == url:
                    return
                remedy = f"To remove it with all that it holds, although it can't be asked, set {GIVEN_UP}={url}"
                refusal = BrokerUnreachable(f"{error.message}. {remedy}")
            # The Pulumi CLI shows the output of `traceback.format_exc`, which starts with the exception's cause. One
            # that was never raised has no traceback of its own, so the reason is the first line.
            raise refusal from copy.copy(refusal)
