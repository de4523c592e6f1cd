"""Deployments as printed by `pulumi stack export`, with secrets in plain or encrypted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from kryonix.engines.deployments import CONTAINER_TYPE
from kryonix.engines.local.secrets import Vault
from kryonix.engines.local.state import State
from kryonix.engines.local.store import Store, state_root
from kryonix.topology.objects import QUEUE

__all__ = ["concealed", "entangled", "put_state", "revealed"]

_KEPT = (
    CONTAINER_TYPE,
    "docker:index/volume:Volume",
    "docker:index/network:Network",
    "rabbitmq:index/vHost:VHost",
    "postgresql:index/database:Database",
    QUEUE.resource_type,
)
"""What an engine must never replace along with a container: messages, data, and other containers."""


def entangled(resources: Sequence[dict[str, Any]]) -> list[str]:
    """Return the URNs of containers and of what holds data, where an input depends on a container's outputs.

    An engine that replaces the container replaces them too, also through the inputs of resources between them.
    """
    of = {each["urn"]: each for each in resources}

    def used(urn: str) -> set[str]:
        direct = {one for urns in of[urn].get("propertyDependencies", {}).values() for one in urns or ()}
        return direct.union(*map(used, direct))

    kept = [each["urn"] for each in resources if each["type"] in _KEPT]
    assert {of[urn]["type"] for urn in kept} >= {*_KEPT[:4], QUEUE.resource_type}
    return [urn for urn in kept if any(of[one]["type"] == CONTAINER_TYPE for one in used(urn))]


def put_state(project: Path, stack: str, deployment: dict[str, Any]) -> None:
    """Make a deployment the state of a stack of the local engine."""
    store = Store(state_root(project), stack)
    with store.lock():
        store.save(State.of_document(deployment, where="the deployment"))


def revealed(deployment: dict[str, Any]) -> Any:
    """Return a deployment with its secrets in plain."""
    decrypt = _vault(deployment).decrypt
    return _changed(deployment, lambda secret: {**_without(secret), "plaintext": decrypt(secret["ciphertext"])})


def concealed(deployment: dict[str, Any]) -> Any:
    """Return a revealed deployment with its secrets encrypted again."""
    encrypt = _vault(deployment).encrypt
    return _changed(deployment, lambda secret: {**_without(secret), "ciphertext": encrypt(secret["plaintext"])})


def _vault(deployment: dict[str, Any]) -> Vault:
    salt = deployment["deployment"]["secrets_providers"]["state"]["salt"]
    return Vault(salt, where="the deployment")


def _without(secret: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in secret.items() if key not in ("ciphertext", "plaintext")}


def _changed(value: Any, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Any:
    if isinstance(value, dict):
        if "ciphertext" in value or "plaintext" in value:
            return change(value)
        return {key: _changed(item, change) for key, item in value.items()}
    return [_changed(item, change) for item in value] if isinstance(value, list) else value
