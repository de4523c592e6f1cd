"""Docker containers: created, started and waited for. A container of another owner is never touched."""

from __future__ import annotations

import errno
import re
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, Final

import docker
from docker.errors import ImageNotFound, NotFound

from kryonix.engines.local.errors import ApplyFailed, InvalidInputs, PrerequisiteMissing
from kryonix.engines.local.handlers.base import UNKNOWN, LiveResource, Properties
from kryonix.engines.local.handlers.container_spec import (
    CONSTANTS,
    CONTAINER,
    MEBIBYTE,
    archive,
    container_outputs,
    container_spec,
)
from kryonix.engines.local.handlers.docker import Daemon, NetworkHandler, VolumeHandler
from kryonix.engines.local.handlers.fields import Fields, HandlerTable, TableHandler

OWNER_LABEL: Final = "br.com.kryonix.local.owner"
"""The owner of a container: tells one from a killed run of this stack from a stranger's of the same name."""

POLL_SECONDS: Final = 0.25
LOG_LINES: Final = 20


def provider(config: Properties) -> HandlerTable:
    """Return the handlers of package docker for the daemon in `config`, else in DOCKER_HOST."""
    daemon = Daemon(config)
    handlers = [NetworkHandler(daemon), VolumeHandler(daemon), ContainerHandler(daemon, str(Path.cwd()))]
    return HandlerTable(handlers, daemon.close)


class ContainerHandler(TableHandler):
    """A container. Its id is Docker's."""

    pulumi_type = "docker:index/container:Container"
    fields: ClassVar[Fields] = CONTAINER
    constants: ClassVar[Properties] = CONSTANTS
    replaced_in_place = True

    def __init__(self, daemon: Daemon, owner: str) -> None:
        self._daemon = daemon
        self._owner = owner

    def check(self, old: Mapping[str, Any] | None, new: Properties) -> Properties:
        values = super().check(old, new)
        volumes = values.get("volumes") or []
        for number, volume in enumerate([] if volumes is UNKNOWN else volumes):
            if volume is not UNKNOWN and ("volumeName" in volume) == ("hostPath" in volume):
                rule = "is a volume of no source, or of two. Give either `volumeName` or `hostPath`"
                raise InvalidInputs(f"{self.pulumi_type}: `volumes[{number}]` {rule}")
        return values

    def create(self, inputs: Properties) -> tuple[str, Properties]:
        return self._create(inputs, replace_own=False)

    def recreate(self, inputs: Properties) -> tuple[str, Properties]:
        return self._create(inputs, replace_own=True)

    def prepare(self, old_inputs: Properties, new_inputs: Properties) -> None:
        """Pull the image and check that the ports are free: no service stops for one that can't start."""
        with self._daemon.api(f"replace container `{new_inputs['name']}`") as api:
            self._ensure_image(api, new_inputs["image"])
        if not self._daemon.host.startswith("unix:"):
            return
        held = [(port["ip"], port.get("external")) for port in old_inputs.get("ports") or []]
        for port in new_inputs.get("ports") or []:
            address = (port["ip"], port["external"])
            if not any(_overlap(address, own) for own in held) and not _free(*address):
                raise PrerequisiteMissing(_port_taken(new_inputs, f"for {address[0]}:{address[1]}"))

    def _create(self, inputs: Properties, *, replace_own: bool) -> tuple[str, Properties]:
        name = inputs["name"]
        with self._daemon.api(f"create container `{name}`") as api:
            self._make_room(api, name, replace_own=replace_own)
            self._ensure_image(api, inputs["image"])
            spec = container_spec(inputs, {OWNER_LABEL: self._owner})
            id = str(api.create_container_from_config(spec, name)["Id"])
            try:
                _connect(api, id, inputs)
                if inputs.get("uploads"):
                    api.put_archive(id, "/", archive(inputs["uploads"]))
                _start(api, id, inputs)
                return id, container_outputs(inputs, api.inspect_container(id))
            except BaseException:
                # The state does not know it yet: nobody else would remove it.
                api.remove_container(id, v=True, force=True)
                raise

    def update(self, id: str, old_inputs: Properties, old_outputs: Properties, new_inputs: Properties) -> Properties:
        memory = new_inputs.get("memory") or 0
        # Docker's default limit with swap is twice the memory, and it refuses to raise memory above that limit.
        limits = {
            "mem_limit": memory * MEBIBYTE or None,
            "memswap_limit": (new_inputs.get("memorySwap") or 2 * memory) * MEBIBYTE or None,
            "restart_policy": {"Name": new_inputs["restart"]},
        }
        with self._daemon.api(f"update container `{new_inputs['name']}`") as api:
            api.update_container(id, **limits)
            if not api.inspect_container(id)["State"]["Running"]:
                _start(api, id, new_inputs)
            return {**old_outputs, **container_outputs(new_inputs, api.inspect_container(id))}

    def read(self, id: str, inputs: Properties, outputs: Properties) -> LiveResource | None:
        found = self._daemon.find(f"read container `{inputs['name']}`", lambda api: api.inspect_container(id))
        if found is None:
            return None
        host = found["HostConfig"]
        live = {**inputs, "restart": host["RestartPolicy"]["Name"] or "no"}
        if not found["State"]["Running"]:
            live["mustRun"] = False  # as the provider plugin shows a stopped container
        memory = host["Memory"] // MEBIBYTE
        if memory != (inputs.get("memory") or 0):
            live["memory"] = memory
        return LiveResource(found["Id"], live, container_outputs(live, found))

    def delete(self, id: str, inputs: Properties, outputs: Properties) -> None:
        try:
            with suppress(NotFound), self._daemon.api(f"remove container `{inputs['name']}`") as api:
                api.stop(id, timeout=inputs.get("destroyGraceSeconds") or 0)
                api.remove_container(id, v=True, force=True)
        except ApplyFailed as error:
            if "already in progress" not in str(error):
                raise

    def _ensure_image(self, api: docker.APIClient, image: str) -> None:
        with suppress(ImageNotFound):
            api.inspect_image(image)
            return
        repository, tag = docker.utils.parse_repository_tag(image)
        try:
            lines = api.pull(str(repository), str(tag or "latest"), stream=True, decode=True)
            reason = "".join(line.get("error", "") for line in lines)
        except (NotFound, docker.errors.APIError) as error:
            reason = error.explanation or str(error)
        if reason:
            raise PrerequisiteMissing(
                f"docker at {self._daemon.host} has no image {image} and can't pull it: {reason}. "
                "Make it available under that name (`docker pull`, `load` or `import`), or use another image."
            )

    def _make_room(self, api: docker.APIClient, name: str, *, replace_own: bool) -> None:
        """Remove a container that a killed run of this stack left under the name; refuse any other."""
        found = self._daemon.find(f"create container `{name}`", lambda api: api.inspect_container(name))
        if found is None:
            return
        owner = (found["Config"].get("Labels") or {}).get(OWNER_LABEL)
        if owner == self._owner and replace_own:
            api.remove_container(found["Id"], v=True, force=True)
            return
        if owner == self._owner:
            whose = "this folder made it, but the stack's state does not know it. If the state was lost, restore it"
        else:
            whose = f"it belongs to {owner}" if owner else "it was not made by this program"
        raise ApplyFailed(
            f"container `{name}` ({found['Id'][:12]}, image {found['Config']['Image']}) exists already: {whose}. If "
            f"you don't need it, remove it (`docker rm -f {name}`); else give this container another name."
        )


def _connect(api: docker.APIClient, id: str, inputs: Properties) -> None:
    networks = inputs.get("networksAdvanced") or []
    if networks:
        api.disconnect_container_from_network(id, "bridge")
    for network in networks:
        try:
            api.connect_container_to_network(id, network["name"], aliases=network.get("aliases"))
        except NotFound:
            raise ApplyFailed(f"container `{inputs['name']}`: there is no network {network['name']}") from None


def _start(api: docker.APIClient, id: str, inputs: Properties) -> None:
    try:
        api.start(id)
    except docker.errors.APIError as error:
        reason = error.explanation or str(error)
        if re.search(r"already allocated|address already in use", reason):
            raise PrerequisiteMissing(_port_taken(inputs, reason)) from None
        raise ApplyFailed(f"container `{inputs['name']}` does not start: {reason}") from None
    if inputs["wait"]:
        _wait_until_healthy(api, id, inputs)


def _wait_until_healthy(api: docker.APIClient, id: str, inputs: Properties) -> None:
    name = inputs["name"]
    deadline = time.monotonic() + inputs["waitTimeout"]
    while True:
        state = api.inspect_container(id)["State"]
        health = state.get("Health")
        if health is None:
            raise ApplyFailed(
                f"container `{name}` has `wait`, but no health check. Add `healthcheck`, or remove `wait`."
            )
        if health["Status"] == "healthy":
            return
        if not state["Running"] and not state.get("Restarting"):
            what = f"container `{name}` exited with status {state['ExitCode']} instead of becoming healthy"
            break
        if time.monotonic() > deadline:
            what = f"container `{name}` is not healthy after {inputs['waitTimeout']} s"
            break
        time.sleep(POLL_SECONDS)
    lines = [f"{what}; it has been removed."]
    if checks := health.get("Log"):
        lines.append(f"last health check (status {checks[-1]['ExitCode']}): {checks[-1]['Output'].strip()}")
    if log := api.logs(id, stdout=True, stderr=True, tail=LOG_LINES).decode(errors="replace").strip():
        lines.append(f"end of its log:\n{log}")
    raise ApplyFailed("\n".join(lines))


_CONFIG_KEYS: Final = {
    5672: "amqpPort",
    5671: "amqpPort",
    15672: "managementPort",
    15671: "managementPort",
    15692: "metricsPort",
    15691: "metricsPort",
    5432: "registryPort",
    9090: "prometheusPort",
    9093: "alertmanagerPort",
    3000: "grafanaPort",
    8080: "signupPort",
}
"""Keys of the platform's config by the port inside the container."""


def _overlap(one: tuple[str, Any], other: tuple[str, Any]) -> bool:
    """Return True if two addresses can't be listened on at once: the same, or one of them on all interfaces."""
    return one[1] == other[1] and (one[0] == other[0] or bool({one[0], other[0]} & {"0.0.0.0", "::"}))  # noqa: S104


def _free(ip: str, port: int) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in ip else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((ip, int(port)))
        except OSError as error:
            return error.errno != errno.EADDRINUSE
    return True


def _port_taken(inputs: Properties, reason: str) -> str:
    ports = ", ".join(f"{port['ip']}:{port['external']}" for port in inputs.get("ports") or [])
    found = re.search(r"(?:for|listen tcp4?|listen udp4?) (\S+?:\d+)", reason)
    address = found[1] if found else ports
    keys = [
        f"`kryonix:{_CONFIG_KEYS[port['internal']]}`"
        for port in inputs.get("ports") or []
        if port["internal"] in _CONFIG_KEYS and f"{port['ip']}:{port.get('external')}" in address
    ]
    return (
        f"container `{inputs['name']}` can't have the port {address}: it is in use. Stop what listens there (`ss "
        f"-ltnp` and `docker ps` show it), or set another {' or '.join(keys) or 'port'} in the stack's config."
    )
