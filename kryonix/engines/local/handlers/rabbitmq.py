"""RabbitMQ: the package's provider, and what belongs to no single vhost's topology: vhosts, users, permissions."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from typing import Any, ClassVar, Final

from kryonix.engines.local.handlers.base import Live, Properties
from kryonix.engines.local.handlers.fields import Field, Fields, Kind
from kryonix.engines.local.handlers.management import Management, management
from kryonix.engines.local.handlers.rabbitmq_topology import Binding, Exchange, OperatorPolicy, Policy, Queue
from kryonix.engines.local.handlers.resource import HandlerTable, Resource

__all__ = ["Permissions", "User", "VHost", "password_matches", "provider"]


def provider(config: Properties) -> HandlerTable:
    """The handlers of package rabbitmq on the broker that `config` names."""
    api = management(config)
    types = (VHost, User, Permissions, Exchange, Queue, Binding, Policy, OperatorPolicy)
    return HandlerTable.of("rabbitmq", [handler(api) for handler in types], api.close)


LIMITS: Final = {"maxConnections": "max-connections", "maxQueues": "max-queues"}


class VHost(Resource):
    """A virtual host with its limits. Its id is its name."""

    pulumi_type = "rabbitmq:index/vHost:VHost"
    fields: ClassVar[Fields] = {
        "name": Field(required=True, replaces=True),
        "description": Field(),
        "defaultQueueType": Field(),
        "tracing": Field(kind=Kind.FLAG),
        # The provider plugin makes 0 of a limit that is no number, and nobody can connect. An error says so instead.
        "maxConnections": Field(pattern=r"-?\d+"),
        "maxQueues": Field(pattern=r"-?\d+"),
    }

    def __init__(self, api: Management) -> None:
        self._api = api

    def create(self, inputs: Properties) -> tuple[str, Properties]:
        name = inputs["name"]
        self._declare(inputs)
        self._own(name)
        self._limit(name, self._limits(name), inputs)
        return name, dict(inputs)

    def update(self, id: str, old_inputs: Properties, old_outputs: Properties, new_inputs: Properties) -> Properties:
        self._declare(new_inputs)
        self._own(id)
        self._limit(id, self._limits(id), new_inputs)
        return dict(new_inputs)

    def read(self, id: str, inputs: Properties, outputs: Properties) -> Live | None:
        found = self._api.get("vhosts", id)
        if found is None:
            return None
        live = {**inputs, "name": id, "description": found.get("description") or None}
        if "tracing" in inputs or found.get("tracing"):
            live["tracing"] = bool(found.get("tracing"))
        if inputs.get("defaultQueueType"):
            live["defaultQueueType"] = found.get("default_queue_type")
        limits = self._limits(id)
        live |= {ours: _decimal(limits.get(theirs)) for ours, theirs in LIMITS.items()}
        live = {key: value for key, value in live.items() if value is not None}
        return Live(id, live, dict(live))

    def delete(self, id: str, inputs: Properties, outputs: Properties) -> None:
        self._api.delete(("vhosts", id), f"delete vhost `{id}`")

    def _declare(self, inputs: Properties) -> None:
        name = inputs["name"]
        # A PUT without tags takes those away that something else set.
        found = self._api.get("vhosts", name) or {}
        body = {
            "description": inputs.get("description", ""),
            "tags": ",".join(_tags(found.get("tags"))),
            "tracing": bool(inputs.get("tracing")),
        }
        if inputs.get("defaultQueueType"):
            body["default_queue_type"] = inputs["defaultQueueType"]
        self._api.put(("vhosts", name), body, f"declare vhost `{name}`")

    def _own(self, name: str) -> None:
        """A PUT that was cut off can leave a vhost its creator may not enter, and repeating it doesn't help."""
        path = ("permissions", name, self._api.username)
        if self._api.get(*path) is None:
            everything = {"configure": ".*", "write": ".*", "read": ".*"}
            self._api.put(path, everything, f"let `{self._api.username}` into vhost `{name}`")

    def _limits(self, name: str) -> Mapping[str, int]:
        found = self._api.get("vhost-limits", name) or []
        return found[0]["value"] if found else {}

    def _limit(self, name: str, current: Mapping[str, int], inputs: Properties) -> None:
        for ours, theirs in LIMITS.items():
            wanted = inputs.get(ours) or None
            path, doing = ("vhost-limits", name, theirs), f"limit {theirs} of vhost `{name}` to {wanted}"
            if wanted is not None and current.get(theirs) != int(wanted):
                self._api.put(path, {"value": int(wanted)}, doing)
            elif wanted is None and theirs in current:
                self._api.delete(path, f"clear {theirs} of vhost `{name}`")


def _decimal(number: int | None) -> str | None:
    return None if number is None else str(number)


class User(Resource):
    """A user with password and tags. Its id is its name. The password is never read back, only compared."""

    pulumi_type = "rabbitmq:index/user:User"
    fields: ClassVar[Fields] = {
        "name": Field(required=True, replaces=True),
        "password": Field(required=True),
        "tags": Field(kind=Kind.TEXT_LIST),
    }
    secret_outputs = frozenset({"password"})

    def __init__(self, api: Management) -> None:
        self._api = api

    def create(self, inputs: Properties) -> tuple[str, Properties]:
        name = inputs["name"]
        body = {"password": inputs["password"], "tags": ",".join(inputs.get("tags") or [])}
        self._api.put(("users", name), body, f"declare user `{name}`")
        return name, dict(inputs)

    def update(self, id: str, old_inputs: Properties, old_outputs: Properties, new_inputs: Properties) -> Properties:
        return self.create(new_inputs)[1]

    def read(self, id: str, inputs: Properties, outputs: Properties) -> Live | None:
        found = self._api.get("users", id)
        if found is None:
            return None
        live = {**inputs, "name": id}
        tags = _tags(found.get("tags"))
        if set(tags) != set(inputs.get("tags") or []):
            live["tags"] = tags
        if not password_matches(found, inputs.get("password", "")):
            live.pop("password", None)
        return Live(id, live, dict(live))

    def delete(self, id: str, inputs: Properties, outputs: Properties) -> None:
        self._api.delete(("users", id), f"delete user `{id}`")


def _tags(found: Any) -> list[str]:
    return [tag for tag in (found.split(",") if isinstance(found, str) else found or []) if tag]


def password_matches(user: Mapping[str, Any], password: str) -> bool:
    """Whether the broker's salted hash is this password's; True where it is hashed in a way not known here."""
    algorithm = str(user.get("hashing_algorithm", "")).removeprefix("rabbit_password_hashing_")
    if algorithm not in ("sha256", "sha512"):
        return True
    stored = base64.b64decode(user.get("password_hash") or "")
    salt, digest = stored[:4], stored[4:]
    return hmac.compare_digest(digest, hashlib.new(algorithm, salt + password.encode()).digest())


class Permissions(Resource):
    """What a user may do in a vhost. Its id is `user@vhost`."""

    pulumi_type = "rabbitmq:index/permissions:Permissions"
    fields: ClassVar[Fields] = {
        "user": Field(required=True, replaces=True),
        "vhost": Field(default="/", replaces=True),
        "permissions": Field(
            kind=Kind.BLOCK,
            required=True,
            fields={part: Field(required=True) for part in ("configure", "write", "read")},
        ),
    }

    def __init__(self, api: Management) -> None:
        self._api = api

    def create(self, inputs: Properties) -> tuple[str, Properties]:
        user, vhost = inputs["user"], inputs["vhost"]
        self._api.put(_path(inputs), inputs["permissions"], f"grant `{user}` permissions on vhost `{vhost}`")
        return f"{user}@{vhost}", dict(inputs)

    def update(self, id: str, old_inputs: Properties, old_outputs: Properties, new_inputs: Properties) -> Properties:
        return self.create(new_inputs)[1]

    def read(self, id: str, inputs: Properties, outputs: Properties) -> Live | None:
        found = self._api.get(*_path(inputs))
        if found is None:
            return None
        live = {**inputs, "permissions": {part: found.get(part, "") for part in ("configure", "write", "read")}}
        return Live(id, live, dict(live))

    def delete(self, id: str, inputs: Properties, outputs: Properties) -> None:
        self._api.delete(_path(inputs), f"revoke the permissions `{id}`")


def _path(inputs: Properties) -> tuple[str, ...]:
    return ("permissions", inputs.get("vhost", "/"), inputs["user"])
