"""`kryonix router train` and `evaluate`: make a model from outcomes, and show what it is worth."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.markup import escape

from kryonix.cli.options import Json, PlatformOptions, check_tenant, command
from kryonix.cli.output import router as output
from kryonix.cli.output.console import check_output, err, out, print_error, print_result, write_output
from kryonix.cli.output.progress import Live
from kryonix.cli.router_models import ModelFile, model_of
from kryonix.cli.router_outcomes import Outcomes, outcomes_of
from kryonix.cli.site import open_site, platform_command
from kryonix.errors import InvalidChoice, MissingPrerequisite
from kryonix.registry.connection import connect
from kryonix.registry.routing_models import fetch_sharing, publish
from kryonix.routing.model import read_model, write_model

if TYPE_CHECKING:
    from kryonix.training.training import ActionReport, Trained

_FAILED: Final = 1
_EXPLORE: Final = 0.01

app = typer.Typer()


@platform_command(app)
def train(
    platform: PlatformOptions,
    outcomes: Outcomes = None,
    out_file: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Write the model here.")] = None,
    tenant: Annotated[str | None, typer.Option(metavar="ID", help="Tenant whose outcomes these are.")] = None,
    also: Annotated[
        list[str] | None,
        typer.Option(metavar="ID", help="Another tenant with outcomes among them; both have to share. Repeatable."),
    ] = None,
    publish_model: Annotated[
        bool, typer.Option("--publish", help="Store the model in the registry for the tenant; no mode changes.")
    ] = False,
    explore: Annotated[
        float, typer.Option(min=0, max=0.5, help="Share of messages that stay where the rules put them.")
    ] = _EXPLORE,
    json_output: Json = False,
) -> None:
    """Train a model from outcomes, and compare it with the rules and a tuned table on messages that it has not seen.

    An action whose model does not beat the tuned table is refused and stays with the rules. Exit status 1 if all are;
    nothing is written then.
    """
    _check_targets(out_file, tenant, also or [], publish_model)
    _check_tools()
    from kryonix.training.training import NotWorthIt
    from kryonix.training.training import train as train_model

    tenants = [] if tenant is None else [tenant, *(also or ())]
    if also:
        _check_sharing(platform, tenants)
    found = outcomes_of(outcomes, tenants)
    try:
        with _progress("training") as tell:
            trained = train_model(found, explore=explore, tenants=tenants, progress=tell)
    except NotWorthIt as error:
        print_result(_report(error.report), output.training_report(error.report, out), json_output)
        print_error(str(error))
        raise typer.Exit(_FAILED) from None
    whose = tenant if publish_model else None
    version = _store(platform, trained, out_file, whose)
    value = _report(trained.report, version, out_file, whose)
    print_result(value, output.training_report(trained.report, out), json_output)
    places = [str(out_file)] if out_file else []
    places += [f"the registry, for {whose}"] if whose else []
    err.print(escape(f"model {version} written to {' and '.join(places)}"), soft_wrap=True)


def _report(
    actions: Sequence[ActionReport], version: str | None = None, file: Path | None = None, tenant: str | None = None
) -> dict[str, Any]:
    return {"version": version, "out": None if file is None else str(file), "published": tenant, "actions": actions}


@command(app)
def evaluate(
    model: ModelFile,
    outcomes: Outcomes = None,
    picture: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw it here too, as SVG.")] = None,
    json_output: Json = False,
) -> None:
    """Replay outcomes under a model, and under first in first out, the rules, a tuned table, chance and an oracle.

    Give outcomes from after the training: those that a model has learned from flatter it.
    """
    found_model = model_of(model)
    if picture is not None:
        if picture.suffix.lower() != ".svg":
            raise InvalidChoice(f"--picture {str(picture)!r}: the picture is SVG. Give a name that ends in .svg")
        check_output(picture, "--picture")
    _check_tools()
    from kryonix.training.evaluation import evaluate as evaluate_model
    from kryonix.training.picture import draw

    found = outcomes_of(outcomes)
    with _progress("evaluation") as tell:
        evaluation = evaluate_model(found_model, found, progress=tell)
    if picture is not None:
        write_output(picture, draw(evaluation).encode(), "--picture")
    print_result(asdict(evaluation), output.evaluation_report(evaluation, out), json_output)


def _check_targets(file: Path | None, tenant: str | None, also: Sequence[str], publishes: bool) -> None:
    """Raise InvalidChoice before the training if its result could not be kept."""
    if file is None and not publishes:
        raise InvalidChoice("there is no place for the model. Give --out FILE, or --tenant ID and --publish")
    if tenant is None and (publishes or also):
        raise InvalidChoice(f"{'--publish' if publishes else '--also'} needs a tenant. Give --tenant ID")
    for each in (*([tenant] if tenant else []), *also):
        check_tenant(each)
    if file is not None:
        check_output(file, "--out")


def _check_tools() -> None:
    """Raise MissingPrerequisite if LightGBM can't be loaded."""
    try:
        import lightgbm  # noqa: F401 - only to know whether it loads
    except (ImportError, OSError) as error:  # OSError: without the system's libgomp
        remedy = "Run `pip install 'kryonix-messaging[router]'`; Debian and Ubuntu need the package libgomp1 too"
        raise MissingPrerequisite(f"training and evaluation need LightGBM: {error}. {remedy}") from error


def _check_sharing(platform: PlatformOptions, tenants: Sequence[str]) -> None:
    """Raise InvalidChoice unless all tenants share their outcomes."""
    with connect(open_site(platform).registry_dsn) as connection:
        sharing = fetch_sharing(connection)
    if missing := [each for each in tenants if each not in sharing]:
        remedy = f"Each has to agree first: `kryonix router share {missing[0]}`"
        raise InvalidChoice(f"{', '.join(missing)} shares no outcomes with others. {remedy}")


def _store(platform: PlatformOptions, trained: Trained, file: Path | None, tenant: str | None) -> str:
    """Write and publish the model, and return its version."""
    content, version = write_model(trained.model)
    read_model(content, "the new model")  # what is written can be used
    if tenant is not None:
        made_of = trained.model.tenants
        with connect(open_site(platform).registry_dsn) as connection:
            publish(connection, tenant, version, content, made_of, by=os.environ.get("USER", ""))
    if file is not None:
        write_output(file, content, "--out")
    return version


@contextmanager
def _progress(title: str) -> Iterator[Callable[[str], None]]:
    """Show steps on standard error while the block runs."""
    with Live(err, title).running() as live:

        def tell(step: str) -> None:
            live.update(f"{title}: {escape(step)}", f"{title}: {escape(step)}")

        yield tell
