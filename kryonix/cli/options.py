"""Options shared by commands, and the decorator that registers commands with them."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar, get_type_hints

import typer

from kryonix.cli.groups import Command as CommandClass
from kryonix.errors import InvalidChoice
from kryonix.topology.catalog import Catalog, default_catalog, parse_catalog
from kryonix.topology.naming import TENANT_ID

Command = TypeVar("Command", bound=Callable[..., None])

DEFAULT_STACK: Final = "dev"

CatalogFile = Annotated[Path | None, typer.Option(help="Use this catalog instead of the package's.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Don't ask for confirmation.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformOptions:
    """The platform's stack, and the engine to use."""

    stack: Annotated[str, typer.Option("--stack", "-s", help="Stack of the platform.")] = DEFAULT_STACK
    engine: Annotated[
        Literal["auto", "pulumi", "local"],
        typer.Option("--engine", metavar="ENGINE", help="pulumi, local, or auto: pulumi if the CLI is on PATH."),
    ] = "auto"

    def __post_init__(self) -> None:
        """Raise Refused if the name, or a part of an ORGANIZATION/PROJECT/NAME, is not valid for a stack."""
        from kryonix.engines.workspace import check_name  # imported late: `--help` needs no engine

        for part in self.stack.split("/"):
            check_name(part)


@dataclass(frozen=True, slots=True, kw_only=True)
class StackOptions(PlatformOptions):
    """A stack, its config, and the engine to use."""

    stack: Annotated[str, typer.Option("--stack", "-s", help="Stack name; its config is Pulumi.STACK.yaml.")] = (
        DEFAULT_STACK
    )
    config_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Use this config file instead of Pulumi.STACK.yaml.")
    ] = None


def command(app: typer.Typer, name: str | None = None) -> Callable[[Command], Command]:
    """Register a command. A parameter annotated with a dataclass becomes one option per field of that class."""

    def register(function: Command) -> Command:
        groups = {key: kind for key, kind in get_type_hints(function).items() if is_dataclass(kind)}

        def run(**given: Any) -> None:
            for key, kind in groups.items():
                given[key] = kind(**{field.name: given.pop(field.name) for field in fields(kind)})  # type: ignore[operator]
            function(**given)

        declared = inspect.signature(function, eval_str=True).parameters.values()
        own = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in declared if each.name not in groups]
        parameters = own + [
            inspect.Parameter(
                field.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=inspect.Parameter.empty if field.default is MISSING else field.default,
                annotation=get_type_hints(kind, include_extras=True)[field.name],
            )
            for kind in groups.values()
            for field in fields(kind)
        ]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        run.__name__ = function.__name__
        # Typer breaks paragraphs where the source does.
        paragraphs = (inspect.getdoc(function) or "").split("\n\n")
        text = "\n\n".join(paragraph.replace("\n", " ") for paragraph in paragraphs)
        app.command(name, cls=CommandClass, help=text)(run)
        return function

    return register


def check_tenant(tenant: str) -> None:
    """Raise InvalidChoice if a tenant can't have this ID."""
    if not re.fullmatch(TENANT_ID, tenant):
        rule = "3 to 40 of a-z, 0-9 and -, starting with a letter"
        raise InvalidChoice(f"{tenant[:80]!r} is not a valid tenant ID ({rule})")


def parse_names(text: str) -> tuple[str, ...]:
    """Split a comma-separated list."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def read_bytes(file: Path, remedy: str = "Check the path", most: int = -1) -> bytes:
    """Return a file's content, at most `most` bytes. Raises InvalidChoice if it can't be read."""
    try:
        with file.open("rb") as opened:
            return opened.read(most)
    except OSError as error:
        raise InvalidChoice(f"{str(file)!r} can't be read: {error.strerror}. {remedy}") from error


def load_catalog(file: Path | None) -> Catalog:
    """Return the catalog of a file, or the package's. Raises InvalidChoice and InvalidInput."""
    return default_catalog() if file is None else parse_catalog(read_bytes(file), str(file))
