"""`kryonix check`: check a platform and its tenants as they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import typer
from rich.text import Text

from kryonix.checks.backups import backup_findings
from kryonix.checks.declared import Declared, declared_tenants
from kryonix.checks.findings import PLATFORM_CHECKS, TENANT_CHECKS, Finding, complete, junit
from kryonix.checks.run import Registered, check_cell
from kryonix.cli.options import Json, PlatformOptions
from kryonix.cli.output.console import out, print_result
from kryonix.cli.output.tables import Column, responsive_table
from kryonix.cli.site import Site, open_site, platform_command, print_outage
from kryonix.engines.containers import platform_of
from kryonix.engines.deployments import outputs_in
from kryonix.engines.engine import StackSpec
from kryonix.errors import InvalidChoice, ServiceUnreachable
from kryonix.registry import schema
from kryonix.registry.backups import fetch_newest_backups
from kryonix.registry.connection import connect
from kryonix.registry.desired_states import clock, fetch_desired_states
from kryonix.registry.errors import RegistryError
from kryonix.registry.migrations.versions import NEWEST
from kryonix.registry.rows import fetch_tenants
from kryonix.tenants.errors import UnknownTenant
from kryonix.topology.naming import TENANT_STACK, Names

_FAILED: Final = 1
_AT_ONCE: Final = 8
_NAMED: Final = 3
_COLOURS: Final = {"pass": "green", "fail": "red", "unreachable": "red", "not tried": "yellow"}
_COLUMNS: Final[tuple[Column[Sequence[str]], ...]] = (
    Column("tenant", lambda row: row[0] or Text("platform", "bold"), min_width=10),
    Column("check", itemgetter(1), min_width=10),
    Column("result", lambda row: Text(row[2], _COLOURS[row[2]])),
    Column("why", itemgetter(3), min_width=20),
    Column("what to do", itemgetter(4), min_width=20),
)

app = typer.Typer()


@platform_command(app)
def check(
    platform: PlatformOptions,
    tenant: Annotated[str | None, typer.Option("--tenant", help="Check this tenant only.")] = None,
    json_output: Json = False,
    junit_file: Annotated[
        Path | None, typer.Option("--junit", metavar="FILE", help="Write JUnit XML to this file too.")
    ] = None,
) -> None:
    """Check the platform and its tenants as they are: what fails, why, and what to do.

    It changes nothing. Its messages go to queues of its own, which the broker deletes with its connection.
    """
    site = open_site(platform, concurrency=_AT_ONCE)
    if junit_file is not None:
        _write(junit_file, "ab", b"")  # a check takes long: refuse the file before it
    findings = check_site(site, platform.stack, tenant)
    if junit_file is not None:
        _write(junit_file, "wb", junit(findings))
    outcomes = Counter(finding.outcome for finding in findings)
    title = ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items()))
    table = responsive_table(title, _COLUMNS, rows(findings), out)
    print_result({"outcomes": dict(outcomes), "findings": findings}, table, json_output)
    if outcomes["unreachable"]:
        print_outage(platform)
        raise typer.Exit(ServiceUnreachable.exit_status)
    if outcomes["fail"]:
        raise typer.Exit(_FAILED)


def _write(file: Path, mode: Literal["ab", "wb"], content: bytes) -> None:
    try:
        with file.open(mode) as opened:
            opened.write(content)
    except OSError as error:
        raise InvalidChoice(f"--junit {str(file)!r} can't be written: {error.strerror}") from error


def check_site(site: Site, stack: str, tenant: str | None = None) -> list[Finding]:
    """Return the findings on every cell and on every tenant, or on one. Raises UnknownTenant."""
    registered, found = _registry(site.registry_dsn, stack)
    found += _backups(site.registry_dsn, stack, tenant, found)
    outputs, declared = _declared(site, stack, registered, tenant)
    unknown = [] if registered is None else _undeclared(registered, declared, site.service_worker, stack, tenant)
    if tenant is not None:
        declared = {name: members for name, members in declared.items() if tenant in _ids(members)}
        if not declared and not unknown:
            raise UnknownTenant(tenant)
    for name, members in declared.items():
        found += check_cell(outputs[name], members, registered, site.catalog, tenant)
    of_platform = [finding for finding in found if not finding.tenant]
    unread = any((finding.check, finding.outcome) == ("broker", "unreachable") for finding in of_platform)
    return [
        *complete(of_platform, PLATFORM_CHECKS, blocked="the broker does not answer" if unread else ""),
        *(finding for finding in found if finding.tenant),
        *unknown,
    ]


def _ids(members: Iterable[Declared]) -> set[str]:
    return {each.tenant.id for each in members}


def _registry(dsn: str, stack: str) -> tuple[Registered | None, list[Finding]]:
    """Return the registry's tenants, None if it does not answer, and the findings on it."""
    try:
        with connect(dsn) as connection:
            states, tenants = fetch_desired_states(connection), fetch_tenants(connection)
        found, newest = schema.current(dsn), NEWEST
    except RegistryError as error:
        blocked = Finding(check="migrations", outcome="not tried", why="the registry does not answer")
        return None, [Finding(check="registry", outcome="unreachable", why=str(error)), blocked]
    registered = Registered(
        rows={row.cliente_id: row for row in tenants},
        states={state.cliente_id: state for state in states if state.stage != "removed"},
    )
    passed = [Finding(check=name, outcome="pass") for name in ("registry", "migrations")]
    if found != newest:
        why = f"the registry's tables are at {found}, this release has {newest}"
        passed[1] = Finding(check="migrations", outcome="fail", why=why, remedy=f"kryonix up --stack {stack}")
    return registered, passed


def _backups(dsn: str, stack: str, tenant: str | None, registry: Iterable[Finding]) -> list[Finding]:
    """Return the findings on backups of all subjects, or on one tenant's."""
    if blocked := [each.why for each in registry if each.outcome != "pass"]:
        return [Finding(check="backups", outcome="not tried", why=blocked[-1])]
    try:
        with connect(dsn) as connection:
            now, newest = clock(connection), fetch_newest_backups(connection)
    except RegistryError as error:
        return [Finding(check="backups", outcome="unreachable", why=str(error))]
    return list(backup_findings((each for each in newest if tenant in (None, each.subject)), now, stack))


def _declared(
    site: Site, platform: str, registered: Registered | None, tenant: str | None
) -> tuple[dict[str, dict[str, Any]], dict[str, list[Declared]]]:
    """Return each platform's outputs, and the tenants that its stack and the tenants' own stacks declare."""
    states = () if registered is None else registered.states
    mend = {id: _converge(id, platform) for id in states}
    cells = [cell.stack for cell in site.cells.cells.values()]
    own = [stack for stack in site.engine.stacks() if stack.startswith(TENANT_STACK)]
    if tenant is not None:  # and one more, for the trial of isolation
        own = [s for s in own if s == Names(tenant).stack] + [s for s in own if s != Names(tenant).stack][:1]

    def read(stack: str) -> tuple[str, dict[str, Any], list[Declared]]:
        deployment = site.engine.export(StackSpec(name=stack), show_secrets=True)
        made = outputs_in(deployment)
        tenants = declared_tenants(stack.rpartition("/")[2], deployment, made, mend)
        return platform_of(deployment) or stack, made, list(tenants)

    outputs: dict[str, dict[str, Any]] = {}
    found: dict[str, list[Declared]] = {stack: [] for stack in cells}
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for where, made, tenants in pool.map(read, [*cells, *own]):
            outputs.setdefault(where, made)  # a platform's own come first
            if where in found:  # else a platform of another project's cells
                found[where] += tenants
    return outputs, found


def _converge(tenant: str, stack: str) -> str:
    return f"kryonix tenant converge {tenant} --stack {stack}"


def _undeclared(
    registered: Registered, declared: dict[str, list[Declared]], worker: str, stack: str, tenant: str | None
) -> list[Finding]:
    """Return a finding on each tenant of the registry that no stack declares.

    `worker` is the container of the signup service's worker, if there is one: it has stacks of its own.
    """
    known = _ids(chain.from_iterable(declared.values()))
    found: list[Finding] = []
    for id in sorted({*registered.rows, *registered.states} - known):
        state, row = registered.states.get(id), registered.rows.get(id)
        if tenant not in (None, id) or (state is None and (row is None or row.status == "removido")):
            continue
        if state is None:
            why = "another project declares it"
            found.append(Finding(check="vhost", outcome="not tried", tenant=id, why=why))
        elif worker:
            why = f"its stack has no state here; one that signed up has it in the container {worker}"
            found.append(Finding(check="vhost", outcome="not tried", tenant=id, why=why))
        else:
            why, remedy = f"its stack {Names(id).stack} has nothing", _converge(id, stack)
            found.append(Finding(check="vhost", outcome="fail", tenant=id, why=why, remedy=remedy))
    return found


def rows(findings: Iterable[Finding]) -> list[Sequence[str]]:
    """Return a row per tenant, and for the platform, for all that passed, and one per cause for the rest."""
    table: list[Sequence[str]] = []
    groups: dict[tuple[str, ...], list[Finding]] = {}
    for each in findings:
        cause = ("", "") if each.outcome == "pass" else (each.why, each.remedy)
        groups.setdefault((each.tenant, each.outcome, *cause), []).append(each)
    for (tenant, outcome, why, remedy), found in sorted(groups.items(), key=lambda group: group[0][0]):
        checks = len(TENANT_CHECKS if tenant else PLATFORM_CHECKS)
        names = list(dict.fromkeys(each.check for each in found))  # several cells have each check of the platform
        few = outcome != "pass" and len(names) <= _NAMED
        shown = ", ".join(names) if few else f"{len(names)} of {checks}"
        notes = why or "; ".join(f"{each.check} {each.why}" for each in found if each.why)
        table.append([tenant, shown, outcome, notes, remedy])
    return table
