"""Refuses a stack's config keys that the project does not declare: the Pulumi CLI lets a misspelt one pass."""

from __future__ import annotations

from pathlib import Path

import pulumi
import yaml
from pulumi.runtime.config import CONFIG

from components.errors import InvalidStack
from kryonix.topology.errors import nearest

__all__ = ["refuse_unknown_keys"]

_PREFIX = "kryonix:"


def refuse_unknown_keys(project: Path = Path("Pulumi.yaml")) -> None:
    """Raise InvalidStack naming every key of this stack's config that `project` does not declare."""
    declared = [f"{_PREFIX}{key}" for key in yaml.safe_load(project.read_text(encoding="utf-8"))["config"]]
    given = {**pulumi.runtime.get_config_env(), **CONFIG.get()}
    unknown = sorted(key for key in given if key.startswith(_PREFIX) and key not in declared)
    if unknown:
        raise InvalidStack(
            "\n".join(f"{key}: the project has no such key; {nearest(key, declared)}" for key in unknown)
        )
