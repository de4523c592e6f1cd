"""`kryonix top`: all tenants by depth, rate, wait or share of their limits, live."""

from __future__ import annotations

import os
import select
import signal
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from threading import Event, Thread
from types import FrameType
from typing import Annotated, Final, NoReturn

import typer
from rich.live import Live
from rich.text import Text

from kryonix.cli.options import Json, PlatformOptions
from kryonix.cli.output.console import out, print_json
from kryonix.cli.output.top import Choice, Reading, frame, reading_json
from kryonix.cli.site import Site, open_site, platform_command, print_outage
from kryonix.engines.engine import StackSpec
from kryonix.errors import InvalidChoice, KryonixError, ServiceUnreachable
from kryonix.fleet.members import registered_tenants
from kryonix.monitoring.overview import SORTS, overview, waits_of
from kryonix.monitoring.prometheus import Prometheus
from kryonix.monitoring.traffic import Traffic, read_traffic
from kryonix.rabbitmq.broker import Broker
from kryonix.registry.desired_states import DesiredState
from kryonix.topology.errors import nearest, shown

_REGISTRY_EVERY_S: Final = 10.0
_PAUSE: Final = 4
"""Readings take at most a fifth of the time, however large the brokers are."""
_KEY_S: Final = 0.2
_AT_ONCE: Final = 8
_ARROWS: Final = {"\x1b[A": "k", "\x1b[5~": "k", "\x1b[B": "j", "\x1b[6~": "j"}
_LONGEST_S: Final = 3_600.0

app = typer.Typer()


@platform_command(app)
def top(
    platform: PlatformOptions,
    sort: Annotated[str, typer.Option(metavar="NAME", help=f"Sort by {', '.join(SORTS)}.")] = "depth",
    reverse: Annotated[bool, typer.Option("--reverse", help="Smallest first.")] = False,
    wanted: Annotated[
        str, typer.Option("--filter", metavar="TEXT", help="Only tenants with this in id, cell, plan or state.")
    ] = "",
    cell: Annotated[str | None, typer.Option(help="Only the tenants of this cell.")] = None,
    interval: Annotated[float, typer.Option(min=1, max=_LONGEST_S, help="Seconds between readings.")] = 5.0,
    once: Annotated[bool, typer.Option("--once", help="Print the table once.")] = False,
    json_output: Json = False,
) -> None:
    """Show all tenants live: depth, rates, wait, consumers and the fullest limit.

    Keys: s sorts by the next column, r reverses, f filters, j and k turn pages, q quits. Without a terminal, or on one
    with TERM=dumb, the table is printed once. Exit status 3, then, if something does not answer; the rest is still
    shown.
    """
    if sort not in SORTS:
        raise InvalidChoice(f"--sort {shown(sort)} is not a column; {nearest(sort, SORTS)}")
    choice = Choice(sort=sort, reverse=reverse, wanted=wanted)
    reader = _Reader(open_site(platform), cell)
    if out.is_terminal and not (out.is_dumb_terminal or once or json_output):
        _show(reader, choice, interval)
        return
    reading = reader.read()
    if json_output:
        print_json(reading_json(reading, choice))
    else:
        out.print(frame(reading, choice, out, live=False))
    if reading.problems:
        print_outage(platform)
        raise typer.Exit(ServiceUnreachable.exit_status)


class _Reader:
    """Reads the registry, the brokers of the cells, and Prometheus. What fails keeps its last figures, as old."""

    def __init__(self, site: Site, only: str | None) -> None:
        cells = site.cells.cells
        if only is not None and only not in cells:
            raise InvalidChoice(f"--cell {shown(only)} is not a cell; {nearest(only, cells)}")
        self._site, self._only = site, only
        self._stacks = {name: cell.stack for name, cell in cells.items() if only in (None, name)}
        self._brokers: dict[str, Broker] = {}
        self._prometheus: dict[str, Prometheus | None] = {}
        self._traffic: dict[str, dict[str, Traffic]] = {}
        self._read_at: dict[str, datetime | None] = dict.fromkeys(self._stacks)
        self._states: list[DesiredState] = []
        self._states_until = 0.0

    def read(self) -> Reading:
        problems: dict[str, str] = {}
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for name, problem in zip(self._stacks, pool.map(self._read_cell, self._stacks), strict=True):
                if problem:
                    problems[f"cell {name}"] = problem
        if time.monotonic() >= self._states_until:
            try:
                self._states = registered_tenants(self._site.registry_dsn)
                self._states_until = time.monotonic() + _REGISTRY_EVERY_S
            except KryonixError as error:
                problems["registry"] = str(error)
        waits: dict[str, float] = {}
        for name, prometheus in self._prometheus.items():
            try:
                waits |= waits_of(prometheus) if prometheus else {}
            except KryonixError as error:
                problems[f"Prometheus of cell {name}"] = str(error)
        old = [name for name in self._stacks if f"cell {name}" in problems and name in self._traffic]
        rows = overview(self._states, self._traffic, old, waits, self._site.catalog)
        if self._only is not None:
            rows = [row for row in rows if row.cell == self._only]
        return Reading(at=datetime.now().astimezone(), rows=rows, cells=dict(self._read_at), problems=problems)

    def _read_cell(self, name: str) -> str:
        """Read a cell's broker. Return the problem, if any; then its outputs are read again next time."""
        try:
            if name not in self._brokers:
                outputs = self._site.engine.outputs(StackSpec(name=self._stacks[name]))
                self._brokers[name] = Broker.of(outputs, connect_s=3, read_s=60)
                self._prometheus[name] = Prometheus.of(outputs)
            self._traffic[name] = read_traffic(self._brokers[name])
            self._read_at[name] = datetime.now().astimezone()
        except KryonixError as error:
            if (broker := self._brokers.pop(name, None)) is not None:
                broker.close()
            return str(error)
        return ""


def _show(reader: _Reader, choice: Choice, interval: float) -> None:
    """Show the latest reading until `q`, Ctrl-C or SIGTERM, and react to keys at once."""
    ending, latest, failed = Event(), list[Reading](), list[BaseException]()

    def read() -> None:
        try:
            while not ending.is_set():
                began = time.monotonic()
                latest[:] = [reader.read()]
                ending.wait(max(interval, _PAUSE * (time.monotonic() - began)))
        except BaseException as error:  # noqa: BLE001 - raised below, in the main thread
            failed.append(error)

    Thread(target=read, daemon=True, name="kryonix top").start()
    drawn: object = None
    with _keys() as next_keys, Live(console=out, screen=True, auto_refresh=False) as screen:
        try:
            while not (choice.ended or failed):
                state = (latest[:1], replace(choice), out.size)
                if state != drawn:
                    shown_now = frame(latest[0], choice, out, live=True) if latest else Text("reading …")
                    screen.update(shown_now, refresh=True)
                    drawn = (state[0], replace(choice), state[2])
                for key in next_keys():
                    choice.press(key)
        except KeyboardInterrupt:
            pass
        finally:
            ending.set()
    if failed:
        raise failed[0]


@contextmanager
def _keys() -> Iterator[Callable[[], list[str]]]:
    """Yield a function that waits shortly for keys, and returns those pressed. Restore the terminal at the end."""
    before = {signal.SIGTERM: signal.signal(signal.SIGTERM, _leave)}
    if not sys.stdin.isatty():
        try:
            yield _nothing_pressed
        finally:
            _restore_signals(before)
        return
    fd = sys.stdin.fileno()
    saved = termios.tcgetattr(fd)
    # A stopped process would leave its screen behind.
    before[signal.SIGTSTP] = signal.signal(signal.SIGTSTP, signal.SIG_IGN)
    tty.setcbreak(fd)
    try:
        yield lambda: _pressed(fd)
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, saved)
        _restore_signals(before)


def _nothing_pressed() -> list[str]:
    time.sleep(_KEY_S)
    return []


def _pressed(fd: int) -> list[str]:
    if not select.select([fd], [], [], _KEY_S)[0]:
        return []
    text = os.read(fd, 256).decode(errors="ignore")
    if not text:
        return ["q"]  # the terminal is gone
    if text in _ARROWS:
        return [_ARROWS[text]]
    return [] if text.startswith(("\x1b[", "\x1bO")) else list(text)


def _leave(number: int, _: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


def _restore_signals(before: Mapping[signal.Signals, signal.Handlers | Callable[..., object] | int | None]) -> None:
    for number, handler in before.items():
        signal.signal(number, handler)
