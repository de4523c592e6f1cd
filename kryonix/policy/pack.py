"""The policies: one for each guardrail, as `pulumi preview --policy-pack` runs them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import pulumi
from pulumi_policy import (
    EnforcementLevel,
    Policy,
    ReportViolation,
    ResourceValidationArgs,
    ResourceValidationPolicy,
    StackValidation,
    StackValidationArgs,
    StackValidationPolicy,
)

from kryonix.errors import KryonixError
from kryonix.policy.inputs import plain_secrets
from kryonix.policy.resources import marked, plain, registered
from kryonix.policy.stack import Base, StackSources
from kryonix.policy.tenants import stack_tenants
from kryonix.policy.verdict import blocking, blocking_lines, told
from kryonix.review.acceptance import judge
from kryonix.review.guardrails import Finding, Guardrail
from kryonix.topology.errors import TopologyError

__all__ = ["AGAINST", "policies"]

AGAINST: Final = "KRYONIX_AGAINST"
"""The environment's name for the base revision. Without it only the rules that need no base are asked."""


def policies(project: Path) -> list[Policy]:
    """Every policy, for the project in that folder."""
    made = _Stack(project)
    compared = [guardrail for guardrail in Guardrail if guardrail is not Guardrail.secret_in_plain_text]
    return [
        *(_policy(guardrail, partial(_check_tenants, made, guardrail)) for guardrail in compared),
        _policy(Guardrail.secret_in_plain_text, partial(_check_lines, made)),
        _Inputs(made),
    ]


class _Stack:
    """The stack that the pack is asked about: always the same, since a pack lives as long as one command."""

    def __init__(self, project: Path) -> None:
        self._project = project
        self._base: Base | None = None
        self.inputs: dict[str, Any] = {}
        """What the program gave each resource, by URN, for the policies that are asked about the whole stack."""

    @property
    def sources(self) -> StackSources:
        config = pulumi.Config("kryonix")
        return StackSources(
            project=self._project,
            stack=pulumi.get_stack(),
            tenants_file=config.require("tenantsFile"),
            catalog_file=config.require("catalogFile"),
            tenant=config.get_object("tenant") or None,
        )

    def base(self) -> Base | None:
        """The base that the environment names, read once. Raises InvalidChoice."""
        name = os.environ.get(AGAINST)
        if name and self._base is None:
            self._base = Base.at(name, self.sources)
        return self._base


def _policy(guardrail: Guardrail, check: StackValidation) -> Policy:
    meaning = f"{guardrail.meaning[0].upper()}{guardrail.meaning[1:]}."
    return StackValidationPolicy(guardrail.label, meaning, check, EnforcementLevel.MANDATORY)


def _check_tenants(stack: _Stack, guardrail: Guardrail, args: StackValidationArgs, report: ReportViolation) -> None:
    with _told_otherwise(report):
        sources, base = stack.sources, stack.base()
        present = sources.present()
        listed = {tenant.id: tenant for tenant in present.tenants}
        found = stack_tenants(registered(args.resources, stack.inputs), listed, present.catalog)
        held = blocking(guardrail, found, base, sources.accepted())
        urns = {(each.id, name): urn for each in found for name, urn in each.urns.items()}
        for finding in held:
            report(told(finding), urns.get((finding.tenant, finding.object), urns.get((finding.tenant, ""))))


def _check_lines(stack: _Stack, args: StackValidationArgs, report: ReportViolation) -> None:
    with _told_otherwise(report):
        base = stack.base()
        if base is None:
            args.not_applicable(f"{AGAINST} names no base revision")
        else:
            for finding in blocking_lines(base, stack.sources.accepted()):
                report(told(finding), None)


class _Inputs(ResourceValidationPolicy):
    """Secrets in a resource's inputs.

    A validation is shown values without their secret marks, a remediation with them: so the one looks and remembers,
    and the other, which is asked next about the same resource, tells.
    """

    def __init__(self, stack: _Stack) -> None:
        super().__init__(
            f"{Guardrail.secret_in_plain_text.label}-input",
            "A secret stands in a resource's input without being marked as one.",
            enforcement_level=EnforcementLevel.REMEDIATE,
        )
        self._stack = stack
        self._found: dict[str, tuple[Finding, ...]] = {}

    def remediate(self, args: ResourceValidationArgs) -> None:
        """Look, and change nothing."""
        self._found[args.urn] = tuple(plain_secrets(args.resource_type, args.name, marked(args.props)))

    def validate(self, args: ResourceValidationArgs, report_violation: ReportViolation) -> None:
        """Tell what was seen, and note the inputs."""
        self._stack.inputs[args.urn] = plain(args.props)
        found = self._found.pop(args.urn, None)
        if found is None:
            args.not_applicable("secret marks are shown at the enforcement level `remediate` only")
        if found:
            with _told_otherwise(report_violation):
                for finding in judge(found, self._stack.sources.accepted(), ()).blocking:
                    report_violation(told(finding), None)


@contextmanager
def _told_otherwise(report: ReportViolation) -> Iterator[None]:
    """What can't be read holds the change back too, and is told in its own words."""
    try:
        yield
    except (TopologyError, KryonixError, OSError) as error:
        report(f"It can't be told whether this holds: {error}", None)
