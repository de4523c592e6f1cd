"""The SDK that tenants' applications import: publish and consume messages, see the queues.

    from kryonix.messaging import MessagingClient

    async with await MessagingClient.connect(application="shop") as client:
        await client.crm.send("leads.create", {"name": "Ana"})

It never makes or changes a queue or an exchange: the topology is the platform's.
"""

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
from kryonix.messaging.facade import Facade
from kryonix.messaging.idempotency import Claim, IdempotencyStore, MemoryIdempotency, PostgresIdempotency
from kryonix.messaging.memory.broker import MemoryBroker
from kryonix.messaging.message import Device, Message, Outgoing, Route, SendResult
from kryonix.messaging.modules import ActionName, ModuleName
from kryonix.messaging.options import ClientOptions, ConsumeOptions, SendOptions
from kryonix.messaging.publishing.batch import Batch
from kryonix.messaging.routing import Decision, Router, Rules
from kryonix.messaging.stats import QueueStats

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
    "MemoryBroker",
    "MemoryIdempotency",
    "Message",
    "MessagingClient",
    "MessagingError",
    "ModuleName",
    "NotConnected",
    "NotRoutable",
    "NotSerializable",
    "Outgoing",
    "PostgresAudit",
    "PostgresIdempotency",
    "QueueFull",
    "QueueStats",
    "Reject",
    "Retry",
    "Route",
    "Router",
    "Rules",
    "SendOptions",
    "SendResult",
    "SendTimedOut",
    "StatsUnavailable",
    "Stream",
    "UnknownRoute",
]
