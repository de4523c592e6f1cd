"""A tenant's snapshot under another id, to restore it beside the tenant that it was made of.

An id is replaced where it is an id, and nowhere else: it may equal the name of a module, as in
`cliente_crm.crm.leads`. So it is found by what stands before it in a name, or by the field that holds it alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from kryonix.backup.snapshot import TenantSnapshot
from kryonix.engines.deployments import SIGNATURE, STACK_TYPE, Change, Deployment
from kryonix.registry.connection import SCHEMA

_IDS: Final = frozenset({"id", "clienteId", "cliente_id"})
"""Fields that hold a tenant's id and nothing else."""
_ENGINES: Final = "pulumi:"
"""The prefix of the engine's own types: the stack, providers, and references to the platform's stack."""
_VALUES: Final = ("id", "inputs", "outputs")
_LEARNED: Final = frozenset({f"{SCHEMA}.routing_models", f"{SCHEMA}.routing_modes"})


def renamed(snapshot: TenantSnapshot, new_id: str) -> TenantSnapshot:
    """Return the snapshot with another id in every name. Secrets of its state stay as they are: see `rename_state`.

    Without its routing models: the other tenant has not agreed to what was learned from this one's messages.
    """
    name = _Renaming(snapshot.tenant, new_id)
    rows = {table: [] if table in _LEARNED else found for table, found in snapshot.rows.items()}
    return replace(
        snapshot,
        tenant=new_id,
        vhost=name.value(snapshot.vhost),
        definitions=name.value(snapshot.definitions),
        users=name.value(snapshot.users),
        permissions=name.value(snapshot.permissions),
        topic_permissions=name.value(snapshot.topic_permissions),
        rows=name.value(rows),
        entry=name.value(snapshot.entry),
        state=None if snapshot.state is None else name.deployment(dict(snapshot.state)),
    )


def rename_state(old_id: str, new_id: str) -> Change:
    """Return the change of a deployment with secrets in plain text. It may be made again."""
    return _Renaming(old_id, new_id).deployment


class _Renaming:
    """The replacement of one id by another."""

    def __init__(self, old: str, new: str) -> None:
        self._old, self._new = old, new
        self._within = re.compile(rf"(cliente_|kryonix_|tenant-|autoscaling-|Tenant ){re.escape(old)}(?![a-z0-9-])")

    def value(self, value: Any) -> Any:
        """Return a value with the id replaced at any depth."""
        if isinstance(value, str):
            return self._urn(value) if value.startswith("urn:pulumi:") else self._text(value)
        if isinstance(value, Mapping):
            if SIGNATURE in value:
                return self._field("", value)
            return {self._text(key): self._field(key, each) for key, each in value.items()}
        return [self.value(each) for each in value] if isinstance(value, list | tuple) else value

    def deployment(self, document: Deployment) -> Deployment:
        """Return a deployment with the id replaced, also in secrets that are in plain text."""
        found = dict(document["deployment"])
        if "resources" in found:
            found["resources"] = [self._resource(data) for data in found["resources"] or ()]
        if "pending_operations" in found:
            pending = found["pending_operations"] or ()
            found["pending_operations"] = [{**each, "resource": self._resource(each["resource"])} for each in pending]
        return {**document, "deployment": found}

    def _resource(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Return a resource with the id replaced; what belongs to the platform stays as it is."""
        foreign = data["type"].startswith(_ENGINES) and data["type"] != STACK_TYPE
        return {key: each if foreign and key in _VALUES else self._field(key, each) for key, each in data.items()}

    def _field(self, key: str, value: Any) -> Any:
        if isinstance(value, Mapping) and SIGNATURE in value:
            if "plaintext" not in value:
                return dict(value)
            return {**value, "plaintext": json.dumps(self._field(key, json.loads(value["plaintext"])))}
        if key in _IDS and value == self._old:
            return self._new
        if key == "tenants" and isinstance(value, Mapping):
            return {self._new if id == self._old else id: self.value(each) for id, each in value.items()}
        return self.value(value)

    def _text(self, text: str) -> str:
        return self._within.sub(rf"\g<1>{self._new}", text)

    def _urn(self, urn: str) -> str:
        """Return a URN, or a reference to a provider, of the other stack. Names of resources begin with the id."""
        stack, project, types, name = urn.split("::", 3)
        first, slash, rest = name.partition("/")
        if first == self._old and not types.startswith(_ENGINES):
            name = f"{self._new}{slash}{rest}"
        return "::".join((self._text(stack), project, types, self._text(name)))
