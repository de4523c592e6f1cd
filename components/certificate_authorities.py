"""CertificateAuthorities: a platform's own CAs, one per generation, and what its clients trust."""

from __future__ import annotations

from collections.abc import Mapping

import pulumi

from components.certificate_authority import CertificateAuthority
from components.tls_settings import TlsSettings


class CertificateAuthorities(pulumi.ComponentResource):
    """The generations of `kryonix:caTrusted`. The one of `kryonix:caIssuing` issues all certificates."""

    issuing: CertificateAuthority
    trust: pulumi.Output[str]
    """The certificates of all generations, and of the CA of `kryonix:certificateDir`, PEM."""

    def __init__(self, name: str, tls: TlsSettings, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("kryonix:messaging:CertificateAuthorities", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        made = {each: CertificateAuthority(f"{name}-{each}", generation=each, opts=child) for each in tls.trusted}
        self.issuing = made[tls.issuing]
        own = [each.certificate for each in made.values()]
        self.trust = pulumi.Output.all(*own, tls.certificate_ca).apply("".join)
        self.register_outputs({"trust": self.trust})

    @property
    def of_clients(self) -> pulumi.Output[Mapping[str, str]]:
        """Return certificate and key of the CA that issues clients' certificates, a secret."""
        issuing = self.issuing
        return pulumi.Output.secret(pulumi.Output.all(certificate=issuing.certificate, key=issuing.key).apply(dict))
