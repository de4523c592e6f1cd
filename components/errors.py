"""Errors that end a program with a message instead of a traceback, in the CLI and in the local engine alike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pulumi

from kryonix.errors import Failure, KryonixError, attach

__all__ = [
    "BrokerAnswersBadly",
    "BrokerRefuses",
    "BrokerUnreachable",
    "ComponentError",
    "InvalidStack",
    "MessagesWouldBeLost",
    "OldestMessagesWouldBeLost",
    "RegistryFailed",
    "RegistryUnreachable",
    "StateLost",
    "TenantsWouldBeLost",
    "registry_errors",
]


class ComponentError(pulumi.RunError):
    """Base of every error of this package. Its text ends with its data as a line, which engines read."""

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
    """A stack's config or tenants that can't be accepted."""

    kind = "invalid-input"


class MessagesWouldBeLost(ComponentError):
    """A change that would delete queues with messages in them."""

    kind = "would-lose-messages"


class OldestMessagesWouldBeLost(MessagesWouldBeLost):
    """A policy that would let queues drop their oldest messages."""

    kind = "would-lose-oldest-messages"


class StateLost(ComponentError):
    """A platform that runs already, and that this stack's state does not know."""

    kind = "state-lost"


class TenantsWouldBeLost(ComponentError):
    """A broker that would go from under tenants whose stacks stay."""

    kind = "would-lose-tenants"


class BrokerUnreachable(ComponentError):
    """The broker's management API does not answer, or refuses the credentials."""

    kind = "broker-unreachable"
    exit_status = 3


class BrokerAnswersBadly(BrokerUnreachable):
    """The broker answers, but not with what was asked for."""


class BrokerRefuses(BrokerUnreachable):
    """The broker answers, and lets the user with this password in no more."""


class RegistryUnreachable(ComponentError):
    """The registry's PostgreSQL does not answer."""

    kind = "registry-unreachable"
    exit_status = 3


class RegistryFailed(ComponentError):
    """The registry's tables can't be read or written."""

    kind = "registry-failed"


@contextmanager
def registry_errors() -> Iterator[None]:
    """Raise RegistryFailed for an error of the registry, so that its data gets out of a provider's process."""
    try:
        yield
    except KryonixError as error:
        failed = RegistryFailed(str(error))
        failed.exit_status = error.exit_status
        raise failed from error
