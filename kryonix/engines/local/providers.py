"""Configured providers, one instance per provider resource, opened on first use."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from threading import Lock
from typing import Final

from kryonix.engines.local import values
from kryonix.engines.local.handlers.base import Handler, Properties, Provider
from kryonix.engines.local.resource import PROVIDER_PREFIX, Resource

ProviderFactory = Callable[[str, Properties], Provider]
NOT_CONFIG: Final = ("version", "__internal", "pluginDownloadURL")
DYNAMIC: Final = "pulumi-python"


class Providers:
    """Find the handler of a resource by its provider's URN: the program's provider, else the one in the state."""

    def __init__(self, factory: ProviderFactory, in_state: Callable[[str], Resource | None]) -> None:
        self._factory = factory
        self._in_state = in_state
        self._stack_config: Properties = {}
        self._known: dict[str, Resource] = {}
        self._open: dict[str, Provider] = {}
        self._handlers: dict[tuple[str, str], Handler] = {}
        self._lock = Lock()

    def configure(self, stack_config: Properties) -> None:
        """Set the stack's config, keys as `project:name`, for dynamic resources."""
        self._stack_config = stack_config

    def register(self, resource: Resource) -> None:
        """Use this provider for all resources with its URN."""
        with self._lock:
            self._known[resource.urn] = resource

    def handler(self, resource: Resource) -> Handler:
        """Return the handler of a resource. Raise `UnsupportedResource`."""
        urn = resource.provider.rsplit("::", 1)[0]
        with self._lock:
            handler = self._handlers.get((urn, resource.type))
            if handler is None:
                handler = self._handlers[urn, resource.type] = self._provider(urn, resource).handler(resource.type)
            return handler

    def close(self) -> None:
        """Release all connections."""
        with self._lock:
            for provider in self._open.values():
                with suppress(Exception):
                    provider.close()
            self._open.clear()
            self._handlers.clear()

    def _provider(self, urn: str, resource: Resource) -> Provider:
        if urn not in self._open:
            known = self._known.get(urn) or self._in_state(urn)
            config = {k: v for k, v in values.plain(known.inputs).items() if k not in NOT_CONFIG} if known else {}
            package = known.type[len(PROVIDER_PREFIX) :] if known else resource.type.split(":", 1)[0]
            self._open[urn] = self._factory(package, self._stack_config if package == DYNAMIC else config)
        return self._open[urn]
