"""Commands that run or read a stack."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Final

import typer
import yaml
from rich.markup import escape

from kryonix.cli import site
from kryonix.cli.options import Json, StackOptions, Yes, command
from kryonix.cli.output.changes import change_lines, notable
from kryonix.cli.output.console import (
    confirm,
    err,
    fields_text,
    out,
    print_json,
    print_result,
    refuse_without_terminal,
)
from kryonix.cli.output.progress import RunProgress
from kryonix.cli.output.tables import FOUND, findings_line, step_json, steps_table, summary_line
from kryonix.cli.site import Outage
from kryonix.engines.deployments import TENANT_TYPE
from kryonix.engines.engine import StackSpec
from kryonix.engines.errors import EngineFailed
from kryonix.engines.events import OnEvent, Summary, count_changes
from kryonix.errors import InvalidChoice, KryonixError
from kryonix.rabbitmq.broker import Broker
from kryonix.tenants.undeclared import Undeclared, declared_vhosts, find_undeclared
from kryonix.topology.errors import nearest
from kryonix.topology.naming import TENANT_STACK

_BRIEF: Final = 12
"""Maximum number of changes that a preview lists without `--verbose`."""
_HIDDEN: Final = "[secret]"

app = typer.Typer()


Verbose = Annotated[bool, typer.Option("--verbose", help="List every change, not only a summary of each tenant's.")]


@command(app)
def preview(target: StackOptions, verbose: Verbose = False, json_output: Json = False) -> None:
    """Show what `up` would change.

    A change that would lose messages is shown too, and then refused.
    """
    if json_output:
        print_json(_summary_json(_run("preview", target)))
    else:
        _preview(target, Outage(target), verbose)


@command(app)
def up(target: StackOptions, yes: Yes = False, verbose: Verbose = False, json_output: Json = False) -> None:
    """Create or update the stack's resources."""
    outage = total = None
    if not yes:
        refuse_without_terminal("up")
        outage = Outage(target)
        planned = _preview(target, outage, verbose)
        total = len({step.urn for step in planned.steps})
        if planned.changed:
            count = sum(n for op, n in planned.changes.items() if op not in ("same", "read"))
            confirm("up", f"Apply {count:,} change{'' if count == 1 else 's'} to stack {target.stack!r}?")
    summary = _run("up", target, outage, total)
    lines = change_lines(summary.steps, done=True) if yes else []
    print_result(_summary_json(summary), "\n".join([*lines, summary_line(summary)]), json_output)


@command(app)
def refresh(target: StackOptions, yes: Yes = False, json_output: Json = False) -> None:
    """Update the state from the live systems. Shows changes made outside Kryonix; `kryonix up` reverts them."""
    if not yes:
        confirm("refresh", f"Update the state of stack {target.stack!r} from the live systems?")
    summary = _run("refresh", target)
    deployment = site.deployment_of(target)
    undeclared: list[Undeclared] = []
    if declared := declared_vhosts(deployment):
        broker = Broker.of(site.outputs_with_platform(target, deployment))
        undeclared = [found for vhost, each in declared.items() if (found := find_undeclared(broker, vhost, each))]
    value = {**_summary_json(summary), "undeclared": [each.as_json() for each in undeclared]}
    strange = [escape("\n".join([f"In {each.vhost}:", *each.lines()])) for each in undeclared]
    print_result(value, [steps_table(summary.steps, out, FOUND), findings_line(summary), *strange], json_output)


@command(app)
def destroy(target: StackOptions, yes: Yes = False, json_output: Json = False) -> None:
    """Remove everything in the stack."""
    outage = total = None
    if not yes:
        refuse_without_terminal("destroy")
        outage = Outage(target)
        outage.refuse_paused()
        deployment = site.deployment_of(target)
        confirm("destroy", f"Remove {removal_text(target.stack, deployment)}?")
        total = len(_removable(deployment))
    try:
        summary = _run("destroy", target, outage, total)
    except KryonixError as error:
        protected = error.failure is not None and error.failure.kind == "protected"
        if protected and target.stack.rpartition("/")[2].startswith(TENANT_STACK):
            remedy = "If a killed `kryonix tenant adopt` has left this stack, run that command again"
            raise EngineFailed(f"{error} {remedy}", failure=error.failure) from error
        raise
    line = summary_line(summary) if any(summary.changes.values()) else f"Nothing is deployed in stack {target.stack!r}."
    print_result(_summary_json(summary), line, json_output)


@command(app)
def outputs(
    target: StackOptions,
    key: Annotated[str | None, typer.Argument(metavar="[KEY]", help="Print only this output's value.")] = None,
    show_secrets: Annotated[bool, typer.Option("--show-secrets", help="Print passwords and URIs too.")] = False,
    json_output: Json = False,
) -> None:
    """Print the stack's outputs. With KEY, print the plain value of one."""
    found = dict(sorted(site.engine_of(target).outputs(site.spec_of(target), show_secrets=show_secrets).items()))
    if key is None:
        print_result(found, fields_text(found), json_output)
        return
    if not found:
        raise site.nothing_deployed(target, "has no outputs: nothing is deployed")
    if key not in found:
        raise InvalidChoice(f"stack {target.stack!r} has no output {key!r}; {nearest(key, found)}")
    value = found[key]
    if value == _HIDDEN and not show_secrets:
        raise InvalidChoice(f"the output {key!r} is a secret. Add --show-secrets to print it")
    text = value if isinstance(value, str) else json.dumps(value, indent=2)
    sys.stdout.write(f"{json.dumps(value) if json_output else text}\n")


@command(app)
def export(target: StackOptions) -> None:
    """Print the stack's deployment for `pulumi stack import`. Secrets stay encrypted."""
    print_json(site.deployment_of(target))


def _run(operation: str, target: StackOptions, outage: Outage | None = None, total: int | None = None) -> Summary:
    """Run an operation of the engine, with progress. An error caused by a stopped container names that container."""
    outage = outage or Outage(target)
    outage.refuse_paused()
    run: Callable[[StackSpec, OnEvent], Summary] = getattr(site.engine_of(target), operation)
    with outage.explained(), RunProgress(err, f"{operation} {target.stack}", total).running() as progress:
        return run(site.spec_of(target), progress.on_event)


def _preview(target: StackOptions, outage: Outage, verbose: bool) -> Summary:
    """Print and return what `up` would change. A change that would lose messages is refused after its other changes."""
    try:
        summary = _run("preview", target, outage)
    except KryonixError as refusal:
        if refusal.failure is None or not refusal.failure.queues:
            raise
        with suppress(KryonixError, OSError), _accepting(target, refusal.failure.queues) as accepting:
            _print_preview(_without_acceptance(_run("preview", accepting, outage)), verbose)
        raise
    _print_preview(summary, verbose)
    return summary


@contextmanager
def _accepting(target: StackOptions, queues: Iterable[str]) -> Iterator[StackOptions]:
    """Yield the stack with a copy of its config file that also accepts the loss of these queues."""
    spec = site.spec_of(target)
    document = yaml.safe_load((spec.config_file or site.config_file(spec.name)).read_text(encoding="utf-8")) or {}
    settings = document.setdefault("config", {})
    accepted = yaml.safe_load(str(settings.get("kryonix:allowDelete") or "[]"))
    settings["kryonix:allowDelete"] = [*accepted, *queues]
    with tempfile.TemporaryDirectory(prefix="kryonix-preview-") as folder:
        file = Path(folder, f"Pulumi.{spec.name.rpartition('/')[2]}.yaml")
        file.write_text(yaml.safe_dump(document, allow_unicode=True), encoding="utf-8")
        yield replace(target, config_file=file)


def _without_acceptance(summary: Summary) -> Summary:
    """Return a preview without the changes that the accepted losses themselves make."""
    steps = tuple(
        replace(step, op="same", changed=())
        if {name.partition("[")[0] for name in step.changed} == {"allowDelete"}
        else step
        for step in summary.steps
    )
    return replace(summary, changes=count_changes(steps), steps=steps)


def _print_preview(summary: Summary, verbose: bool) -> None:
    changes = sum(step.op not in ("same", "read") for step in summary.steps)
    brief = not verbose and changes > _BRIEF
    steps = notable(summary.steps) if brief else summary.steps
    title = "Existing queues, vhosts, containers and volumes" if brief else ""
    hint = f"`--verbose` lists all {changes:,} changes." if brief else None
    table = steps_table(steps, out, title=title, every=True)
    print_result(None, [*change_lines(summary.steps), table, summary_line(summary), hint], json_output=False)


def _summary_json(summary: Summary) -> dict[str, Any]:
    steps = [{"urn": step.urn, **step_json(step)} for step in summary.steps if step.op != "same"]
    return {"changes": summary.changes, "steps": steps, "seconds": round(summary.seconds, 3)}


def removal_text(stack: str, deployment: Mapping[str, Any]) -> str:
    """Return what `destroy` would remove from a deployment, counted like its summary: without default providers."""
    types = _removable(deployment)
    tenants = types.count(TENANT_TYPE)
    text = f"{len(types):,} resource{'' if len(types) == 1 else 's'} of stack {stack!r}"
    if not tenants:
        return text
    lost = "1 tenant with all its messages" if tenants == 1 else f"{tenants:,} tenants with all their messages"
    return f"{text}, including {lost}"


def _removable(deployment: Mapping[str, Any]) -> list[str]:
    """Return the types of a deployment's resources, without default providers."""
    types = []
    for resource in (deployment["deployment"] or {}).get("resources", []):
        name = resource["urn"].rsplit("::", 1)[-1]
        default = name == "default" or name.startswith("default_")
        if not (default and resource["type"].startswith("pulumi:providers:")):
            types.append(resource["type"])
    return types
