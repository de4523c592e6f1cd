"""Handlers of the resource types a program may use when the local engine runs it, one module per provider package."""

from __future__ import annotations

from kryonix.engines.local.errors import UnsupportedResource
from kryonix.engines.local.handlers.base import UNKNOWN, Diff, Handler, Live, Properties, Provider, Unknown

__all__ = ["UNKNOWN", "Diff", "Handler", "Live", "Properties", "Provider", "Unknown", "provider"]

PACKAGES = ("docker", "postgresql", "pulumi-python", "rabbitmq", "random")


def provider(package: str, config: Properties, *, owner: str = "") -> Provider:
    """A provider of `package`, configured; nothing is connected to before a handler needs it.

    `config` holds the provider's inputs (explicit provider) or the stack's config of that package without its prefix
    (default provider). For `pulumi-python`, dynamic resources, it is the whole stack's config, keys as `project:name`.
    `owner` says whose a container is that was made but never recorded (a run was killed); by default the working
    folder, in which the program runs. Raises `UnsupportedResource` for any other package.
    """
    # Imported here: a program that uses no containers need not have Docker's client loaded, and so on.
    if package == "rabbitmq":
        from kryonix.engines.local.handlers.rabbitmq import provider as rabbitmq

        return rabbitmq(config)
    if package == "docker":
        from kryonix.engines.local.handlers.docker import provider as docker

        return docker(config, owner)
    if package == "postgresql":
        from kryonix.engines.local.handlers.postgresql import provider as postgresql

        return postgresql(config)
    if package == "random":
        from kryonix.engines.local.handlers.random import provider as random

        return random()
    if package == "pulumi-python":
        from kryonix.engines.local.handlers.dynamic import provider as dynamic

        return dynamic(config)
    raise UnsupportedResource(
        f"the local engine has no handlers for the package {package!r}, only for {', '.join(PACKAGES)}. "
        "Use the Pulumi CLI for this program."
    )
