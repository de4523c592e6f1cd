"""`kryonix signup`: the HTTP service, its worker and its API keys."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from threading import Event, Thread
from typing import Annotated, Any, Final, Literal

import typer
from psycopg import Connection

from kryonix.certificates.serving import serving_context, wait_for
from kryonix.cli.groups import group
from kryonix.cli.options import Json, PlatformOptions, command, read_bytes
from kryonix.cli.output.console import err, out, print_json, print_result
from kryonix.cli.output.tables import Column, responsive_table
from kryonix.cli.site import load_cells, open_site
from kryonix.errors import InvalidChoice, ServiceUnreachable
from kryonix.signup import keys
from kryonix.signup.database import Database
from kryonix.topology.addresses import host_port, is_loopback
from kryonix.topology.catalog import default_catalog

_DSN_VARIABLE: Final = "KRYONIX_SIGNUP_DSN"
_PASSPHRASE_VARIABLE: Final = "PULUMI_CONFIG_PASSPHRASE_FILE"  # noqa: S105, names a file
_DSN_FILE_VARIABLE: Final = "KRYONIX_SIGNUP_DSN_FILE"
_WITH_PARENT_VARIABLE: Final = "KRYONIX_SIGNUP_WITH_PARENT"
"""Set for the service's own worker: it ends when its standard input does, even if the service is killed."""
_LOG_FORMAT: Final = "%(asctime)s %(levelname)s %(name)s %(message)s"
_EXPOSED: Final = (
    "WARNING: listening on {address} without TLS, and other machines may reach it: API keys and credentials cross the "
    "network unencrypted, and slow clients can hold connections open. Put a proxy in front that terminates TLS, limits "
    "the time for headers and sets X-Forwarded-For (its address in FORWARDED_ALLOW_IPS), or listen on 127.0.0.1"
)
_STOP_TIMEOUT_S: Final = 60
_RESTART_DELAY_S: Final = 2
_MAX_DAYS: Final = 36_500

_KEY_COLUMNS: Final[tuple[Column[keys.ApiKey], ...]] = (
    Column("id", lambda key: key.id),
    Column("name", lambda key: key.name, min_width=10),
    Column("scope", lambda key: key.scope),
    Column("created", lambda key: f"{key.created_at:%Y-%m-%d %H:%M}", min_width=10),
    Column("valid", lambda key: _validity(key), min_width=10),
)

app = group("signup", "Self-service sign-up: HTTP service, worker and API keys.")
keys_app = group("keys", "API keys of the HTTP service.")
app.add_typer(keys_app)


@command(app)
def serve(
    platform: PlatformOptions,
    host: Annotated[
        str, typer.Option(help="Address to listen on; any but 127.0.0.1 needs a proxy with TLS in front.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 picks a free one.")] = 8080,
    workers: Annotated[
        int, typer.Option(min=0, help="Concurrent operations of the built-in worker; 0 if workers run elsewhere.")
    ] = 2,
    rate: Annotated[float, typer.Option(min=0.1, help="Requests per second and caller, sustained.")] = 20,
    burst: Annotated[int, typer.Option(min=1, help="Requests per caller, at once.")] = 60,
    certificate: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Speak TLS with the key and chain in this file (PEM), also once renewed."),
    ] = None,
    prometheus: Annotated[
        str | None,
        typer.Option(
            envvar="KRYONIX_PROMETHEUS_URL",
            show_envvar=False,
            metavar="URL",
            help="Prometheus that the page's charts are read from; default: the stack's own, if it has one.",
        ),
    ] = None,
) -> None:
    """Run the HTTP service.

    Set KRYONIX_SIGNUP_DSN, or KRYONIX_SIGNUP_DSN_FILE, to run it without access to the stack's
    state (--workers 0).
    """
    import uvicorn  # these two take longer than a whole command on keys

    from kryonix.signup.prometheus import PrometheusAddress
    from kryonix.signup.service import build_service

    _configure_logging()
    if certificate is not None:
        wait_for(certificate, lambda text: err.print(text, soft_wrap=True, markup=False))
    listening = _listen(host, port)
    cells = load_cells(Path.cwd(), platform.stack)
    given = _given_dsn()
    outputs = {} if given else open_site(platform).outputs
    service = build_service(
        given or _signup_dsn(outputs, platform.stack),
        default_catalog(),
        cells,
        per_second=rate,
        burst=burst,
        prometheus=PrometheusAddress.of(prometheus, outputs),
    )
    settings = uvicorn.Config(
        service, log_config=None, access_log=False, server_header=False, timeout_graceful_shutdown=5
    )
    if certificate is not None:
        settings.ssl_certfile = str(certificate)
        settings.load()
        settings.ssl = serving_context(certificate)
    address, actual = listening.getsockname()[:2]
    if certificate is None and not is_loopback(address):
        err.print(_EXPOSED.format(address=address), soft_wrap=True, markup=False)
    process = _WorkerProcess(workers, platform) if workers else None
    try:
        ready = "; /readyz returns 200 once the worker is ready" if workers else ""
        url = f"{'http' if certificate is None else 'https'}://{host_port(address, actual)}"
        text = f"listening on {url}; operators' page at /, API description at /openapi.json"
        err.print(text + ready, soft_wrap=True, markup=False)
        uvicorn.Server(settings).run(sockets=[listening])
    finally:
        if process is not None:
            process.stop()


@command(app)
def worker(
    platform: PlatformOptions,
    concurrency: Annotated[int, typer.Option(min=1, help="Concurrent operations.")] = 2,
    overlap_hours: Annotated[
        float, typer.Option(min=0, max=87_600, help="Hours that rotated credentials stay valid.")
    ] = 24,
    grace_days: Annotated[
        float, typer.Option(min=0, max=_MAX_DAYS, help="Days during which `resume` can undo an offboarding.")
    ] = 30,
    keep_days: Annotated[
        int, typer.Option(min=1, max=_MAX_DAYS, help="Days to keep finished operations, published events and audit.")
    ] = 400,
    make_passphrase: Annotated[
        bool,
        typer.Option("--make-passphrase", help="Make the file in PULUMI_CONFIG_PASSPHRASE_FILE if there is none."),
    ] = False,
    alive_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Touch this file every 2 seconds, for a health check.")
    ] = None,
) -> None:
    """Run a worker: it performs accepted operations and publishes events. Any number may run."""
    from kryonix.signup.worker import run_worker

    if os.environ.get(_WITH_PARENT_VARIABLE):
        Thread(target=_end_with_parent, daemon=True).start()
    _configure_logging()
    if make_passphrase:
        _make_passphrase()
    site = open_site(platform, concurrency=concurrency, keep=True)
    run_worker(
        _signup_dsn(site.outputs, platform.stack),
        str(site.outputs["events_uri"]),
        site.lifecycle(overlap=timedelta(hours=overlap_hours), grace=timedelta(days=grace_days)),
        site.catalog,
        site.cells,
        concurrency=concurrency,
        keep=timedelta(days=keep_days),
        alive_file=alive_file,
        ca_certificate=str(site.outputs.get("ca_certificate") or ""),
        addresses=site.outputs.get("amqp_addresses") or (),
        say=lambda text: err.print(f"worker: {text}", soft_wrap=True),
    )


def _make_passphrase() -> None:
    """Make the passphrase's file, whole or not at all: half of one would lock its own state out."""
    file = Path(os.environ.get(_PASSPHRASE_VARIABLE) or "")
    if not file.name:
        raise InvalidChoice(f"--make-passphrase: {_PASSPHRASE_VARIABLE} is not set. Let it name the file")
    if not file.exists():
        fresh = file.with_name(f"{file.name}.new")
        fresh.touch(mode=0o600)
        fresh.write_text(secrets.token_urlsafe(32), encoding="utf-8")
        fresh.replace(file)


@command(keys_app, "create")
def create_key(
    name: Annotated[str, typer.Argument(help="Name of the key's owner.")],
    platform: PlatformOptions,
    scope: Annotated[
        Literal["read", "write", "admin"],
        typer.Option(metavar="SCOPE", help="read, write, or admin: each includes the ones before; admin may remove."),
    ] = "write",
    days: Annotated[
        int | None, typer.Option(min=1, max=_MAX_DAYS, help="Days until it expires; default: never.")
    ] = None,
    json_output: Json = False,
) -> None:
    """Create an API key and print it. It can't be displayed again."""
    if not name.strip() or len(name) > 100 or not name.isprintable():
        raise InvalidChoice(f"{name[:60]!r} is not a valid name for a key (1 to 100 printable characters)")
    with _transaction(platform) as connection:
        made = keys.create_key(connection, name, scope, days)
    if json_output:
        print_json({"key": made, "name": name, "scope": scope})
        return
    out.print(made, soft_wrap=True)
    err.print("Save this key now: only its hash is stored.")


@command(keys_app, "list")
def list_keys(platform: PlatformOptions, json_output: Json = False) -> None:
    """List API keys. Keys can't be displayed; only their hashes are stored."""
    with _transaction(platform) as connection:
        found = keys.fetch_keys(connection)
    print_result(found, responsive_table(f"{len(found)} key(s)", _KEY_COLUMNS, found, out), json_output)


@command(keys_app, "revoke")
def revoke_key(
    id: Annotated[str, typer.Argument(metavar="ID", help="ID from `keys list`.")], platform: PlatformOptions
) -> None:
    """Revoke an API key, immediately and permanently."""
    with _transaction(platform) as connection:
        # PostgreSQL rejects some characters that a terminal may send.
        known = id.isprintable() and keys.revoke_key(connection, id)
    if not known:
        raise InvalidChoice(f"no key {id[:60]!r}. Run `kryonix signup keys list` to see existing keys")
    out.print(f"key {id} revoked")


@contextmanager
def _transaction(platform: PlatformOptions) -> Iterator[Connection[Any]]:
    with Database(_dsn(platform), size=1) as database, database.transaction() as connection:
        yield connection


def _dsn(platform: PlatformOptions) -> str:
    """Return the service's database, from the environment, the file that it names, or the platform's outputs."""
    return _given_dsn() or _signup_dsn(open_site(platform).outputs, platform.stack)


def _given_dsn() -> str | None:
    """Return the database of the environment, if there is one: then the stack's outputs are not needed."""
    if given := os.environ.get(_DSN_VARIABLE):
        return given
    if file := os.environ.get(_DSN_FILE_VARIABLE):
        remedy = f"Let {_DSN_FILE_VARIABLE} name the file with the output `signup_dsn`"
        return read_bytes(Path(file), remedy).decode().strip()
    return None


def _signup_dsn(outputs: Mapping[str, Any], stack: str) -> str:
    dsn = outputs.get("signup_dsn")
    if not dsn:
        remedy = f"Run `kryonix up --stack {stack}`: the platform was created before the service existed"
        raise InvalidChoice(f"stack {stack!r} has no `signup_dsn` in its outputs. {remedy}")
    return str(dsn)


def _listen(host: str, port: int) -> socket.socket:
    """Return a listening socket. Opened first, so that an occupied port is reported at once."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.socket(family)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(2048)
    except UnicodeError as error:
        raise InvalidChoice(f"--host {host!r} is not a valid host name or IP address") from error
    except OSError as error:
        remedy = "Choose another --port, or 0 for a free one"
        raise ServiceUnreachable(
            f"can't listen on {host_port(host, port)}: {error.strerror or error}. {remedy}"
        ) from error
    return listening


class _WorkerProcess:
    """A worker in its own process, so that its runs don't delay requests. Restarted if it dies."""

    def __init__(self, concurrency: int, platform: PlatformOptions) -> None:
        arguments = ["--stack", platform.stack, "--engine", platform.engine, "--concurrency", str(concurrency)]
        self._command = [sys.executable, "-m", "kryonix", "signup", "worker", *arguments]
        self._stopping = Event()
        self._process = self._start()
        Thread(target=self._supervise, daemon=True).start()

    def stop(self) -> None:
        self._stopping.set()
        self._process.terminate()
        try:
            self._process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()

    def _supervise(self) -> None:
        while True:
            status = self._process.wait()
            if self._stopping.wait(_RESTART_DELAY_S):
                return
            err.print(f"the worker exited with status {status}; restarting it")
            self._process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        environment = {**os.environ, _WITH_PARENT_VARIABLE: "1"}
        return subprocess.Popen(self._command, env=environment, stdin=subprocess.PIPE)  # noqa: S603  our own command


def _end_with_parent() -> None:
    """Send this process SIGTERM at the end of its standard input: only its parent has the pipe's other end."""
    os.read(sys.stdin.fileno(), 1)
    os.kill(os.getpid(), signal.SIGTERM)


def _configure_logging() -> None:
    logging.basicConfig(level=logging.INFO, format=_LOG_FORMAT, stream=sys.stderr)
    for noisy in ("httpx", "httpcore"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    # It warns of every invalid request: a line for whoever sends some bytes, as often as they are sent.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    # They log pages of traceback for an unreachable broker or database; the service logs a line.
    for noisier in ("aiormq", "aio_pika", "procrastinate", "psycopg.pool"):
        logging.getLogger(noisier).setLevel(logging.CRITICAL)


def _validity(key: keys.ApiKey) -> str:
    if key.revoked_at is not None:
        return f"revoked {key.revoked_at:%Y-%m-%d %H:%M}"
    if key.expires_at is None:
        return "until revoked"
    return f"{'until' if key.valid else 'expired'} {key.expires_at:%Y-%m-%d %H:%M}"
