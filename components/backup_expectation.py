"""BackupExpectation: ends with the scheduled backups, so that nobody is alerted about bundles that nobody makes."""

from __future__ import annotations

from typing import Any

import pulumi
from pulumi.dynamic import Resource

from components.accepting_provider import ApplyingProvider
from components.errors import registry_errors
from kryonix.registry.backups import expect_backups
from kryonix.registry.connection import connect


class _BackupExpectationProvider(ApplyingProvider):
    id_property = "stack"
    replaced_by = ("stack",)

    def delete(self, _id: str, _props: dict[str, Any]) -> None:
        with registry_errors(), connect(self.found_registry(_props["dsn"])) as connection:
            expect_backups(connection, _props["stack"], [])


class BackupExpectation(Resource, module="kryonix", name="BackupExpectation"):
    """The bundles that this stack's schedule is expected to make. The schedule itself records which."""

    def __init__(
        self, name: str, *, registry_dsn: pulumi.Input[str], opts: pulumi.ResourceOptions | None = None
    ) -> None:
        properties = {"dsn": pulumi.Output.secret(registry_dsn), "stack": pulumi.get_stack()}
        super().__init__(_BackupExpectationProvider(), name, properties, opts)
