"""RabbitMQ: virtual hosts, users, permissions, exchanges, queues, bindings and policies."""

from __future__ import annotations

import json
import re
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Final
from urllib.parse import unquote

from urllib3 import Timeout

from kryonix.engines.local.handlers.base import LiveResource, Properties
from kryonix.engines.local.handlers.fields import KEY, REQUIRED, Field, Fields, HandlerTable, Kind, TableHandler
from kryonix.engines.local.handlers.management import TIMEOUT, Management
from kryonix.topology.credentials import is_hash_of

LIMITS: Final = {"maxConnections": "max-connections", "maxQueues": "max-queues"}
PERMISSIONS: Final = ("configure", "write", "read")
_NAMED: Final[Fields] = {"name": KEY, "vhost": KEY}


def provider(config: Properties) -> HandlerTable:
    """Return the handlers of package rabbitmq for the broker in `config`."""
    api = Management(config)
    types = (
        VHostHandler,
        UserHandler,
        PermissionsHandler,
        ExchangeHandler,
        QueueHandler,
        BindingHandler,
        PolicyHandler,
        OperatorPolicyHandler,
    )
    return HandlerTable([handler(api) for handler in types], api.close)


class _BrokerObject(TableHandler):
    """An object declared by one idempotent request and deleted by another. `{}` in a form stands for an input."""

    path: ClassVar[tuple[str, ...]]
    label: ClassVar[str]
    id: ClassVar[str] = "{name}@{vhost}"
    deletion: ClassVar[Timeout] = TIMEOUT

    def __init__(self, api: Management) -> None:
        self._api = api

    @abstractmethod
    def body(self, inputs: Properties) -> Mapping[str, Any]:
        """Return the body of the declaring request."""

    @abstractmethod
    def live(self, inputs: Properties, found: Mapping[str, Any]) -> Properties:
        """Return the inputs as the API shows them; None removes an input."""

    def create(self, inputs: Properties) -> tuple[str, Properties]:
        self._api.call("PUT", self._path(inputs), f"declare {self._label(inputs)}", json=self.body(inputs))
        return self.id.format_map(inputs), dict(inputs)

    def read(self, id: str, inputs: Properties, outputs: Properties) -> LiveResource | None:
        found = self._api.get(*self._path(inputs))
        if found is None:
            return None
        live = {key: value for key, value in {**inputs, **self.live(inputs, found)}.items() if value is not None}
        return LiveResource(id, live, dict(live))

    def delete(self, id: str, inputs: Properties, outputs: Properties) -> None:
        path, doing = self._path(outputs or inputs), f"delete {self._label(inputs)}"
        self._api.call("DELETE", path, doing, missing_ok=True, timeout=self.deletion)

    def _path(self, inputs: Properties) -> tuple[str, ...]:
        return tuple(part.format_map(inputs) for part in self.path)

    def _label(self, inputs: Properties) -> str:
        return self.label.format_map(inputs)


class VHostHandler(_BrokerObject):
    """A virtual host with its limits. Its id is its name."""

    pulumi_type = "rabbitmq:index/vHost:VHost"
    path, label, id = ("vhosts", "{name}"), "vhost `{name}`", "{name}"
    # One queue after the other: 5 s for each with a member on a node that is down, 8 s if that is cut off in silence.
    deletion = Timeout(connect=10, read=600)
    fields: ClassVar[Fields] = {
        "name": KEY,
        "description": Field(),
        "defaultQueueType": Field(),
        # The provider plugin turns a limit that is not a number into 0, and nobody can connect.
        "maxConnections": Field(pattern=r"-?\d+"),
        "maxQueues": Field(pattern=r"-?\d+"),
    }

    def body(self, inputs: Properties) -> Mapping[str, Any]:
        # A PUT without tags removes those that somebody else set.
        tags = _tags((self._api.get(*self._path(inputs)) or {}).get("tags"))
        body = {"description": inputs.get("description", ""), "tags": ",".join(tags), "tracing": False}
        if inputs.get("defaultQueueType"):
            body["default_queue_type"] = inputs["defaultQueueType"]
        return body

    def create(self, inputs: Properties) -> tuple[str, Properties]:
        made = super().create(inputs)
        name = inputs["name"]
        # An interrupted PUT can leave a vhost without permissions for its creator; repeating the PUT doesn't add them.
        path = ("permissions", name, self._api.username)
        if self._api.get(*path) is None:
            every = dict.fromkeys(PERMISSIONS, ".*")
            self._api.call("PUT", path, f"let `{self._api.username}` into vhost `{name}`", json=every)
        current = self._limits(name)
        for ours, theirs in LIMITS.items():
            wanted, path = inputs.get(ours), ("vhost-limits", name, theirs)
            if wanted and current.get(theirs) != int(wanted):
                doing = f"limit {theirs} of vhost `{name}` to {wanted}"
                self._api.call("PUT", path, doing, json={"value": int(wanted)})
            elif not wanted and theirs in current:
                self._api.call("DELETE", path, f"clear {theirs} of vhost `{name}`", missing_ok=True)
        return made

    def live(self, inputs: Properties, found: Mapping[str, Any]) -> Properties:
        limits = self._limits(inputs["name"])
        live = {ours: None if limits.get(theirs) is None else str(limits[theirs]) for ours, theirs in LIMITS.items()}
        live["description"] = found.get("description") or None
        if inputs.get("defaultQueueType"):
            live["defaultQueueType"] = found.get("default_queue_type")
        return live

    def _limits(self, name: str) -> Mapping[str, int]:
        found = self._api.get("vhost-limits", name) or []
        return found[0]["value"] if found else {}


class UserHandler(_BrokerObject):
    """A user with password and tags. Its id is its name. The password is never read back, only compared.

    An empty password is left out of the request, as the provider plugin does: the user then has none, and can log in
    with a certificate only.
    """

    pulumi_type = "rabbitmq:index/user:User"
    path, label, id = ("users", "{name}"), "user `{name}`", "{name}"
    fields: ClassVar[Fields] = {"name": KEY, "password": REQUIRED, "tags": Field(kind=Kind.TEXT_LIST)}
    secret_outputs = frozenset({"password"})

    def body(self, inputs: Properties) -> Mapping[str, Any]:
        password = {"password": inputs["password"]} if inputs["password"] else {}
        return {**password, "tags": ",".join(inputs.get("tags") or [])}

    def live(self, inputs: Properties, found: Mapping[str, Any]) -> Properties:
        tags, wanted = _tags(found.get("tags")), inputs.get("tags")
        live: Properties = {"tags": wanted if set(tags) == set(wanted or []) else tags}
        if not password_matches(found, inputs.get("password", "")):
            # Not known, and other than the wanted one, which may be none.
            live["password"] = None if inputs.get("password") else "*"
        return live


def _tags(found: Any) -> list[str]:
    return [tag for tag in (found.split(",") if isinstance(found, str) else found or []) if tag]


def password_matches(user: Mapping[str, Any], password: str) -> bool:
    """Compare the broker's salted hash with a password; return True for another hashing algorithm."""
    known = user.get("hashing_algorithm") == "rabbit_password_hashing_sha256"
    return not known or is_hash_of(user.get("password_hash") or "", password)


class PermissionsHandler(_BrokerObject):
    """A user's permissions in a vhost. Its id is `user@vhost`."""

    pulumi_type = "rabbitmq:index/permissions:Permissions"
    path, id = ("permissions", "{vhost}", "{user}"), "{user}@{vhost}"
    label = "the permissions of `{user}` in vhost `{vhost}`"
    fields: ClassVar[Fields] = {
        "user": KEY,
        "vhost": KEY,
        "permissions": Field(kind=Kind.BLOCK, required=True, fields=dict.fromkeys(PERMISSIONS, REQUIRED)),
    }

    def body(self, inputs: Properties) -> Mapping[str, Any]:
        granted: Mapping[str, Any] = inputs["permissions"]
        return granted

    def live(self, inputs: Properties, found: Mapping[str, Any]) -> Properties:
        return {"permissions": {part: found.get(part, "") for part in PERMISSIONS}}


class _Declared(_BrokerObject):
    """An exchange or a queue; both are immutable."""

    def body(self, inputs: Properties) -> Mapping[str, Any]:
        settings = inputs["settings"]
        kind = {"type": settings["type"]} if "type" in settings else {}
        flags = {"durable": settings["durable"], "auto_delete": settings["autoDelete"]}
        return {**flags, **kind, "arguments": _arguments(settings)}

    def live(self, inputs: Properties, found: Mapping[str, Any]) -> Properties:
        settings = {**inputs["settings"], "durable": found["durable"], "autoDelete": found["auto_delete"]}
        if "type" in settings:
            settings["type"] = found["type"]
        arguments = found.get("arguments") or {}
        if _arguments(settings) != arguments and "argumentsJson" in self.fields["settings"].fields:
            settings["argumentsJson"] = json.dumps(arguments, sort_keys=True)
        elif _arguments(settings) != arguments:
            settings["arguments"] = arguments
        return {"settings": settings}


def _arguments(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return typed arguments from `argumentsJson`, or the text values of `arguments`."""
    return dict(json.loads(settings.get("argumentsJson") or "{}") or settings.get("arguments") or {})


def _settings(**more: Field) -> Field:
    flag = Field(kind=Kind.FLAG, default=False)
    return Field(kind=Kind.BLOCK, required=True, replaces=True, fields={"durable": flag, "autoDelete": flag, **more})


class ExchangeHandler(_Declared):
    """An exchange."""

    pulumi_type = "rabbitmq:index/exchange:Exchange"
    path, label = ("exchanges", "{vhost}", "{name}"), "exchange `{name}` in vhost `{vhost}`"
    fields: ClassVar[Fields] = {**_NAMED, "settings": _settings(type=REQUIRED, arguments=Field(kind=Kind.TEXT_MAP))}


class QueueHandler(_Declared):
    """A queue. Every changed input replaces it, and its messages are lost."""

    pulumi_type = "rabbitmq:index/queue:Queue"
    path, label = ("queues", "{vhost}", "{name}"), "queue `{name}` in vhost `{vhost}`"
    fields: ClassVar[Fields] = {**_NAMED, "settings": _settings(argumentsJson=Field(kind=Kind.JSON))}


class BindingHandler(_BrokerObject):
    """A binding of a queue to an exchange. Its id ends with the API's own key."""

    pulumi_type = "rabbitmq:index/binding:Binding"
    path = ("bindings", "{vhost}", "e", "{source}", "q", "{destination}", "{propertiesKey}")
    label = "binding of `{destination}` to `{source}` in vhost `{vhost}`"
    fields: ClassVar[Fields] = {
        "source": KEY,
        "vhost": KEY,
        "destination": KEY,
        "destinationType": Field(required=True, replaces=True, pattern="queue"),
        "routingKey": Field(replaces=True),
    }

    def body(self, inputs: Properties) -> Mapping[str, Any]:
        return {"routing_key": inputs.get("routingKey", ""), "arguments": {}}

    def create(self, inputs: Properties) -> tuple[str, Properties]:
        collection = self._path({**inputs, "propertiesKey": ""})[:-1]
        answer = self._api.call("POST", collection, f"declare {self._label(inputs)}", json=self.body(inputs))
        key = unquote(answer.headers.get("Location", "").rsplit("/", 1)[-1])
        vhost = inputs["vhost"].replace("%", "%25").replace("/", "%2F")
        id = "/".join((vhost, inputs["source"], inputs["destination"], "queue", key))
        return id, {**inputs, "propertiesKey": key}

    def update(self, id: str, old_inputs: Properties, old_outputs: Properties, new_inputs: Properties) -> Properties:
        return {**new_inputs, "propertiesKey": old_outputs["propertiesKey"]}

    def read(self, id: str, inputs: Properties, outputs: Properties) -> LiveResource | None:
        # One binding by its key: the list of a queue or a vhost is slow with thousands of bindings.
        found = self._api.get(*self._path(outputs))
        return None if found is None else LiveResource(id, dict(inputs), dict(outputs))

    def live(self, inputs: Properties, found: Mapping[str, Any]) -> Properties:
        return inputs


class PolicyHandler(_BrokerObject):
    """A policy."""

    pulumi_type = "rabbitmq:index/policy:Policy"
    path, label = ("policies", "{vhost}", "{name}"), "policy `{name}` in vhost `{vhost}`"
    fields: ClassVar[Fields] = {
        **_NAMED,
        "policy": Field(
            kind=Kind.BLOCK,
            required=True,
            fields={
                "pattern": REQUIRED,
                "priority": Field(kind=Kind.WHOLE, required=True),
                "applyTo": REQUIRED,
                "definition": Field(kind=Kind.TEXT_MAP, required=True),
            },
        ),
    }

    def body(self, inputs: Properties) -> Mapping[str, Any]:
        policy = inputs["policy"]
        return {
            "pattern": policy["pattern"],
            "priority": policy["priority"],
            "apply-to": policy["applyTo"],
            "definition": definition_for_broker(policy["definition"]),
        }

    def live(self, inputs: Properties, found: Mapping[str, Any]) -> Properties:
        definition = inputs["policy"]["definition"]
        if definition_for_broker(definition) != found["definition"]:
            definition = {key: _shown(value) for key, value in found["definition"].items()}
        applied = {"pattern": found["pattern"], "priority": found["priority"], "applyTo": found["apply-to"]}
        return {"policy": {**applied, "definition": definition}}


class OperatorPolicyHandler(PolicyHandler):
    """An operator policy. Its limits merge with those of a policy: the lower one applies."""

    pulumi_type = "rabbitmq:index/operatorPolicy:OperatorPolicy"
    path, label = ("operator-policies", "{vhost}", "{name}"), "operator policy `{name}` in vhost `{vhost}`"


def definition_for_broker(definition: Mapping[str, Any]) -> dict[str, Any]:
    """Return a policy's definition with whole numbers as numbers, as the provider plugin sends them."""
    return {
        key: int(value) if re.fullmatch(r"[+-]?[0-9]+", value) and -(2**63) <= int(value) < 2**63 else value
        for key, value in definition.items()
    }


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
