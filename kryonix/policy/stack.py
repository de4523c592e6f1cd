"""What a stack is made from, here and at a base revision: its tenants, its catalog, and what its changes have meant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from kryonix.operations.errors import InvalidChoice
from kryonix.operations.review_base import Sources, accepted_at, against_revision
from kryonix.operations.review_git import Repository, Revision
from kryonix.review.acceptance import ACCEPTED_FILE, Acceptance, parse_acceptances
from kryonix.topology.catalog import Catalog, parse_catalog
from kryonix.topology.expansion import Topology, expand
from kryonix.topology.tenants import Tenant, parse_tenant, parse_tenants

__all__ = ["Base", "StackSources"]

_TENANT_KEY = "kryonix:tenant"


@dataclass(frozen=True, slots=True)
class StackSources:
    """The files and the config of one stack."""

    project: Path
    stack: str
    tenants_file: str
    catalog_file: str
    tenant: Mapping[str, Any] | None
    """The one tenant of the stack, or None for a platform with those of the file."""

    def listed(self) -> tuple[dict[str, Tenant], Catalog]:
        """The tenants by id, and their catalog. Raises InvalidInput, and OSError for a file that can't be read."""
        catalog = parse_catalog((self.project / self.catalog_file).read_bytes(), self.catalog_file)
        if self.tenant is not None:
            tenants = [parse_tenant(dict(self.tenant), f"{self._config_file} {_TENANT_KEY}", catalog)]
        else:
            tenants = parse_tenants((self.project / self.tenants_file).read_bytes(), self.tenants_file, catalog)
        return {tenant.id: tenant for tenant in tenants}, catalog

    def accepted(self) -> list[Acceptance]:
        """The entries of accepted-changes.yaml, none where there is no such file. Raises InvalidInput."""
        file = self.project / ACCEPTED_FILE
        return parse_acceptances(file.read_bytes(), ACCEPTED_FILE) if file.exists() else []

    def review_sources(self) -> Sources:
        """The same in the terms of a review."""
        single = self.tenant is not None
        return Sources(
            tenants=self.project / (self._config_file if single else self.tenants_file),
            catalog=self.project / self.catalog_file,
            project=self.project,
            listed=_list_of_one if single else bytes,
        )

    @property
    def _config_file(self) -> str:
        return f"Pulumi.{self.stack}.yaml"


@dataclass(frozen=True, slots=True)
class Base:
    """A revision, what it makes of a stack's tenants, and what was accepted before it."""

    revision: Revision
    topologies: tuple[Topology, ...]
    accepted: tuple[Acceptance, ...]

    @classmethod
    def at(cls, name: str, sources: StackSources) -> Base:
        """The base of that name. Raises InvalidChoice where there is none, and InvalidInput for what can't be read."""
        repository = Repository.around(sources.project)
        if repository is None:
            raise InvalidChoice(f"{str(sources.project)!r} is in no git repository, so {name!r} is no revision of it")
        revision, (tenants, catalog) = repository.revision(name), sources.listed()
        pair = against_revision(revision, sources.review_sources(), list(tenants.values()), catalog)
        differing = {topology.tenant.id for topology in (*pair.before, *pair.after)}
        same = (expand(tenant, catalog) for name, tenant in tenants.items() if name not in differing)
        accepted = accepted_at(revision, sources.project / ACCEPTED_FILE)
        return cls(revision, (*pair.before, *same), tuple(accepted))


def _list_of_one(config: bytes) -> bytes:
    """A stack's config as the list of its one tenant; of none where it has no tenant yet."""
    document = yaml.safe_load(config) or {}
    tenant = (document.get("config") or {}).get(_TENANT_KEY)
    return yaml.safe_dump({"tenants": [tenant] if tenant else []}).encode()
