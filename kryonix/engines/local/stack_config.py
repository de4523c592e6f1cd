"""A stack's config: `Pulumi.{stack}.yaml` over the project's defaults, as the Pulumi CLI hands it to a program."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kryonix.engines.local import yaml_file
from kryonix.engines.local.errors import ConfigError, PassphraseError
from kryonix.engines.local.project import ConfigKey, Project, as_config_text
from kryonix.engines.local.secrets import Vault
from kryonix.topology.errors import nearest

__all__ = ["StackConfig", "StackFile"]


@dataclass(frozen=True, slots=True)
class StackConfig:
    """`values` by full key, all text; those named in `secret_keys` are secret."""

    values: Mapping[str, str] = field(repr=False)
    secret_keys: frozenset[str]

    def of_package(self, package: str) -> dict[str, str]:
        """The config of a provider's package, such as `docker:host` under `host`."""
        prefix = f"{package}:"
        return {key[len(prefix) :]: value for key, value in self.values.items() if key.startswith(prefix)}


class StackFile:
    """A stack's file, read but not decrypted yet; `salt` is its `encryptionsalt`, empty where it has none."""

    def __init__(self, project: Project, stack: str, config_file: Path | None) -> None:
        self.path = config_file.absolute() if config_file else project.folder / f"Pulumi.{stack}.yaml"
        self._project = project
        self._entries: yaml_file.Mapping = {}
        self.salt = ""
        if self.path.exists() or config_file:
            self._read()

    def config(self, vault: Callable[[], Vault]) -> StackConfig:
        """The config with secrets decrypted. Raises `ConfigError` with every problem at once."""
        problems = self._unknown() + self._missing()
        values = {k: as_config_text(key.default) for k, key in self._project.keys.items() if key.default is not None}
        secret_keys: set[str] = set()
        for key, entry in self._entries.items():
            declared = self._project.keys.get(key)
            if problem := self._type_problem(key, entry, declared):
                problems.append(problem)
                continue
            values[key], secret = self._value(key, entry, vault)
            if secret:
                secret_keys.add(key)
        if problems:
            raise ConfigError(tuple(problems))
        return StackConfig(values, frozenset(secret_keys))

    def _read(self) -> None:
        top = yaml_file.read(self.path)
        salt, config = top.get("encryptionsalt"), top.get("config", {})
        if isinstance(config, yaml_file.Entry):
            if config.data is not None:
                raise ConfigError((f"{self.path}, line {config.line}: `config` is not a mapping of keys.",))
            config = {}
        self.salt = salt.text or "" if isinstance(salt, yaml_file.Entry) else ""
        provider = top.get("secretsprovider")
        if isinstance(provider, yaml_file.Entry) and provider.text not in ("", "passphrase"):
            raise ConfigError(
                (f"{self.path}: the secrets provider {provider.text!r} is not known to this engine, only passphrase.",)
            )
        self._entries = {key if ":" in key else f"{self._project.name}:{key}": e for key, e in config.items()}

    def _unknown(self) -> list[str]:
        own = sorted(key for key in self._project.keys if key.startswith(f"{self._project.name}:"))
        if not own:
            return []
        return [
            f"{self.path}, line {entry.line}: the key `{key}` is not known to the project; {nearest(key, own)}"
            for key, entry in self._entries.items()
            if key.startswith(f"{self._project.name}:") and key not in self._project.keys
        ]

    def _missing(self) -> list[str]:
        return [
            f"{self.path}: the key `{name}` has no value and the project has no default for it"
            f"{f' ({key.description})' if key.description else ''}."
            for name, key in sorted(self._project.keys.items())
            if key.required and name not in self._entries
        ]

    def _type_problem(self, key: str, entry: yaml_file.Entry, declared: ConfigKey | None) -> str:
        if declared is None or declared.type is None or _is_secure(entry.data):
            return ""
        if declared.secret and not _has_secure(entry.data):
            return f"{self.path}, line {entry.line}: `{key}` is a secret and stands there in plain; encrypt it: " + (
                f"pulumi config set --secret {key}"
            )
        if _fits(declared.type, declared.items, entry.data if entry.text is None else entry.text):
            return ""
        received = "a list" if isinstance(entry.data, list) else "a mapping" if entry.text is None else repr(entry.text)
        return f"{self.path}, line {entry.line}: `{key}` is {received}; it has to be {_allowed(declared)}."

    def _value(self, key: str, entry: yaml_file.Entry, vault: Callable[[], Vault]) -> tuple[str, bool]:
        if entry.text is not None:
            return entry.text, False
        secret = _has_secure(entry.data)
        if not secret:
            return as_config_text(entry.data), False
        try:
            value = _decrypted(entry.data, lambda text: vault().crypter.decrypt(text))
        except PassphraseError as error:
            raise PassphraseError(f"{self.path}, `{key}`: {error}") from error
        return as_config_text(value), True


def _is_secure(data: Any) -> bool:
    return isinstance(data, dict) and set(data) == {"secure"} and isinstance(data["secure"], str)


def _has_secure(data: Any) -> bool:
    if _is_secure(data):
        return True
    items = data.values() if isinstance(data, dict) else data if isinstance(data, list) else ()
    return any(_has_secure(item) for item in items)


def _decrypted(data: Any, decrypt: Callable[[str], str]) -> Any:
    if _is_secure(data):
        return decrypt(data["secure"])
    if isinstance(data, dict):
        return {key: _decrypted(item, decrypt) for key, item in data.items()}
    if isinstance(data, list):
        return [_decrypted(item, decrypt) for item in data]
    return data


def _fits(kind: str, items: Mapping[str, Any] | None, value: Any) -> bool:
    """Pulumi's own rules: a number or a boolean may be written as text."""
    if kind == "string":
        return isinstance(value, str)
    if kind == "integer":
        return _is_integer(value)
    if kind == "boolean":
        return isinstance(value, bool) or value in ("true", "false")
    if kind == "object":
        return isinstance(value, dict)
    if not isinstance(value, list) or not items:
        return False
    return all(_is_secure(item) or _fits(str(items.get("type")), items.get("items"), item) for item in value)


def _is_integer(value: Any) -> bool:
    if isinstance(value, str):
        digits = value[1:] if value[:1] in ("+", "-") else value
        return digits.isascii() and digits.isdigit()
    return isinstance(value, int | float) and not isinstance(value, bool) and float(value).is_integer()


def _allowed(key: ConfigKey) -> str:
    names = {
        "string": "text",
        "integer": "a whole number",
        "boolean": "true or false",
        "array": "a list",
        "object": "a mapping",
    }
    items = f" of {json.dumps(key.items)}" if key.items else ""
    return names[key.type or "string"] + items
