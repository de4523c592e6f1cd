"""The policies, one per guardrail, for `pulumi preview --policy-pack`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
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
from kryonix.policy.resources import marked, plain, plain_secrets, registered
from kryonix.policy.stack import Base, StackSources
from kryonix.policy.tenants import StackTenant, stack_tenants
from kryonix.review.differences import differences
from kryonix.review.guardrails import ACCEPTED_FILE, Acceptance, Finding, Guardrail, judge
from kryonix.review.plain_text import secrets_in
from kryonix.review.rules import find, state_findings

AGAINST: Final = "KRYONIX_AGAINST"
"""The environment variable with the base revision. Without it, only rules about the current state apply."""


def policies(project: Path) -> list[Policy]:
    """Return every policy for the project in a folder."""
    stack = _Stack(project)
    compared = [guardrail for guardrail in Guardrail if guardrail is not Guardrail.secret_in_plain_text]
    return [
        *(_policy(guardrail, partial(_check_tenants, stack, guardrail)) for guardrail in compared),
        _policy(Guardrail.secret_in_plain_text, partial(_check_lines, stack)),
        _Inputs(stack),
    ]


class _Stack:
    """The stack under validation: one per process, since a pack lives as long as one command."""

    def __init__(self, project: Path) -> None:
        self._project = project
        self._base: Base | None = None
        self.inputs: dict[str, Any] = {}
        """The program's inputs of each resource, by URN, for the policies of whole stacks."""

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
        """Return the base from the environment, read once. Raises InvalidChoice."""
        name = os.environ.get(AGAINST)
        if name and self._base is None:
            self._base = Base.at(name, self.sources)
        return self._base


def _policy(guardrail: Guardrail, check: StackValidation) -> Policy:
    meaning = f"{guardrail.meaning[0].upper()}{guardrail.meaning[1:]}."
    return StackValidationPolicy(guardrail.label, meaning, check, EnforcementLevel.MANDATORY)


def _check_tenants(stack: _Stack, guardrail: Guardrail, args: StackValidationArgs, report: ReportViolation) -> None:
    with _reported_errors(report):
        sources, base = stack.sources, stack.base()
        present = sources.present()
        listed = {tenant.id: tenant for tenant in present.tenants}
        found = stack_tenants(registered(args.resources, stack.inputs), listed, present.catalog)
        urns = {(each.id, name): urn for each in found for name, urn in each.urns.items()}
        for finding in _blocking(guardrail, found, base, sources.accepted()):
            urn = urns.get((finding.tenant, finding.object), urns.get((finding.tenant, "")))
            report(_described(finding), urn)


def _blocking(
    guardrail: Guardrail, tenants: Sequence[StackTenant], base: Base | None, accepted: Sequence[Acceptance]
) -> tuple[Finding, ...]:
    """Return a guardrail's findings without the accepted ones.

    An entry accepts a difference from the base only if it is new since the base. Any entry accepts a
    broken rule of the current state, for as long as both exist.
    """
    broken = [f for tenant in tenants for f in state_findings(tenant.state) if f.guardrail is guardrail]
    held = judge(broken, accepted, ()).blocking
    if base is None:
        return held
    after = [tenant.state.topology for tenant in tenants]
    found = [f for each in differences(base.topologies, after) for f in find(each) if f.guardrail is guardrail]
    changed = judge(found, accepted, base.accepted).blocking
    # Of two findings about one object the comparison's is kept: it shows the value before.
    return tuple({(f.tenant, f.object): f for f in (*held[::-1], *changed[::-1])}.values())[::-1]


def _check_lines(stack: _Stack, args: StackValidationArgs, report: ReportViolation) -> None:
    with _reported_errors(report):
        base = stack.base()
        if base is None:
            args.not_applicable(f"{AGAINST} names no base revision")
        else:
            secrets = tuple(secrets_in(base.revision.added_lines()))
            for finding in judge(secrets, stack.sources.accepted(), base.accepted).blocking:
                report(_described(finding), None)


def _described(finding: Finding) -> str:
    """Return a finding with its entry for accepted-changes.yaml."""
    tenant, entry = (f"tenant {finding.tenant!r}: ", f", tenant: {finding.tenant}") if finding.tenant else ("", "")
    named = f"guardrail: {finding.guardrail.label}{entry}, object: {finding.object!r}"
    return (
        f"{tenant}{finding.object}: {finding.message}\n"
        f"If it is intended, add to {ACCEPTED_FILE} in this change: {{{named}, reason: …}}"
    )


class _Inputs(ResourceValidationPolicy):
    """Secrets in a resource's inputs.

    Only a remediation gets values with their secret marks, and only a validation can report: the remediation remembers
    its findings, and the following validation of the same resource reports them.
    """

    def __init__(self, stack: _Stack) -> None:
        super().__init__(
            f"{Guardrail.secret_in_plain_text.label}-input",
            "A resource's input has a secret that is not marked as one.",
            enforcement_level=EnforcementLevel.REMEDIATE,
        )
        self._stack = stack
        self._found: dict[str, tuple[Finding, ...]] = {}

    def remediate(self, args: ResourceValidationArgs) -> None:
        """Find secrets, and change nothing."""
        self._found[args.urn] = tuple(plain_secrets(args.resource_type, args.name, marked(args.props)))

    def validate(self, args: ResourceValidationArgs, report_violation: ReportViolation) -> None:
        """Report the secrets found, and record the inputs."""
        self._stack.inputs[args.urn] = plain(args.props)
        found = self._found.pop(args.urn, None)
        if found is None:
            args.not_applicable("secret marks are available only at the enforcement level `remediate`")
        if found:
            with _reported_errors(report_violation):
                for finding in judge(found, self._stack.sources.accepted(), ()).blocking:
                    report_violation(_described(finding), None)


@contextmanager
def _reported_errors(report: ReportViolation) -> Iterator[None]:
    """Report unreadable input as a violation: it blocks the change too."""
    try:
        yield
    except (KryonixError, OSError) as error:
        report(f"This can't be checked: {error}", None)
