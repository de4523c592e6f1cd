"""One resource of the state, its URN, and its form in Pulumi's deployment format.

A URN, Pulumi's name of a resource, is `urn:pulumi:{stack}::{project}::{parent type$type}::{name}`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Final

from kryonix.engines.local import values
from kryonix.engines.local.handlers.base import Properties
from kryonix.engines.local.secrets import Vault

PROVIDER_PREFIX: Final = "pulumi:providers:"
STACK_TYPE: Final = "pulumi:pulumi:Stack"


def name_of(urn: str) -> str:
    """Return the resource's name in the program."""
    return urn.split("::", 3)[3]


def package_of(type_token: str) -> str:
    """Return `rabbitmq` of `rabbitmq:index/queue:Queue`."""
    return type_token.split(":", 1)[0]


@dataclass(frozen=True, slots=True)
class Resource:
    """A resource. `delete` marks a replaced one to be deleted, `external` one that is only read."""

    urn: str
    type: str
    custom: bool
    id: str = ""
    inputs: Properties = field(default_factory=dict, repr=False)
    outputs: Properties = field(default_factory=dict, repr=False)
    parent: str = ""
    provider: str = ""
    dependencies: tuple[str, ...] = ()
    property_dependencies: dict[str, tuple[str, ...]] = field(default_factory=dict)
    deleted_with: str = ""
    protect: bool = False
    external: bool = False
    delete: bool = False
    pending_replacement: bool = False
    additional_secret_outputs: tuple[str, ...] = ()
    ignore_changes: tuple[str, ...] = ()
    created: str = ""
    modified: str = ""

    @property
    def key(self) -> str:
        """The key in the state: the URN, of a replaced resource URN and id."""
        return f"{self.urn}#{self.id}" if self.delete else self.urn

    @property
    def name(self) -> str:
        return name_of(self.urn)

    @property
    def is_provider(self) -> bool:
        return self.type.startswith(PROVIDER_PREFIX)

    @property
    def is_default_provider(self) -> bool:
        """True for a provider made by the engine; summaries leave it out."""
        return self.is_provider and not self.parent and (self.name == "default" or self.name.startswith("default_"))

    @property
    def managed(self) -> bool:
        """True if a handler creates and deletes it."""
        return self.custom and not self.is_provider and not self.external

    @property
    def plain(self) -> tuple[Properties, Properties]:
        """Inputs and outputs without secret marks, as handlers get them."""
        return values.plain(self.inputs), values.plain(self.outputs)

    def made(self, id_: str, outputs: Properties, secret_outputs: frozenset[str]) -> Resource:
        """Return the resource with the outputs of its handler, secrets marked."""
        names = secret_outputs | frozenset(self.additional_secret_outputs)
        return replace(self, id=id_, outputs=values.mark_secrets(outputs, self.inputs, names))

    @property
    def needs(self) -> frozenset[str]:
        """URNs of the resources to create before it and delete after it."""
        properties = (urn for urns in self.property_dependencies.values() for urn in urns)
        provider = self.provider.rsplit("::", 1)[0]
        return frozenset({self.parent, provider, self.deleted_with, *self.dependencies, *properties} - {"", self.urn})

    def encode(self, vault: Vault) -> dict[str, Any]:
        """Return the entry in the deployment format. An unchanged secret keeps its ciphertext."""

        def seal(text: str) -> str:
            return vault.encrypt(text, self.urn)

        head = {"urn": self.urn, "custom": self.custom, "type": self.type}
        fields = {
            "inputs": values.encode(self.inputs, seal),
            "outputs": values.encode(self.outputs, seal),
            "propertyDependencies": {key: list(deps) for key, deps in sorted(self.property_dependencies.items())},
        }
        for name, key in _KEYS.items():
            value = getattr(self, name)
            fields[key] = list(value) if isinstance(value, tuple) else value
        return head | {key: value for key, value in fields.items() if value}

    @classmethod
    def decode(cls, data: dict[str, Any], vault: Vault) -> Resource:
        """Read an entry; unused fields are dropped."""
        urn = data["urn"]

        def unseal(text: str) -> str:
            return vault.decrypt(text, urn)

        given: dict[str, Any] = {name: data[key] for name, key in _KEYS.items() if data.get(key)}
        given |= {name: tuple(value) for name, value in given.items() if isinstance(value, list)}
        dependencies = (data.get("propertyDependencies") or {}).items()
        return cls(
            urn=urn,
            type=data["type"],
            custom=data.get("custom", False),
            inputs=values.decode(data.get("inputs") or {}, unseal),
            outputs=values.decode(data.get("outputs") or {}, unseal),
            property_dependencies={key: tuple(deps or ()) for key, deps in dependencies},
            **given,
        )


_KEYS: Final = {
    "delete": "delete",
    "id": "id",
    "parent": "parent",
    "protect": "protect",
    "external": "external",
    "dependencies": "dependencies",
    "provider": "provider",
    "pending_replacement": "pendingReplacement",
    "additional_secret_outputs": "additionalSecretOutputs",
    "deleted_with": "deletedWith",
    "created": "created",
    "modified": "modified",
    "ignore_changes": "ignoreChanges",
}
