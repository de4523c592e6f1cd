"""CertificateAuthorities: a platform's own CAs, per generation one of services and one of clients."""

from __future__ import annotations

from collections.abc import Mapping

import pulumi

from components.certificate_authority import CertificateAuthority
from components.tls_settings import TlsSettings


class CertificateAuthorities(pulumi.ComponentResource):
    """The generations of `kryonix:caTrusted`. Those of `kryonix:caIssuing` issue all certificates.

    Clients have a CA of their own: no client passes for a service or a node, and no service for a client.
    """

    issuing: CertificateAuthority
    """It issues services' certificates."""
    own: pulumi.Output[str]
    """The CAs of services, which nodes trust among each other (PEM)."""
    trust: pulumi.Output[str]
    """What clients trust: the CAs of services, and those in `kryonix:caCertificate`, PEM."""
    clients: pulumi.Output[str]
    """What the broker trusts of clients' certificates: the CAs of clients, PEM."""

    def __init__(self, name: str, tls: TlsSettings, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("kryonix:messaging:CertificateAuthorities", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        services = {each: CertificateAuthority(f"{name}-{each}", generation=each, opts=child) for each in tls.trusted}
        clients = {
            each: CertificateAuthority(f"{name}-clients-{each}", generation=each, kind="clients' CA", opts=child)
            for each in tls.trusted
        }
        self.issuing, self._issuing_clients = services[tls.issuing], clients[tls.issuing]
        own = [each.certificate for each in services.values()]
        self.own = pulumi.Output.all(*own).apply("".join)
        self.trust = pulumi.Output.all(*own, tls.certificate_ca).apply("".join)
        self.clients = pulumi.Output.all(*(each.certificate for each in clients.values())).apply("".join)
        self.register_outputs({"trust": self.trust})

    @property
    def of_clients(self) -> pulumi.Output[Mapping[str, str]]:
        """Return certificate and key of the CA that issues clients' certificates, a secret."""
        issuing = self._issuing_clients
        return pulumi.Output.secret(pulumi.Output.all(certificate=issuing.certificate, key=issuing.key).apply(dict))
