"""Errors that end the program with a message instead of a traceback, under the CLI and the local engine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pulumi

from kryonix.errors import Failure, KryonixError, attach


class ComponentError(pulumi.RunError):
    """Base of every error of this package. Its text ends with a line of data for engines."""

    kind = "refused"
    exit_status = 2

    def __init__(self, message: str, queues: Mapping[str, int] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.queues = dict(queues or {})

    def __str__(self) -> str:
        failure = Failure(kind=self.kind, exit_status=self.exit_status, queues=self.queues)
        return attach(self.message, failure)


class InvalidStack(ComponentError):
    """The stack's config or tenants are not valid."""

    kind = "invalid-input"


class MessagesWouldBeLost(ComponentError):
    """The change would delete queues that hold messages."""

    kind = "would-lose-messages"


class OldestMessagesWouldBeLost(MessagesWouldBeLost):
    """A changed policy would make queues drop their oldest messages."""

    kind = "would-lose-oldest-messages"


class StateLost(ComponentError):
    """The platform is running, but this stack's state does not know it."""

    kind = "state-lost"


class TenantsWouldBeLost(ComponentError):
    """The broker would be removed while other stacks have tenants on it."""

    kind = "would-lose-tenants"


class AdoptionUnfinished(ComponentError):
    """A tenant with a stack of its own is also in this stack's list or state."""

    kind = "adoption-unfinished"


class BrokerUnreachable(ComponentError):
    """The broker's management API does not answer, or refuses the credentials."""

    kind = "broker-unreachable"
    exit_status = 3


class BrokerAnswersBadly(BrokerUnreachable):
    """The broker's answer is not the expected one."""


class BrokerRefuses(BrokerUnreachable):
    """The broker refuses the user or its password."""


class MajorityMissing(BrokerUnreachable):
    """Too few nodes of a cluster run for it to change anything."""

    kind = "majority-missing"


class ClusterNotFormed(ComponentError):
    """The nodes of a broker have not become one cluster."""

    kind = "cluster-not-formed"
    exit_status = 3


class ClusterNeedsRoll(ComponentError):
    """The change would replace the nodes of a cluster at once."""

    kind = "cluster-needs-roll"


class ClusterNeedsGrow(ComponentError):
    """The config names another number of nodes than the cluster has."""

    kind = "cluster-needs-grow"


class RegistryUnreachable(ComponentError):
    """The registry's PostgreSQL does not answer."""

    kind = "registry-unreachable"
    exit_status = 3


class RegistryFailed(ComponentError):
    """A statement on the registry's tables failed."""

    kind = "registry-failed"


@contextmanager
def registry_errors() -> Iterator[None]:
    """Raise RegistryFailed for an error of the registry: its data has to leave the provider's process."""
    try:
        yield
    except KryonixError as error:
        failed = RegistryFailed(str(error))
        failed.exit_status = error.exit_status
        raise failed from error
