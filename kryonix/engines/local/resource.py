"""One resource as state holds it, and its form in Pulumi's deployment format."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from kryonix.engines.local import urn as urns
from kryonix.engines.local import values
from kryonix.engines.local.handlers.base import Properties
from kryonix.engines.local.secrets import Vault

__all__ = ["Resource"]

PROVIDER_PREFIX = "pulumi:providers:"


@dataclass(frozen=True, slots=True)
class Resource:
    """A resource. `delete` marks one that was replaced and still has to go; `external` one that is only read."""

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
    retain_on_delete: bool = False
    external: bool = False
    delete: bool = False
    pending_replacement: bool = False
    additional_secret_outputs: tuple[str, ...] = ()
    ignore_changes: tuple[str, ...] = ()
    created: str = ""
    modified: str = ""

    @property
    def key(self) -> str:
        """What the resource is filed under: its URN, or for a replaced one its URN and id."""
        return f"{self.urn}#{self.id}" if self.delete else self.urn

    @property
    def name(self) -> str:
        """The resource's name in the program."""
        return urns.name_of(self.urn)

    @property
    def is_provider(self) -> bool:
        """Whether it is a provider rather than something a provider manages."""
        return self.type.startswith(PROVIDER_PREFIX)

    @property
    def is_default_provider(self) -> bool:
        """Whether the engine made it by itself; such ones are in no summary."""
        return self.is_provider and not self.parent and (self.name == "default" or self.name.startswith("default_"))

    @property
    def managed(self) -> bool:
        """Whether a handler creates and deletes it."""
        return self.custom and not self.is_provider and not self.external

    @property
    def needs(self) -> frozenset[str]:
        """URNs of everything that has to exist before it and to be deleted after it."""
        provider = self.provider.rsplit("::", 1)[0] if self.provider else ""
        properties = (urn for urns_ in self.property_dependencies.values() for urn in urns_)
        return frozenset({self.parent, provider, self.deleted_with, *self.dependencies, *properties} - {"", self.urn})

    def encode(self, vault: Vault) -> dict[str, Any]:
        """The resource in the deployment format. Secrets are sealed; the context keeps a known one's ciphertext."""

        def seal(text: str) -> str:
            return vault.crypter.encrypt(text, self.urn)

        fields = {
            "delete": self.delete,
            "id": self.id,
            "inputs": values.encode(self.inputs, seal),
            "outputs": values.encode(self.outputs, seal),
            "parent": self.parent,
            "protect": self.protect,
            "external": self.external,
            "dependencies": list(self.dependencies),
            "provider": self.provider,
            "propertyDependencies": {key: list(deps) for key, deps in sorted(self.property_dependencies.items())},
            "pendingReplacement": self.pending_replacement,
            "additionalSecretOutputs": list(self.additional_secret_outputs),
            "retainOnDelete": self.retain_on_delete,
            "deletedWith": self.deleted_with,
            "created": self.created,
            "modified": self.modified,
            "ignoreChanges": list(self.ignore_changes),
        }
        head: dict[str, Any] = {"urn": self.urn, "custom": self.custom, "type": self.type}
        return head | {name: value for name, value in fields.items() if value}

    @classmethod
    def decode(cls, data: dict[str, Any], vault: Vault) -> Resource:
        """The resource of a deployment's entry; fields this engine has no use for are left out."""
        urn = data["urn"]

        def unseal(text: str) -> str:
            return vault.crypter.decrypt(text, urn)

        return cls(
            urn=urn,
            type=data["type"],
            custom=data.get("custom", False),
            id=data.get("id", ""),
            inputs=values.decode(data.get("inputs") or {}, unseal),
            outputs=values.decode(data.get("outputs") or {}, unseal),
            parent=data.get("parent", ""),
            provider=data.get("provider", ""),
            dependencies=tuple(data.get("dependencies") or ()),
            property_dependencies={
                key: tuple(deps or ()) for key, deps in (data.get("propertyDependencies") or {}).items()
            },
            deleted_with=data.get("deletedWith", ""),
            protect=data.get("protect", False),
            retain_on_delete=data.get("retainOnDelete", False),
            external=data.get("external", False),
            delete=data.get("delete", False),
            pending_replacement=data.get("pendingReplacement", False),
            additional_secret_outputs=tuple(data.get("additionalSecretOutputs") or ()),
            ignore_changes=tuple(data.get("ignoreChanges") or ()),
            created=data.get("created", ""),
            modified=data.get("modified", ""),
        )
