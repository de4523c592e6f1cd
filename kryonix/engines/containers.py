"""Explain why a service of a platform does not answer: Docker knows if its container is stopped, paused or gone."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from contextlib import closing
from typing import Any, Final

from kryonix.engines.deployments import Deployment, entries
from kryonix.errors import ServiceUnreachable

_CONTAINER: Final = "docker:index/container:Container"
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


def container_names(deployment: Mapping[str, Any]) -> list[str]:
    """Return the names of the containers in a stack's state."""
    return [str(resource["inputs"]["name"]) for resource in entries(deployment) if resource["type"] == _CONTAINER]


def platform_of(deployment: Mapping[str, Any]) -> str | None:
    """Return the stack of a tenant's platform; None for another deployment."""
    names = [str(r["inputs"]["name"]) for r in entries(deployment) if r["type"] == _REFERENCE]
    return names[0].rsplit("/", 1)[-1] if names else None


def with_live_ids(document: Deployment) -> Deployment:
    """Return a deployment of another day with today's ids of its containers: one replaced since then has another.

    Unchanged if Docker does not answer here.
    """
    live = {name: state["Id"] for name, state in _inspected(container_names(document)).items() if state}

    def today(resource: Mapping[str, Any]) -> Mapping[str, Any]:
        id = live.get(str(resource["inputs"]["name"])) if resource["type"] == _CONTAINER else None
        if id is None or id == resource.get("id"):
            return resource
        return {**resource, "id": id, "outputs": {**resource.get("outputs", {}), "id": id}}

    resources = [today(resource) for resource in entries(document)]
    return {**document, "deployment": {**document["deployment"], "resources": resources}}


def advice(stack: str, names: Sequence[str], noted: Collection[str] = ()) -> str | None:
    """Return what is wrong with the first container that does not run, and what to do; None if all run.

    Also None if Docker does not answer here, or only a minority of a cluster's nodes is away. `noted`: containers that
    the state has lost already.
    """
    states = _without_spare(_states(names))
    wrong = (_advice(stack, name, state, name in noted) for name, state in states.items())
    return next((text for text in wrong if text), None)


def paused(stack: str, names: Sequence[str]) -> str | None:
    """Return what to do about the first paused container; None if there is none that is missed."""
    states = _without_spare(_states(names))
    return next((_paused(stack, name) for name, state in states.items() if state and state.get("Paused")), None)


def _states(names: Sequence[str]) -> dict[str, dict[str, Any] | None]:
    """Return the state of each container, None for one that is gone; empty if Docker does not answer."""
    return {name: found and found["State"] for name, found in _inspected(names).items()}


def _without_spare(states: Mapping[str, dict[str, Any] | None]) -> dict[str, dict[str, Any] | None]:
    """Return the states without those of a broker's nodes that are away, while a majority of its nodes runs."""
    nodes = {name: state for name, state in states.items() if _NODE.search(name)}
    away = {name for name, state in nodes.items() if not state or not state["Running"] or state.get("Paused")}
    return {name: state for name, state in states.items() if name not in away or 2 * len(away) >= len(nodes)}


def _inspected(names: Sequence[str]) -> dict[str, dict[str, Any] | None]:
    """Return what Docker says of each container, None for one that is gone; empty if Docker does not answer."""
    import docker  # takes as long as a tenth of a command, and most commands have no need to ask
    from docker.errors import DockerException, NotFound

    inspected: dict[str, dict[str, Any] | None] = {}
    try:
        with closing(docker.from_env(timeout=_TIMEOUT_S)) as client:
            for name in names:
                try:
                    inspected[name] = client.api.inspect_container(name)
                except NotFound:
                    inspected[name] = None
    except (DockerException, OSError):
        return {}
    return inspected


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
