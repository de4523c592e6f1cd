"""The sources of a stack, here and at a base revision: its tenants, its catalog and its accepted changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from kryonix.errors import InvalidChoice
from kryonix.review.base.git import Repository, Revision
from kryonix.review.base.sides import Present, accepted_before, against_revision
from kryonix.review.guardrails import ACCEPTED_FILE, Acceptance, parse_acceptances
from kryonix.topology.catalog import parse_catalog
from kryonix.topology.expansion import Topology, expand
from kryonix.topology.tenants import parse_tenant, parse_tenants

_TENANT_KEY = "kryonix:tenant"


@dataclass(frozen=True, slots=True)
class StackSources:
    """The files and the config of one stack."""

    project: Path
    stack: str
    tenants_file: str
    catalog_file: str
    tenant: Mapping[str, Any] | None
    """The stack's one tenant, or None for a platform with those of the file."""

    def present(self) -> Present:
        """Return the tenants and their catalog. Raises InvalidInput, and OSError for an unreadable file."""
        catalog_file = self.project / self.catalog_file
        catalog = parse_catalog(catalog_file.read_bytes(), self.catalog_file)
        if self.tenant is None:
            file = self.project / self.tenants_file
            return Present(file, catalog_file, parse_tenants(file.read_bytes(), self.tenants_file, catalog), catalog)
        file = self.project / f"Pulumi.{self.stack}.yaml"
        tenant = parse_tenant(dict(self.tenant), f"{file.name} {_TENANT_KEY}", catalog)
        return Present(file, catalog_file, [tenant], catalog, _tenant_list)

    def accepted(self) -> list[Acceptance]:
        """Return the entries of accepted-changes.yaml, none without the file. Raises InvalidInput."""
        file = self.project / ACCEPTED_FILE
        return parse_acceptances(file.read_bytes(), ACCEPTED_FILE) if file.exists() else []


@dataclass(frozen=True, slots=True)
class Base:
    """The merge base of a revision and the present work: a stack's tenants and accepted changes there."""

    revision: Revision
    topologies: tuple[Topology, ...]
    accepted: tuple[Acceptance, ...]

    @classmethod
    def at(cls, name: str, sources: StackSources) -> Base:
        """Return the base by a revision's name. Raises InvalidChoice if unknown, InvalidInput if unreadable."""
        repository = Repository.around(sources.project)
        if repository is None:
            raise InvalidChoice(f"{str(sources.project)!r} is not in a git repository: there is no revision {name!r}")
        named, present = repository.revision(name), sources.present()
        forked = named.forked()[0]
        pair = against_revision(forked, present)
        differing = {topology.tenant.id for topology in (*pair.before, *pair.after)}
        same = (expand(tenant, present.catalog) for tenant in present.tenants if tenant.id not in differing)
        accepted = accepted_before(sources.project / ACCEPTED_FILE, (named, forked))
        return cls(forked, (*pair.before, *same), tuple(accepted))


def _tenant_list(config: bytes) -> bytes:
    """Return a list of the one tenant in a stack's config, empty if it has none yet."""
    document = yaml.safe_load(config) or {}
    tenant = (document.get("config") or {}).get(_TENANT_KEY)
    return yaml.safe_dump({"tenants": [tenant] if tenant else []}).encode()
