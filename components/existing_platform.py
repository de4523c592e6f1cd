"""ExistingPlatform: a broker and a registry created by another stack or another tool."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi

from components.errors import InvalidStack
from components.guard import Guard
from components.management import answering_url
from components.registry_check import answering
from kryonix.engines.platform_file import ADVERTISED, VARIABLE, described_platforms
from kryonix.rabbitmq.counts import BrokerAccess
from kryonix.topology.addresses import host_port


@dataclass(frozen=True, kw_only=True)
class PlatformOutputs:
    """The values of a platform that tenants and stack outputs need.

    `username` is that of `access`, and `endpoint` the first of its nodes that answers. Resources on the platform depend
    on `ready`, and are deleted with `data`, the broker's volume, if this stack owns it: then a destroy does not need a
    running broker.
    """

    access: pulumi.Output[BrokerAccess]
    endpoint: pulumi.Input[str]
    username: pulumi.Input[str]
    management_url: pulumi.Output[str]
    amqp_host: pulumi.Output[str]
    amqp_port: pulumi.Output[int]
    registry_dsn: pulumi.Output[str]
    authority: pulumi.Input[Mapping[str, str]] | None = None
    """Certificate and key of the CA that issues clients' certificates, a secret; None where there is no TLS."""
    ready: Sequence[pulumi.Input[pulumi.Resource]] = ()
    data: pulumi.Resource | None = None

    def amqp_uri(
        self, user: pulumi.Input[str], password: pulumi.Input[str], vhost: pulumi.Input[str]
    ) -> pulumi.Output[str]:
        """Return the URI of a user's connections, a secret. `password` is empty for one with a certificate."""

        def build(known: Sequence[Any]) -> str:
            user, password, host, port, vhost = known
            login = f"{user}:{password}" if password else user
            return f"amqp://{login}@{host_port(host, port)}/{vhost.replace('/', '%2F')}"

        return pulumi.Output.secret(
            pulumi.Output.all(user, password, self.amqp_host, self.amqp_port, vhost).apply(build)
        )


@dataclass(frozen=True, kw_only=True)
class ExistingPlatform(PlatformOutputs):
    """A platform described by another stack's outputs or by this stack's config."""

    registry_stack: str
    """The stack with the registry's address in its outputs; empty if this stack's config has it."""

    @classmethod
    def load(cls, guard: Guard) -> ExistingPlatform:
        """Return the platform named in this stack's config. Raises InvalidStack if there is none."""
        config = pulumi.Config("kryonix")
        reference = config.get("platform")
        described = described_platforms().get((reference or "").rpartition("/")[2])
        given: dict[str, pulumi.Input[str]]
        further: dict[str, pulumi.Input[Any]] = {}
        if described:
            given, further = _from_file(described), {key: described.get(key) for key in _NODES}
        elif reference:
            stack = pulumi.StackReference(reference)
            given = {key: stack.require_output(key) for key in (*_ACCESS, "registry_dsn")}
            further = {key: stack.get_output(key) for key in _NODES}
        else:
            given = _from_config(config)
        # A platform named twice is one reference: two would have the same URN.
        registry = config.get("registry") or reference or ""
        advertised = {**given, **(described or {}).get(ADVERTISED, {})}
        if registry and registry != reference:
            given["registry_dsn"] = pulumi.StackReference(registry).require_output("registry_dsn")
        known = {**{key: given[key] for key in _ACCESS}, **further}
        access = pulumi.Output.all(**known).apply(_build_access)
        access = guard.before_tenants(access)
        return cls(
            access=access,
            endpoint=pulumi.Output.unsecret(access.apply(_endpoint)),
            username=pulumi.Output.unsecret(access.apply(lambda known: known.username)),
            management_url=pulumi.Output.from_input(advertised["management_url"]),
            amqp_host=pulumi.Output.from_input(advertised["amqp_host"]),
            amqp_port=pulumi.Output.from_input(advertised["amqp_port"]).apply(int),
            registry_dsn=answering(given["registry_dsn"]),
            registry_stack=registry,
        )


_ACCESS = ("management_url", "admin_username", "admin_password", "amqp_host", "amqp_port")
_NODES = ("management_urls", "amqp_addresses")
"""Outputs with an address of each node, which a platform of an older version doesn't have."""
_CONFIG_KEYS = {
    "management_url": "managementUrl",
    "admin_username": "adminUsername",
    "admin_password": "adminPassword",
    "amqp_host": "advertisedHost",
    "registry_dsn": "registryDsn",
}


def _from_file(outputs: Mapping[str, Any]) -> dict[str, pulumi.Input[str]]:
    """Return the access in KRYONIX_PLATFORM_FILE, with secrets marked. Raises InvalidStack for an incomplete file."""
    keys = (*_ACCESS, "registry_dsn")
    if missing := [key for key in keys if not outputs.get(key)]:
        raise InvalidStack(f"{VARIABLE} lacks {', '.join(missing)} of the platform. Take them from its stack's outputs")
    return {
        key: pulumi.Output.secret(outputs[key]) if key in ("admin_password", "registry_dsn") else str(outputs[key])
        for key in keys
    }


def _from_config(config: pulumi.Config) -> dict[str, pulumi.Input[str]]:
    missing = [f"kryonix:{key}" for key in _CONFIG_KEYS.values() if not config.get(key)]
    if missing:
        remedy = "Set `kryonix:platform` to the platform's stack, or all of these"
        raise InvalidStack(f"a stack of one tenant has to know its platform; missing: {', '.join(missing)}. {remedy}")
    for secret in ("adminPassword", "registryDsn"):
        if not pulumi.runtime.is_config_secret(f"kryonix:{secret}"):
            remedy = f"Set it again with `pulumi config set --secret kryonix:{secret}`, and replace it where it is used"
            raise InvalidStack(f"kryonix:{secret} is stored in plain text in the stack's file. {remedy}")
    given: dict[str, pulumi.Input[str]] = {key: config.require(name) for key, name in _CONFIG_KEYS.items()}
    given["admin_password"] = config.require_secret("adminPassword")
    given["registry_dsn"] = config.require_secret("registryDsn")
    return given | {"amqp_port": config.require("amqpPort")}


def _build_access(known: Mapping[str, Any]) -> BrokerAccess:
    # A node alone has one address: its tenants' stacks stay as older versions made them.
    urls, addresses = (tuple(found) if len(found := known.get(key) or ()) > 1 else () for key in _NODES)
    return BrokerAccess(
        management_url=known["management_url"].rstrip("/"),
        username=known["admin_username"],
        password=known["admin_password"],
        amqp_host=known["amqp_host"],
        amqp_port=int(known["amqp_port"]),
        management_urls=urls,
        amqp_addresses=addresses,
    )


async def _endpoint(access: BrokerAccess) -> str:
    return await asyncio.to_thread(answering_url, access.management_urls or (access.management_url,))
