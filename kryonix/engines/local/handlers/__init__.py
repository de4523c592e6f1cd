"""Handlers of the resource types a program may use with the local engine, one module per provider package."""

from __future__ import annotations

from importlib import import_module
from typing import Final

from kryonix.engines.local.errors import UnsupportedResource
from kryonix.engines.local.handlers.base import UNKNOWN, Diff, Handler, LiveResource, Properties, Provider, Unknown

__all__ = ["UNKNOWN", "Diff", "Handler", "LiveResource", "Properties", "Provider", "Unknown", "provider"]

_MODULES: Final = {
    "docker": "container",
    "postgresql": "postgresql",
    "pulumi-python": "dynamic",
    "rabbitmq": "rabbitmq",
    "random": "random",
}
"""Packages and their modules, imported when needed: a program without containers need not load Docker's client."""


def provider(package: str, config: Properties) -> Provider:
    """Return a configured provider of `package`. It connects when a handler first needs it.

    `config` holds the inputs of an explicit provider, or the stack's config of that package without its prefix. For
    `pulumi-python`, dynamic resources, it is the whole stack's config, keys as `project:name`. Raise
    `UnsupportedResource` for any other package.
    """
    if package not in _MODULES:
        raise UnsupportedResource(
            f"the local engine has no handlers for the package {package!r}, only for {', '.join(_MODULES)}. "
            "Use the Pulumi CLI for this program."
        )
    opened: Provider = import_module(f"{__name__}.{_MODULES[package]}").provider(config)
    return opened
