"""Runs the project's program, unmodified, as Pulumi's own language host does."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import os
import runpy
import sys
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pulumi
from pulumi.runtime import Settings, configure, run_in_stack
from pulumi.runtime.config import set_all_config
from pulumi.runtime.settings import ROOT, SETTINGS

from kryonix.engines.local.errors import LocalError, ProgramFailed, UnsupportedFeature
from kryonix.engines.local.monitor import Engine, Monitor
from kryonix.engines.local.project import Project
from kryonix.engines.local.run import TRACEBACK_LIMIT, Run
from kryonix.engines.local.stack_config import StackConfig

__all__ = ["in_project", "run_program"]

SDK_REFUSAL = "The Pulumi CLI does not support "


def run_program(project: Project, config: StackConfig, run: Run, monitor: Monitor) -> None:
    """Run the program to its end, with everything it registered. Raises the first failure of the run."""
    with in_project(project.folder):
        contextvars.copy_context().run(_run, project, config, run, monitor)
    if run.failure is not None:
        raise run.failure


@contextmanager
def in_project(folder: Path) -> Iterator[None]:
    """The project's folder as working directory and first on the module path, as its code expects."""
    cwd, path, argv = Path.cwd(), list(sys.path), sys.argv
    sys.path.insert(0, str(folder))
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(cwd)
        sys.path[:] = path
        sys.argv = argv


def _run(project: Project, config: StackConfig, run: Run, monitor: Monitor) -> None:
    ROOT.set(None)
    set_all_config(dict(config.values), sorted(config.secret_keys))
    configure(
        Settings(
            project=project.name,
            stack=run.target.stack,
            monitor=monitor,
            engine=Engine(run),
            parallel=run.parallel,
            dry_run=run.dry_run,
            organization="organization",
            root_directory=str(project.folder),
        )
    )
    sys.argv = [str(project.program)]
    try:
        with _lean():
            _loop(project.program, run)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001  the program's; told as the run's failure, whatever it is
        run.fail(_told(error, project.program))


@contextmanager
def _lean() -> Iterator[None]:
    """Spares the SDK two things that nobody here has a use for and that cost more than the engine's own work.

    Cyclic garbage collection looks at the hundreds of long-lived objects of each resource time and again, which
    triples the time of a stack with thousands of them; what it would have freed is some 50 MB for each thousand. And
    the SDK takes the whole call stack at each resource, to record where in the program it stands.
    """
    enabled, limit = gc.isenabled(), getattr(sys, "tracebacklimit", None)
    gc.disable()
    sys.tracebacklimit = 1
    try:
        yield
    finally:
        if limit is None:
            del sys.tracebacklimit
        else:
            sys.tracebacklimit = limit
        if enabled:
            gc.enable()


def _loop(program: Path, run: Run) -> None:
    loop = asyncio.new_event_loop()
    pool = ThreadPoolExecutor(4 * run.parallel, thread_name_prefix="register")
    loop.set_default_executor(pool)
    asyncio.set_event_loop(loop)
    # A failed run leaves futures behind that nobody looks at; asyncio would complain of each, whenever it is collected.
    loop.set_exception_handler(_say_nothing)

    async def main() -> None:
        runpy.run_path(str(program), run_name="__main__")
        await _settled()

    try:
        loop.run_until_complete(run_in_stack(main))
    except BaseException as error:
        run.fail(_told(error, program))  # before the drain, so that nothing new is started
        raise
    finally:
        pool.shutdown(wait=True)
        _cancel_rest(loop)
        asyncio.set_event_loop(None)
        loop.close()


async def _settled() -> None:
    """Wait for what the program has begun. The SDK would do it too, looking at all that is pending after each of it."""
    while pending := {task for task in SETTINGS.outputs if not task.done()}:
        _, rest = await asyncio.wait(pending, return_when=asyncio.FIRST_EXCEPTION)
        if rest:
            return  # something failed: the SDK finds it, and tells it in its own way


def _say_nothing(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What there is to say is said once, as the run's failure."""


def _cancel_rest(loop: asyncio.AbstractEventLoop) -> None:
    rest = asyncio.all_tasks(loop)
    for task in rest:
        task.cancel()
    if rest:
        loop.run_until_complete(asyncio.gather(*rest, return_exceptions=True))


def _told(error: BaseException, program: Path) -> BaseException:
    """What a person is told of an exception: a message where it was meant for one, else a traceback."""
    if isinstance(error, LocalError | KeyboardInterrupt):
        return error
    for cause in _causes(error):
        status: Any = getattr(cause, "exit_status", None)
        if isinstance(cause, LocalError):
            return cause
        if isinstance(status, int):
            return _failed(str(cause), status, error)
    if str(error).startswith(SDK_REFUSAL):
        return _unsupported(str(error))
    if isinstance(error, pulumi.RunError):
        return _failed(str(error), 1, error)
    if isinstance(error, SystemExit):
        return _failed(f"The program ended itself by sys.exit({error.code!r}); nothing more was done.", 1, error)
    failed = _failed(f"The program failed with an unhandled exception: {_last_line(error)}", 1, error)
    failed.details = "".join(traceback.format_exception(type(error), error, _from(error, program), TRACEBACK_LIMIT))
    return failed


def _unsupported(message: str) -> UnsupportedFeature:
    """The SDK's own refusal, made where the engine does not advertise a feature."""
    feature = message.removeprefix(SDK_REFUSAL).split(".")[0].strip()
    return UnsupportedFeature(
        f"The program asks for {feature}, which the local engine does not implement: "
        "leave it out, or run the program with the Pulumi CLI."
    )


def _failed(message: str, status: int, error: BaseException) -> ProgramFailed:
    failed = ProgramFailed(message, exit_status=status)
    failed.__cause__ = error
    return failed


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _last_line(error: BaseException) -> str:
    return traceback.format_exception_only(error)[-1].strip()


def _from(error: BaseException, program: Path) -> Any:
    """The traceback from the program's own first frame on; all of it where the program isn't in it."""
    frame = error.__traceback__
    while frame is not None and frame.tb_frame.f_code.co_filename != str(program):
        frame = frame.tb_next
    return frame or error.__traceback__
