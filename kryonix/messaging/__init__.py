"""The SDK for tenants' applications: send and consume messages, read queue figures.

    from kryonix.messaging import MessagingClient

    async with await MessagingClient.connect(application="shop") as client:
        await client.crm.send("leads.create", {"name": "Ana"})

It never creates or changes queues and exchanges: that is the platform's job.
"""

from typing import TYPE_CHECKING, Any

from kryonix import __version__
from kryonix.messaging.audit import AuditRecord, AuditSink, JsonLinesAudit, PostgresAudit
from kryonix.messaging.client import MessagingClient
from kryonix.messaging.consuming.consumer import Consumer, Handler
from kryonix.messaging.consuming.stream import Item, Stream
from kryonix.messaging.errors import (
    AccessRefused,
    ConfigurationError,
    MessagingError,
    NotConnected,
    NotRoutable,
    NotSerializable,
    QueueFull,
    Reject,
    Retry,
    SendTimedOut,
    StatsUnavailable,
    UnknownRoute,
)
from kryonix.messaging.facade import ClientOptions, ConsumeOptions, Facade
from kryonix.messaging.idempotency import Claim, IdempotencyStore, MemoryIdempotency, PostgresIdempotency
from kryonix.messaging.memory import MemoryBroker
from kryonix.messaging.message import Device, Message, Outgoing, Route, SendOptions, SendResult
from kryonix.messaging.modules import ActionName, ModuleName
from kryonix.messaging.outcomes import JsonLinesOutcomes, Outcomes, OutcomeSink, PostgresOutcomes
from kryonix.messaging.routing import Decision, Router, Rules
from kryonix.messaging.sender import Batch
from kryonix.messaging.stats import QueueStats

if TYPE_CHECKING:
    from kryonix.messaging.learned import LearnedRouter, RouterStatus

__all__ = [
    "AccessRefused",
    "ActionName",
    "AuditRecord",
    "AuditSink",
    "Batch",
    "Claim",
    "ClientOptions",
    "ConfigurationError",
    "ConsumeOptions",
    "Consumer",
    "Decision",
    "Device",
    "Facade",
    "Handler",
    "IdempotencyStore",
    "Item",
    "JsonLinesAudit",
    "JsonLinesOutcomes",
    "LearnedRouter",
    "MemoryBroker",
    "MemoryIdempotency",
    "Message",
    "MessagingClient",
    "MessagingError",
    "ModuleName",
    "NotConnected",
    "NotRoutable",
    "NotSerializable",
    "OutcomeSink",
    "Outcomes",
    "Outgoing",
    "PostgresAudit",
    "PostgresIdempotency",
    "PostgresOutcomes",
    "QueueFull",
    "QueueStats",
    "Reject",
    "Retry",
    "Route",
    "Router",
    "RouterStatus",
    "Rules",
    "SendOptions",
    "SendResult",
    "SendTimedOut",
    "StatsUnavailable",
    "Stream",
    "UnknownRoute",
    "__version__",
]


def __getattr__(name: str) -> Any:
    if name not in ("LearnedRouter", "RouterStatus"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from kryonix.messaging import learned  # not earlier: most applications have no model

    return getattr(learned, name)
