"""A tenant that shall log in with a certificate needs a platform that issues one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import pytest

from kryonix.engines.engine import Engine, StackSpec
from kryonix.tenants.errors import InvalidTenant
from kryonix.tenants.stacks import TenantStacks
from kryonix.topology.catalog import default_catalog
from kryonix.topology.cells import parse_cells
from kryonix.topology.tenants import Tenant

CELLS = parse_cells(b"cells: {main: {platform: organization/kryonix/dev}}", "cells.yaml")
AUTHORITY = {"client_authority": {"certificate": "a certificate", "key": "its key"}}


class _Outputs:
    """An engine that knows the outputs of one platform."""

    def __init__(self, outputs: Mapping[str, Any]) -> None:
        self._outputs = outputs

    def outputs(self, spec: StackSpec) -> Mapping[str, Any]:
        assert spec.name.endswith("dev")
        return self._outputs


def refuse(auth: str, **outputs: Any) -> None:
    stacks = TenantStacks(cast("Engine", _Outputs(outputs)), CELLS, default_catalog())
    stacks.refuse_login(Tenant.model_validate({"id": "acme", "modules": ["crm"], "plan": "basic", "auth": auth}))


def test_a_platform_without_certificates_is_refused_before_a_row_is_made() -> None:
    with pytest.raises(InvalidTenant, match="auth: the platform issues no certificates"):
        refuse("certificate")
    refuse("certificate", **AUTHORITY)
    refuse("password")
