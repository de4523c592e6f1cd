"""CertificateAuthority: one generation of a CA of a platform's own. Its key exists in the state only, as a secret."""

from __future__ import annotations

from typing import Any

import pulumi
from pulumi.dynamic import CreateResult, DiffResult, Resource, ResourceProvider

from components.accepting_provider import changed_keys
from kryonix.certificates.authority import Authority


class _CertificateAuthorityProvider(ResourceProvider):
    # The pickled provider is a reference to its class and holds no secret.
    serialize_as_secret_always = False

    def diff(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> DiffResult:
        changed = changed_keys(_olds, _news)
        return DiffResult(changes=bool(changed), replaces=changed)

    def create(self, props: dict[str, Any]) -> CreateResult:
        made = Authority.create(props["commonName"])
        return CreateResult(props["commonName"], {**props, "certificate": made.certificate, "key": made.key})


class CertificateAuthority(Resource, module="kryonix", name="CertificateAuthority"):
    """A CA for ten years. It ends with its resource: what it has issued is then trusted by nobody."""

    certificate: pulumi.Output[str]
    """Its certificate, PEM."""
    key: pulumi.Output[str]
    """Its private key, PEM, a secret."""

    def __init__(
        self, name: str, *, generation: int, kind: str = "CA", opts: pulumi.ResourceOptions | None = None
    ) -> None:
        common_name = f"Kryonix {pulumi.get_stack()[:40]} {kind} {generation}"  # 64 characters at most
        properties = {"commonName": common_name, "certificate": None, "key": None}
        secret = pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(additional_secret_outputs=["key"]))
        super().__init__(_CertificateAuthorityProvider(), name, properties, secret)
