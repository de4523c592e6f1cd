"""Explain why a service of a platform does not answer: Docker knows if its container is stopped, paused or gone."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from contextlib import closing
from typing import Any, Final

from kryonix.engines.deployments import CONTAINER_TYPE, Deployment, entries
from kryonix.errors import ServiceUnreachable

_PROVIDER: Final = "pulumi:providers:docker"
_REFERENCE: Final = "pulumi:pulumi:StackReference"
_NODE: Final = re.compile(r"-rabbitmq(-\d)?$")
"""The name of a container of a broker's node."""
_TIMEOUT_S: Final = 5
_RUN_S: Final = 300


def worker_container(stack: str) -> str:
    """Return the name of the container with the worker of a platform's signup service."""
    return f"kryonix-{stack}-worker"


def keeper_container(stack: str) -> str:
    """Return the name of the container that keeps the certificates of a platform's services."""
    return f"kryonix-{stack}-keeper"


def containers(deployment: Mapping[str, Any]) -> dict[str, str]:
    """Return the containers in a stack's state: the URL of its Docker host by its name; empty for the default one."""
    resources = entries(deployment)
    hosts = {each["urn"]: str(each["inputs"].get("host") or "") for each in resources if each["type"] == _PROVIDER}
    return {
        str(each["inputs"]["name"]): hosts.get(each.get("provider", "").rpartition("::")[0], "")
        for each in resources
        if each["type"] == CONTAINER_TYPE
    }


def platform_of(deployment: Mapping[str, Any]) -> str | None:
    """Return the stack of a tenant's platform; None for another deployment."""
    names = [str(r["inputs"]["name"]) for r in entries(deployment) if r["type"] == _REFERENCE]
    return names[0].rsplit("/", 1)[-1] if names else None


def with_live_ids(document: Deployment) -> Deployment:
    """Return a deployment of another day with today's ids of its containers: one replaced since then has another.

    Unchanged if Docker does not answer here.
    """
    live = {name: state["Id"] for name, state in _inspected(containers(document)).items() if state and "Id" in state}

    def today(resource: Mapping[str, Any]) -> Mapping[str, Any]:
        id = live.get(str(resource["inputs"]["name"])) if resource["type"] == CONTAINER_TYPE else None
        if id is None or id == resource.get("id"):
            return resource
        return {**resource, "id": id, "outputs": {**resource.get("outputs", {}), "id": id}}

    resources = [today(resource) for resource in entries(document)]
    return {**document, "deployment": {**document["deployment"], "resources": resources}}


def advice(stack: str, hosts: Mapping[str, str], noted: Collection[str] = ()) -> str | None:
    """Return what is wrong with the first container that does not run, and what to do; None if all run.

    Also None if Docker does not answer here, or only a minority of a cluster's nodes is away. `hosts`: each container's
    Docker host. `noted`: containers that the state has lost already.
    """
    states = _without_spare(_states(hosts))
    wrong = (_advice(stack, name, state, name in noted) for name, state in states.items())
    return next((text for text in wrong if text), None)


def paused(stack: str, hosts: Mapping[str, str]) -> str | None:
    """Return what to do about the first paused container; None if there is none that is missed."""
    states = _without_spare(_states(hosts))
    return next((_paused(stack, name) for name, state in states.items() if state and state.get("Paused")), None)


def _states(hosts: Mapping[str, str]) -> dict[str, dict[str, Any] | None]:
    """Return the state of each container, None for one that is gone; nothing if this machine's does not answer."""
    return {name: found and found["State"] for name, found in _inspected(hosts).items()}


def _without_spare(states: Mapping[str, dict[str, Any] | None]) -> dict[str, dict[str, Any] | None]:
    """Return the states without those of a broker's nodes that are away, while a majority of its nodes runs."""
    nodes = {name: state for name, state in states.items() if _NODE.search(name)}
    away = {name for name, state in nodes.items() if not state or not state["Running"] or state.get("Paused")}
    return {name: state for name, state in states.items() if name not in away or 2 * len(away) >= len(nodes)}


def _inspected(hosts: Mapping[str, str]) -> dict[str, dict[str, Any] | None]:
    """Return what Docker says of each container, None for one that is gone; nothing if this machine's does not answer.

    `hosts` are the URLs of their Docker hosts. A container on one that does not answer is `Away`.
    """
    from docker.errors import DockerException  # takes as long as a tenth of a command, and most have no need to ask

    from kryonix.engines.docker_client import default_host, docker_client

    inspected: dict[str, dict[str, Any] | None] = {}
    for host in set(hosts.values()):
        names = [name for name, its_host in hosts.items() if its_host == host]
        try:
            with closing(docker_client(host or default_host(), _TIMEOUT_S)) as client:
                inspected.update({name: _found(client, name) for name in names})
        except (DockerException, OSError):
            if host:  # Docker may be missing here, but not on the machine of a node
                inspected.update({name: {"State": {"Running": False, "Away": host}} for name in names})
    return {name: inspected[name] for name in hosts if name in inspected}


def _found(client: Any, name: str) -> dict[str, Any] | None:
    from docker.errors import NotFound

    try:
        return dict(client.inspect_container(name))
    except NotFound:
        return None


def run_inside(container: str, command: Sequence[str], docker_host: str = "") -> tuple[int, str, str]:
    """Run a command in a container; return its status, output and error output.

    `docker_host` is the Docker host's URL; empty for this machine's. Raises ServiceUnreachable if the container does
    not run there.
    """
    from docker.errors import APIError, DockerException, NotFound

    from kryonix.engines.docker_client import default_host, docker_client

    where = f"Docker at {docker_host}" if docker_host else "Docker here"
    try:
        with closing(docker_client(docker_host or default_host(), _RUN_S)) as client:
            id = client.exec_create(container, list(command))["Id"]
            out, err = client.exec_start(id, demux=True)
            status = client.exec_inspect(id)["ExitCode"]
    except NotFound as error:
        remedy = "Run this where the platform's Docker is, or `kryonix up` if it is gone"
        raise ServiceUnreachable(f"{where} has no container {container}. {remedy}") from error
    except APIError as error:
        raise ServiceUnreachable(f"the container {container} does not run: {error.explanation or error}") from error
    except (DockerException, OSError) as error:
        raise ServiceUnreachable(f"{where} does not answer ({error}): {container} can't be reached") from error
    return int(status), (out or b"").decode(), (err or b"").decode()


def _advice(stack: str, name: str, state: Mapping[str, Any] | None, noted: bool) -> str | None:
    what = f"the container {name} of the stack {stack!r}"
    if state is None:
        note = "and the state says so now" if noted else f"which `kryonix refresh --stack {stack}` takes note of"
        then = "" if noted else ", after that"
        return f"{what} is gone, {note}. Run `kryonix up --stack {stack}`{then}: it is made again on its volume"
    if away := state.get("Away"):
        return f"Docker at {away} does not answer, where {what} is. Bring that machine back, then run this again"
    if state.get("Paused"):
        return _paused(stack, name)
    if state.get("Restarting"):
        return f"{what} ends as soon as it is started, again and again. `docker logs --tail 50 {name}` says why"
    if not state["Running"]:
        remedy = f"Run `docker start {name}`, wait until `docker ps` calls it healthy, and run this again"
        return f"{what} is stopped (status {state['ExitCode']}). {remedy}"
    if (state.get("Health") or {}).get("Status") == "starting":
        return f"{what} is still starting. Wait until `docker ps` calls it healthy, and run this again"
    return None


def _paused(stack: str, name: str) -> str:
    return f"the container {name} of the stack {stack!r} is paused. Run `docker unpause {name}`, then run this again"
