"""ClientCertificate: the certificate with which a tenant's applications log in, issued once and never again."""

from __future__ import annotations

from typing import Any, Final

import pulumi
from pulumi.dynamic import CreateResult, DiffResult, Resource, ResourceProvider

from components.accepting_provider import changed_keys
from kryonix.certificates.authority import Authority

_DAYS: Final = 365
"""Longer than a service's: nobody but the tenant can put the next one in place, after a rotation of its credentials."""


class _ClientCertificateProvider(ResourceProvider):
    # The pickled provider is a reference to its class and holds no secret.
    serialize_as_secret_always = False

    def diff(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> DiffResult:
        # An authority that issues from now on takes no certificate away that was handed out before.
        changed = [key for key in changed_keys(_olds, _news) if key == "commonName"]
        return DiffResult(changes=bool(changed), replaces=changed)

    def create(self, props: dict[str, Any]) -> CreateResult:
        name, authority = props["commonName"], props["authority"]
        made = Authority(certificate=authority["certificate"], key=authority["key"]).issue_client(name, days=_DAYS)
        return CreateResult(name, {"commonName": name, "certificate": made.chain, "key": made.key})


class ClientCertificate(Resource, module="kryonix", name="ClientCertificate"):
    """A certificate whose common name is the user's name, for a year."""

    certificate: pulumi.Output[str]
    """PEM."""
    key: pulumi.Output[str]
    """Its private key, PEM, a secret."""

    def __init__(
        self,
        name: str,
        *,
        common_name: str,
        authority: pulumi.Input[dict[str, str]],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        """`authority` has the certificate and the key of the issuing CA."""
        properties = {
            "commonName": common_name,
            "authority": pulumi.Output.secret(authority),
            "certificate": None,
            "key": None,
        }
        secret = pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(additional_secret_outputs=["key"]))
        super().__init__(_ClientCertificateProvider(), name, properties, secret)
