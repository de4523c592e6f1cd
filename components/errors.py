"""Errors that end a program with a message instead of a traceback, in the CLI and in the local engine alike."""

from __future__ import annotations

import pulumi

__all__ = [
    "BrokerAnswersBadly",
    "BrokerRefuses",
    "BrokerUnreachable",
    "ComponentError",
    "InvalidStack",
    "MessagesWouldBeLost",
    "RegistryUnreachable",
    "StateLost",
    "TenantsWouldBeLost",
]


class ComponentError(pulumi.RunError):
    """Base of every error of this package."""

    exit_status = 2


class InvalidStack(ComponentError):
    """A stack's config or tenants that can't be accepted."""


class MessagesWouldBeLost(ComponentError):
    """A change that would delete queues with messages in them."""


class StateLost(ComponentError):
    """A platform that runs already, and that this stack's state does not know."""


class TenantsWouldBeLost(ComponentError):
    """A broker that would go from under tenants whose stacks stay."""


class BrokerUnreachable(ComponentError):
    """The broker's management API does not answer, or refuses the credentials."""

    exit_status = 3


class BrokerAnswersBadly(BrokerUnreachable):
    """The broker answers, but not with what was asked for."""


class BrokerRefuses(BrokerUnreachable):
    """The broker answers, and lets the user with this password in no more."""


class RegistryUnreachable(ComponentError):
    """The registry's PostgreSQL does not answer."""

    exit_status = 3
