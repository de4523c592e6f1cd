"""RabbitMQ: what stands in a vhost: exchanges, queues, bindings and policies."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, ClassVar, Final
from urllib.parse import unquote

from kryonix.engines.local.errors import InvalidInputs
from kryonix.engines.local.handlers.base import UNKNOWN, Live, Properties
from kryonix.engines.local.handlers.fields import Field, Fields, Kind
from kryonix.engines.local.handlers.management import Management
from kryonix.engines.local.handlers.resource import Resource

__all__ = ["Binding", "Exchange", "OperatorPolicy", "Policy", "Queue", "arguments", "definition_for_broker"]


def arguments(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments to declare with: `argumentsJson` as it means, or `arguments`, whose values are all text."""
    if settings.get("argumentsJson"):
        return dict(json.loads(settings["argumentsJson"]))
    return dict(settings.get("arguments") or {})


def _with_arguments(settings: Properties, found: Mapping[str, Any]) -> Properties:
    """`settings` with the arguments the broker reports, in the form they were given in where nothing changed."""
    live = {key: value for key, value in settings.items() if key not in ("arguments", "argumentsJson")}
    if arguments(settings) == found:
        return settings
    if settings.get("argumentsJson") or any(not isinstance(value, str) for value in found.values()):
        return {**live, "argumentsJson": json.dumps(found, sort_keys=True)}
    return {**live, "arguments": dict(found)}


class _Declared(Resource):
    """An exchange or a queue: immutable, named in a vhost. Its id is `name@vhost`."""

    collection: str
    noun: str

    def __init__(self, api: Management) -> None:
        self._api = api

    def create(self, inputs: Properties) -> tuple[str, Properties]:
        name, vhost, settings = inputs["name"], inputs["vhost"], inputs["settings"]
        body = {
            "durable": settings.get("durable", False),
            "auto_delete": settings.get("autoDelete", False),
            "arguments": arguments(settings),
        }
        if "type" in settings:
            body["type"] = settings["type"]
        self._api.put(self._path(inputs), body, f"declare {self.noun} `{name}` in vhost `{vhost}`")
        return f"{name}@{vhost}", dict(inputs)

    def update(self, id: str, old_inputs: Properties, old_outputs: Properties, new_inputs: Properties) -> Properties:
        return dict(new_inputs)

    def read(self, id: str, inputs: Properties, outputs: Properties) -> Live | None:
        found = self._api.get(*self._path(inputs))
        if found is None:
            return None
        settings = _with_arguments(inputs["settings"], found.get("arguments") or {})
        settings = {**settings, "durable": found["durable"], "autoDelete": found["auto_delete"]}
        if "type" in settings:
            settings["type"] = found["type"]
        live = {**inputs, "settings": settings}
        return Live(id, live, dict(live))

    def delete(self, id: str, inputs: Properties, outputs: Properties) -> None:
        self._api.delete(self._path(inputs), f"delete {self.noun} `{id}`")

    def _path(self, inputs: Properties) -> tuple[str, ...]:
        return (self.collection, inputs.get("vhost", "/"), inputs["name"])


_DURABILITY: Final = {
    "durable": Field(kind=Kind.FLAG, default=False),
    "autoDelete": Field(kind=Kind.FLAG, default=False),
    "arguments": Field(kind=Kind.TEXT_MAP),
}


class Exchange(_Declared):
    """An exchange."""

    pulumi_type = "rabbitmq:index/exchange:Exchange"
    collection, noun = "exchanges", "exchange"
    fields: ClassVar[Fields] = {
        "name": Field(required=True, replaces=True),
        "vhost": Field(default="/", replaces=True),
        "settings": Field(
            kind=Kind.BLOCK, required=True, replaces=True, fields={"type": Field(required=True), **_DURABILITY}
        ),
    }


class Queue(_Declared):
    """A queue. Every input replaces it, and its messages are gone then."""

    pulumi_type = "rabbitmq:index/queue:Queue"
    collection, noun = "queues", "queue"
    fields: ClassVar[Fields] = {
        "name": Field(required=True, replaces=True),
        "vhost": Field(default="/", replaces=True),
        "settings": Field(
            kind=Kind.BLOCK,
            required=True,
            replaces=True,
            fields={**_DURABILITY, "argumentsJson": Field(kind=Kind.JSON)},
        ),
    }

    def check(self, old: Mapping[str, Any] | None, new: Properties) -> Properties:
        values = super().check(old, new)
        _one_kind_of_arguments(self.pulumi_type, values["settings"])
        return values


def _one_kind_of_arguments(type: str, values: Any) -> None:
    if values is not UNKNOWN and values.get("arguments") and values.get("argumentsJson"):
        raise InvalidInputs(f"{type}: `arguments` and `argumentsJson` exclude each other; give one of them")


class Binding(Resource):
    """A binding. Its id is `vhost/source/destination/type/properties key`, slashes of the vhost encoded."""

    pulumi_type = "rabbitmq:index/binding:Binding"
    fields: ClassVar[Fields] = {
        "source": Field(required=True, replaces=True),
        "vhost": Field(required=True, replaces=True),
        "destination": Field(required=True, replaces=True),
        "destinationType": Field(required=True, replaces=True, pattern="queue|exchange"),
        "routingKey": Field(replaces=True),
        "arguments": Field(kind=Kind.TEXT_MAP, replaces=True),
        "argumentsJson": Field(kind=Kind.JSON, replaces=True),
    }

    def __init__(self, api: Management) -> None:
        self._api = api

    def check(self, old: Mapping[str, Any] | None, new: Properties) -> Properties:
        values = super().check(old, new)
        _one_kind_of_arguments(self.pulumi_type, values)
        return values

    def create(self, inputs: Properties) -> tuple[str, Properties]:
        body = {"routing_key": inputs.get("routingKey", ""), "arguments": arguments(inputs)}
        doing = f"bind `{inputs['destination']}` to `{inputs['source']}` in vhost `{inputs['vhost']}`"
        location = self._api.post(_between(inputs), body, doing)
        key = unquote(location.rsplit("/", 1)[-1])
        vhost = inputs["vhost"].replace("%", "%25").replace("/", "%2F")
        id = "/".join((vhost, inputs["source"], inputs["destination"], inputs["destinationType"], key))
        return id, {**inputs, "propertiesKey": key}

    def update(self, id: str, old_inputs: Properties, old_outputs: Properties, new_inputs: Properties) -> Properties:
        return {**new_inputs, "propertiesKey": old_outputs["propertiesKey"]}

    def read(self, id: str, inputs: Properties, outputs: Properties) -> Live | None:
        # One binding by its key; a vhost's or a queue's whole list is slow where there are thousands.
        key = _key(id, outputs)
        if self._api.get(*_between(inputs), key) is None:
            return None
        return Live(id, dict(inputs), {**inputs, "propertiesKey": key})

    def delete(self, id: str, inputs: Properties, outputs: Properties) -> None:
        self._api.delete((*_between(inputs), _key(id, outputs)), f"delete the binding `{id}`")


def _key(id: str, outputs: Mapping[str, Any]) -> str:
    key = outputs.get("propertiesKey") or id.split("/", 4)[-1]
    return str(key)


def _between(inputs: Properties) -> tuple[str, ...]:
    target = "q" if inputs["destinationType"] == "queue" else "e"
    return ("bindings", inputs["vhost"], "e", inputs["source"], target, inputs["destination"])


def definition_for_broker(definition: Mapping[str, Any]) -> dict[str, Any]:
    """A policy's definition with the numbers of its text map as numbers, the way the provider plugin sends them."""
    return {key: _number_or_text(value) for key, value in definition.items()}


def _number_or_text(value: Any) -> Any:
    if isinstance(value, str) and re.fullmatch(r"[+-]?[0-9]+", value) and -(2**63) <= int(value) < 2**63:
        return int(value)
    return value


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


class _AnyPolicy(Resource):
    """A policy of either kind, updated in place. Its id is `name@vhost`."""

    collection: str
    noun: str
    fields: ClassVar[Fields] = {
        "name": Field(required=True, replaces=True),
        "vhost": Field(required=True, replaces=True),
        "policy": Field(
            kind=Kind.BLOCK,
            required=True,
            fields={
                "pattern": Field(required=True),
                "priority": Field(kind=Kind.WHOLE, required=True),
                "applyTo": Field(required=True),
                "definition": Field(kind=Kind.TEXT_MAP, required=True),
            },
        ),
    }

    def __init__(self, api: Management) -> None:
        self._api = api

    def create(self, inputs: Properties) -> tuple[str, Properties]:
        name, vhost, policy = inputs["name"], inputs["vhost"], inputs["policy"]
        body = {
            "pattern": policy["pattern"],
            "priority": policy["priority"],
            "apply-to": policy["applyTo"],
            "definition": definition_for_broker(policy["definition"]),
        }
        self._api.put(self._path(inputs), body, f"set {self.noun} `{name}` in vhost `{vhost}`")
        return f"{name}@{vhost}", dict(inputs)

    def update(self, id: str, old_inputs: Properties, old_outputs: Properties, new_inputs: Properties) -> Properties:
        return self.create(new_inputs)[1]

    def read(self, id: str, inputs: Properties, outputs: Properties) -> Live | None:
        found = self._api.get(*self._path(inputs))
        if found is None:
            return None
        definition = inputs["policy"]["definition"]
        if definition_for_broker(definition) != found["definition"]:
            definition = {key: _text(value) for key, value in found["definition"].items()}
        policy = {
            "pattern": found["pattern"],
            "priority": found["priority"],
            "applyTo": found["apply-to"],
            "definition": definition,
        }
        live = {**inputs, "policy": policy}
        return Live(id, live, dict(live))

    def delete(self, id: str, inputs: Properties, outputs: Properties) -> None:
        self._api.delete(self._path(inputs), f"delete {self.noun} `{id}`")

    def _path(self, inputs: Properties) -> tuple[str, ...]:
        return (self.collection, inputs["vhost"], inputs["name"])


class Policy(_AnyPolicy):
    """A policy."""

    pulumi_type = "rabbitmq:index/policy:Policy"
    collection, noun = "policies", "policy"


class OperatorPolicy(_AnyPolicy):
    """An operator policy: limits that merge with a policy's by the smaller."""

    pulumi_type = "rabbitmq:index/operatorPolicy:OperatorPolicy"
    collection, noun = "operator-policies", "operator policy"
