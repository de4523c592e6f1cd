"""A dynamic provider that knows which losses the stack's config accepts now, whatever its resource was made with."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from pulumi.dynamic import ConfigureRequest, ResourceProvider

from components.current_address import CurrentAddress
from components.errors import BrokerAnswersBadly, BrokerRefuses, BrokerUnreachable, ComponentError
from components.management import BrokerAccess, Management
from kryonix.topology.ownership import too_wide

__all__ = ["GIVEN_UP", "AcceptingProvider"]

GIVEN_UP: Final = "KRYONIX_GIVE_UP_BROKER"
"""The environment variable that names the management URL of a broker that may go unasked, if it does not answer."""


class AcceptingProvider(ResourceProvider):
    """Base of what refuses to go while messages would be lost.

    A resource that the program no longer has, or that `destroy` removes, still has the list of its last `up`.
    """

    # The pickled provider holds no secret, it is a reference to its class; only `adminPassword` is one.
    serialize_as_secret_always = False
    _accepted_now: Sequence[str] = ()
    _current: CurrentAddress | None = None

    def configure(self, req: ConfigureRequest) -> None:
        entries = json.loads(req.config.get("kryonix:allowDelete") or "[]")
        # The program refuses what reaches too far; it does not run for a destroy, so there it accepts nothing.
        self._accepted_now = [entry for entry in entries if entry not in too_wide(entries)]
        self._current = CurrentAddress.of(req.config)

    def accepted(self, props: dict[str, Any]) -> list[str]:
        """The names of queues whose messages may be lost."""
        return [*props["allowDelete"], *self._accepted_now]

    def found(self, access: BrokerAccess) -> BrokerAccess:
        """Return the access where the broker answers now.

        A resource that goes knows the address of its last `up`; the same run, or one that was cut off, may have moved
        the broker since.
        """
        if self._current is None:
            return access
        moved = self._current.broker(access)
        with Management(moved) as broker:
            return moved if broker.answers() else access

    @contextmanager
    def unless_lost(self, props: dict[str, Any]) -> Iterator[None]:
        """Let a broker go that does not answer, where the environment says that it is given up.

        It is the environment and not the config, because `up` can't bring a changed config to a broker that is down.
        """
        try:
            yield
        except (BrokerRefuses, BrokerAnswersBadly):
            raise
        except BrokerUnreachable as error:
            url = props["managementUrl"]
            if os.environ.get(GIVEN_UP) == url:
                return
            remedy = f"To remove it with all that it holds, although it can't be asked, set {GIVEN_UP}={url}"
            raise BrokerUnreachable(f"{error.message}. {remedy}") from error

    @contextmanager
    def reason_first(self) -> Iterator[None]:
        """Let the Pulumi CLI show a refusal's reason above the traceback of its dynamic provider's server.

        The server sends what `traceback.format_exc` gives. That begins with an exception's cause, and a cause that was
        never raised has no traceback of its own.
        """
        try:
            yield
        except ComponentError as refusal:
            raise refusal from copy.copy(refusal)
