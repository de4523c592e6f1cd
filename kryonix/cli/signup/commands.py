"""`kryonix signup`: the HTTP service, its workers and its API keys. What stands behind is imported when one is run."""

from __future__ import annotations

from enum import Enum
from types import ModuleType
from typing import Annotated, Optional

import typer

from kryonix.cli.options import EngineName, EngineOption, Json, Platform

__all__ = ["app"]

app = typer.Typer(name="signup", no_args_is_help=True, help="Tenants by HTTP: serve, work, and make API keys.")
keys = typer.Typer(name="keys", no_args_is_help=True, help="The API keys of those who may ask.")
app.add_typer(keys)


class ScopeName(str, Enum):
    """What a key may do; each may what those before it may."""

    read = "read"
    write = "write"
    admin = "admin"


@app.command()
def serve(
    host: Annotated[
        str, typer.Option(help="The address to listen on; another than 127.0.0.1 wants a proxy with TLS before it.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one and says which.")] = 8080,
    workers: Annotated[
        int, typer.Option(min=0, help="Operations at a time in a worker beside it; 0 where workers run elsewhere.")
    ] = 2,
    rate: Annotated[
        float, typer.Option(min=0.1, help="Requests a second that each caller may make in the long run.")
    ] = 20,
    burst: Annotated[int, typer.Option(min=1, help="Requests that a caller may make at once.")] = 60,
    stack: Platform = "dev",
    engine: EngineOption = EngineName.auto,
) -> None:
    """Answer requests, until it is stopped. KRYONIX_SIGNUP_DSN spares it the stack's state, with --workers 0."""
    _runs().serve(host, port, workers, rate, burst, stack, engine.value)


@app.command()
def worker(
    concurrency: Annotated[int, typer.Option(min=1, help="Operations at a time.")] = 2,
    overlap_hours: Annotated[
        float, typer.Option(min=0, max=87_600, help="How long rotated credentials keep working.")
    ] = 24,
    grace_days: Annotated[
        float, typer.Option(min=0, max=36_500, help="How long `resume` can undo an offboarding.")
    ] = 30,
    keep_days: Annotated[
        int, typer.Option(min=1, max=36_500, help="How long ended operations, told events and the audit are kept.")
    ] = 400,
    stack: Platform = "dev",
    engine: EngineOption = EngineName.auto,
) -> None:
    """Do what was asked, and publish what has happened, until it is stopped. Any number may run."""
    _runs().work(concurrency, overlap_hours, grace_days, keep_days, stack, engine.value)


@keys.command("create")
def create_key(
    name: Annotated[str, typer.Argument(help="Whose key it is: a name to find it by.")],
    scope: Annotated[ScopeName, typer.Option(help="admin may remove tenants too.")] = ScopeName.write,
    days: Annotated[
        Optional[int], typer.Option(min=1, max=36_500, help="How long it is valid; left out, until revoked.")
    ] = None,
    stack: Platform = "dev",
    engine: EngineOption = EngineName.auto,
    json_output: Json = False,
) -> None:
    """Make a key and print it, this once."""
    _runs().create_key(name, scope.value, days, stack, engine.value, json_output)


@keys.command("list")
def list_keys(stack: Platform = "dev", engine: EngineOption = EngineName.auto, json_output: Json = False) -> None:
    """Show whose keys there are. None can be shown itself: only its hash is kept."""
    _runs().list_keys(stack, engine.value, json_output)


@keys.command("revoke")
def revoke_key(
    id: Annotated[str, typer.Argument(metavar="ID", help="As `keys list` shows it.")],
    stack: Platform = "dev",
    engine: EngineOption = EngineName.auto,
) -> None:
    """End a key, for good and at once."""
    _runs().revoke_key(id, stack, engine.value)


def _runs() -> ModuleType:
    from kryonix.cli.signup import runs as signup_runs

    return signup_runs
