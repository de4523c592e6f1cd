"""Docker: the connection to the daemon, networks and volumes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, Final, TypeVar

import docker
import requests
from docker.errors import APIError, DockerException, NotFound

from kryonix.engines.docker_client import default_host, docker_client
from kryonix.engines.docker_ssh import SshFailed
from kryonix.engines.local.errors import ApplyFailed, ServiceUnavailable
from kryonix.engines.local.handlers.base import LiveResource, Properties
from kryonix.engines.local.handlers.fields import KEY, Field, Fields, TableHandler, accepted

Result = TypeVar("Result")

REQUEST_SECONDS: Final = 300
REMOVE_SECONDS: Final = 30.0
ELSEWHERE: Final = "or name another daemon by DOCKER_HOST or the config key docker:host"


class Daemon:
    """A Docker daemon. It connects on first use; many threads may share it."""

    def __init__(self, config: Properties) -> None:
        """Use the daemon of the provider's `config`, else of DOCKER_HOST. Raise `InvalidInputs`."""
        given = {key: value for key, value in config.items() if value}
        remedy = ". Set DOCKER_HOST, DOCKER_TLS_VERIFY and DOCKER_CERT_PATH instead, or use the Pulumi CLI."
        values = accepted("provider docker", {"host": Field()}, given, remedy)
        self.host = str(values.get("host") or default_host())
        self._lock = threading.Lock()
        self._api: docker.APIClient | None = None

    @contextmanager
    def api(self, doing: str) -> Iterator[docker.APIClient]:
        """Yield the client and translate its errors, except NotFound. `doing` is such as "create network `n`"."""
        try:
            with self._lock:
                if self._api is None:
                    self._api = docker_client(self.host, REQUEST_SECONDS)
            yield self._api
        except NotFound:
            raise
        except APIError as error:
            raise ApplyFailed(f"docker refused to {doing}: {error.explanation or error}") from None
        except SshFailed as error:
            raise ServiceUnavailable(f"docker can't be reached at {self.host}: {error}") from None
        except (DockerException, requests.RequestException) as error:
            raise ServiceUnavailable(self._unreachable(str(error))) from None

    def find(self, doing: str, inspect: Callable[[docker.APIClient], Result]) -> Result | None:
        """Return what Docker says of an object, None if there is none."""
        try:
            with self.api(doing) as api:
                return inspect(api)
        except NotFound:
            return None

    def remove(self, doing: str, remove: Callable[[docker.APIClient], object], busy: str) -> None:
        """Remove an object, even if a container in shutdown still uses it for a moment: `busy` is in Docker's error."""
        deadline = time.monotonic() + REMOVE_SECONDS
        while True:
            try:
                self.find(doing, remove)
                return
            except ApplyFailed as error:
                if busy not in str(error) or time.monotonic() > deadline:
                    raise
            time.sleep(0.2)

    def close(self) -> None:
        """Close the connection."""
        if self._api is not None:
            self._api.close()

    def _unreachable(self, reason: str) -> str:
        if "Permission denied" in reason:
            return f"docker at {self.host} refuses this user. Run as a user of the group docker, {ELSEWHERE}."
        if "No such file" in reason or "refused" in reason:
            reason = "nothing listens there"
        return (
            f"docker can't be reached at {self.host}: {reason}. Install Docker and start it (`dockerd`), {ELSEWHERE}."
        )


class NetworkHandler(TableHandler):
    """A network. Its id is Docker's."""

    pulumi_type = "docker:index/network:Network"
    fields: ClassVar[Fields] = {"name": KEY, "driver": Field(replaces=True)}
    constants: ClassVar[Properties] = {"ipamDriver": "default"}

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon

    def create(self, inputs: Properties) -> tuple[str, Properties]:
        name = inputs["name"]
        with self._daemon.api(f"create network `{name}`") as api:
            # Docker allows two networks of one name. One without labels is from a killed run.
            found = next((network for network in api.networks(names=[name]) if network["Name"] == name), None)
            if found is None:
                found = api.create_network(name, driver=inputs.get("driver"))
            elif found.get("Labels"):
                raise ApplyFailed(
                    f"docker network `{name}` ({found['Id'][:12]}) exists already and was not made by this stack. "
                    f"Remove it (`docker network rm {name}`), or give this network another name."
                )
            return str(found["Id"]), self._outputs(inputs, api.inspect_network(found["Id"]))

    def read(self, id: str, inputs: Properties, outputs: Properties) -> LiveResource | None:
        found = self._daemon.find(f"read network `{id}`", lambda api: api.inspect_network(id))
        return None if found is None else LiveResource(id, dict(inputs), self._outputs(inputs, found))

    def delete(self, id: str, inputs: Properties, outputs: Properties) -> None:
        doing = f"remove network `{inputs['name']}`"
        self._daemon.remove(doing, lambda api: api.remove_network(id), "has active endpoints")

    @staticmethod
    def _outputs(inputs: Properties, found: Mapping[str, Any]) -> Properties:
        pools = (found.get("IPAM") or {}).get("Config") or []
        return {
            "attachable": found["Attachable"],
            "driver": found["Driver"],
            "ingress": found["Ingress"],
            "internal": found["Internal"],
            "ipamConfigs": [{"gateway": pool.get("Gateway", ""), "subnet": pool.get("Subnet", "")} for pool in pools],
            "ipv6": found["EnableIPv6"],
            **inputs,
            "options": found.get("Options") or {},
            "scope": found["Scope"],
        }


class VolumeHandler(TableHandler):
    """A named volume. Its id is its name."""

    pulumi_type = "docker:index/volume:Volume"
    fields: ClassVar[Fields] = {"name": KEY}

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon

    def create(self, inputs: Properties) -> tuple[str, Properties]:
        name = inputs["name"]
        if self.read(name, inputs, {}) is not None:
            raise ApplyFailed(
                f"docker volume `{name}` exists already, and the stack's state does not know it. If the state was "
                f"lost, restore it. To start without the data in it, remove it: `docker volume rm {name}`"
            )
        return self.recreate(inputs)

    def recreate(self, inputs: Properties) -> tuple[str, Properties]:
        name = inputs["name"]
        with self._daemon.api(f"create volume `{name}`") as api:
            return name, self._outputs(inputs, api.create_volume(name))  # returns an existing one

    def read(self, id: str, inputs: Properties, outputs: Properties) -> LiveResource | None:
        found = self._daemon.find(f"read volume `{id}`", lambda api: api.inspect_volume(id))
        return None if found is None else LiveResource(id, dict(inputs), self._outputs(inputs, found))

    def delete(self, id: str, inputs: Properties, outputs: Properties) -> None:
        self._daemon.remove(f"remove volume `{id}`", lambda api: api.remove_volume(id, force=True), "in use")

    @staticmethod
    def _outputs(inputs: Properties, found: Mapping[str, Any]) -> Properties:
        return {**inputs, "driver": found["Driver"], "mountpoint": found["Mountpoint"]}
