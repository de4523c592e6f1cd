"""The project's `Pulumi.yaml` and a stack's `Pulumi.{stack}.yaml`, read as the Pulumi CLI reads them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from kryonix.engines import nested
from kryonix.engines.local.errors import ConfigError, InvalidProgramInput, PassphraseError, UnsupportedFeature
from kryonix.engines.local.secrets import Vault
from kryonix.topology import document
from kryonix.topology.errors import InvalidInput, Problem, nearest

TYPES: Final = {
    "string": "text",
    "integer": "a whole number",
    "boolean": "true or false",
    "array": "a list",
    "object": "a mapping",
}


@dataclass(frozen=True, slots=True)
class Project:
    """A project folder with the content of its `Pulumi.yaml`.

    `keys` are the declared config keys by full name, such as `kryonix:brokerImage`, each with type, description,
    default, and the type of an array's items.
    """

    folder: Path
    name: str
    program: Path
    keys: Mapping[str, Mapping[str, Any]]

    @classmethod
    def load(cls, folder: Path) -> Project:
        """Read the project in a folder. Raise `ConfigError`."""
        file = _File(folder / "Pulumi.yaml")
        name = file.text("name")
        if not name:
            raise ConfigError(f"{file.path}: `name` is missing; it is the project's name")
        runtime = file.top.get("runtime")
        runtime = runtime.get("name") if isinstance(runtime, dict) else runtime
        if runtime != "python":
            raise ConfigError(f"{file.path}: `runtime` is {runtime!r}; the local engine supports `python` only")
        if "main" in file.top:
            raise UnsupportedFeature.of("`main`", str(file.path))
        if problems := [file.problem(key, text) for key, found in file.config.items() if (text := _wrong(key, found))]:
            raise ConfigError(*problems)
        program = folder / "__main__.py"
        if not program.is_file():
            raise InvalidProgramInput(f"The program {program} does not exist.")
        return cls(folder, name, program, {f"{name}:{key}": declared for key, declared in file.config.items()})


def _wrong(key: str, declared: Any) -> str:
    """Return what is wrong with the declaration of a key, or of an array's items; empty if nothing."""
    if ":" in key:
        return "a key of another namespace can't be declared here; set it in the config of a stack"
    kind = declared.get("type") if isinstance(declared, dict) else None
    if not isinstance(kind, str):
        return f"it needs a `type`: {', '.join(TYPES)}"
    if kind not in TYPES:
        return f"{kind!r} is not a valid type; {nearest(kind, TYPES)}"
    return f"`items`: {problem}" if kind == "array" and (problem := _wrong("", declared.get("items"))) else ""


class _File:
    """A YAML file with a `config` mapping. A program gets scalars as written. A missing file may count as empty."""

    def __init__(self, path: Path, *, required: bool = True) -> None:
        self.path = path
        self._texts: dict[document.Path, str] = {}
        try:
            content = path.read_bytes() if required or path.exists() else b""
        except OSError as error:
            raise ConfigError(f"{path} can't be read: {error.strerror}") from error
        lines = [line for line in content.splitlines() if line.strip() and not line.lstrip().startswith(b"#")]
        try:
            self._document, problems = document.read(content if lines else b"{}", str(path), self._texts)
            if problems:
                raise InvalidInput(problems)
        except InvalidInput as error:
            raise ConfigError(*map(str, error.problems)) from error
        if not isinstance(self._document.value, dict):
            raise ConfigError(f"{path}:1: the file is not a mapping of names to values")
        self.top: Mapping[str, Any] = self._document.value
        self.config: Mapping[str, Any] = self.top.get("config") or {}
        if not isinstance(self.config, dict):
            raise ConfigError(f"{path}:{self._document.line(('config',))}: `config` is not a mapping of keys")

    def text(self, *path: str) -> str:
        """Return a scalar as written, empty for null and for a list or a mapping."""
        value: Any = self.top
        for name in path:
            value = value.get(name)
        return "" if value is None else self._texts.get(path, "")

    def problem(self, key: str, message: str) -> str:
        """Return a message about a key of the config, with its place."""
        return str(Problem(str(self.path), self._document.line(("config", key)), key, message))


@dataclass(frozen=True, slots=True)
class StackConfig:
    """The config as a program gets it: texts by full key."""

    values: Mapping[str, str] = field(repr=False)
    secret_keys: frozenset[str]


class StackFile:
    """A stack's file, not decrypted yet; `salt` is its `encryptionsalt`, empty if there is none."""

    def __init__(self, project: Project, stack: str, config_file: Path | None) -> None:
        self.path = config_file.absolute() if config_file else project.folder / f"Pulumi.{stack}.yaml"
        self._project = project
        self._own = f"{project.name}:"
        self._file = _File(self.path, required=config_file is not None)
        self.salt = self._file.text("encryptionsalt")
        provider = self._file.text("secretsprovider")
        if provider not in ("", "passphrase"):
            raise ConfigError(f"{self.path}: the secrets provider {provider!r} is not supported, only passphrase")

    def config(self, vault: Vault) -> StackConfig:
        """Return the config over the project's defaults, decrypted. Raise `ConfigError` with all problems."""
        declared, file = self._project.keys, self._file
        values = {name: _as_text(key["default"]) for name, key in declared.items() if key.get("default") is not None}
        problems: list[str] = []
        secret_keys: set[str] = set()
        given: set[str] = set()

        def decrypted(part: Any) -> Any:
            return vault.decrypt(part["secure"]) if _is_secure(part) else part

        for key, value in file.config.items():
            name = key if ":" in key else f"{self._own}{key}"
            given.add(name)
            if problem := self._problem(name, value, file.text("config", key)):
                problems.append(file.problem(key, problem))
            elif nested.contains(value, _is_secure):
                try:
                    values[name] = _as_text(nested.changed(value, decrypted))
                except PassphraseError as error:
                    raise PassphraseError(f"{self.path}: {name}: {error}") from error
                secret_keys.add(name)
            else:
                values[name] = _as_text(value) if isinstance(value, dict | list) else file.text("config", key)
        problems += [
            f"{self.path}: {name}: the key has no value, and the project has no default for it"
            f"{f' ({text})' if (text := key.get('description')) else ''}"
            for name, key in sorted(declared.items())
            if name not in values and name not in given
        ]
        if problems:
            raise ConfigError(*problems)
        return StackConfig(values, frozenset(secret_keys))

    def _problem(self, name: str, value: Any, text: str) -> str:
        declared = self._project.keys.get(name)
        if declared is None and self._project.keys and name.startswith(self._own):
            return f"not a config key of this project; {nearest(name, sorted(self._project.keys))}"
        compound = isinstance(value, dict | list)
        if declared is None or _is_secure(value) or _fits(declared, value if compound else text):
            return ""
        received = "a list" if isinstance(value, list) else "a mapping" if compound else repr(text)
        of_items = f" of {json.dumps(declared['items'])}" if "items" in declared else ""
        return f"the value is {received}, not {TYPES[declared['type']]}{of_items}"


def _as_text(value: Any) -> str:
    """Return a value as a program gets it: text as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"), default=str)


def _is_secure(value: Any) -> bool:
    return isinstance(value, dict) and set(value) == {"secure"} and isinstance(value["secure"], str)


def _fits(declared: Mapping[str, Any], value: Any) -> bool:
    """Apply Pulumi's own rules: a number or a boolean may be written as text."""
    kind = declared["type"]
    if kind == "string":
        return isinstance(value, str)
    if kind == "integer":
        return not isinstance(value, bool) and bool(re.fullmatch(r"[+-]?[0-9]+", str(value)))
    if kind == "boolean":
        return isinstance(value, bool) or value in ("true", "false")
    if kind == "object":
        return isinstance(value, dict)
    return isinstance(value, list) and all(_is_secure(item) or _fits(declared["items"], item) for item in value)
