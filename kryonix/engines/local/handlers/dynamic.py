"""Dynamic resources: providers written in Python inside the program, unpickled the way Pulumi's own server does it."""

from __future__ import annotations

import base64
import threading
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final

import dill
import pulumi
from pulumi.dynamic import Config, ConfigureRequest, ResourceProvider
from pulumi.runtime._serialization import _deserialize

from kryonix.engines.local.errors import (
    ApplyFailed,
    InvalidInputs,
    LocalError,
    Refusal,
    ServiceUnavailable,
    UnsupportedResource,
)
from kryonix.engines.local.handlers.base import UNKNOWN, Diff, Live, Properties
from kryonix.engines.local.handlers.base import Handler as AnyHandler

__all__ = ["PREFIX", "PROVIDER_KEY", "DynamicResource", "provider"]

PREFIX: Final = "pulumi-python:dynamic"
PROVIDER_KEY: Final = "__provider"

_KNOWN: Final = {known.exit_status: known for known in (Refusal, ServiceUnavailable)}

# dill is not safe to load from two threads at once, and providers in modules import them.
_UNPICKLING: Final = threading.Lock()


def provider(config: Properties) -> DynamicProvider:
    """The handlers of dynamic resources, which see the stack's `config` (keys `project:name`)."""
    return DynamicProvider(config)


class DynamicProvider:
    """All dynamic resources of a program: each carries its own implementation in its inputs."""

    def __init__(self, config: Properties) -> None:
        self._handler = DynamicResource(config)

    def handler(self, type_token: str) -> AnyHandler:
        """The handler of a dynamic type; see `Provider.handler`."""
        if not type_token.startswith(PREFIX):
            raise UnsupportedResource(f"{type_token} is no dynamic resource; those are called {PREFIX}:…")
        return self._handler

    def close(self) -> None:
        """Nothing is held open."""


class DynamicResource:
    """Calls the provider that a resource's inputs carry."""

    secret_outputs: frozenset[str] = frozenset()

    def __init__(self, config: Properties) -> None:
        self._config = config
        self._loaded: dict[str, ResourceProvider] = {}

    def check(self, old: Mapping[str, Any] | None, new: Properties) -> Properties:
        code = _code(new, old or {})
        if code is UNKNOWN:
            return dict(new)
        with _Named("check", new):
            result = self._load(code).check(_known(old or {}), _known(new))
        if result.failures:
            raise InvalidInputs("\n".join(f"`{failure.property}`: {failure.reason}" for failure in result.failures))
        return {**_unknown(result.inputs), PROVIDER_KEY: new[PROVIDER_KEY]}

    def diff(self, id: str, old_inputs: Properties, old_outputs: Properties, new_inputs: Properties) -> Diff:
        code = _code(new_inputs, old_outputs)
        changed = tuple(sorted(_differing(old_inputs, new_inputs)))
        if code is UNKNOWN:
            return Diff(changed=changed)
        with _Named("diff", new_inputs):
            result = self._load(code).diff(id, _known(old_outputs), _known(new_inputs))
        replaces = tuple(result.replaces or ())
        if result.changes is None:
            changes = tuple(dict.fromkeys((*changed, *replaces)))
        elif result.changes:
            changes = tuple(dict.fromkeys((*changed, *replaces))) or tuple(sorted({*new_inputs} - {PROVIDER_KEY}))
        else:
            changes = replaces
        return Diff(changed=changes, replaces=replaces, delete_before_replace=bool(result.delete_before_replace))

    def create(self, inputs: Properties) -> tuple[str, Properties]:
        with _Named("create", inputs):
            result = self._load(inputs[PROVIDER_KEY]).create(dict(inputs))
        return str(result.id), _with_provider(result.outs, inputs)

    def prepare(self, old_inputs: Properties, new_inputs: Properties) -> None: ...

    def recreate(self, inputs: Properties) -> tuple[str, Properties]:
        return self.create(inputs)

    def read(self, id: str, inputs: Properties, outputs: Properties) -> Live | None:
        properties = outputs or inputs
        with _Named("read", inputs):
            result = self._load(properties[PROVIDER_KEY]).read(id, dict(properties))
        if not result.id:
            return None
        live = dict(inputs) if result.inputs is None else _with_provider(result.inputs, inputs)
        return Live(str(result.id), live, _with_provider(result.outs, properties))

    def update(self, id: str, old_inputs: Properties, old_outputs: Properties, new_inputs: Properties) -> Properties:
        with _Named("update", new_inputs):
            result = self._load(new_inputs[PROVIDER_KEY]).update(id, dict(old_outputs), dict(new_inputs))
        return _with_provider(result.outs, new_inputs)

    def delete(self, id: str, inputs: Properties, outputs: Properties) -> None:
        properties = outputs or inputs
        with _Named("delete", inputs):
            self._load(properties[PROVIDER_KEY]).delete(id, dict(properties))

    def _load(self, code: str) -> ResourceProvider:
        with _UNPICKLING:
            loaded = self._loaded.get(code)
            if loaded is None:
                loaded = _deserialize(dill.loads, base64.b64decode(code))
                project = str(self._config.get("pulumi:project") or pulumi.get_project())
                loaded.configure(ConfigureRequest(Config(dict(self._config), project)))
                self._loaded[code] = loaded
            return loaded


class _Named:
    """Turns what a provider raises into an error that names the call; the engine's own errors pass."""

    def __init__(self, call: str, inputs: Mapping[str, Any]) -> None:
        self._call = call
        self._what = inputs.get("name")

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not isinstance(error, Exception) or isinstance(error, LocalError):
            return
        status = getattr(error, "exit_status", None)
        if isinstance(status, int):  # the project's own errors are messages for a person already
            failed = _KNOWN.get(status, ApplyFailed)(str(error))
            failed.exit_status = status
            raise failed from error
        of = f" of `{self._what}`" if isinstance(self._what, str) else ""
        raise ApplyFailed(
            f"{self._call}{of} failed in the dynamic provider: {type(error).__name__}: {error}"
        ) from error


def _code(new: Mapping[str, Any], old: Mapping[str, Any]) -> Any:
    code = new.get(PROVIDER_KEY)
    return old.get(PROVIDER_KEY, UNKNOWN) if code is UNKNOWN else code


def _differing(old: Mapping[str, Any], new: Mapping[str, Any]) -> set[str]:
    return {key for key in {*old, *new} if old.get(key) != new.get(key)}


def _known(values: Any) -> Any:
    """Values as a dynamic provider sees them: Pulumi's own stand-in for what is not known yet."""
    if values is UNKNOWN:
        return pulumi.runtime.rpc.UNKNOWN
    if isinstance(values, Mapping):
        return {key: _known(value) for key, value in values.items()}
    return [_known(value) for value in values] if isinstance(values, list) else values


def _unknown(values: Any) -> Any:
    if isinstance(values, str) and values == pulumi.runtime.rpc.UNKNOWN:
        return UNKNOWN
    if isinstance(values, Mapping):
        return {key: _unknown(value) for key, value in values.items()}
    return [_unknown(value) for value in values] if isinstance(values, list) else values


def _with_provider(values: Mapping[str, Any] | None, inputs: Mapping[str, Any]) -> Properties:
    return {**(values or {}), PROVIDER_KEY: inputs[PROVIDER_KEY]}
