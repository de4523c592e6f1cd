"""What the `kryonix signup` commands do and print."""

from __future__ import annotations

import ipaddress
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from threading import Event, Thread
from typing import Any, Final

import uvicorn
from rich.markup import escape
from rich.table import Table

from kryonix.cli.console import err, out, print_json
from kryonix.cli.site import load_cells, open_site
from kryonix.engines.engine import Choice
from kryonix.engines.spec import StackSpec
from kryonix.errors import InvalidChoice, ServiceUnreachable
from kryonix.signup import keys
from kryonix.signup.database import Database
from kryonix.signup.service import build_service
from kryonix.signup.worker import run_worker
from kryonix.tenants.lifecycle import TenantLifecycle
from kryonix.topology.catalog import default_catalog

__all__ = ["create_key", "list_keys", "revoke_key", "serve", "work"]

DSN_VARIABLE: Final = "KRYONIX_SIGNUP_DSN"
PARENT_VARIABLE: Final = "KRYONIX_SIGNUP_PARENT"
"""The process that a worker ends with; it may end in a way that leaves it no time to say so."""
_LOG_FORMAT: Final = "%(asctime)s %(levelname)s %(name)s %(message)s"
_EXPOSED: Final = (
    "this listens on {address}, where other machines may reach it, without TLS: API keys and credentials go over the "
    "network as they are, and callers whose headers come slowly are waited for. Put a proxy before it that ends TLS, "
    "bounds the time for headers and sets X-Forwarded-For (and name its address in FORWARDED_ALLOW_IPS), or listen on "
    "127.0.0.1"
)
_END_S: Final = 60
_BEGIN_AGAIN_S: Final = 2


def serve(host: str, port: int, workers: int, rate: float, burst: int, stack: str, engine: Choice) -> None:
    """Run the HTTP service, and a worker in a process beside it where one is wanted."""
    _log()
    listening = _listen(host, port)
    cells = load_cells(Path.cwd(), stack)
    service = build_service(_dsn(stack, engine), default_catalog(), cells, per_second=rate, burst=burst)
    settings = uvicorn.Config(
        service, log_config=None, access_log=False, server_header=False, timeout_graceful_shutdown=5
    )
    address, actual = listening.getsockname()[:2]
    if not _loopback(address):
        err.print(f"WARNING: {_EXPOSED.format(address=address)}", soft_wrap=True, markup=False)
    with _beside(workers, stack, engine):
        shown = f"[{address}]" if ":" in address else address
        soon = "; /readyz turns 200 once the worker beside it works" if workers else ""
        told = f"listening on http://{shown}:{actual}; the page for operators is at /, the description at /openapi.json"
        err.print(told + soon, soft_wrap=True)
        uvicorn.Server(settings).run(sockets=[listening])


def work(concurrency: int, overlap_hours: float, grace_days: float, keep_days: int, stack: str, engine: Choice) -> None:
    """Run a worker."""
    _log()
    site = open_site(stack, engine, concurrency=concurrency)
    outputs = site.deployer.outputs(StackSpec(name=stack))
    lifecycle = TenantLifecycle(
        site.registry_dsn,
        site.deployer,
        site.cells,
        site.catalog,
        overlap=timedelta(hours=overlap_hours),
        grace=timedelta(days=grace_days),
    )
    run_worker(
        _signup_dsn(outputs, stack),
        str(outputs["events_uri"]),
        lifecycle,
        site.catalog,
        site.cells,
        concurrency=concurrency,
        keep=timedelta(days=keep_days),
        parent=int(os.environ.get(PARENT_VARIABLE, "0")) or None,
        say=lambda text: err.print(f"worker: {text}", soft_wrap=True),
    )


def create_key(name: str, scope: keys.Scope, days: int | None, stack: str, engine: Choice, json_output: bool) -> None:
    """Make a key."""
    if not name.strip() or len(name) > 100 or not name.isprintable():
        raise InvalidChoice(f"{name[:60]!r} is no name for a key. Give 1 to 100 printable characters")
    with Database(_dsn(stack, engine), size=1) as database, database.transaction() as connection:
        made = keys.create_key(connection, name, scope, days)
    if json_output:
        print_json({"key": made, "name": name, "scope": scope})
        return
    out.print(made, soft_wrap=True, highlight=False)
    err.print("This is shown this once: only its hash is kept.")


def list_keys(stack: str, engine: Choice, json_output: bool) -> None:
    """Show the keys."""
    with Database(_dsn(stack, engine), size=1) as database, database.transaction() as connection:
        found = keys.fetch_keys(connection)
    if json_output:
        print_json([_key_json(key) for key in found])
        return
    table = Table(title=f"{len(found)} key(s)")
    for column in ("id", "name", "scope", "made", "valid"):
        table.add_column(column)
    for key in found:
        table.add_row(key.id, escape(key.name), key.scope, f"{key.created_at:%Y-%m-%d %H:%M}", _validity(key))
    out.print(table)


def revoke_key(id: str, stack: str, engine: Choice) -> None:
    """End a key."""
    with Database(_dsn(stack, engine), size=1) as database, database.transaction() as connection:
        # A terminal may give what PostgreSQL has no text for.
        known = id.isprintable() and keys.revoke_key(connection, id)
    if not known:
        raise InvalidChoice(f"there is no key {id[:60]!r}. `kryonix signup keys list` shows those that there are")
    out.print(f"the key {id} is revoked")


def _dsn(stack: str, engine: Choice) -> str:
    """Where the service keeps its rows: from the environment, or from the platform's outputs."""
    if given := os.environ.get(DSN_VARIABLE):
        return given
    site = open_site(stack, engine)
    return _signup_dsn(site.deployer.outputs(StackSpec(name=stack)), stack)


def _signup_dsn(outputs: dict[str, Any], stack: str) -> str:
    dsn = outputs.get("signup_dsn")
    if not dsn:
        remedy = f"Run `kryonix up --stack {stack}`: a platform of before the service has none"
        raise InvalidChoice(f"the stack {stack!r} has no `signup_dsn` among its outputs. {remedy}")
    return str(dsn)


def _loopback(address: str) -> bool:
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback


def _listen(host: str, port: int) -> socket.socket:
    """The socket, taken before anything else is begun, so that a port that is in use is said at once."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.socket(family)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(2048)
    except UnicodeError as error:
        raise InvalidChoice(f"--host {host!r} is no host name. Give a name or an IP address") from error
    except OSError as error:
        remedy = "Choose another --port, or 0 for a free one"
        raise ServiceUnreachable(f"can't listen on {host}:{port}: {error.strerror or error}. {remedy}") from error
    return listening


@contextmanager
def _beside(workers: int, stack: str, engine: Choice) -> Iterator[None]:
    """A worker in a process of its own, so that its runs do not keep requests waiting. It is begun again if it dies."""
    if not workers:
        yield
        return
    command = [sys.executable, "-m", "kryonix", "signup", "worker", "--stack", stack, "--engine", engine]
    beside = _Beside([*command, "--concurrency", str(workers)])
    try:
        yield
    finally:
        beside.end()


class _Beside:
    """A process that is there until it is ended."""

    def __init__(self, command: list[str]) -> None:
        self._command = command
        self._ending = Event()
        self._process = self._begin()
        self._watch = Thread(target=self._keep, daemon=True)
        self._watch.start()

    def end(self) -> None:
        self._ending.set()
        self._process.terminate()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()

    def _keep(self) -> None:
        while True:
            status = self._process.wait()
            if self._ending.wait(_BEGIN_AGAIN_S):
                return
            err.print(f"the worker ended with status {status}, and is begun again")
            self._process = self._begin()

    def _begin(self) -> subprocess.Popen[bytes]:
        environment = {**os.environ, PARENT_VARIABLE: str(os.getpid())}
        return subprocess.Popen(self._command, env=environment)  # noqa: S603  our own command


def _log() -> None:
    logging.basicConfig(level=logging.INFO, format=_LOG_FORMAT, stream=sys.stderr)
    for noisy in ("httpx", "httpcore"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    # It warns of each request that is none: a line for whoever sends some bytes, as often as they are sent.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    # Of a broker or a database that is away they tell in pages of traceback what we say in a line.
    for noisier in ("aiormq", "aio_pika", "procrastinate", "psycopg.pool"):
        logging.getLogger(noisier).setLevel(logging.CRITICAL)


def _key_json(key: keys.ApiKey) -> dict[str, Any]:
    def moment(at: datetime | None) -> str | None:
        return None if at is None else at.isoformat()

    return {
        "id": key.id,
        "name": key.name,
        "scope": key.scope,
        "valid": key.valid,
        "created_at": moment(key.created_at),
        "expires_at": moment(key.expires_at),
        "revoked_at": moment(key.revoked_at),
    }


def _validity(key: keys.ApiKey) -> str:
    if key.revoked_at is not None:
        return f"revoked {key.revoked_at:%Y-%m-%d %H:%M}"
    if key.expires_at is None:
        return "until revoked"
    return f"{'until' if key.valid else 'expired'} {key.expires_at:%Y-%m-%d %H:%M}"
