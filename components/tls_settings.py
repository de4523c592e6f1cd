"""TlsSettings: whether a platform's listeners speak TLS, its certificate authorities, and the names in certificates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import pulumi

from components.acme_settings import AcmeSettings
from components.errors import InvalidStack
from kryonix.certificates.trust import context
from kryonix.errors import InvalidChoice
from kryonix.topology.addresses import is_loopback

FOLDER: Final = "/tls"
"""Where a service has its certificate, in a volume of its own."""
CERTIFICATE: Final = f"{FOLDER}/server.pem"
"""Key and chain in one file, so that one rename replaces both."""

_CHOICES: Final = ("auto", "true", "false")
_SPEECH: Final = {False: "plain text", True: "TLS"}
_LOCAL: Final = ("localhost", "127.0.0.1", "::1")
_URLS: Final = ("management_url", "metrics_url", "signup_url")


def speaks_tls(choice: str, addresses: Iterable[str]) -> bool:
    """Return True if listeners at these addresses speak TLS by the choice in `kryonix:tls`."""
    return choice == "true" or (choice == "auto" and not all(map(is_loopback, addresses)))


@dataclass(frozen=True, kw_only=True)
class TlsSettings:
    """`trusted` and `issuing` are generations of the platform's own authority."""

    on: bool = False
    choice: str = "auto"
    trusted: Sequence[int] = (1,)
    issuing: int = 1
    certificate_dir: str = ""
    """A folder of the Docker host with certificates made by others; empty for the platform's own."""
    certificate_ca: str = ""
    """Who issues those, or by ACME (PEM)."""
    acme: AcmeSettings | None = None
    """None where no public CA issues by ACME."""

    def __post_init__(self) -> None:
        problems = []
        if self.choice not in _CHOICES:
            problems.append(f"kryonix:tls: {self.choice!r} is none of auto, true and false")
        if not self.trusted or any(type(each) is not int or each < 1 for each in self.trusted):
            remedy = "List the generations of the CA, from 1 on, as in [1]"
            problems.append(f"kryonix:caTrusted: {list(self.trusted)} is not a list of generations. {remedy}")
        elif list(self.trusted) != sorted(set(self.trusted)):
            problems.append(f"kryonix:caTrusted: {list(self.trusted)} must be ascending, each generation once")
        elif self.issuing not in self.trusted:
            remedy = f"Use one of kryonix:caTrusted ({', '.join(map(str, self.trusted))}): clients trust no other"
            problems.append(f"kryonix:caIssuing: {self.issuing} is not trusted. {remedy}")
        if self.certificate_dir and not self.certificate_dir.startswith("/"):
            remedy = "Give the path from / on, on the Docker host"
            problems.append(f"kryonix:certificateDir: {self.certificate_dir!r} is not an absolute path. {remedy}")
        if self.certificate_dir and not self.certificate_ca:
            remedy = "Set it to the certificate of the CA that issued those in the folder, PEM, a public CA's too"
            problems.append(f"kryonix:certificateDir needs kryonix:caCertificate: clients trust no other. {remedy}")
        problems += self._acme_problems()
        if self.certificate_ca:
            try:
                context(self.certificate_ca)
            except InvalidChoice as error:
                problems.append(f"kryonix:caCertificate: {error}")
        if problems:
            raise InvalidStack("\n".join(problems))

    def _acme_problems(self) -> list[str]:
        if self.acme is None:
            return []
        problems = self.acme.problems()
        if not self.on:
            remedy = 'Set kryonix:tls to "true", or remove kryonix:acmeDirectory'
            problems.append(f"kryonix:acmeDirectory needs TLS, and kryonix:tls {self.choice!r} is off here. {remedy}")
        if self.certificate_dir:
            problems.append("kryonix:acmeDirectory and kryonix:certificateDir: two sources of certificates. Set one")
        elif not self.certificate_ca:
            remedy = "Set it to the roots of the CA, PEM, for Let's Encrypt ISRG Root X1 and X2"
            problems.append(
                f"kryonix:acmeDirectory needs kryonix:caCertificate: the platform's clients trust no other. {remedy}"
            )
        return problems

    @classmethod
    def load(cls, config: pulumi.Config, listening: Iterable[str], advertised_host: str) -> TlsSettings:
        """Return the stack's settings. `listening` are all addresses on which services are published."""
        choice, acme = config.require("tls"), AcmeSettings.load(config, advertised_host)
        return cls(
            on=speaks_tls(choice, listening),
            choice=choice,
            trusted=tuple(config.require_object("caTrusted")),
            issuing=config.require_int("caIssuing"),
            certificate_dir=(folder := config.get("certificateDir") or ""),
            certificate_ca=(config.get("caCertificate") or "") if folder or acme else "",
            acme=acme,
        )

    def refuse_mixture(self, outputs: Mapping[str, Any]) -> None:
        """Raise InvalidStack if the nodes of a cluster would change to TLS or back, one after the other.

        `outputs` are the previous run's.
        """
        was = bool(outputs.get("ca_certificate"))
        if was != self.on and len(outputs.get("broker_nodes") or ()) > 1:
            raise InvalidStack(
                f"kryonix:tls: the nodes of this cluster speak {_SPEECH[was]}, and would change to {_SPEECH[self.on]}: "
                "nodes with TLS and nodes without can't speak with each other, so no roll can make this change. "
                f'Nothing has been changed. Set kryonix:tls to "{str(was).lower()}" (docs/platform.md, Turn TLS on)'
            )

    def refuse_unasked(self, outputs: Mapping[str, Any]) -> None:
        """Raise InvalidStack if a platform that others reach in plain text would change to TLS without being asked.

        `outputs` are the previous run's.
        """
        plain = outputs and not outputs.get("ca_certificate")
        hosts = [urlsplit(str(outputs.get(key) or "")).hostname for key in _URLS]
        reached = [host for host in hosts if host and host not in _LOCAL and not _is_local(host)]
        if self.on and self.choice == "auto" and plain and reached:
            raise InvalidStack(
                f"this platform is reached in plain text at {reached[0]}, and would now speak TLS only, because an "
                "address is off loopback: its clients would lose their connections. Nothing has been changed. Set "
                'kryonix:tls to "true" once clients can use TLS (docs/platform.md, Turn TLS on), or to "false" to keep '
                "it plain"
            )


def _is_local(host: str) -> bool:
    try:
        return is_loopback(host)
    except ValueError:  # a name
        return False
