"""A test's own tenant on the shared platform, and commands with its credentials."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tests.support import preloaded
from tests.support.amqp import Application
from tests.support.live_broker import LiveBroker
from tests.support.project import Project, Result, tenant

__all__ = ["Own", "own_tenant", "owner"]


@dataclass(frozen=True)
class Own:
    """One tenant's stack, its application, and the environment in which the command acts as it."""

    project: Project
    application: Application
    outputs: dict[str, Any]
    env: dict[str, str]

    def run(self, *arguments: str, env: Mapping[str, str] | None = None, timeout: float = 90) -> Result:
        """Run the command, whatever its exit status."""
        env = self.env if env is None else env
        return preloaded.run(arguments, folder=self.project.folder, env=env, timeout=timeout)

    def json(self, *arguments: str) -> Any:
        """Run the command, which has to succeed, and return its JSON."""
        result = self.run(*arguments)
        assert result.returncode == 0, f"{arguments} ended with {result.returncode}:\n{result.stdout}\n{result.stderr}"
        return json.loads(result.stdout)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Begin the command and leave it running."""
        return subprocess.Popen(
            [sys.executable, "-u", "-m", "kryonix", *arguments],
            cwd=self.project.folder,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


def owner(project: Project, id: str) -> Own:
    """A tenant that a stack has made."""
    outputs = project.administered()
    env = {
        **project.env,
        "KRYONIX_AMQP_URI": outputs["tenants"][id]["amqp_uri"],
        "KRYONIX_MANAGEMENT_URL": outputs["management_url"],
    }
    return Own(project, Application.of(outputs, id), outputs, env)


@contextmanager
def own_tenant(platform: Project, broker: LiveBroker, id: str, *modules: str, plan: str) -> Iterator[Own]:
    """A tenant that is there for the block."""
    project = platform.beside(f"tenant-{id}", tenant=tenant(id, *modules, plan=plan))
    try:
        project.must("up")
        yield owner(project, id)
    finally:
        broker.forget(id)
