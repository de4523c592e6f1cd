"""Run the project's program, unmodified, as Pulumi's own language host does."""

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
from typing import Final

import pulumi
from pulumi.runtime import Settings, configure, run_in_stack
from pulumi.runtime.config import set_all_config
from pulumi.runtime.settings import ROOT, SETTINGS

from kryonix.engines.local.errors import LocalError, ProgramFailed, UnsupportedFeature
from kryonix.engines.local.monitor import Monitor
from kryonix.engines.local.run import Run
from kryonix.errors import KryonixError, split

SDK_REFUSAL: Final = "The Pulumi CLI does not support "


def run_program(run: Run, monitor: Monitor) -> None:
    """Run the program with everything it registers. Raise the first failure of the run."""
    with in_project(run.project.folder):
        contextvars.copy_context().run(_run, run, monitor)
    if run.failure is not None:
        raise run.failure


@contextmanager
def in_project(folder: Path) -> Iterator[None]:
    """Make the project's folder the working directory and the first on the module path."""
    cwd, path, argv = Path.cwd(), list(sys.path), sys.argv
    sys.path.insert(0, str(folder))
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(cwd)
        sys.path[:] = path
        sys.argv = argv


def _run(run: Run, monitor: Monitor) -> None:
    project = run.project
    ROOT.set(None)
    set_all_config(dict(run.config.values), sorted(run.config.secret_keys))
    configure(
        Settings(
            project=project.name,
            stack=run.stack,
            monitor=monitor,
            engine=monitor,
            parallel=run.parallel,
            dry_run=run.dry_run,
            organization="organization",
            root_directory=str(project.folder),
        )
    )
    sys.argv = [str(project.program)]
    with _lean():
        _loop(project.program, run)


@contextmanager
def _lean() -> Iterator[None]:
    """Turn off two things, each more expensive than the engine's own work.

    Cyclic garbage collection visits the hundreds of long-lived objects of each resource again and again: it triples
    the time of a stack with thousands, and would free about 50 MB per thousand. And the SDK walks the whole call stack
    at each resource, to record its place in the program.
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
    # A failed run leaves futures that nobody awaits. The failure is reported once, not by asyncio for each of them.
    loop.set_exception_handler(lambda _loop, _context: None)

    async def main() -> None:
        runpy.run_path(str(program), run_name="__main__")
        # Wait for the registrations. The SDK would too, but it walks all pending ones after each that ends.
        while pending := {task for task in SETTINGS.outputs if not task.done()}:
            _, rest = await asyncio.wait(pending, return_when=asyncio.FIRST_EXCEPTION)
            if rest:
                return  # one failed: the SDK finds and reports it

    try:
        loop.run_until_complete(run_in_stack(main))
    except BaseException as error:
        run.fail(_failure(error))  # before the pool drains, so that nothing new starts
        if isinstance(error, KeyboardInterrupt):
            raise
    finally:
        pool.shutdown(wait=True)
        if rest := asyncio.all_tasks(loop):
            for task in rest:
                task.cancel()
            loop.run_until_complete(asyncio.gather(*rest, return_exceptions=True))
        asyncio.set_event_loop(None)
        loop.close()


def _failure(error: BaseException) -> BaseException:
    """Return the exception to report, with the message for people if there is one."""
    if isinstance(error, LocalError | KeyboardInterrupt):
        return error
    status, message = 1, str(error)
    for cause in _causes(error):
        if isinstance(cause, LocalError):
            return cause
        if isinstance(cause, KryonixError) or split(str(cause))[1]:
            message, status = str(cause), getattr(cause, "exit_status", 1)
            break
    else:
        if message.startswith(SDK_REFUSAL):  # the SDK's own, for a feature that the engine does not advertise
            return UnsupportedFeature.of(message.removeprefix(SDK_REFUSAL).split(".")[0].strip())
        if isinstance(error, SystemExit):
            message = f"The program called sys.exit({error.code!r}); nothing more was done."
        elif not isinstance(error, pulumi.RunError):
            last = traceback.format_exception_only(error)[-1].strip()
            message = f"The program failed with an unhandled exception: {last}"
    failed = ProgramFailed(message, exit_status=status)
    failed.__cause__ = error
    return failed


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
