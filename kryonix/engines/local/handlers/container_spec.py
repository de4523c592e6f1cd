"""A Container's inputs as the Docker Engine API wants them. Pure."""

from __future__ import annotations

import base64
import io
import re
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from kryonix.engines.local.errors import InvalidInputs
from kryonix.engines.local.handlers.base import Properties
from kryonix.engines.local.handlers.fields import Field, Fields, Kind

__all__ = ["CONTAINER", "LABELS", "MEBIBYTE", "archive", "container_spec", "endpoint_config", "labels", "nanoseconds"]

MEBIBYTE: Final = 1024 * 1024
DURATION: Final = r"\d+(\.\d+)?(ns|us|µs|ms|s|m|h)([\d.]+(ns|us|µs|ms|s|m|h))*|0"

LABELS: Final[Fields] = {"label": Field(required=True), "value": Field(required=True)}

_PORT: Final[Fields] = {
    "internal": Field(kind=Kind.WHOLE, required=True),
    "external": Field(kind=Kind.WHOLE),
    "ip": Field(default="0.0.0.0"),  # noqa: S104, the provider plugin's default; the program names its own
    "protocol": Field(default="tcp", pattern="tcp|udp|sctp"),
}
_NETWORK: Final[Fields] = {
    "name": Field(required=True),
    "aliases": Field(kind=Kind.TEXT_SET),
    "ipv4Address": Field(),
    "ipv6Address": Field(),
    "linkLocalIps": Field(kind=Kind.TEXT_SET),
    "macAddress": Field(),
    "driverOpts": Field(kind=Kind.TEXT_SET),
}
_VOLUME: Final[Fields] = {
    "containerPath": Field(),
    "fromContainer": Field(),
    "hostPath": Field(),
    "readOnly": Field(kind=Kind.FLAG),
    "selinuxRelabel": Field(pattern="z|Z"),
    "volumeName": Field(),
}
_UPLOAD: Final[Fields] = {
    "file": Field(required=True),
    "content": Field(),
    "contentBase64": Field(),
    "source": Field(),
    "sourceHash": Field(),
    "executable": Field(kind=Kind.FLAG, default=False),
    "permissions": Field(pattern="0[0-7]{3}"),
}
_HEALTHCHECK: Final[Fields] = {
    "tests": Field(kind=Kind.TEXT_LIST),
    "interval": Field(default="0s", pattern=DURATION),
    "timeout": Field(default="0s", pattern=DURATION),
    "startPeriod": Field(default="0s", pattern=DURATION),
    "startInterval": Field(default="0s", pattern=DURATION),
    "retries": Field(kind=Kind.WHOLE, default=0),
}


def _replacing(kind: Kind = Kind.TEXT, **more: Any) -> Field:
    return Field(kind=kind, replaces=True, **more)


# What replaces and what doesn't is the provider plugin's choice. A health check does not replace, and the plugin can't
# change it in place either: it takes effect with the next replacement.
CONTAINER: Final[Fields] = {
    "name": _replacing(required=True),
    "image": _replacing(required=True),
    "attach": Field(kind=Kind.FLAG, default=False),
    "capabilities": _replacing(
        Kind.BLOCK, fields={"adds": Field(kind=Kind.TEXT_SET), "drops": Field(kind=Kind.TEXT_SET)}
    ),
    "command": _replacing(Kind.TEXT_LIST),
    "containerReadRefreshTimeoutMilliseconds": Field(kind=Kind.WHOLE, default=15000),
    "cpuSet": Field(pattern=r"\d+([,-]\d+)*"),
    "cpuShares": Field(kind=Kind.WHOLE),
    "cpus": _replacing(),
    "destroyGraceSeconds": Field(kind=Kind.WHOLE),
    "dns": _replacing(Kind.TEXT_SET),
    "domainname": _replacing(),
    "entrypoints": _replacing(Kind.TEXT_LIST),
    "envs": _replacing(Kind.TEXT_SET),
    "groupAdds": _replacing(Kind.TEXT_SET),
    "healthcheck": Field(kind=Kind.BLOCK, fields=_HEALTHCHECK),
    "hostname": _replacing(),
    "hosts": _replacing(Kind.BLOCK_SET, fields={"host": Field(required=True), "ip": Field(required=True)}),
    "init": Field(kind=Kind.FLAG),
    "ipcMode": _replacing(),
    "labels": _replacing(Kind.BLOCK_SET, fields=LABELS),
    "logDriver": _replacing(),
    "logOpts": _replacing(Kind.TEXT_MAP),
    "logs": Field(kind=Kind.FLAG, default=False),
    "maxRetryCount": Field(kind=Kind.WHOLE),
    "memory": Field(kind=Kind.WHOLE),
    "memoryReservation": Field(kind=Kind.WHOLE, default=0),
    "memorySwap": Field(kind=Kind.WHOLE),
    "mustRun": Field(kind=Kind.FLAG, default=True),
    "networkMode": _replacing(default="bridge"),
    "networksAdvanced": _replacing(Kind.BLOCK_SET, fields=_NETWORK),
    "ports": _replacing(Kind.BLOCK_SET, fields=_PORT),
    "privileged": _replacing(Kind.FLAG),
    "readOnly": _replacing(Kind.FLAG, default=False),
    "removeVolumes": Field(kind=Kind.FLAG, default=True),
    "restart": Field(default="no", pattern="no|on-failure|always|unless-stopped"),
    "rm": Field(kind=Kind.FLAG, default=False),
    "securityOpts": _replacing(Kind.TEXT_SET),
    "shmSize": _replacing(Kind.WHOLE),
    "start": Field(kind=Kind.FLAG, default=True),
    "stdinOpen": _replacing(Kind.FLAG, default=False),
    "stopSignal": _replacing(),
    "stopTimeout": _replacing(Kind.WHOLE),
    "sysctls": _replacing(Kind.TEXT_MAP),
    "tmpfs": Field(kind=Kind.TEXT_MAP),
    "tty": _replacing(Kind.FLAG, default=False),
    "ulimits": _replacing(
        Kind.BLOCK_SET,
        fields={
            "name": Field(required=True),
            "soft": Field(kind=Kind.WHOLE, required=True),
            "hard": Field(kind=Kind.WHOLE, required=True),
        },
    ),
    "uploads": _replacing(Kind.BLOCK_SET, fields=_UPLOAD),
    "user": _replacing(),
    "volumes": _replacing(Kind.BLOCK_SET, fields=_VOLUME),
    "wait": Field(kind=Kind.FLAG, default=False),
    "waitTimeout": Field(kind=Kind.WHOLE, default=60),
    "workingDir": _replacing(),
}


def labels(pairs: Iterable[Mapping[str, str]] | None) -> dict[str, str]:
    """A list of `{label, value}` as Docker's map."""
    return {pair["label"]: pair["value"] for pair in pairs or ()}


def nanoseconds(duration: str) -> int:
    """A Go duration such as `1m30s`, in nanoseconds."""
    units = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
    parts = re.findall(r"([\d.]+)(ns|us|µs|ms|s|m|h)", duration)
    return int(sum(float(number) * units[unit] for number, unit in parts))


def container_spec(inputs: Properties, extra_labels: Mapping[str, str]) -> dict[str, Any]:
    """The body of `POST /containers/create`."""
    bindings = _port_bindings(inputs.get("ports") or [])
    paths, _, _ = _volumes(inputs.get("volumes") or [])
    spec = {
        "Image": inputs["image"],
        "Hostname": inputs.get("hostname", ""),
        "Domainname": inputs.get("domainname", ""),
        "Tty": inputs["tty"],
        "OpenStdin": inputs["stdinOpen"],
        "StopSignal": inputs.get("stopSignal", ""),
        "StopTimeout": inputs.get("stopTimeout") or None,
        "Env": inputs.get("envs"),
        "Cmd": inputs.get("command"),
        "Entrypoint": inputs.get("entrypoints"),
        "User": inputs.get("user", ""),
        "WorkingDir": inputs.get("workingDir", ""),
        "ExposedPorts": {port: {} for port in bindings},
        "Volumes": {path: {} for path in paths},
        "Labels": {**labels(inputs.get("labels")), **extra_labels},
        "Healthcheck": _healthcheck(inputs.get("healthcheck")),
        "HostConfig": _host_config(inputs),
    }
    return {key: value for key, value in spec.items() if value not in (None, {})}


def _host_config(inputs: Properties) -> dict[str, Any]:
    _, binds, volumes_from = _volumes(inputs.get("volumes") or [])
    capabilities = inputs.get("capabilities") or {}
    config = {
        "AutoRemove": inputs["rm"],
        "Binds": binds,
        "CapAdd": capabilities.get("adds"),
        "CapDrop": capabilities.get("drops"),
        "Dns": inputs.get("dns"),
        "ExtraHosts": [f"{host['host']}:{host['ip']}" for host in inputs.get("hosts") or []],
        "GroupAdd": inputs.get("groupAdds"),
        "Init": inputs.get("init", False),
        "IpcMode": inputs.get("ipcMode"),
        "LogConfig": {"Type": inputs.get("logDriver", ""), "Config": inputs.get("logOpts") or {}},
        "NetworkMode": inputs["networkMode"],
        "PortBindings": _port_bindings(inputs.get("ports") or []),
        "Privileged": inputs.get("privileged"),
        "ReadonlyRootfs": inputs["readOnly"],
        "RestartPolicy": {"Name": inputs["restart"], "MaximumRetryCount": inputs.get("maxRetryCount", 0)},
        "SecurityOpt": inputs.get("securityOpts"),
        "ShmSize": _bytes(inputs.get("shmSize")),
        "Sysctls": inputs.get("sysctls"),
        "Tmpfs": inputs.get("tmpfs"),
        "Ulimits": [{part.title(): limit[part] for part in ("name", "soft", "hard")} for limit in _ulimits(inputs)],
        "VolumesFrom": volumes_from,
        **_resources(inputs),
    }
    return {key: value for key, value in config.items() if value not in (None, [], {})}


def _ulimits(inputs: Properties) -> list[Mapping[str, Any]]:
    return inputs.get("ulimits") or []


def _resources(inputs: Properties) -> dict[str, Any]:
    return {
        "CpuShares": inputs.get("cpuShares") or None,
        "CpusetCpus": inputs.get("cpuSet"),
        "Memory": _bytes(inputs.get("memory")),
        "MemoryReservation": _bytes(inputs.get("memoryReservation")),
        "MemorySwap": _bytes(inputs.get("memorySwap")),
        "NanoCpus": int(float(inputs["cpus"]) * 10**9) if inputs.get("cpus") else None,
    }


def _bytes(mebibytes: int | None) -> int | None:
    if not mebibytes:
        return None
    return mebibytes * MEBIBYTE if mebibytes > 0 else mebibytes


def _healthcheck(check: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if not check:
        return None
    health = {
        "Test": check.get("tests") or [],
        "Interval": nanoseconds(check["interval"]),
        "Timeout": nanoseconds(check["timeout"]),
        "StartPeriod": nanoseconds(check["startPeriod"]),
        "Retries": check["retries"],
    }
    interval = nanoseconds(check["startInterval"])
    # Only newer daemons know it, and older ones refuse what they don't know.
    return {**health, "StartInterval": interval} if interval else health


def _port_bindings(ports: Iterable[Mapping[str, Any]]) -> dict[str, list[dict[str, str]]]:
    bindings: dict[str, list[dict[str, str]]] = {}
    for port in ports:
        bound = {"HostIp": port["ip"], "HostPort": str(port.get("external") or 0)}
        bindings.setdefault(f"{port['internal']}/{port['protocol']}", []).append(bound)
    return bindings


def _volumes(volumes: Iterable[Mapping[str, Any]]) -> tuple[list[str], list[str], list[str]]:
    """Container paths, binds and containers whose volumes are taken over."""
    paths, binds, sources = [], [], []
    for volume in volumes:
        path, source = volume.get("containerPath"), volume.get("fromContainer")
        if bool(path) == bool(source):
            raise InvalidInputs(
                "docker:index/container:Container: a volume needs either `containerPath` or `fromContainer`, "
                f"and has {'both' if path else 'neither'}"
            )
        if source:
            sources.append(source)
            continue
        paths.append(str(path))
        name = volume.get("hostPath") or volume.get("volumeName")
        if name:
            mode = ",".join(filter(None, ["ro" if volume.get("readOnly") else "rw", volume.get("selinuxRelabel")]))
            binds.append(f"{name}:{path}:{mode}")
    return paths, binds, sources


def endpoint_config(network: Mapping[str, Any]) -> dict[str, Any]:
    """The `EndpointConfig` with which a container joins a network."""
    ipam = {
        "IPv4Address": network.get("ipv4Address"),
        "IPv6Address": network.get("ipv6Address"),
        "LinkLocalIPs": network.get("linkLocalIps"),
    }
    config = {
        "Aliases": network.get("aliases"),
        "IPAMConfig": {key: value for key, value in ipam.items() if value},
        "MacAddress": network.get("macAddress"),
        "DriverOpts": dict(option.split("=", 1) for option in network.get("driverOpts") or [] if "=" in option),
    }
    return {key: value for key, value in config.items() if value}


def archive(uploads: Iterable[Mapping[str, Any]]) -> bytes:
    """A tar of the files to put into the container's root before it starts."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for upload in uploads:
            content = _content(upload)
            entry = tarfile.TarInfo(upload["file"].lstrip("/"))
            entry.size = len(content)
            entry.mode = int(upload["permissions"], 8) if upload.get("permissions") else 0o644
            if upload["executable"] and not upload.get("permissions"):
                entry.mode = 0o744
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def _content(upload: Mapping[str, Any]) -> bytes:
    given = [key for key in ("content", "contentBase64", "source") if upload.get(key)]
    if len(given) != 1:
        raise InvalidInputs(
            f"docker:index/container:Container: upload of {upload['file']!r} gives {' and '.join(given) or 'nothing'}; "
            "exactly one of `content`, `contentBase64` and `source` is needed"
        )
    if given == ["content"]:
        return str(upload["content"]).encode()
    if given == ["source"]:
        return Path(upload["source"]).read_bytes()
    return base64.b64decode(upload["contentBase64"])
