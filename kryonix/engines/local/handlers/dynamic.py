"""Dynamic resources: providers written in Python inside the program, unpickled as Pulumi's own server does it."""

from __future__ import annotations

import base64
import threading
from collections.abc import Mapping
from typing import Any, Final

import dill
import pulumi
from pulumi.dynamic import Config, ConfigureRequest, ResourceProvider
from pulumi.runtime._serialization import _deserialize

from kryonix.engines import nested
from kryonix.engines.local.errors import (
    ApplyFailed,
    InvalidInputs,
    LocalError,
    Refusal,
    ServiceUnavailable,
    UnsupportedResource,
)
from kryonix.engines.local.handlers.base import UNKNOWN, Diff, Handler, LiveResource, Properties
from kryonix.errors import split

PREFIX: Final = "pulumi-python:dynamic"
PROVIDER_KEY: Final = "__provider"

_KNOWN: Final = {known.exit_status: known for known in (Refusal, ServiceUnavailable)}

# dill can't load from two threads at once: unpickling a provider imports modules.
_UNPICKLING: Final = threading.Lock()


def provider(config: Properties) -> DynamicResource:
    """Return the provider of dynamic resources."""
    return DynamicResource(config)


class DynamicResource(Handler):
    """Call the provider in a resource's inputs: each resource carries its own implementation.

    It is also the provider of the package: all dynamic types have this one handler.
    """

    def __init__(self, config: Properties) -> None:
        """`config` is the whole stack's, keys as `project:name`."""
        self._config = config
        self._loaded: dict[str, ResourceProvider] = {}

    def handler(self, type_token: str) -> Handler:
        """Return the handler of a dynamic type; see `Provider.handler`."""
        if not type_token.startswith(PREFIX):
            raise UnsupportedResource(f"{type_token} is not a dynamic resource; their types start with {PREFIX}:")
        return self

    def close(self) -> None:
        """Hold nothing open."""

    def check(self, old: Mapping[str, Any] | None, new: Properties) -> Properties:
        code = _code(new, old or {})
        if code is UNKNOWN:
            return dict(new)
        result = self._call("check", code, new, _to_provider(old or {}), _to_provider(new))
        if result.failures:
            raise InvalidInputs("\n".join(f"`{failure.property}`: {failure.reason}" for failure in result.failures))
        inputs = nested.changed(result.inputs, lambda part: UNKNOWN if part == pulumi.runtime.rpc.UNKNOWN else part)
        return {**inputs, PROVIDER_KEY: new[PROVIDER_KEY]}

    def diff(self, id: str, old_inputs: Properties, old_outputs: Properties, new_inputs: Properties) -> Diff:
        code = _code(new_inputs, old_outputs)
        keys = sorted({*old_inputs, *new_inputs})
        changed = tuple(key for key in keys if old_inputs.get(key) != new_inputs.get(key))
        if code is UNKNOWN:
            return Diff(changed=changed)
        result = self._call("diff", code, new_inputs, id, _to_provider(old_outputs), _to_provider(new_inputs))
        replaces = tuple(result.replaces or ())
        every = tuple(dict.fromkeys((*changed, *replaces)))
        if result.changes:
            every = every or tuple(sorted({*new_inputs} - {PROVIDER_KEY}))
        elif result.changes is not None:
            every = replaces
        return Diff(changed=every, replaces=replaces, delete_before_replace=bool(result.delete_before_replace))

    def create(self, inputs: Properties) -> tuple[str, Properties]:
        result = self._call("create", inputs[PROVIDER_KEY], inputs, dict(inputs))
        return str(result.id), _with_provider(result.outs, inputs)

    def read(self, id: str, inputs: Properties, outputs: Properties) -> LiveResource | None:
        properties = outputs or inputs
        result = self._call("read", properties[PROVIDER_KEY], inputs, id, dict(properties))
        if not result.id:
            return None
        live = dict(inputs) if result.inputs is None else _with_provider(result.inputs, inputs)
        return LiveResource(str(result.id), live, _with_provider(result.outs, properties))

    def update(self, id: str, old_inputs: Properties, old_outputs: Properties, new_inputs: Properties) -> Properties:
        code = new_inputs[PROVIDER_KEY]
        result = self._call("update", code, new_inputs, id, dict(old_outputs), dict(new_inputs))
        return _with_provider(result.outs, new_inputs)

    def delete(self, id: str, inputs: Properties, outputs: Properties) -> None:
        properties = outputs or inputs
        self._call("delete", properties[PROVIDER_KEY], inputs, id, dict(properties))

    def _call(self, call: str, code: str, inputs: Mapping[str, Any], *arguments: Any) -> Any:
        """Call the provider. Name the call in an error; keep the engine's errors and the project's messages."""
        try:
            return getattr(self._load(code), call)(*arguments)
        except LocalError:
            raise
        except Exception as error:
            if (failure := split(str(error))[1]) is not None:  # the project's errors are messages for people already
                raise _KNOWN.get(failure.exit_status, ApplyFailed)(str(error)) from error
            name = inputs.get("name")
            of = f" of `{name}`" if isinstance(name, str) else ""
            raise ApplyFailed(f"{call}{of} failed in the dynamic provider: {type(error).__name__}: {error}") from error

    def _load(self, code: str) -> ResourceProvider:
        with _UNPICKLING:
            loaded = self._loaded.get(code)
            if loaded is None:
                loaded = _deserialize(dill.loads, base64.b64decode(code))
                project = str(self._config.get("pulumi:project") or pulumi.get_project())
                loaded.configure(ConfigureRequest(Config(dict(self._config), project)))
                self._loaded[code] = loaded
            return loaded


def _code(new: Mapping[str, Any], old: Mapping[str, Any]) -> Any:
    code = new.get(PROVIDER_KEY)
    return old.get(PROVIDER_KEY, UNKNOWN) if code is UNKNOWN else code


def _to_provider(values: Any) -> Any:
    """Return nested values with the SDK's mark for a value not known yet instead of the engine's."""
    return nested.changed(values, lambda part: pulumi.runtime.rpc.UNKNOWN if part is UNKNOWN else part)


def _with_provider(values: Mapping[str, Any] | None, inputs: Mapping[str, Any]) -> Properties:
    return {**(values or {}), PROVIDER_KEY: inputs[PROVIDER_KEY]}
