"""Refuses a stack's config keys that the project does not declare: the Pulumi CLI lets a misspelt one pass."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path

import pulumi
import yaml
from pulumi.runtime.config import CONFIG

from components.errors import InvalidStack

__all__ = ["refuse_unknown_keys"]

_PREFIX = "kryonix:"


def refuse_unknown_keys(project: Path = Path("Pulumi.yaml")) -> None:
    """Raise InvalidStack naming every key of this stack's config that `project` does not declare."""
    declared = [f"{_PREFIX}{key}" for key in yaml.safe_load(project.read_text(encoding="utf-8"))["config"]]
    given = {**pulumi.runtime.get_config_env(), **CONFIG.get()}
    unknown = sorted(key for key in given if key.startswith(_PREFIX) and key not in declared)
    if unknown:
        raise InvalidStack("\n".join(f"{key}: the project has no such key{_hint(key, declared)}" for key in unknown))


def _hint(key: str, declared: Iterable[str]) -> str:
    near = difflib.get_close_matches(key, declared, n=1)
    return f"; did you mean {near[0]}?" if near else f". {', '.join(declared)} are known"
