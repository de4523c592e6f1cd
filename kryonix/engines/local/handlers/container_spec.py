"""The inputs of a container, and the requests to Docker for them. Pure."""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Iterable, Mapping
from typing import Any, Final

from kryonix.engines.local.handlers.base import Properties
from kryonix.engines.local.handlers.fields import KEY, REQUIRED, Field, Fields, Kind

MEBIBYTE: Final = 1024 * 1024
_SECONDS: Final = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}


def _replacing(kind: Kind = Kind.TEXT, **more: Any) -> Field:
    return Field(kind=kind, replaces=True, **more)


_WHOLE: Final = Field(kind=Kind.WHOLE)
_DURATION: Final = Field(default="0s", pattern=r"(\d+(\.\d+)?(ms|s|m|h))+")

_CAPABILITIES: Final[Fields] = {"adds": Field(kind=Kind.TEXT_SET), "drops": Field(kind=Kind.TEXT_SET)}
_HEALTHCHECK: Final[Fields] = {
    "tests": Field(kind=Kind.TEXT_LIST),
    **dict.fromkeys(("interval", "timeout", "startPeriod"), _DURATION),
    "startInterval": Field(default="0s", pattern="0s"),
    "retries": Field(kind=Kind.WHOLE, default=0),
}
_NETWORK: Final[Fields] = {"name": REQUIRED, "aliases": Field(kind=Kind.TEXT_SET)}
_PORT: Final[Fields] = {
    **dict.fromkeys(("internal", "external"), Field(kind=Kind.WHOLE, required=True)),
    "ip": REQUIRED,
    "protocol": Field(default="tcp", pattern="tcp"),
}
_UPLOAD: Final[Fields] = {
    "file": REQUIRED,
    "content": REQUIRED,
    "executable": Field(kind=Kind.FLAG, default=False),
    "permissions": Field(pattern=r"0[0-7]{3}"),
}
_VOLUME: Final[Fields] = {
    "containerPath": REQUIRED,
    "volumeName": Field(),
    "hostPath": Field(),
    "readOnly": Field(kind=Kind.FLAG),
}

# The provider plugin decides what replaces. A health check does not, and the plugin can't change it in place either: a
# new one takes effect with the next replacement.
CONTAINER: Final[Fields] = {
    "name": KEY,
    "image": KEY,
    "capabilities": _replacing(Kind.BLOCK, fields=_CAPABILITIES),
    "command": _replacing(Kind.TEXT_LIST),
    "destroyGraceSeconds": _WHOLE,
    "entrypoints": _replacing(Kind.TEXT_LIST),
    "envs": _replacing(Kind.TEXT_SET),
    "healthcheck": Field(kind=Kind.BLOCK, fields=_HEALTHCHECK),
    "hostname": _replacing(),
    "hosts": _replacing(Kind.BLOCK_SET, fields={"host": REQUIRED, "ip": REQUIRED}),
    "labels": _replacing(Kind.BLOCK_SET, fields={"label": REQUIRED, "value": REQUIRED}),
    "memory": _WHOLE,
    "memorySwap": _WHOLE,
    "networksAdvanced": _replacing(Kind.BLOCK_SET, fields=_NETWORK),
    "ports": _replacing(Kind.BLOCK_SET, fields=_PORT),
    "readOnly": _replacing(Kind.FLAG, default=False),
    "restart": Field(default="no", pattern="no|on-failure|always|unless-stopped"),
    "securityOpts": _replacing(Kind.TEXT_SET),
    "shmSize": _replacing(Kind.WHOLE),
    "tmpfs": Field(kind=Kind.TEXT_MAP),
    "user": _replacing(),
    "uploads": _replacing(Kind.BLOCK_SET, fields=_UPLOAD),
    "volumes": _replacing(Kind.BLOCK_SET, fields=_VOLUME),
    "wait": Field(kind=Kind.FLAG, default=False),
    "waitTimeout": Field(kind=Kind.WHOLE, default=60),
}
CONSTANTS: Final[Properties] = {
    **dict.fromkeys(("attach", "logs", "rm", "stdinOpen", "tty"), False),
    **dict.fromkeys(("mustRun", "removeVolumes", "start"), True),
    "containerReadRefreshTimeoutMilliseconds": 15000,
    "memoryReservation": 0,
    "networkMode": "bridge",
}


def nanoseconds(duration: str) -> int:
    """Return a Go duration such as `1m30s` in nanoseconds."""
    return int(sum(float(n) * _SECONDS[unit] * 10**9 for n, unit in re.findall(r"([\d.]+)(ms|s|m|h)", duration)))


def container_spec(inputs: Properties, extra_labels: Mapping[str, str]) -> dict[str, Any]:
    """Return the body of `POST /containers/create`."""
    check, capabilities = inputs.get("healthcheck"), inputs.get("capabilities") or {}
    ports: dict[str, list[dict[str, str]]] = {}
    for port in inputs.get("ports") or []:
        bound = {"HostIp": port["ip"], "HostPort": str(port["external"])}
        ports.setdefault(f"{port['internal']}/tcp", []).append(bound)
    host = {
        "Binds": [_bind(volume) for volume in inputs.get("volumes") or []],
        "CapAdd": capabilities.get("adds"),
        "CapDrop": capabilities.get("drops"),
        "ExtraHosts": [f"{named['host']}:{named['ip']}" for named in inputs.get("hosts") or []],
        "Memory": (inputs.get("memory") or 0) * MEBIBYTE,
        "MemorySwap": (inputs.get("memorySwap") or 0) * MEBIBYTE,
        "NetworkMode": "bridge",
        "PortBindings": ports,
        "ReadonlyRootfs": inputs["readOnly"],
        "RestartPolicy": {"Name": inputs["restart"]},
        "SecurityOpt": inputs.get("securityOpts"),
        "ShmSize": (inputs.get("shmSize") or 0) * MEBIBYTE,
        "Tmpfs": inputs.get("tmpfs"),
    }
    spec = {
        "Image": inputs["image"],
        "Hostname": inputs.get("hostname"),
        "User": inputs.get("user"),
        "Env": inputs.get("envs"),
        "Cmd": inputs.get("command"),
        "Entrypoint": inputs.get("entrypoints"),
        "ExposedPorts": {port: {} for port in ports},
        "Labels": {pair["label"]: pair["value"] for pair in inputs.get("labels") or []} | dict(extra_labels),
        "Healthcheck": check
        and {
            "Test": check.get("tests") or [],
            "Interval": nanoseconds(check["interval"]),
            "Timeout": nanoseconds(check["timeout"]),
            "StartPeriod": nanoseconds(check["startPeriod"]),
            "Retries": check["retries"],
        },
        "HostConfig": {name: value for name, value in host.items() if value},
    }
    return {name: value for name, value in spec.items() if value}


def _bind(volume: Mapping[str, Any]) -> str:
    """Return Docker's text for a volume, or for a folder of its host."""
    source = volume.get("volumeName") or volume["hostPath"]
    return f"{source}:{volume['containerPath']}:{'ro' if volume.get('readOnly') else 'rw'}"


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


_NETWORK_DATA: Final = {
    "gateway": "Gateway",
    "globalIpv6Address": "GlobalIPv6Address",
    "globalIpv6PrefixLength": "GlobalIPv6PrefixLen",
    "ipAddress": "IPAddress",
    "ipPrefixLength": "IPPrefixLen",
    "ipv6Gateway": "IPv6Gateway",
    "macAddress": "MacAddress",
}


def container_outputs(inputs: Properties, found: Mapping[str, Any]) -> Properties:
    """Return the outputs of a container as Docker describes it."""
    config, host, network = found["Config"], found["HostConfig"], found["NetworkSettings"]
    outputs = {
        # The provider plugin computes these, and would replace a container without them in the state.
        "bridge": network.get("Bridge", ""),
        "command": config.get("Cmd") or [],
        "entrypoints": config.get("Entrypoint") or [],
        "envs": [],
        "hostname": config["Hostname"],
        "init": bool(host.get("Init")),
        "ipcMode": host["IpcMode"],
        "logDriver": host["LogConfig"]["Type"],
        "platform": found.get("Platform", ""),
        "runtime": host["Runtime"],
        "securityOpts": host.get("SecurityOpt") or [],
        "shmSize": host["ShmSize"] // MEBIBYTE,
        "stopSignal": config.get("StopSignal", ""),
        "stopTimeout": config.get("StopTimeout") or 0,
        **inputs,
        "networkDatas": [
            {**{ours: joined[theirs] for ours, theirs in _NETWORK_DATA.items()}, "networkName": name}
            for name, joined in sorted((network.get("Networks") or {}).items())
        ],
    }
    if not found["State"]["Running"]:
        outputs["exitCode"] = found["State"]["ExitCode"]
    return outputs
