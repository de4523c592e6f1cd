"""Commands that run a stack, or print its outputs or its deployment."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final

import typer
from rich.markup import escape
from rich.table import Table

from kryonix.cli.options import Json, StackOptions, Yes, command
from kryonix.cli.output.console import confirm, err, out, print_fields, print_json, refuse_without_terminal
from kryonix.cli.output.progress import RunProgress
from kryonix.cli.output.tables import findings_line, findings_table, step_json, steps_table, summary_line
from kryonix.cli.site import Outage, deployment_of, engine_of, outputs_with_platform, spec_of
from kryonix.engines.engine import Engine, StackSpec
from kryonix.engines.events import OnEvent, Summary
from kryonix.rabbitmq.broker import Broker
from kryonix.tenants.undeclared import Undeclared, declared_vhosts, find_undeclared

_TENANT: Final = "kryonix:messaging:TenantMessaging"

_Operation = Callable[[Engine, StackSpec, OnEvent], Summary]

app = typer.Typer()


@command(app)
def preview(target: StackOptions, json_output: Json = False) -> None:
    """Show what `up` would change."""
    summary = _run("preview", target, _preview)
    if json_output:
        print_json(_summary_json(summary))
    else:
        _print_preview(summary)


@command(app)
def up(target: StackOptions, yes: Yes = False, json_output: Json = False) -> None:
    """Create or update the stack's resources."""
    outage = None
    if not yes:
        refuse_without_terminal("up")
        outage = Outage(target)
        planned = _run("preview", target, _preview, outage)
        if planned.changed:
            _print_preview(planned)
            count = sum(n for op, n in planned.changes.items() if op not in ("same", "read"))
            confirm("up", f"Apply {count:,} change{'' if count == 1 else 's'} to stack {target.stack!r}?")
    _print_summary(_run("up", target, lambda engine, *run: engine.up(*run), outage), json_output)


@command(app)
def refresh(target: StackOptions, yes: Yes = False, json_output: Json = False) -> None:
    """Update the state from the live systems. Shows changes made outside Kryonix; `kryonix up` reverts them."""
    if not yes:
        confirm("refresh", f"Update the state of stack {target.stack!r} from the live systems?")
    summary = _run("refresh", target, lambda engine, *run: engine.refresh(*run))
    undeclared = _undeclared(target)
    if json_output:
        print_json({**_summary_json(summary), "undeclared": [each.as_json() for each in undeclared]})
        return
    _print_table(findings_table(summary, out))
    out.print(findings_line(summary), soft_wrap=True)
    for each in undeclared:
        out.print(escape("\n".join([f"In {each.vhost}:", *each.lines()])), soft_wrap=True)


@command(app)
def destroy(target: StackOptions, yes: Yes = False, json_output: Json = False) -> None:
    """Remove everything in the stack."""
    outage = None
    if not yes:
        refuse_without_terminal("destroy")
        outage = Outage(target)
        outage.refuse_paused()
        confirm("destroy", f"Remove {removal_text(target.stack, deployment_of(target))}?")
    _print_summary(_run("destroy", target, lambda engine, *run: engine.destroy(*run), outage), json_output)


@command(app)
def outputs(
    target: StackOptions,
    show_secrets: Annotated[bool, typer.Option("--show-secrets", help="Print passwords and URIs too.")] = False,
    json_output: Json = False,
) -> None:
    """Print the stack's outputs."""
    found = dict(sorted(engine_of(target).outputs(spec_of(target), show_secrets=show_secrets).items()))
    if json_output:
        print_json(found)
    else:
        print_fields(found)


@command(app)
def export(target: StackOptions) -> None:
    """Print the stack's deployment for `pulumi stack import`. Secrets stay encrypted."""
    print_json(deployment_of(target))


def _run(
    title: str,
    target: StackOptions,
    operation: Callable[[Engine, StackSpec, OnEvent], Summary],
    outage: Outage | None = None,
) -> Summary:
    """Run an operation with progress. An error caused by a stopped container names that container."""
    outage = outage or Outage(target)
    outage.refuse_paused()
    progress = RunProgress(err, f"{title} {target.stack}")
    engine = engine_of(target)
    with outage.explained(), progress.running():
        return operation(engine, spec_of(target), progress.on_event)


def _preview(engine: Engine, stack: StackSpec, on_event: OnEvent) -> Summary:
    return engine.preview(stack, on_event)


def _print_preview(summary: Summary) -> None:
    _print_table(steps_table(summary, out))
    out.print(summary_line(summary))


def _print_summary(summary: Summary, json_output: bool) -> None:
    if json_output:
        print_json(_summary_json(summary))
    else:
        out.print(summary_line(summary))


def _print_table(table: Table | None) -> None:
    if table is not None:
        out.print(table)


def _undeclared(target: StackOptions) -> list[Undeclared]:
    """Return what the vhosts of the stack's tenants contain and no stack declares. Asks the broker."""
    deployment = deployment_of(target)
    declared = declared_vhosts(deployment)
    if not declared:
        return []
    broker = Broker.of(outputs_with_platform(target, deployment))
    found = [find_undeclared(broker, vhost, each) for vhost, each in declared.items()]
    return [each for each in found if each]


def removal_text(stack: str, deployment: Mapping[str, Any]) -> str:
    """Return what `destroy` would remove from a deployment, counted like its summary."""
    resources = (deployment["deployment"] or {}).get("resources", [])
    types = [resource["type"] for resource in resources if not _is_default_provider(resource)]
    tenants = types.count(_TENANT)
    text = f"{len(types):,} resource{'' if len(types) == 1 else 's'} of stack {stack!r}"
    if not tenants:
        return text
    lost = "1 tenant with all its messages" if tenants == 1 else f"{tenants:,} tenants with all their messages"
    return f"{text}, including {lost}"


def _is_default_provider(resource: Mapping[str, Any]) -> bool:
    """Return True for a provider made by the engine: the program doesn't name it."""
    name, type_ = str(resource["urn"]).rsplit("::", 1)[-1], str(resource["type"])
    return type_.startswith("pulumi:providers:") and (name == "default" or name.startswith("default_"))


def _summary_json(summary: Summary) -> dict[str, Any]:
    steps = [{"urn": step.urn, **step_json(step)} for step in summary.steps if step.op != "same"]
    return {"changes": summary.changes, "steps": steps, "seconds": round(summary.seconds, 3)}
