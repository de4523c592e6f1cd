"""The options that say as which tenant a command acts and where: declared once, given to every command that acts so."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Optional
from urllib.parse import urlsplit

import typer

from kryonix.errors import InvalidChoice
from kryonix.topology.catalog import Catalog, default_catalog, parse_catalog

__all__ = ["Asked", "acting"]


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line says of where to go. At most one of `outputs` and `stack` is given."""

    tenant: str | None = None
    outputs: Path | None = None
    stack: str | None = None
    management_url: str | None = None
    catalog: Path | None = None

    def products(self) -> Catalog:
        """The catalog named, or the package's. Raises InvalidChoice and InvalidInput."""
        if self.catalog is None:
            return default_catalog()
        try:
            return parse_catalog(self.catalog.read_bytes(), str(self.catalog))
        except OSError as error:
            problem = f"{str(self.catalog)!r} can't be read: {error.strerror}. Name a file that can"
            raise InvalidChoice(problem) from error


def _refuse_uri(value: Optional[str]) -> None:
    if value is not None:
        raise InvalidChoice(
            "--uri is not accepted: everybody on this machine can read a password in a command line. "
            "Set KRYONIX_AMQP_URI, or give --outputs FILE or --stack STACK"
        )


def _without_login(value: Optional[str]) -> Optional[str]:
    try:
        login = value is not None and "@" in urlsplit(value).netloc
    except ValueError:
        return value  # what is no URL at all is refused where it is used
    if login:
        raise InvalidChoice("--management-url holds a login. Leave it out: the tenant's own is used")
    return value


_FIELDS: dict[str, Any] = {
    "tenant": Annotated[Optional[str], typer.Option("--tenant", help="The tenant, where there are several.")],
    "outputs": Annotated[
        Optional[Path],
        typer.Option(help="A file of `kryonix tenant credentials`, mode 600. Without it: KRYONIX_AMQP_URI."),
    ],
    "stack": Annotated[Optional[str], typer.Option("--stack", "-s", help="Read this stack's outputs, as an operator.")],
    "management_url": Annotated[
        Optional[str], typer.Option(callback=_without_login, help="The management API, where no outputs say it.")
    ],
    "catalog": Annotated[Optional[Path], typer.Option(help="A catalog other than the one of the package.")],
}
_URI = Annotated[Optional[str], typer.Option("--uri", "--amqp-uri", hidden=True, callback=_refuse_uri)]


def acting(*, figures: bool = False) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Call a command with `asked=Asked(…)`, made from the options it is given; with `figures` also where they are."""
    fields = {name: kind for name, kind in _FIELDS.items() if figures or name != "management_url"}

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def run(**given: Any) -> None:
            given.pop("uri")
            asked = Asked(**{name: given.pop(name) for name in fields})
            command(asked=asked, **given)

        offered = [*_own(command), *(_option(name, kind) for name, kind in (*fields.items(), ("uri", _URI)))]
        run.__signature__ = inspect.Signature(offered)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in offered}
        return run

    return decorate


def _own(command: Callable[..., None]) -> Sequence[inspect.Parameter]:
    parameters = inspect.signature(command, eval_str=True).parameters.values()
    return [parameter for parameter in parameters if parameter.name != "asked"]


def _option(name: str, kind: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=None, annotation=kind)
