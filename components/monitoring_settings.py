"""MonitoringSettings: the config of a platform's Prometheus, Alertmanager and Grafana."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

import pulumi

from kryonix.topology.addresses import host_port, is_loopback, reached_as

_DURATION: Final = re.compile(r"(?=[0-9])" + "".join(f"([0-9]{{1,9}}{unit})?" for unit in "ywdhms"))
_SECONDS: Final = (31_536_000, 604_800, 86_400, 3_600, 60, 1)
_LONGEST_S: Final = 292 * 31_536_000
"""Prometheus counts nanoseconds in 64 bits, and does not start with a longer duration."""
_TARGET: Final = re.compile(r"(?:\[[0-9a-fA-F:.]+\]|[A-Za-z0-9][A-Za-z0-9._-]*):([0-9]{1,5})")
_ADDRESS: Final = re.compile(r"[^@\s<>]+@[^@\s<>]+|[^<>\r\n]*<[^@\s<>]+@[^@\s<>]+>")
# Alertmanager does not start with a URL that Go can't parse. No braces: it would expand a template.
_IN_URL: Final = re.compile(r"(?:[^\s\x00-\x20\x7f\\{}%]|%[0-9A-Fa-f]{2})+")
_IN_HOST: Final = re.compile(r"[\w.:-]+")


@dataclass(frozen=True, kw_only=True)
class MonitoringSettings:
    """Images, ports and address of the servers, what they keep and read, and how operators are notified."""

    prometheus_image: str
    alertmanager_image: str
    grafana_image: str = ""
    """Empty for none."""
    prometheus_port: int = 9090
    alertmanager_port: int = 9093
    grafana_port: int = 3000
    address: str = "127.0.0.1"
    retention: str = "15d"
    worker_targets: Sequence[str] = ()
    """Each `host:port` of `kryonix worker --metrics-port`, as Prometheus reaches it."""
    alert_webhook: str = field(default="", repr=False)
    smtp_host: str = ""
    """`host:port` of a mail server."""
    smtp_from: str = ""
    smtp_username: str = ""
    smtp_password: str = field(default="", repr=False)
    smtp_tls: bool = True

    @classmethod
    def load(cls, config: pulumi.Config, address: str) -> MonitoringSettings | None:
        """Return the stack's settings, None where monitoring is off."""
        if not config.require_bool("monitoring"):
            return None
        return cls(
            prometheus_image=config.require("prometheusImage"),
            alertmanager_image=config.require("alertmanagerImage"),
            grafana_image=config.get("grafanaImage") or "",
            prometheus_port=config.require_int("prometheusPort"),
            alertmanager_port=config.require_int("alertmanagerPort"),
            grafana_port=config.require_int("grafanaPort"),
            address=address,
            retention=config.require("metricsRetention"),
            worker_targets=tuple(config.require_object("workerTargets")),
            alert_webhook=config.get("alertWebhook") or "",
            smtp_host=config.get("smtpHost") or "",
            smtp_from=config.get("smtpFrom") or "",
            smtp_username=config.get("smtpUsername") or "",
            smtp_password=config.get("smtpPassword") or "",
            smtp_tls=config.require_bool("smtpTls"),
        )

    @property
    def ports(self) -> Mapping[str, int]:
        """Return the published ports by config key."""
        servers = {"prometheusPort": self.prometheus_port, "alertmanagerPort": self.alertmanager_port}
        return servers | ({"grafanaPort": self.grafana_port} if self.grafana_image else {})

    @property
    def images(self) -> Mapping[str, str]:
        """Return the images by config key."""
        servers = {"prometheusImage": self.prometheus_image, "alertmanagerImage": self.alertmanager_image}
        return servers | ({"grafanaImage": self.grafana_image} if self.grafana_image else {})

    @property
    def authenticated(self) -> bool:
        """Return True if the servers require a login: beyond loopback they do."""
        return not is_loopback(self.address)

    def url(self, advertised_host: str, port: int) -> str:
        """Return the URL under the platform's advertised host, or on loopback under the servers' own address."""
        return f"http://{host_port(reached_as(self.address, advertised_host), port)}"

    def problems(self) -> list[str]:
        """Return what is wrong with these values, one line each. Ports and images are the platform's to check."""
        problems = []
        if not 0 < _seconds(self.retention) <= _LONGEST_S:
            remedy = "Use one like 15d or 2w, at most 292y"
            problems.append(f"kryonix:metricsRetention: {self.retention!r} is not a duration. {remedy}")
        problems += [
            f"kryonix:workerTargets: {target!r} is not host:port. Write it like w1.example:9421"
            for target in self.worker_targets
            if not _is_target(target)
        ]
        return problems + self._problems_of_notices()

    def _problems_of_notices(self) -> list[str]:
        problems = []
        # A webhook's URL often holds a token: it is not repeated.
        if self.alert_webhook and not _is_web_url(self.alert_webhook):
            remedy = "Write https://HOST/PATH, with special characters as %XX"
            problems.append(f"kryonix:alertWebhook: not a valid URL. {remedy}")
        if self.smtp_host and not _is_target(self.smtp_host):
            problems.append(f"kryonix:smtpHost: {self.smtp_host!r} is not host:port. Write it like mail.example:587")
        if self.smtp_from and not _ADDRESS.fullmatch(self.smtp_from):
            problems.append(f"kryonix:smtpFrom: {self.smtp_from!r} is not an e-mail address")
        if bool(self.smtp_host) != bool(self.smtp_from):
            missing = "smtpFrom" if self.smtp_host else "smtpHost"
            problems.append(f"kryonix:{missing}: missing. E-mail needs both kryonix:smtpHost and kryonix:smtpFrom")
        if bool(self.smtp_username) != bool(self.smtp_password):
            missing = "smtpPassword" if self.smtp_username else "smtpUsername"
            problems.append(f"kryonix:{missing}: missing. Set both kryonix:smtpUsername and kryonix:smtpPassword")
        if self.smtp_password and not pulumi.runtime.is_config_secret("kryonix:smtpPassword"):
            remedy = "Set it again with `pulumi config set --secret kryonix:smtpPassword`"
            problems.append(f"kryonix:smtpPassword is stored in plain text in the stack's file. {remedy}")
        return problems


def _is_target(text: object) -> bool:
    """Return True for `host:port`."""
    found = _TARGET.fullmatch(text) if isinstance(text, str) else None
    return found is not None and 1 <= int(found[1]) <= 65535


def _seconds(duration: str) -> int:
    """Return the seconds of a duration as Prometheus writes them; 0 for any other text."""
    found = _DURATION.fullmatch(duration)
    return (
        sum(int((part or "0x")[:-1]) * each for part, each in zip(found.groups(), _SECONDS, strict=True))
        if found
        else 0
    )


def _is_web_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and parts.port != 0 and bool(_IN_HOST.fullmatch(parts.hostname or ""))
    except ValueError:
        return False
    return valid and bool(_IN_URL.fullmatch(url))
