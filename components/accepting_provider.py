"""AcceptingProvider: a dynamic provider that reads the accepted losses from this run's config."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from pulumi.dynamic import ConfigureRequest, ResourceProvider

from components.current_address import CurrentAddress
from components.errors import BrokerUnreachable, ComponentError
from components.management import access_of, administration
from kryonix.rabbitmq.counts import BrokerAccess, CountingBroker
from kryonix.topology.ownership import too_wide


def changed_keys(olds: Mapping[str, Any], news: Mapping[str, Any]) -> list[str]:
    """Return the names of inputs with different values, except the SDK's `__provider`."""
    return [key for key in news if key != "__provider" and olds.get(key) != news[key]]


GIVEN_UP: Final = "KRYONIX_GIVE_UP_BROKER"
"""Environment variable: the management URL of a broker that may be removed although it does not answer."""


class AcceptingProvider(ResourceProvider):
    """Base of providers that refuse a deletion while messages would be lost.

    Without the program (`destroy`, or a resource it no longer declares) a resource has only the list of its last `up`.
    """

    # The pickled provider is a reference to its class and holds no secret; only `adminPassword` is one.
    serialize_as_secret_always = False
    _accepted_now: Sequence[str] = ()
    _current: CurrentAddress | None = None

    def configure(self, req: ConfigureRequest) -> None:
        entries = json.loads(req.config.get("kryonix:allowDelete") or "[]")
        # The program refuses entries for several tenants. A destroy runs without it, so they are ignored here.
        self._accepted_now = [entry for entry in entries if entry not in too_wide(entries)]
        self._current = CurrentAddress.of(req.config)

    def accepted(self, props: dict[str, Any]) -> list[str]:
        """Return the names of queues whose messages may be lost."""
        return [*props["allowDelete"], *self._accepted_now]

    def found(self, access: BrokerAccess) -> BrokerAccess:
        """Return the access with the broker's current address.

        A resource stores the address of its last `up`; this run, or an interrupted one, may have moved the broker.
        """
        if self._current is None:
            return access
        moved = self._current.broker(access)
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
