"""An engine and its broker in memory: stacks, vhosts, users and messages, with failures on request."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import pytest

from kryonix.engines.deployments import Change, Deployment
from kryonix.engines.engine import StackSpec, ignore
from kryonix.engines.errors import EngineFailed
from kryonix.engines.events import OnEvent, Summary
from kryonix.errors import Failure
from kryonix.topology.catalog import default_catalog
from kryonix.topology.expansion import expand
from kryonix.topology.naming import Names
from kryonix.topology.tenants import Tenant


class FakeBroker:
    """A broker's vhosts with their queues, users, and messages."""

    username = "kryonix_admin"

    def __init__(self) -> None:
        self.noted: dict[str, Any] = {}
        self.vhosts: dict[str, set[str]] = {}
        self.users: set[str] = set()
        self.held: dict[str, int] = {}
        self.disconnected: list[str] = []

    def get(self, kind: str, *, columns: str) -> list[dict[str, str]]:
        return [{columns: name} for name in {"vhosts": self.vhosts, "users": self.users}[kind]]

    def notes(self, prefix: str) -> dict[str, Any]:
        return {name: value for name, value in self.noted.items() if name.startswith(prefix)}

    def cut_off(self, users: Iterable[str]) -> None:
        self.disconnected += users

    def definitions(self, vhost: str) -> dict[str, Any]:
        return {"queues": [{"name": name} for name in sorted(self.vhosts[vhost])]} if vhost in self.vhosts else {}

    def messages(self, vhost: str) -> dict[str, int]:
        return {queue: count for queue, count in self.held.items() if queue in self.vhosts.get(vhost, ())}

    def remains(self, vhost: str, users: Iterable[str]) -> list[str]:
        return [name for name in (vhost, *users) if name in self.vhosts or name in self.users]


class FakeEngine:
    """An engine for tenants' stacks. `calls` lists its runs; `fail` makes the next ones end with an error.

    `platform` has the outputs of every platform, `program` is the program's digest.
    """

    def __init__(self) -> None:
        self.broker = FakeBroker()
        self.calls: list[str] = []
        self.platform: dict[str, Any] = {"broker": self.broker}
        self.program = "a program"
        self._entries: dict[str, dict[str, Any]] = {}
        self._errors: list[tuple[Exception, bool]] = []

    @classmethod
    def installed(cls, patch: pytest.MonkeyPatch) -> FakeEngine:
        """Return an engine whose broker replaces the client of the management API."""
        engine = cls()
        patch.setattr("kryonix.tenants.stacks.Broker.of", lambda outputs: outputs["broker"])
        return engine

    def fail(self, error: Exception, *, after: bool = False) -> None:
        """End the next run with an error, before its work or after it."""
        self._errors.append((error, after))

    def preview(self, stack: StackSpec, on_event: OnEvent = ignore) -> Summary:
        config = stack.config or {}
        tenant = Tenant.model_validate(config["kryonix:tenant"])
        kept = {queue.name for queue in expand(tenant, default_catalog()).queues} | set(
            config.get("kryonix:allowDelete", ())
        )
        lost = {name: count for name, count in self.broker.messages(tenant.names.vhost).items() if name not in kept}
        if lost:
            failure = Failure(kind="would-lose-messages", exit_status=2, queues=lost)
            raise EngineFailed("messages would be lost", failure=failure)
        return Summary({}, ())

    def up(self, stack: StackSpec, on_event: OnEvent = ignore) -> Summary:
        return self._run("up", stack)

    def refresh(self, stack: StackSpec, on_event: OnEvent = ignore) -> Summary:
        return self._run("refresh", stack)

    def destroy(self, stack: StackSpec, on_event: OnEvent = ignore) -> Summary:
        return self._run("destroy", stack)

    def outputs(self, stack: StackSpec, *, show_secrets: bool = True) -> dict[str, Any]:
        if not stack.name.startswith("tenant-"):
            return self.platform
        entry = self._entries.get(stack.name)
        return {"tenants": {stack.name.removeprefix("tenant-"): dict(entry)}} if entry else {}

    def rewrite(self, stack: StackSpec, change: Change) -> None:
        raise NotImplementedError

    def restore(self, stack: StackSpec, deployment: Deployment) -> None:
        raise NotImplementedError

    def export(self, stack: StackSpec, *, show_secrets: bool = False) -> dict[str, Any]:
        return {}

    def stacks(self) -> list[str]:
        return sorted(self._entries)

    def touch(self, stack: str) -> None:
        """Write the state of a stack again, as a run from outside does."""
        self._entries[stack]["written"] = self._entries[stack].get("written", 0) + 1

    def marks(self, names: Collection[str]) -> dict[str, str]:
        return {name: str(self._entries[name]) for name in names if name in self._entries}

    def program_digest(self) -> str:
        return self.program

    def _run(self, operation: str, stack: StackSpec) -> Summary:
        self.calls.append(operation)
        error, after = self._errors.pop(0) if self._errors else (None, False)
        if error is not None and not after:
            raise error
        {"up": self._up, "refresh": self._refresh, "destroy": self._destroy}[operation](stack)
        if error is not None:
            raise error
        return Summary({}, ())

    def _up(self, stack: StackSpec) -> None:
        config = stack.config or {}
        tenant = Tenant.model_validate(config["kryonix:tenant"])
        generations = config.get("kryonix:credentials", {"generation": 1})
        names, user = tenant.names, tenant.names.user_of(generations["generation"])
        if self._entries.get(stack.name) is None or names.vhost in self.broker.vhosts:  # else: the state hides the loss
            self.broker.vhosts[names.vhost] = {queue.name for queue in expand(tenant, default_catalog()).queues}
        self._drop_users(names)
        self.broker.users |= {
            of(generation) for generation in generations.values() for of in (names.user_of, names.stats_user_of)
        }
        self._entries[stack.name] = {
            "vhost": names.vhost,
            "username": user,
            "password": f"secret of {user}",
            "amqp_uri": f"amqp://{user}@broker/",
            "plan": tenant.plan,
            "status": tenant.status,
            "modules": list(tenant.modules),
        }

    def _refresh(self, stack: StackSpec) -> None:
        entry = self._entries.get(stack.name)
        if entry is not None and entry["vhost"] not in self.broker.vhosts:
            del self._entries[stack.name]

    def _destroy(self, stack: StackSpec) -> None:
        names = Names(stack.name.removeprefix("tenant-"))
        if self._entries.pop(stack.name, None) is not None:
            self.broker.vhosts.pop(names.vhost, None)
            self._drop_users(names)

    def _drop_users(self, names: Names) -> None:
        self.broker.users -= {of(n) for n in range(1, 10) for of in (names.user_of, names.stats_user_of)}
