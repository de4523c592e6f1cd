"""Handlers of the resource types a program may use with the local engine, one module per provider package."""

from __future__ import annotations

from pathlib import Path

from kryonix.engines.local.errors import UnsupportedResource
from kryonix.engines.local.handlers.base import UNKNOWN, Diff, Handler, LiveResource, Properties, Provider, Unknown

__all__ = ["UNKNOWN", "Diff", "Handler", "LiveResource", "Properties", "Provider", "Unknown", "provider"]

PACKAGES = ("docker", "postgresql", "pulumi-python", "rabbitmq", "random")


def provider(package: str, config: Properties, *, owner: str = "") -> Provider:
    """Return a configured provider of `package`. It connects when a handler first needs it.

    `config` holds the inputs of an explicit provider, or the stack's config of that package without its prefix. For
    `pulumi-python`, dynamic resources, it is the whole stack's config, keys as `project:name`. `owner` marks
    containers, so that one from a killed run can be recognised; default: the working folder. Raise
    `UnsupportedResource` for any other package.
    """
    # Imported here: a program without containers need not load Docker's client, and so on.
    if package == "rabbitmq":
        from kryonix.engines.local.handlers import rabbitmq

        return rabbitmq.provider(config)
    if package == "docker":
        from kryonix.engines.local.handlers import container

        return container.provider(config, owner or str(Path.cwd()))
    if package == "postgresql":
        from kryonix.engines.local.handlers import postgresql

        return postgresql.provider(config)
    if package == "random":
        from kryonix.engines.local.handlers import random

        return random.provider()
    if package == "pulumi-python":
        from kryonix.engines.local.handlers import dynamic

        return dynamic.DynamicProvider(config)
    raise UnsupportedResource(
        f"the local engine has no handlers for the package {package!r}, only for {', '.join(PACKAGES)}. "
        "Use the Pulumi CLI for this program."
    )
