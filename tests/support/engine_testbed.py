"""A project with a provider whose service is a folder of files, for tests of the local engine.

One file per thing that exists.

Inputs it understands: `replaces` names inputs whose change replaces; `fail` makes create, update, delete or read fail;
`slow` sleeps for that many seconds; `after` waits until these lines are in the log; `firstDelete` asks for delete
before replace. Every call is written to `log`.
"""

from __future__ import annotations

import json
import os
import textwrap
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from kryonix.engines.events import Event
from kryonix.engines.local import LocalStack
from kryonix.engines.local.errors import (
    ApplyFailed,
    InvalidInputs,
    PrerequisiteMissing,
    ServiceUnavailable,
    UnsupportedResource,
)
from kryonix.engines.local.handlers.base import UNKNOWN, Diff, LiveResource, Properties

PROGRAM_HEAD = """
import pulumi

class Thing(pulumi.CustomResource):
    def __init__(self, name, props=None, opts=None):
        props = {"name": name, "made": None, "token": None, "key": None, "password": None, **(props or {})}
        super().__init__("fake:index/thing:Thing", name, props, opts)

class Group(pulumi.ComponentResource):
    def __init__(self, name, opts=None):
        super().__init__("fake:index:Group", name, None, opts)
        self.register_outputs({})

class Provider(pulumi.ProviderResource):
    def __init__(self, name, props=None, opts=None):
        super().__init__("fake", name, props or {}, opts)
"""


class FakeService:
    """The folder and its log."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def things(self) -> dict[str, Any]:
        """Everything that exists, by id."""
        found = {}
        for path in sorted(self.folder.glob("*.json")):
            with suppress(FileNotFoundError):  # another thread took it away
                found[path.stem] = json.loads(path.read_text())
        return found

    def log(self) -> list[str]:
        """Calls so far, such as `create a`."""
        path = self.folder / "log"
        return path.read_text().splitlines() if path.exists() else []

    def forget_log(self) -> None:
        """Start a new log."""
        (self.folder / "log").unlink(missing_ok=True)

    def note(self, line: str) -> None:
        """Write one line, whole, even with other threads about."""
        file = os.open(self.folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.write(file, f"{line}\n".encode())
        os.close(file)

    def put(self, id: str, inputs: Mapping[str, Any]) -> None:
        """Make or change a thing."""
        fresh = self.folder / f"{id}.new"
        fresh.write_text(json.dumps(dict(inputs)))
        fresh.replace(self.folder / f"{id}.json")

    def remove(self, id: str) -> None:
        """Take a thing away, and all that is `within` it."""
        for other, inputs in self.things().items():
            if inputs.get("within") == id:
                (self.folder / f"{other}.json").unlink(missing_ok=True)
        (self.folder / f"{id}.json").unlink(missing_ok=True)

    def provider(self, package: str, config: Properties) -> FakeProvider:
        """Return a provider of this service."""
        if package != "fake":
            raise UnsupportedResource(f"no such package: {package}")
        self.note(f"configure {json.dumps({k: v for k, v in config.items() if v is not UNKNOWN})}")
        return FakeProvider(self)


class FakeProvider:
    """Things only."""

    def __init__(self, service: FakeService) -> None:
        self._service = service

    def handler(self, type_token: str) -> ThingHandler:
        if type_token != "fake:index/thing:Thing":
            raise UnsupportedResource(f"no handler for {type_token}")
        return ThingHandler(self._service)

    def close(self) -> None:
        self._service.note("close")


class ThingHandler:
    """How a thing is made, changed and removed. Its id is its name, with a counter where a replacement is made."""

    secret_outputs = frozenset({"token"})

    def __init__(self, service: FakeService) -> None:
        self._service = service

    def check(self, old: Mapping[str, Any] | None, new: Properties) -> Properties:
        if new.get("bad"):
            raise InvalidInputs(f"bad is {new['bad']!r}; it has to be left out")
        return {"size": 1, **new}

    def diff(self, id: str, old_inputs: Properties, old_outputs: Properties, new_inputs: Properties) -> Diff:
        names = [k for k in sorted({*old_inputs, *new_inputs}) if old_inputs.get(k) != new_inputs.get(k)]
        replaces = [name for name in names if name in (new_inputs.get("replaces") or ("name",))]
        return Diff(tuple(names), tuple(replaces), bool(new_inputs.get("firstDelete")))

    def prepare(self, old_inputs: Properties, new_inputs: Properties) -> None: ...

    def recreate(self, inputs: Properties) -> tuple[str, Properties]:
        return self.create(inputs)

    def create(self, inputs: Properties) -> tuple[str, Properties]:
        id = inputs["name"] + (f"-{inputs['key']}" if inputs.get("key") else "")
        self._work("create", id, inputs)
        self._service.put(id, inputs)
        return id, inputs | {"made": f"made-{id}", "token": f"token-of-{id}"}

    def read(self, id: str, inputs: Properties, outputs: Properties) -> LiveResource | None:
        self._service.note(f"read {id}")
        if inputs.get("fail") == "read":
            raise ServiceUnavailable("the service is down")
        found = self._service.things().get(id)
        return None if found is None else LiveResource(id, found, outputs | found)

    def update(self, id: str, old_inputs: Properties, old_outputs: Properties, new_inputs: Properties) -> Properties:
        self._work("update", id, new_inputs)
        self._service.put(id, new_inputs)
        return old_outputs | new_inputs

    def delete(self, id: str, inputs: Properties, outputs: Properties) -> None:
        self._work("delete", id, inputs)
        self._service.remove(id)

    def _work(self, verb: str, id: str, inputs: Properties) -> None:
        self._service.note(f"{verb} {id}")
        deadline = time.monotonic() + 60
        while not set(inputs.get("after") or ()) <= set(self._service.log()) and time.monotonic() < deadline:
            time.sleep(0.005)
        if inputs.get("slow"):
            time.sleep(float(inputs["slow"]))
        if inputs.get("fail") in (verb, "always"):
            raise ApplyFailed(f"the service refused to {verb}")
        if inputs.get("fail") == "down":
            raise ServiceUnavailable("the service is down")
        if inputs.get("fail") == "missing":
            raise PrerequisiteMissing("the service has no room")
        if inputs.get("fail") == "bug":
            raise ZeroDivisionError("a bug")
        self._service.note(f"{verb}d {id}")


class EngineTestbed:
    """A project folder under test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.service = FakeService(folder / "service")
        self.events: list[Event] = []
        (folder / "Pulumi.yaml").write_text("name: demo\nruntime: python\n")

    def program(self, body: str) -> None:
        """Write the program; its head defines Thing, Group and Provider."""
        (self.folder / "__main__.py").write_text(PROGRAM_HEAD + textwrap.dedent(body))

    def stack(self, name: str = "dev", **options: Any) -> LocalStack:
        """A stack of the project on the fake service."""
        options = {"providers": self.service.provider, "on_event": self.events.append} | options
        return LocalStack(self.folder, name, **options)

    def up(self, body: str, **options: Any) -> Any:
        """Write the program and bring it up."""
        self.program(body)
        return self.stack(**options).up()

    def resources(self, stack: str = "dev") -> dict[str, Any]:
        """Entries of the exported deployment by the resource's name; a replaced one's is `name (old)`."""
        deployment = self.stack(stack).export()["deployment"]
        return {
            r["urn"].split("::")[-1] + (" (old)" if r.get("delete") else ""): r for r in deployment.get("resources", [])
        }

    def state_text(self, stack: str = "dev") -> str:
        """Everything written in the stack's state folder."""
        folder = self.folder / ".kryonix" / "stacks" / stack
        return "".join(path.read_text() for path in folder.iterdir())


@pytest.fixture
def testbed(tmp_path: Path) -> EngineTestbed:
    return EngineTestbed(tmp_path)
