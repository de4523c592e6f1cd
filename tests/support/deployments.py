"""Deployments as printed by `pulumi stack export`, with secrets in plain or encrypted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from kryonix.engines.local.secrets import Vault
from kryonix.engines.local.state import State
from kryonix.engines.local.store import Store, state_root

__all__ = ["concealed", "put_state", "revealed"]


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
