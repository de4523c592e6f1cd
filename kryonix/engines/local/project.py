"""The project: `Pulumi.yaml`, with the program it runs and the config keys it declares."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kryonix.engines.local import yaml_file
from kryonix.engines.local.errors import ConfigError, InvalidProgramInput

__all__ = ["ConfigKey", "Project", "as_config_text"]

TYPES = ("string", "integer", "boolean", "array", "object")


@dataclass(frozen=True, slots=True)
class ConfigKey:
    """A declared config key. `default` is None for one without; `items` is the type of an array's items."""

    name: str
    type: str | None
    description: str
    default: Any
    items: Mapping[str, Any] | None
    secret: bool
    own: bool

    @property
    def required(self) -> bool:
        """Whether a stack has to give it a value, as the Pulumi CLI sees it."""
        return self.default is None and self.own


@dataclass(frozen=True, slots=True)
class Project:
    """A project folder and what its `Pulumi.yaml` says. `keys` are full names, such as `kryonix:brokerImage`."""

    folder: Path
    file: Path
    name: str
    program: Path
    keys: Mapping[str, ConfigKey]

    @classmethod
    def load(cls, folder: Path) -> Project:
        """Read the project in a folder. Raises `ConfigError`."""
        folder = folder.absolute()
        file = next(
            (folder / n for n in ("Pulumi.yaml", "Pulumi.yml") if (folder / n).exists()), folder / "Pulumi.yaml"
        )
        top = yaml_file.read(file)
        name, main = _text(top.get("name")), _text(top.get("main"))
        if not name:
            raise ConfigError((f"{file}: `name` is missing; it is the project's name.",))
        _check_runtime(file, top.get("runtime"))
        config = top.get("config", {})
        if not isinstance(config, dict):
            raise ConfigError((f"{file}, line {config.line}: `config` is not a mapping of keys.",))
        keys = {_full(name, key): _declared(file, name, key, entry) for key, entry in config.items()}
        return cls(folder=folder, file=file, name=name, program=_program(folder, main), keys=keys)


def as_config_text(value: Any) -> str:
    """A value as Pulumi hands it to a program: text as it is, structured values as JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value, separators=(",", ":"))


def _text(entry: yaml_file.Mapping | yaml_file.Entry | None) -> str:
    return entry.text or "" if isinstance(entry, yaml_file.Entry) else ""


def _full(project: str, key: str) -> str:
    return key if ":" in key else f"{project}:{key}"


def _check_runtime(file: Path, runtime: yaml_file.Mapping | yaml_file.Entry | None) -> None:
    name = _text(runtime.get("name")) if isinstance(runtime, dict) else _text(runtime)
    if name != "python":
        raise ConfigError((f"{file}: `runtime` is {name!r}; the local engine runs `python` only.",))


def _program(folder: Path, main: str) -> Path:
    program = folder / main if main else folder
    if program.suffix != ".py":
        program = program / "__main__.py"
    if not program.is_file():
        raise InvalidProgramInput(f"There is no program to run: {program} does not exist.")
    return program


def _declared(file: Path, project: str, key: str, entry: yaml_file.Entry) -> ConfigKey:
    full = _full(project, key)
    own = full.startswith(f"{project}:")
    spec = entry.data
    if not isinstance(spec, dict):
        return ConfigKey(full, None, "", spec, None, False, own)
    kind = spec.get("type")
    if kind is not None and kind not in TYPES:
        raise ConfigError((f"{file}, line {entry.line}: `{key}` has type {kind!r}; allowed: {', '.join(TYPES)}.",))
    default = spec["default"] if spec.get("default") is not None else spec.get("value")
    return ConfigKey(
        full, kind, str(spec.get("description", "")), default, spec.get("items"), bool(spec.get("secret")), own
    )
