"""Docker containers: made, started and waited for, taken over by nobody but their own stack, updated and removed."""

from __future__ import annotations

import errno
import re
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final

import docker
from docker.errors import ImageNotFound, NotFound

from kryonix.engines.local.errors import ApplyFailed, PrerequisiteMissing
from kryonix.engines.local.handlers.base import Live, Properties
from kryonix.engines.local.handlers.container_spec import CONTAINER, MEBIBYTE, archive, container_spec, endpoint_config
from kryonix.engines.local.handlers.daemon import Daemon
from kryonix.engines.local.handlers.fields import Fields
from kryonix.engines.local.handlers.resource import Resource

__all__ = ["OWNER_LABEL", "Container"]

OWNER_LABEL: Final = "br.com.kryonix.local.owner"
"""Says whose a container is, so that what a killed run left can be told from a stranger of the same name."""

POLL_SECONDS: Final = 0.25
LOG_LINES: Final = 20


class Container(Resource):
    """A container. Its id is Docker's."""

    pulumi_type = "docker:index/container:Container"
    fields: ClassVar[Fields] = CONTAINER
    replaced_in_place = True

    def __init__(self, daemon: Daemon, owner: str) -> None:
        self._daemon = daemon
        self._owner = owner

    def create(self, inputs: Properties) -> tuple[str, Properties]:
        return self._create(inputs, self._refuse_taken)

    def recreate(self, inputs: Properties) -> tuple[str, Properties]:
        return self._create(inputs, self._make_room)

    def prepare(self, old_inputs: Properties, new_inputs: Properties) -> None:
        """Have the image, and see that the ports are free: a service is not taken down for what can't come up."""
        with self._daemon.api(f"replace container `{new_inputs['name']}`") as api:
            self._ensure_image(api, new_inputs["image"])
        if not self._daemon.host.startswith("unix:"):
            return
        held = {(port.get("ip"), port.get("external")) for port in old_inputs.get("ports") or []}
        for port in new_inputs.get("ports") or []:
            address = (port.get("ip") or "0.0.0.0", port.get("external"))  # noqa: S104, Docker's own default
            if address[1] and (port.get("ip"), port.get("external")) not in held and not _free(*address):
                raise PrerequisiteMissing(_port_taken(new_inputs, f"for {address[0]}:{address[1]}"))

    def _create(self, inputs: Properties, prepare: Callable[[docker.APIClient, str], None]) -> tuple[str, Properties]:
        name = inputs["name"]
        spec = container_spec(inputs, {OWNER_LABEL: self._owner})
        files = archive(inputs["uploads"]) if inputs.get("uploads") else b""
        with self._daemon.api(f"create container `{name}`") as api:
            prepare(api, name)
            self._ensure_image(api, inputs["image"])
            id = str(api.create_container_from_config(spec, name)["Id"])
            try:
                self._connect(api, id, inputs)
                if files:
                    api.put_archive(id, "/", files)
                if inputs["start"]:
                    self._start(api, id, inputs)
                return id, _outputs(inputs, api.inspect_container(id))
            except BaseException:
                # Nobody would know of it: it is not in the state yet.
                api.remove_container(id, v=True, force=True)
                raise

    def update(self, id: str, old_inputs: Properties, old_outputs: Properties, new_inputs: Properties) -> Properties:
        name = new_inputs["name"]
        with self._daemon.api(f"update container `{name}`") as api:
            api.update_container(id, **_update(new_inputs))
            if new_inputs["mustRun"] and new_inputs["start"] and not api.inspect_container(id)["State"]["Running"]:
                self._start(api, id, new_inputs)
            return {**old_outputs, **_outputs(new_inputs, api.inspect_container(id))}

    def read(self, id: str, inputs: Properties, outputs: Properties) -> Live | None:
        try:
            with self._daemon.api(f"read container `{inputs.get('name', id)}`") as api:
                found = api.inspect_container(id)
        except NotFound:
            return None
        live = {**inputs, **_drift(inputs, found)}
        return Live(found["Id"], live, _outputs(live, found))

    def delete(self, id: str, inputs: Properties, outputs: Properties) -> None:
        try:
            with self._daemon.api(f"remove container `{inputs.get('name', id)}`") as api:
                api.stop(id, timeout=inputs.get("destroyGraceSeconds") or 0)
                api.remove_container(id, v=inputs.get("removeVolumes", True), force=True)
        except NotFound:
            return
        except ApplyFailed as error:
            if "already in progress" not in str(error):
                raise

    def _ensure_image(self, api: docker.APIClient, image: str) -> None:
        try:
            api.inspect_image(image)
            return
        except ImageNotFound:
            pass
        try:
            lines = api.pull(*_repository(image), stream=True, decode=True)
            reason = "".join(line.get("error", "") for line in lines)
        except (NotFound, docker.errors.APIError) as error:
            reason = error.explanation or str(error)
        if reason:
            raise PrerequisiteMissing(
                f"the image {image} is not known to docker at {self._daemon.host} and can't be pulled: {reason}. "
                "Make it available under that name (`docker pull`, `load` or `import`), or name another one."
            )

    def _make_room(self, api: docker.APIClient, name: str) -> None:
        """Take away what a killed run of this stack left under the name; refuse to touch anybody else's."""
        found = _inspected(api, name)
        if found is None:
            return
        if _owner_of(found) != self._owner:
            self._refuse_taken(api, name)
        api.remove_container(found["Id"], force=True)

    def _refuse_taken(self, api: docker.APIClient, name: str) -> None:
        """Refuse a name that a container has already."""
        found = _inspected(api, name)
        if found is None:
            return
        owner = _owner_of(found)
        if owner == self._owner:
            whose = "this folder made it, but the stack's state does not know it. If the state was lost, restore it"
        else:
            whose = f"it is that of {owner}" if owner else "it was not made by this program"
        raise ApplyFailed(
            f"there is a container `{name}` ({found['Id'][:12]}, image {found['Config']['Image']}) already, and "
            f"{whose}. To do without it, remove it (`docker rm -f {name}`), or give this one another name."
        )

    def _connect(self, api: docker.APIClient, id: str, inputs: Properties) -> None:
        networks = inputs.get("networksAdvanced") or []
        if networks and inputs["networkMode"] == "bridge":
            api.disconnect_container_from_network(id, "bridge")
        for network in networks:
            try:
                body = {"Container": id, "EndpointConfig": endpoint_config(network)}
                url = api._url("/networks/{0}/connect", network["name"])
                api._raise_for_status(api._post_json(url, data=body))
            except NotFound:
                raise ApplyFailed(
                    f"container `{inputs['name']}` can't join the network {network['name']}: there is none of that name"
                ) from None

    def _start(self, api: docker.APIClient, id: str, inputs: Properties) -> None:
        try:
            api.start(id)
        except docker.errors.APIError as error:
            reason = error.explanation or str(error)
            taken = re.search(r"already allocated|address already in use", reason)
            if not taken:
                raise ApplyFailed(f"container `{inputs['name']}` does not start: {reason}") from None
            raise PrerequisiteMissing(_port_taken(inputs, reason)) from None
        if inputs["wait"]:
            self._wait_healthy(api, id, inputs)

    def _wait_healthy(self, api: docker.APIClient, id: str, inputs: Properties) -> None:
        deadline = time.monotonic() + inputs["waitTimeout"]
        while True:
            state = api.inspect_container(id)["State"]
            health = state.get("Health")
            if health is None:
                raise ApplyFailed(
                    f"container `{inputs['name']}` is to be waited for and has no health check. "
                    "Add `healthcheck`, or leave `wait` out."
                )
            if health["Status"] == "healthy":
                return
            stopped = not state["Running"] and not state.get("Restarting")
            if stopped or time.monotonic() > deadline:
                raise ApplyFailed(_unhealthy(inputs, state, _last_log(api, id)))
            time.sleep(POLL_SECONDS)


def _free(ip: str, port: int) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in ip else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((ip, int(port)))
        except OSError as error:
            return error.errno != errno.EADDRINUSE
    return True


def _inspected(api: docker.APIClient, name: str) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = api.inspect_container(name)
    except NotFound:
        return None
    return found


def _owner_of(found: Mapping[str, Any]) -> str | None:
    return (found["Config"].get("Labels") or {}).get(OWNER_LABEL)


def _repository(image: str) -> tuple[str, str | None]:
    """Repository and tag or digest; a name without either means `latest`, as for docker itself."""
    repository, tag = docker.utils.parse_repository_tag(image)
    return str(repository), str(tag) if tag else "latest"


def _port_taken(inputs: Properties, reason: str) -> str:
    ports = ", ".join(f"{port['ip']}:{port['external']}" for port in inputs.get("ports") or [] if port.get("external"))
    found = re.search(r"(?:for|listen tcp4?|listen udp4?) (\S+?:\d+)", reason)
    port = found.group(1) if found else ports
    return (
        f"container `{inputs['name']}` can't have the port {port}: something else listens there already. Stop it "
        f"(`ss -ltnp` and `docker ps` show what it is), or set another port in the stack's config."
    )


def _unhealthy(inputs: Properties, state: Mapping[str, Any], log: str) -> str:
    name = inputs["name"]
    if not state["Running"]:
        what = f"container `{name}` ended with status {state['ExitCode']} instead of becoming healthy"
    else:
        what = f"container `{name}` is not healthy after {inputs['waitTimeout']} s"
    checks = (state.get("Health") or {}).get("Log") or []
    said = (
        f"its last health check (status {checks[-1]['ExitCode']}) said: {checks[-1]['Output'].strip()}"
        if checks
        else ""
    )
    return "\n".join(
        filter(None, (f"{what}; it has been removed.", said, f"the end of its log:\n{log}" if log else ""))
    )


def _last_log(api: docker.APIClient, id: str) -> str:
    log: bytes = api.logs(id, stdout=True, stderr=True, tail=LOG_LINES)
    return log.decode(errors="replace").strip()


def _update(inputs: Properties) -> dict[str, Any]:
    memory = inputs.get("memory") or 0
    # Docker sets twice the memory as the limit with swap when it makes a container, and refuses to raise the one
    # above the other later.
    swap = inputs.get("memorySwap") or 2 * memory
    return {
        "cpu_shares": inputs.get("cpuShares") or None,
        "cpuset_cpus": inputs.get("cpuSet"),
        "mem_limit": memory * MEBIBYTE or None,
        "mem_reservation": inputs["memoryReservation"] * MEBIBYTE or None,
        "memswap_limit": (swap * MEBIBYTE if swap > 0 else swap) or None,
        "restart_policy": {"Name": inputs["restart"], "MaximumRetryCount": inputs.get("maxRetryCount", 0)},
    }


def _drift(inputs: Properties, found: Mapping[str, Any]) -> Properties:
    """The inputs that no longer hold. A stopped container shows as `mustRun` false, as the provider plugin has it."""
    host = found["HostConfig"]
    drift: Properties = {"restart": host["RestartPolicy"]["Name"] or "no"}
    if inputs["mustRun"] and not found["State"]["Running"]:
        drift["mustRun"] = False
    for name, key, unit in (("memory", "Memory", MEBIBYTE), ("cpuShares", "CpuShares", 1)):
        value = host[key] // unit
        if value != (inputs.get(name) or 0):
            drift[name] = value
    return drift


_READ: Final[Mapping[str, Callable[[Mapping[str, Any]], Any]]] = {
    "bridge": lambda found: found["NetworkSettings"].get("Bridge", ""),
    "command": lambda found: found["Config"].get("Cmd") or [],
    "entrypoints": lambda found: found["Config"].get("Entrypoint") or [],
    "hostname": lambda found: found["Config"]["Hostname"],
    "init": lambda found: bool(found["HostConfig"].get("Init")),
    "ipcMode": lambda found: found["HostConfig"]["IpcMode"],
    "logDriver": lambda found: found["HostConfig"]["LogConfig"]["Type"],
    "platform": lambda found: found.get("Platform", ""),
    "runtime": lambda found: found["HostConfig"]["Runtime"],
    "securityOpts": lambda found: found["HostConfig"].get("SecurityOpt") or [],
    "shmSize": lambda found: found["HostConfig"]["ShmSize"] // MEBIBYTE,
    "stopSignal": lambda found: found["Config"].get("StopSignal", ""),
    "stopTimeout": lambda found: found["Config"].get("StopTimeout") or 0,
}
"""What the provider plugin computes where the program says nothing. It replaces a container whose state lacks them."""


def _outputs(inputs: Properties, found: Mapping[str, Any]) -> Properties:
    computed = {name: read(found) for name, read in _READ.items()}
    outputs = {**computed, "envs": [], **inputs, "networkDatas": _networks(found)}
    if inputs.get("ports"):
        outputs["ports"] = _ports(inputs["ports"], found)
    if not found["State"]["Running"]:
        outputs["exitCode"] = found["State"]["ExitCode"]
    return outputs


def _networks(found: Mapping[str, Any]) -> list[Properties]:
    return [
        {
            "gateway": network["Gateway"],
            "globalIpv6Address": network["GlobalIPv6Address"],
            "globalIpv6PrefixLength": network["GlobalIPv6PrefixLen"],
            "ipAddress": network["IPAddress"],
            "ipPrefixLength": network["IPPrefixLen"],
            "ipv6Gateway": network["IPv6Gateway"],
            "macAddress": network["MacAddress"],
            "networkName": name,
        }
        for name, network in sorted((found["NetworkSettings"].get("Networks") or {}).items())
    ]


def _ports(ports: list[Properties], found: Mapping[str, Any]) -> list[Properties]:
    """The ports as asked for, with the external one that Docker chose where none was named."""
    published = found["NetworkSettings"].get("Ports") or {}
    outputs = []
    for port in ports:
        bound = published.get(f"{port['internal']}/{port['protocol']}") or []
        same_ip = [int(binding["HostPort"]) for binding in bound if binding["HostIp"] == port["ip"]]
        chosen = {"external": same_ip[0]} if same_ip and not port.get("external") else {}
        outputs.append({**port, **chosen})
    return outputs
