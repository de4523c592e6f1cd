"""The commands that run a stack: what they ask, show and print."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import typer
from rich.markup import escape
from rich.table import Table

from kryonix.cli.confirmation import confirm
from kryonix.cli.console import err, out, print_json
from kryonix.cli.outage import Outage
from kryonix.cli.progress import Display, findings_line, findings_table, steps_table, summary_line
from kryonix.cli.status import read_status, status_json, status_table
from kryonix.engines.address import StackAddress
from kryonix.engines.containers import platform_of
from kryonix.engines.engine import Choice, Engine, engine_for
from kryonix.engines.events import Event, Summary
from kryonix.errors import InvalidChoice
from kryonix.rabbitmq.broker import Broker
from kryonix.tenants.undeclared import Undeclared, declared_vhosts, find_undeclared

__all__ = ["export", "outputs", "run", "status", "what_goes"]

_UNREACHABLE: Final = 3
_TENANT: Final = "kryonix:messaging:TenantMessaging"


def run(operation: str, stack: str, config_file: Path | None, engine: Choice, json_output: bool, yes: bool) -> None:
    """Run `preview`, `up`, `refresh` or `destroy`; without `yes` only after it was confirmed on a terminal."""
    address = _address(stack, config_file)
    outage = Outage(stack, engine)
    outage.refuse_paused()
    if not yes:
        confirm(operation, lambda: _question(operation, address, engine))
    display = Display(err, f"{operation} {stack}")
    runner = engine_for(engine, address, display.take)
    try:
        with display.running():
            summary: Summary = getattr(runner, operation)()
    except Exception as error:
        said = outage.explain(error)
        if said is None:
            raise
        raise said from error
    strange = _undeclared(address, engine) if operation == "refresh" else []
    if json_output:
        print_json({**_summary_json(summary), **_undeclared_json(operation, strange)})
        return
    if operation == "refresh":
        _show(findings_table(summary, out))
        out.print(findings_line(summary), soft_wrap=True)
        for each in strange:
            out.print(escape("\n".join([f"In {each.vhost}:", *each.lines()])), soft_wrap=True)
        return
    if operation == "preview":
        _show(steps_table(summary, out))
    out.print(summary_line(summary))


def outputs(stack: str, config_file: Path | None, engine: Choice, show_secrets: bool, json_output: bool) -> None:
    """Print a stack's outputs, by name."""
    found = dict(sorted(_reader(stack, config_file, engine).outputs(show_secrets).items()))
    if json_output:
        print_json(found)
        return
    for name, value in found.items():
        text = value if isinstance(value, str) else json.dumps(value, indent=2, sort_keys=True)
        out.print(f"[bold]{name}[/bold] {escape(text)}", soft_wrap=True)


def export(stack: str, config_file: Path | None, engine: Choice) -> None:
    """Print a stack's deployment."""
    print_json(_reader(stack, config_file, engine).export())


def status(stack: str, config_file: Path | None, engine: Choice, json_output: bool) -> None:
    """Print how a stack stands: what the broker and the registry say, beside what the state has as a record.

    Status 3 where one of them does not answer.
    """
    address = _address(stack, config_file)
    reader = engine_for(engine, address, _unheard)
    if not reader.outputs():
        remedy = f"Run `kryonix up --stack {stack}`"
        raise InvalidChoice(f"the stack {stack!r} has no outputs: nothing is deployed. {remedy}")
    found = read_status(_with_platform(address, engine, reader.export()))
    if json_output:
        print_json(status_json(found))
    else:
        status_table(found, out)
    if problems := found.problems:
        said = Outage(stack, engine).advice()
        for problem in [said] if said else problems:
            err.print(f"[bold red]error:[/bold red] {escape(problem)}", soft_wrap=True)
        raise typer.Exit(_UNREACHABLE)


def _undeclared(address: StackAddress, engine: Choice) -> list[Undeclared]:
    """What is in the vhosts of a stack's tenants and in no stack. Asks the broker."""
    deployment = engine_for(engine, address, _unheard).export()
    declared = declared_vhosts(deployment)
    if not declared:
        return []
    broker = Broker(_with_platform(address, engine, deployment))
    found = [find_undeclared(broker, vhost, each) for vhost, each in declared.items()]
    return [each for each in found if each]


def _with_platform(address: StackAddress, engine: Choice, deployment: Mapping[str, Any]) -> dict[str, Any]:
    """A stack's outputs, with those of its platform where it is a tenant's own."""
    own = engine_for(engine, address, _unheard).outputs(show_secrets=True)
    platform = platform_of(deployment)
    if platform is None:
        return own
    above = StackAddress(project=address.project, stack=platform)
    found = {**engine_for(engine, above, _unheard).outputs(show_secrets=True), **own}
    registry = str(own.get("registry_stack") or platform).rpartition("/")[2]
    if registry != platform:
        there = engine_for(engine, StackAddress(project=address.project, stack=registry), _unheard)
        found["registry_dsn"] = there.outputs(show_secrets=True).get("registry_dsn")
    return found


def _undeclared_json(operation: str, strange: list[Undeclared]) -> dict[str, Any]:
    return {"undeclared": [each.as_json() for each in strange]} if operation == "refresh" else {}


def _unheard(event: Event) -> None:
    """Nobody listens."""


def _question(operation: str, address: StackAddress, engine: Choice) -> str:
    """What to ask on a terminal; before `up` it is shown what that would do, before `destroy` said what would go."""
    if operation == "up":
        _preview(address, engine)
    if operation == "destroy":
        there = engine_for(engine, address, _unheard).export()
        return f"Remove {what_goes(address.stack, there)}?"
    return f"{operation} the stack {address.stack!r}?"


def what_goes(stack: str, deployment: Mapping[str, Any]) -> str:
    """What `destroy` would remove, counted as its summary does, from what a stack's `export` gives."""
    resources = (deployment["deployment"] or {}).get("resources", [])
    types = [resource["type"] for resource in resources if not _is_default_provider(resource)]
    tenants = types.count(_TENANT)
    all_of_it = f"{len(types):,} resource{'' if len(types) == 1 else 's'} of the stack {stack!r}"
    if not tenants:
        return all_of_it
    lost = "1 tenant with all its messages" if tenants == 1 else f"{tenants:,} tenants with all their messages"
    return f"{all_of_it}, {lost} among them"


def _is_default_provider(resource: Mapping[str, Any]) -> bool:
    """Whether an engine made it by itself, as a provider that the program does not name."""
    name, type_ = str(resource["urn"]).rsplit("::", 1)[-1], str(resource["type"])
    return type_.startswith("pulumi:providers:") and (name == "default" or name.startswith("default_"))


def _preview(address: StackAddress, engine: Choice) -> None:
    """What `up` would do, before it is asked for."""
    summary = engine_for(engine, address, _unheard).preview()
    _show(steps_table(summary, out))
    out.print(summary_line(summary))


def _show(table: Table | None) -> None:
    if table is not None:
        out.print(table)


def _reader(stack: str, config_file: Path | None, engine: Choice) -> Engine:
    """An engine that is only read from."""
    return engine_for(engine, _address(stack, config_file), _unheard)


def _address(stack: str, config_file: Path | None) -> StackAddress:
    project = Path.cwd()
    if not (project / "Pulumi.yaml").is_file():
        raise InvalidChoice(f"{project} has no Pulumi.yaml. Run this in the project's folder")
    return StackAddress(project=project, stack=stack, config_file=config_file)


def _summary_json(summary: Summary) -> dict[str, Any]:
    steps = [
        {"op": step.op, "urn": step.urn, "type": step.type, "name": step.name, "changed": list(step.changed)}
        for step in summary.steps
        if step.op != "same"
    ]
    return {"changes": summary.changes, "steps": steps, "seconds": round(summary.seconds, 3)}
