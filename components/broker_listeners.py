"""BrokerListeners: the ports on which the broker speaks AMQP, management and metrics, in plain text or TLS only."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from components.containers import entry_with_certificate
from components.inter_node_tls import ENVIRONMENT, UPLOADS
from components.tls_settings import FOLDER, TlsSettings
from kryonix.certificates.placement import PUBLIC

_FILES: Final = Path(__file__).parent / "broker_files"
_PLAIN: Final = re.compile(r"^(listeners\.tcp|management\.tcp|prometheus\.tcp)\..*\n", re.MULTILINE)

# Sends the protocol header and waits for the answer. `rabbitmq-diagnostics` would start an Erlang VM each time.
_AMQP: Final = "AMQP\\x00\\x00\\x09\\x01"
# A handshake's first message (TLS 1.2, ECDHE-ECDSA-AES128-GCM-SHA256, P-256), so that the answer is a handshake's too.
# Anything else, and the broker would log a warning each time.
_HELLO: Final = (
    "\\x16\\x03\\x01\\x00\\x45\\x01\\x00\\x00\\x41\\x03\\x03KKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKK"
    "\\x00\\x00\\x02\\xc0\\x2b\\x01\\x00\\x00\\x16\\x00\\x0a\\x00\\x04\\x00\\x02\\x00\\x17"
    "\\x00\\x0b\\x00\\x02\\x01\\x00\\x00\\x0d\\x00\\x04\\x00\\x02\\x04\\x03"
)


_PUBLIC: Final = f"{FOLDER}/{PUBLIC}"
_PUBLIC_IS_THERE: Final = f"until test -s {_PUBLIC}; do sleep 0.2; done"


@dataclass(frozen=True, kw_only=True)
class BrokerListeners:
    """The ports inside the container, and what makes the broker listen on them."""

    encrypted: bool = False
    amqp: int
    management: int
    metrics: int
    greeting: str
    """What the health check sends, as `printf` has it."""
    more_settings: str = ""
    """Lines of rabbitmq.conf."""
    more_files: Mapping[str, str] = field(default_factory=dict)
    """Further files of /etc/rabbitmq."""
    inputs: Mapping[str, Any] = field(default_factory=dict)
    """Further inputs of the container."""

    @property
    def configuration(self) -> str:
        """Return rabbitmq.conf with these listeners."""
        text = (_FILES / "rabbitmq.conf").read_text(encoding="utf-8")
        if not self.encrypted:
            return text
        return _PLAIN.sub("", text) + (_FILES / "tls.conf").read_text(encoding="utf-8") + self.more_settings

    @property
    def health(self) -> str:
        """Return a shell's command that fails unless the broker answers."""
        connected = f"exec 3<>/dev/tcp/127.0.0.1/{self.amqp} && printf '{self.greeting}' >&3"
        return f"{connected} && head -c 1 <&3 | grep -q ."

    def routes(self, router: str, domain: str) -> Mapping[str, str]:
        """Return Traefik's labels: AMQP over TLS at mensagens.DOMAIN, the management UI at painel-mensagens.DOMAIN.

        Traefik terminates TLS where the broker speaks plain text, and else passes it through.
        """
        tcp, http = f"traefik.tcp.routers.{router}", f"traefik.http.routers.{router}-mgmt"
        labels = {
            "traefik.enable": "true",
            f"{tcp}.rule": f"HostSNI(`mensagens.{domain}`)",
            f"{tcp}.entrypoints": "amqps",
            f"traefik.tcp.services.{router}.loadbalancer.server.port": str(self.amqp),
        }
        if self.encrypted:
            management = f"traefik.tcp.routers.{router}-mgmt"
            return labels | {
                f"{tcp}.service": router,
                f"{tcp}.tls.passthrough": "true",
                f"{management}.rule": f"HostSNI(`painel-mensagens.{domain}`)",
                f"{management}.entrypoints": "websecure",
                f"{management}.service": f"{router}-mgmt",
                f"{management}.tls.passthrough": "true",
                f"traefik.tcp.services.{router}-mgmt.loadbalancer.server.port": str(self.management),
            }
        return labels | {
            f"{tcp}.tls.certresolver": "letsencrypt",
            f"{http}.rule": f"Host(`painel-mensagens.{domain}`)",
            f"{http}.entrypoints": "websecure",
            f"{http}.tls.certresolver": "letsencrypt",
            f"traefik.http.services.{router}-mgmt.loadbalancer.server.port": str(self.management),
        }


PLAIN: Final = BrokerListeners(amqp=5672, management=15672, metrics=15692, greeting=_AMQP)
ENCRYPTED: Final = BrokerListeners(
    encrypted=True,
    amqp=5671,
    management=15671,
    metrics=15691,
    greeting=_HELLO,
    more_files={"advanced.config": (_FILES / "advanced.config").read_text(encoding="utf-8"), **UPLOADS},
    inputs={
        "entrypoints": entry_with_certificate("rabbitmq"),
        "command": ["rabbitmq-server"],
        "envs": [f"{key}={value}" for key, value in sorted(ENVIRONMENT.items())],
    },
)


CERTIFYING: Final = replace(
    ENCRYPTED,
    more_settings=(_FILES / "client_certificates.conf").read_text(encoding="utf-8"),
    more_files={
        **ENCRYPTED.more_files,
        "enabled_plugins": (_FILES / "enabled_plugins")
        .read_text(encoding="utf-8")
        .replace("[", "[rabbitmq_auth_mechanism_ssl,", 1),
    },
)
"""The encrypted ones, where clients may log in with a certificate."""


def listeners_of(tls: TlsSettings) -> BrokerListeners:
    """Return the listeners of a platform's nodes.

    A CA of others may issue a certificate with any common name, so it is nobody's login.
    """
    if not tls.on:
        return PLAIN
    if tls.certificate_dir:
        return ENCRYPTED
    return _by_name(tls.acme.names) if tls.acme else CERTIFYING


def _by_name(names: Sequence[str]) -> BrokerListeners:
    """Return listeners that show another certificate to clients that ask for these names."""
    certificate = f'[{{certfile, "{_PUBLIC}"}}, {{keyfile, "{_PUBLIC}"}}]'
    hosts = ", ".join(f'{{"{name}", {certificate}}}' for name in names)
    text = (_FILES / "public_names.config").read_text(encoding="utf-8").replace("PUBLIC_NAMES", hosts)
    return replace(
        CERTIFYING,
        more_files={**CERTIFYING.more_files, "advanced.config": text},
        inputs={**CERTIFYING.inputs, "entrypoints": entry_with_certificate("rabbitmq", _PUBLIC_IS_THERE)},
    )
