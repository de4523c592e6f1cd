"""A Container's inputs, and the request the Docker Engine API wants for them. Pure."""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Iterable, Mapping
from typing import Any, Final

from kryonix.engines.local.handlers.base import Properties
from kryonix.engines.local.handlers.fields import Field, Fields, Kind

MEBIBYTE: Final = 1024 * 1024
NANOSECONDS: Final = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}


def _flag(default: bool = False) -> Field:
    return Field(kind=Kind.FLAG, default=default)


def _fixed(kind: Kind, default: Any, *, replaces: bool = False) -> Field:
    return Field(kind=kind, default=default, replaces=replaces, fixed=True)


def _replacing(kind: Kind = Kind.TEXT, **more: Any) -> Field:
    return Field(kind=kind, replaces=True, **more)


def _duration(*, fixed: bool = False) -> Field:
    return Field(default="0s", pattern=r"\d+(\.\d+)?(ns|us|µs|ms|s|m|h)([\d.]+(ns|us|µs|ms|s|m|h))*|0", fixed=fixed)


LABELS: Final[Fields] = {"label": Field(required=True), "value": Field(required=True)}

_CAPABILITIES: Final[Fields] = {"adds": Field(kind=Kind.TEXT_SET), "drops": Field(kind=Kind.TEXT_SET)}
_HEALTHCHECK: Final[Fields] = {
    "tests": Field(kind=Kind.TEXT_LIST),
    "interval": _duration(),
    "timeout": _duration(),
    "startPeriod": _duration(),
    "startInterval": _duration(fixed=True),
    "retries": Field(kind=Kind.WHOLE, default=0),
}
_HOST: Final[Fields] = {"host": Field(required=True), "ip": Field(required=True)}
_NETWORK: Final[Fields] = {"name": Field(required=True), "aliases": Field(kind=Kind.TEXT_SET)}
_PORT: Final[Fields] = {
    "internal": Field(kind=Kind.WHOLE, required=True),
    "external": Field(kind=Kind.WHOLE),
    "ip": Field(default="0.0.0.0"),  # noqa: S104, the provider plugin's default
    "protocol": Field(default="tcp", pattern="tcp|udp|sctp"),
}
_ULIMIT: Final[Fields] = {
    "name": Field(required=True),
    "soft": Field(kind=Kind.WHOLE, required=True),
    "hard": Field(kind=Kind.WHOLE, required=True),
}
_UPLOAD: Final[Fields] = {
    "file": Field(required=True),
    "content": Field(required=True),
    "executable": _flag(),
    "permissions": Field(pattern="0[0-7]{3}"),
}
_VOLUME: Final[Fields] = {
    "containerPath": Field(required=True),
    "hostPath": Field(),
    "readOnly": Field(kind=Kind.FLAG),
    "volumeName": Field(),
}

# The provider plugin decides what replaces. A health check does not, and the plugin can't change it in place either: a
# new one takes effect with the next replacement.
CONTAINER: Final[Fields] = {
    "name": _replacing(required=True),
    "image": _replacing(required=True),
    "capabilities": _replacing(Kind.BLOCK, fields=_CAPABILITIES),
    "command": _replacing(Kind.TEXT_LIST),
    "cpus": _replacing(),
    "destroyGraceSeconds": Field(kind=Kind.WHOLE),
    "entrypoints": _replacing(Kind.TEXT_LIST),
    "envs": _replacing(Kind.TEXT_SET),
    "healthcheck": Field(kind=Kind.BLOCK, fields=_HEALTHCHECK),
    "hostname": _replacing(),
    "hosts": _replacing(Kind.BLOCK_SET, fields=_HOST),
    "labels": _replacing(Kind.BLOCK_SET, fields=LABELS),
    "memory": Field(kind=Kind.WHOLE),
    "memorySwap": Field(kind=Kind.WHOLE),
    "networksAdvanced": _replacing(Kind.BLOCK_SET, fields=_NETWORK),
    "ports": _replacing(Kind.BLOCK_SET, fields=_PORT),
    "readOnly": _replacing(Kind.FLAG, default=False),
    "restart": Field(default="no", pattern="no|on-failure|always|unless-stopped"),
    "securityOpts": _replacing(Kind.TEXT_SET),
    "shmSize": _replacing(Kind.WHOLE),
    "tmpfs": Field(kind=Kind.TEXT_MAP),
    "ulimits": _replacing(Kind.BLOCK_SET, fields=_ULIMIT),
    "uploads": _replacing(Kind.BLOCK_SET, fields=_UPLOAD),
    "user": _replacing(),
    "volumes": _replacing(Kind.BLOCK_SET, fields=_VOLUME),
    "wait": _flag(),
    "waitTimeout": Field(kind=Kind.WHOLE, default=60),
    **dict.fromkeys(("attach", "logs", "rm"), _fixed(Kind.FLAG, False)),
    **dict.fromkeys(("stdinOpen", "tty"), _fixed(Kind.FLAG, False, replaces=True)),
    **dict.fromkeys(("mustRun", "removeVolumes", "start"), _fixed(Kind.FLAG, True)),
    "containerReadRefreshTimeoutMilliseconds": _fixed(Kind.WHOLE, 15000),
    "memoryReservation": _fixed(Kind.WHOLE, 0),
    "networkMode": _fixed(Kind.TEXT, "bridge", replaces=True),
}


def labels(pairs: Iterable[Mapping[str, str]] | None) -> dict[str, str]:
    """Return a list of `{label, value}` as Docker's map."""
    return {pair["label"]: pair["value"] for pair in pairs or ()}


def nanoseconds(duration: str) -> int:
    """Return a Go duration such as `1m30s` in nanoseconds."""
    parts = re.findall(r"([\d.]+)(ns|us|µs|ms|s|m|h)", duration)
    return int(sum(float(number) * NANOSECONDS[unit] for number, unit in parts))


def container_spec(inputs: Properties, extra_labels: Mapping[str, str]) -> dict[str, Any]:
    """Return the body of `POST /containers/create`."""
    ports: dict[str, list[dict[str, str]]] = {}
    for port in inputs.get("ports") or []:
        bound = {"HostIp": port["ip"], "HostPort": str(port.get("external") or 0)}
        ports.setdefault(f"{port['internal']}/{port['protocol']}", []).append(bound)
    spec = {
        "Image": inputs["image"],
        "Hostname": inputs.get("hostname"),
        "Env": inputs.get("envs"),
        "Cmd": inputs.get("command"),
        "Entrypoint": inputs.get("entrypoints"),
        "User": inputs.get("user"),
        "ExposedPorts": {port: {} for port in ports},
        "Volumes": {volume["containerPath"]: {} for volume in inputs.get("volumes") or []},
        "Labels": {**labels(inputs.get("labels")), **extra_labels},
        "Healthcheck": _healthcheck(inputs.get("healthcheck")),
        "HostConfig": _host_config(inputs) | ({"PortBindings": ports} if ports else {}),
    }
    return _given(spec)


def _host_config(inputs: Properties) -> dict[str, Any]:
    capabilities = inputs.get("capabilities") or {}
    config = {
        "Binds": [_bind(volume) for volume in inputs.get("volumes") or [] if _source(volume)],
        "CapAdd": capabilities.get("adds"),
        "CapDrop": capabilities.get("drops"),
        "ExtraHosts": [f"{host['host']}:{host['ip']}" for host in inputs.get("hosts") or []],
        "Memory": (inputs.get("memory") or 0) * MEBIBYTE,
        "MemorySwap": memory_swap(inputs.get("memorySwap") or 0),
        "NanoCpus": int(float(inputs.get("cpus") or 0) * 10**9),
        "NetworkMode": inputs["networkMode"],
        "ReadonlyRootfs": inputs["readOnly"],
        "RestartPolicy": {"Name": inputs["restart"]},
        "SecurityOpt": inputs.get("securityOpts"),
        "ShmSize": (inputs.get("shmSize") or 0) * MEBIBYTE,
        "Tmpfs": inputs.get("tmpfs"),
        "Ulimits": [{name.title(): limit[name] for name in _ULIMIT} for limit in inputs.get("ulimits") or []],
    }
    return _given(config)


def memory_swap(mebibytes: int) -> int:
    """Return the limit of memory and swap in bytes; -1 is unlimited."""
    return mebibytes * MEBIBYTE if mebibytes > 0 else mebibytes


def _given(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if value}


def _source(volume: Mapping[str, Any]) -> str | None:
    return volume.get("hostPath") or volume.get("volumeName")


def _bind(volume: Mapping[str, Any]) -> str:
    return f"{_source(volume)}:{volume['containerPath']}:{'ro' if volume.get('readOnly') else 'rw'}"


def _healthcheck(check: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if not check:
        return None
    return {
        "Test": check.get("tests") or [],
        "Interval": nanoseconds(check["interval"]),
        "Timeout": nanoseconds(check["timeout"]),
        "StartPeriod": nanoseconds(check["startPeriod"]),
        "Retries": check["retries"],
    }


def archive(uploads: Iterable[Mapping[str, Any]]) -> bytes:
    """Return a tar of the files to put into the container before it starts."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for upload in uploads:
            content = upload["content"].encode()
            entry = tarfile.TarInfo(upload["file"].lstrip("/"))
            entry.size = len(content)
            entry.mode = int(upload.get("permissions") or ("0744" if upload["executable"] else "0644"), 8)
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()
