"""ExistingPlatform: a broker and a registry created by another stack or another tool."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pulumi

from components.errors import InvalidStack
from components.foreign_settings import AMQP_TLS, ForeignSettings
from components.guard import Guard
from components.management import endpoint_of
from components.registry_check import answering
from kryonix.certificates.trust import trust_file
from kryonix.engines.platform_file import ADVERTISED, VARIABLE, described_platforms
from kryonix.rabbitmq.counts import BrokerAccess
from kryonix.topology.addresses import FURTHER_ACCESS, PLATFORM_ACCESS, host_port


@dataclass(frozen=True, kw_only=True)
class PlatformOutputs:
    """The values of a platform that tenants and stack outputs need.

    `username` is that of `access`, and `endpoint` its first node that can change things. Resources on the platform
    depend on `ready`, and are deleted with `data`, the broker's volume, if this stack owns it: then a destroy does not
    need a running broker.
    """

    access: pulumi.Output[BrokerAccess]
    endpoint: pulumi.Input[str]
    username: pulumi.Input[str]
    management_url: pulumi.Output[str]
    amqp_host: pulumi.Output[str]
    amqp_port: pulumi.Output[int]
    registry_dsn: pulumi.Output[str]
    nodes: Mapping[str, pulumi.Input[Sequence[str]]]
    """The outputs with an address of each node, `management_urls` and `amqp_addresses`. Each may be empty."""
    authority: pulumi.Input[Mapping[str, str]] | None = None
    """Certificate and key of the CA that issues clients' certificates, a secret; None where there is no TLS."""
    ready: Sequence[pulumi.Input[pulumi.Resource]] = ()
    data: pulumi.Resource | None = None

    def amqp_uri(
        self, user: pulumi.Input[str], password: pulumi.Input[str], vhost: pulumi.Input[str]
    ) -> pulumi.Output[str]:
        """Return the URI of a user's connections, a secret. `password` is empty for one with a certificate."""

        def build(known: Sequence[Any]) -> str:
            user, password, host, port, vhost, tls = known
            scheme, login = "amqps" if tls else "amqp", f"{user}:{password}" if password else user
            return f"{scheme}://{login}@{host_port(host, port)}/{vhost.replace('/', '%2F')}"

        return pulumi.Output.secret(
            pulumi.Output.all(user, password, self.amqp_host, self.amqp_port, vhost, self._amqp_tls).apply(build)
        )

    @property
    def _amqp_tls(self) -> pulumi.Output[bool]:
        return self.access.apply(lambda known: known.amqp_tls)

    @property
    def ca_certificate(self) -> pulumi.Output[str]:
        """Return the CAs that clients trust (PEM); empty: the system's."""
        return pulumi.Output.unsecret(self.access.apply(lambda known: known.ca_certificate))

    @property
    def trust_file(self) -> pulumi.Output[str | None]:
        """Return the path of a file with them, for provider plugins; None for the system's."""
        return self.ca_certificate.apply(lambda known: trust_file(known) if known else None)


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
        authority: pulumi.Output[Any] | None = None
        if described:
            given, further = _from_file(described), {key: described.get(key) for key in _FURTHER}
            authority = pulumi.Output.secret(described.get(AUTHORITY))
        elif reference:
            stack = pulumi.StackReference(reference)
            given = {key: stack.require_output(key) for key in (*PLATFORM_ACCESS, "registry_dsn")}
            further = {key: stack.get_output(key) for key in _FURTHER}
            authority = stack.get_output(AUTHORITY)
        else:
            foreign = ForeignSettings.load(config)
            given, further = {**foreign.addresses, **foreign.logins(config)}, dict(foreign.nodes)
        # A platform named twice is one reference: two would have the same URN.
        registry = config.get("registry") or reference or ""
        public = (described or {}).get(ADVERTISED)
        advertised, nodes = {**given, **(public or {})}, further if public is None else public
        access_given = {**{key: given[key] for key in PLATFORM_ACCESS}, **further}
        registry_ca = further.get(_CA)
        if registry and registry != reference:
            other = pulumi.StackReference(registry)
            given["registry_dsn"], registry_ca = other.require_output("registry_dsn"), other.get_output(_CA)
        access = guard.before_tenants(pulumi.Output.all(**access_given).apply(_build_access))
        return cls(
            access=access,
            endpoint=pulumi.Output.unsecret(access.apply(endpoint_of)),
            username=pulumi.Output.unsecret(access.apply(lambda known: known.username)),
            management_url=pulumi.Output.from_input(advertised["management_url"]),
            amqp_host=pulumi.Output.from_input(advertised["amqp_host"]),
            amqp_port=pulumi.Output.from_input(advertised["amqp_port"]).apply(int),
            nodes={key: pulumi.Output.from_input(nodes.get(key)).apply(lambda known: known or []) for key in _NODES},
            authority=authority,
            registry_dsn=answering(_with_trust(given["registry_dsn"], registry_ca)),
            registry_stack=registry,
        )


*_FURTHER, AUTHORITY = FURTHER_ACCESS
"""Outputs that a platform of an older version doesn't have: an address of each node, and the CAs of certificates.

The last is the CA that issues clients' certificates.
"""
*_NODES, _CA = _FURTHER


def _with_trust(dsn: pulumi.Input[str], ca_certificate: pulumi.Input[str | None]) -> pulumi.Output[str]:
    """Return a DSN once the file with the CAs that it may name has been written."""

    def write(known: Sequence[Any]) -> str:
        dsn, ca_certificate = known
        if ca_certificate:
            trust_file(ca_certificate)
        return str(dsn)

    return pulumi.Output.all(dsn, ca_certificate).apply(write)


def _from_file(outputs: Mapping[str, Any]) -> dict[str, pulumi.Input[str]]:
    """Return the access in KRYONIX_PLATFORM_FILE, with secrets marked. Raises InvalidStack for an incomplete file."""
    keys = (*PLATFORM_ACCESS, "registry_dsn")
    if missing := [key for key in keys if not outputs.get(key)]:
        raise InvalidStack(f"{VARIABLE} lacks {', '.join(missing)} of the platform. Take them from its stack's outputs")
    return {
        key: pulumi.Output.secret(outputs[key]) if key in ("admin_password", "registry_dsn") else str(outputs[key])
        for key in keys
    }


def _build_access(known: Mapping[str, Any]) -> BrokerAccess:
    found = BrokerAccess.of(known)
    if AMQP_TLS in known:
        found = replace(found, amqp_tls=known[AMQP_TLS])
    if max(len(found.amqp_addresses), len(found.management_urls)) > 1:
        return found
    # A node alone has one address: its tenants' stacks stay as older versions made them.
    return replace(found, management_urls=(), amqp_addresses=())
