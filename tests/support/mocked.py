"""A Pulumi program's registrations, recorded instead of made."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pulumi


class Recorder(pulumi.runtime.Mocks):
    """Every resource's inputs, by type and name. Outputs are the inputs; a `result` is `NAME's secret`."""

    def __init__(self) -> None:
        self.made: dict[tuple[str, str], Mapping[str, Any]] = {}

    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str, dict[str, Any]]:
        self.made[args.typ, args.name] = args.inputs
        return f"{args.name}-id", {**args.inputs, "result": f"{args.name}'s secret"}

    def call(self, args: pulumi.runtime.MockCallArgs) -> tuple[dict[str, Any], None]:
        raise AssertionError(args.token)

    def of(self, kind: str) -> dict[str, Mapping[str, Any]]:
        """Return the inputs of every resource of a type, by name."""
        return {name: inputs for (typ, name), inputs in self.made.items() if typ == kind}


def registered(program: Callable[[], object]) -> Recorder:
    """Run a program, and return what it registers."""
    recorder = Recorder()

    def isolated() -> None:
        asyncio.set_event_loop(asyncio.new_event_loop())
        pulumi.runtime.set_mocks(recorder, project="kryonix", stack="dev", preview=False)
        pulumi.runtime.test(program)()  # type: ignore[no-untyped-call]  # Pulumi leaves it untyped

    with ThreadPoolExecutor(1) as pool:  # Pulumi's settings and loop are the thread's own
        pool.submit(isolated).result()
    return recorder
