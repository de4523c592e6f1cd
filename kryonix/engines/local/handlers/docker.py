"""Docker: the package's provider, its connection to the daemon, and the handlers of networks and volumes."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Final

import docker
from docker.errors import NotFound

from kryonix.engines.local.errors import ApplyFailed, InvalidInputs
from kryonix.engines.local.handlers.base import Live, Properties
from kryonix.engines.local.handlers.container import Container
from kryonix.engines.local.handlers.container_spec import LABELS, labels
from kryonix.engines.local.handlers.daemon import Daemon
from kryonix.engines.local.handlers.fields import Field, Fields, Kind
from kryonix.engines.local.handlers.resource import HandlerTable, Resource

__all__ = ["Network", "Volume", "provider"]

DEFAULT_HOST: Final = "unix:///var/run/docker.sock"
REMOVE_SECONDS: Final = 30.0
CONFIG: Final = frozenset({"host", "version", "pluginDownloadURL"})


def provider(config: Properties, owner: str = "") -> HandlerTable:
    """The handlers of package docker on the daemon that `config` or DOCKER_HOST names."""
    unknown = sorted(key for key, value in config.items() if key not in CONFIG and value)
    if unknown:
        raise InvalidInputs(
            f"provider docker: the local engine knows the setting `host` only, not {', '.join(unknown)}. "
            "Remove it, set DOCKER_HOST, DOCKER_TLS_VERIFY and DOCKER_CERT_PATH instead, or use the Pulumi CLI."
        )
    daemon = Daemon(str(config.get("host") or os.environ.get("DOCKER_HOST") or DEFAULT_HOST))
    handlers = [Network(daemon), Volume(daemon), Container(daemon, owner or str(Path.cwd()))]
    return HandlerTable.of("docker", handlers, daemon.close)


_IPAM: Final[Fields] = {
    "auxAddress": Field(kind=Kind.TEXT_MAP),
    "gateway": Field(),
    "ipRange": Field(),
    "subnet": Field(),
}


class Network(Resource):
    """A network. Its id is Docker's."""

    pulumi_type = "docker:index/network:Network"
    fields: ClassVar[Fields] = {
        "name": Field(required=True, replaces=True),
        "attachable": Field(kind=Kind.FLAG, replaces=True),
        "driver": Field(replaces=True),
        "ingress": Field(kind=Kind.FLAG, replaces=True),
        "internal": Field(kind=Kind.FLAG, replaces=True),
        "ipamConfigs": Field(kind=Kind.BLOCK_SET, fields=_IPAM, replaces=True),
        "ipamDriver": Field(default="default", replaces=True),
        "ipamOptions": Field(kind=Kind.TEXT_MAP, replaces=True),
        "ipv6": Field(kind=Kind.FLAG, replaces=True),
        "labels": Field(kind=Kind.BLOCK_SET, fields=LABELS, replaces=True),
        "options": Field(kind=Kind.TEXT_MAP, replaces=True),
    }

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon

    def create(self, inputs: Properties) -> tuple[str, Properties]:
        name = inputs["name"]
        with self._daemon.api(f"create network `{name}`") as api:
            id = self._made_before(api, inputs) or api.create_network(
                name,
                driver=inputs.get("driver"),
                options=inputs.get("options"),
                ipam=_ipam(inputs),
                internal=inputs.get("internal", False),
                labels=labels(inputs.get("labels")),
                enable_ipv6=inputs.get("ipv6", False),
                attachable=inputs.get("attachable"),
                ingress=inputs.get("ingress"),
            ).get("Id")
            return id, _network_outputs(inputs, api.inspect_network(id))

    def _made_before(self, api: docker.APIClient, inputs: Properties) -> str | None:
        """The network a killed run made and did not record. Docker itself allows two of one name."""
        name = inputs["name"]
        for found in api.networks(names=[name]):
            if found["Name"] != name:
                continue
            if (found.get("Labels") or {}) == labels(inputs.get("labels")):
                return str(found["Id"])
            raise ApplyFailed(
                f"there is a docker network `{name}` ({found['Id'][:12]}) already, and it was not made by this stack. "
                f"Remove it (`docker network rm {name}`), or give this one another name."
            )
        return None

    def update(self, id: str, old_inputs: Properties, old_outputs: Properties, new_inputs: Properties) -> Properties:
        return {**old_outputs, **new_inputs}

    def read(self, id: str, inputs: Properties, outputs: Properties) -> Live | None:
        try:
            with self._daemon.api(f"read network `{id}`") as api:
                return Live(id, dict(inputs), _network_outputs(inputs, api.inspect_network(id)))
        except NotFound:
            return None

    def delete(self, id: str, inputs: Properties, outputs: Properties) -> None:
        name = inputs.get("name", id)
        _remove(self._daemon, f"remove network `{name}`", lambda api: api.remove_network(id), "has active endpoints")


def _ipam(inputs: Properties) -> dict[str, Any]:
    pools = [
        docker.types.IPAMPool(
            subnet=pool.get("subnet"),
            iprange=pool.get("ipRange"),
            gateway=pool.get("gateway"),
            aux_addresses=pool.get("auxAddress"),
        )
        for pool in inputs.get("ipamConfigs") or []
    ]
    config: dict[str, Any] = docker.types.IPAMConfig(
        driver=inputs["ipamDriver"], pool_configs=pools, options=inputs.get("ipamOptions")
    )
    return config


def _network_outputs(inputs: Properties, found: Mapping[str, Any]) -> Properties:
    pools = [
        {"gateway": pool.get("Gateway", ""), "subnet": pool.get("Subnet", "")}
        for pool in (found.get("IPAM") or {}).get("Config") or []
    ]
    return {
        "attachable": found["Attachable"],
        "driver": found["Driver"],
        "ingress": found["Ingress"],
        "internal": found["Internal"],
        "ipamConfigs": pools,
        "ipv6": found["EnableIPv6"],
        **inputs,
        "options": found.get("Options") or {},
        "scope": found["Scope"],
    }


class Volume(Resource):
    """A named volume. Its id is its name."""

    pulumi_type = "docker:index/volume:Volume"
    fields: ClassVar[Fields] = {
        "name": Field(required=True, replaces=True),
        "driver": Field(replaces=True),
        "driverOpts": Field(kind=Kind.TEXT_MAP, replaces=True),
        "labels": Field(kind=Kind.BLOCK_SET, fields=LABELS, replaces=True),
    }

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon

    def create(self, inputs: Properties) -> tuple[str, Properties]:
        name = inputs["name"]
        if self.read(name, inputs, {}) is not None:
            raise ApplyFailed(
                f"there is a docker volume `{name}` already, and the stack's state does not know it. If the state was "
                f"lost, restore it. To begin anew without the data in it, remove it: `docker volume rm {name}`"
            )
        return self.recreate(inputs)

    def recreate(self, inputs: Properties) -> tuple[str, Properties]:
        name = inputs["name"]
        with self._daemon.api(f"create volume `{name}`") as api:
            # Docker gives back the volume of that name where there is one already.
            found = api.create_volume(
                name, inputs.get("driver"), inputs.get("driverOpts"), labels(inputs.get("labels"))
            )
        return name, {**inputs, "driver": found["Driver"], "mountpoint": found["Mountpoint"]}

    def update(self, id: str, old_inputs: Properties, old_outputs: Properties, new_inputs: Properties) -> Properties:
        return {**old_outputs, **new_inputs}

    def read(self, id: str, inputs: Properties, outputs: Properties) -> Live | None:
        try:
            with self._daemon.api(f"read volume `{id}`") as api:
                found = api.inspect_volume(id)
        except NotFound:
            return None
        return Live(id, dict(inputs), {**inputs, "driver": found["Driver"], "mountpoint": found["Mountpoint"]})

    def delete(self, id: str, inputs: Properties, outputs: Properties) -> None:
        _remove(self._daemon, f"remove volume `{id}`", lambda api: api.remove_volume(id, force=True), "in use")


def _remove(daemon: Daemon, doing: str, remove: Any, busy: str) -> None:
    """Remove what containers that are just going away may still hold on to."""
    deadline = time.monotonic() + REMOVE_SECONDS
    while True:
        try:
            with daemon.api(doing) as api:
                remove(api)
            return
        except NotFound:
            return
        except ApplyFailed as error:
            if busy not in str(error) or time.monotonic() > deadline:
                raise
        time.sleep(0.2)
