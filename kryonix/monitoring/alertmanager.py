"""Keep Alertmanager's configuration file equal to what the registry says, and make Alertmanager read it."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import urllib3
import yaml
from prometheus_client.core import GaugeMetricFamily, Metric

from kryonix.errors import InvalidChoice, ServiceUnreachable
from kryonix.monitoring.notifications import with_tenants
from kryonix.registry.desired_states import DesiredState

log = logging.getLogger("kryonix.monitoring")

BASE: Final = "base.yml"
PASSWORD_FILE: Final = "monitoring_password"  # noqa: S105  the name of a file
"""Files beside the configuration: what it is based on, and the password of `USER`."""
USER: Final = "kryonix"
_Dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # libyaml where PyYAML was built with it
_OK: Final = 200
_REFUSED: Final = 500
"""Alertmanager's status for a configuration that it can't load."""


class AlertmanagerUnavailable(ServiceUnreachable):
    """Alertmanager does not answer, or its files can't be read or written."""


class ConfigurationRefused(ServiceUnreachable):
    """Alertmanager can't load the configuration. It goes on with the previous one."""


class Alertmanager:
    """One Alertmanager, whose configuration file lies in a folder of both processes.

    A refused configuration is taken back, so that a restarted Alertmanager finds one that it can load.
    """

    def __init__(self, url: str, file: Path, tenants: Callable[[], Iterable[DesiredState]]) -> None:
        """Raises InvalidChoice for an address that is no URL."""
        if not url.startswith(("http://", "https://")):
            raise InvalidChoice(f"--alertmanager: {url!r} is not a URL such as http://127.0.0.1:9093")
        self._url, self._file, self._tenants = url.rstrip("/"), file, tenants
        self._configuration: Mapping[str, Any] = {}
        self._wanted = ""
        self._in_use: str | None = None
        self._good: str | None = None
        self._refused: str | None = None

    def read(self) -> list[Metric]:
        """Bring the file and Alertmanager up to date, and return how many tenants are notified. Raises KryonixError."""
        base = self._base()
        found = with_tenants(base, self._tenants())
        if found.configuration != self._configuration:  # to write 1,000 tenants takes half a second
            self._configuration, self._wanted = found.configuration, _text(found.configuration)
        wanted = self._wanted
        if wanted == self._refused:
            raise ConfigurationRefused(self._refusal())
        if wanted != self._current():
            self._write(wanted)
            self._in_use = None
            log.info("alertmanager: %d tenant(s) have receivers of their own", len(found.routed))
        if self._in_use != wanted:
            self._load(wanted, before=self._good or _text(base))
        family = GaugeMetricFamily(
            "kryonix_alertmanager_tenants", "Tenants with notifications of their own.", labels=["outcome"]
        )
        family.add_metric(["routed"], len(found.routed))
        family.add_metric(["without_smtp"], len(found.without_smtp))
        return [family]

    def _load(self, wanted: str, *, before: str) -> None:
        """Make Alertmanager read the file. If it can't, take the file back."""
        status = self._reload()
        if status == _OK:
            self._in_use = self._good = wanted
            self._refused = None
            return
        if status == _REFUSED and before != wanted:
            self._refused = wanted
            self._write(before)
            self._reload()
            raise ConfigurationRefused(self._refusal())
        raise AlertmanagerUnavailable(f"Alertmanager at {self._url} answers a reload with status {status}")

    def _refusal(self) -> str:
        remedy = "Its log says why. It goes on with the configuration before"
        return f"Alertmanager at {self._url} can't load the configuration with the tenants' receivers. {remedy}"

    def _reload(self) -> int:
        headers = {}
        with suppress(OSError):
            password = (self._file.parent / PASSWORD_FILE).read_text(encoding="utf-8").strip()
            headers = urllib3.make_headers(basic_auth=f"{USER}:{password}")
        try:
            timeout = urllib3.Timeout(connect=5, read=30)
            answer = urllib3.request("POST", f"{self._url}/-/reload", headers=headers, timeout=timeout, retries=False)
        except urllib3.exceptions.HTTPError as error:
            problem = f"Alertmanager at {self._url} does not answer ({type(error).__name__})"
            raise AlertmanagerUnavailable(f"{problem}. It reads the new configuration once it does") from error
        return answer.status

    def _base(self) -> dict[str, Any]:
        path = self._file.parent / BASE
        try:
            base = yaml.safe_load(path.read_bytes())
        except OSError as error:
            raise AlertmanagerUnavailable(f"{path} can't be read: {error.strerror}") from error
        except (yaml.YAMLError, ValueError) as error:
            raise AlertmanagerUnavailable(f"{path} is not YAML") from error
        if not isinstance(base, dict):
            raise AlertmanagerUnavailable(f"{path} is not a configuration of Alertmanager")
        return base

    def _current(self) -> str | None:
        with suppress(OSError, UnicodeDecodeError):
            return self._file.read_text(encoding="utf-8")
        return None

    def _write(self, text: str) -> None:
        """Replace the file in one step; a killed process leaves the whole file of before, or the new one."""
        fresh = self._file.with_name(f".{self._file.name}.new")
        try:
            with suppress(FileNotFoundError):
                fresh.unlink()
            handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(handle, "w", encoding="utf-8") as out:
                out.write(text)
                out.flush()
                os.fsync(out.fileno())
            with suppress(FileNotFoundError):
                shutil.copymode(self._file, fresh)
            fresh.replace(self._file)
        except OSError as error:
            raise AlertmanagerUnavailable(f"{self._file} can't be written: {error.strerror}") from error


def _text(configuration: Mapping[str, Any]) -> str:
    return str(yaml.dump(dict(configuration), Dumper=_Dumper, sort_keys=False, width=1_000_000))
