"""The policies, one per guardrail, for `pulumi preview --policy-pack`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Final

import pulumi
import yaml
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
from pulumi_policy.deserialize import serialize_properties

from kryonix.errors import InvalidChoice, KryonixError
from kryonix.policy.resources import plain, plain_secrets, registered
from kryonix.policy.tenants import StackTenant, stack_tenants
from kryonix.review.base.git import Repository, Revision
from kryonix.review.base.sides import Present, accepted_before, against_revision
from kryonix.review.differences import differences
from kryonix.review.guardrails import ACCEPTED_FILE, Acceptance, Finding, Guardrail, judge, parse_acceptances
from kryonix.review.plain_text import secrets_in
from kryonix.review.rules import find, state_findings
from kryonix.topology.catalog import parse_catalog
from kryonix.topology.expansion import Topology, expand
from kryonix.topology.tenants import parse_tenant, parse_tenants

AGAINST: Final = "KRYONIX_AGAINST"
"""The environment variable with the base revision. Without it, only rules about the current state apply."""

_TENANT_KEY: Final = "kryonix:tenant"


def policies(project: Path) -> list[Policy]:
    """Return every policy for the project in a folder."""
    stack = _Stack(project)
    compared = [guardrail for guardrail in Guardrail if guardrail is not Guardrail.secret_in_plain_text]
    return [
        *(_policy(guardrail, partial(_check_tenants, stack, guardrail)) for guardrail in compared),
        _policy(Guardrail.secret_in_plain_text, partial(_check_lines, stack)),
        _Inputs(stack),
    ]


@dataclass(frozen=True, slots=True)
class Base:
    """The merge base of a revision and the present work: a stack's tenants and accepted changes there."""

    revision: Revision
    topologies: tuple[Topology, ...]
    accepted: tuple[Acceptance, ...]


class _Stack:
    """The stack under validation: one per process, since a pack lives as long as one command."""

    def __init__(self, project: Path) -> None:
        self._project = project
        self.inputs: dict[str, Any] = {}
        """The program's inputs of each resource, by URN, for the policies of whole stacks."""

    def present(self) -> Present:
        """Return the tenants and their catalog. Raises InvalidInput, and OSError for an unreadable file."""
        config = pulumi.Config("kryonix")
        tenants_name, catalog_name = config.require("tenantsFile"), config.require("catalogFile")
        catalog_file = self._project / catalog_name
        catalog = parse_catalog(catalog_file.read_bytes(), catalog_name)
        tenant = config.get_object("tenant")
        if not tenant:
            file = self._project / tenants_name
            return Present(file, catalog_file, parse_tenants(file.read_bytes(), tenants_name, catalog), catalog)
        file = self._project / f"Pulumi.{pulumi.get_stack()}.yaml"
        single = parse_tenant(dict(tenant), f"{file.name} {_TENANT_KEY}", catalog)
        return Present(file, catalog_file, [single], catalog, _tenant_list)

    def accepted(self) -> list[Acceptance]:
        """Return the entries of accepted-changes.yaml, none without the file. Raises InvalidInput."""
        file = self._project / ACCEPTED_FILE
        return parse_acceptances(file.read_bytes(), ACCEPTED_FILE) if file.exists() else []

    @cached_property
    def base(self) -> Base | None:
        """Return the base from the environment, read once. Raises InvalidChoice if unknown, InvalidInput."""
        name = os.environ.get(AGAINST)
        if not name:
            return None
        repository = Repository.around(self._project)
        if repository is None:
            raise InvalidChoice(f"{str(self._project)!r} is not in a git repository: there is no revision {name!r}")
        named, present = repository.revision(name), self.present()
        forked = named.forked()[0]
        pair = against_revision(forked, present)
        differing = {topology.tenant.id for topology in (*pair.before, *pair.after)}
        same = (expand(tenant, present.catalog) for tenant in present.tenants if tenant.id not in differing)
        accepted = accepted_before(self._project / ACCEPTED_FILE, (named, forked))
        return Base(forked, (*pair.before, *same), tuple(accepted))


def _tenant_list(config: bytes) -> bytes:
    """Return a list of the one tenant in a stack's config, empty if it has none yet."""
    document = yaml.safe_load(config) or {}
    tenant = (document.get("config") or {}).get(_TENANT_KEY)
    return yaml.safe_dump({"tenants": [tenant] if tenant else []}).encode()


def _policy(guardrail: Guardrail, check: StackValidation) -> Policy:
    meaning = f"{guardrail.meaning[0].upper()}{guardrail.meaning[1:]}."
    return StackValidationPolicy(guardrail.label, meaning, check, EnforcementLevel.MANDATORY)


def _check_tenants(stack: _Stack, guardrail: Guardrail, args: StackValidationArgs, report: ReportViolation) -> None:
    with _reported_errors(report):
        base, present = stack.base, stack.present()
        listed = {tenant.id: tenant for tenant in present.tenants}
        found = stack_tenants(registered(args.resources, stack.inputs), listed, present.catalog)
        urns = {(each.id, name): urn for each in found for name, urn in each.urns.items()}
        for finding in _blocking(guardrail, found, base, stack.accepted()):
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
        base = stack.base
        if base is None:
            args.not_applicable(f"{AGAINST} names no base revision")
        else:
            secrets = tuple(secrets_in(base.revision.added_lines()))
            for finding in judge(secrets, stack.accepted(), base.accepted).blocking:
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
        self._found[args.urn] = tuple(
            plain_secrets(args.resource_type, args.name, plain(serialize_properties(args.props)))
        )

    def validate(self, args: ResourceValidationArgs, report_violation: ReportViolation) -> None:
        """Report the secrets found, and record the inputs."""
        self._stack.inputs[args.urn] = plain(args.props)
        found = self._found.pop(args.urn, None)
        if found is None:
            args.not_applicable("secret marks are available only at the enforcement level `remediate`")
        if found:
            with _reported_errors(report_violation):
                for finding in judge(found, self._stack.accepted(), ()).blocking:
                    report_violation(_described(finding), None)


@contextmanager
def _reported_errors(report: ReportViolation) -> Iterator[None]:
    """Report unreadable input as a violation: it blocks the change too."""
    try:
        yield
    except (KryonixError, OSError) as error:
        report(f"This can't be checked: {error}", None)
