"""The project of a user: its own folder, stack and free ports, and the command as a subprocess."""

from __future__ import annotations

import fcntl
import json
import os
import random
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

import docker
import yaml

from kryonix.engines.local import LocalStack
from kryonix.engines.local.secrets import Vault
from tests.support import preloaded
from tests.support.waiting import eventually

ROOT = Path(__file__).parents[2]
PROGRAM = ("__main__.py", "Pulumi.yaml", "components", "kryonix")

Result = subprocess.CompletedProcess[str]


_claims: list[int] = []
"""Open files that hold the locks of the ports that this process has been given; they go with it."""


def free_port(nodes: int = 1) -> int:
    """A port that nobody listens on, and that is given out once: by the kernel never, by another test process neither.

    It is bound only later, by a container. So it is none of those that the kernel picks (32768 and above), and each is
    claimed with a lock. So are those of further `nodes`, each 10 above the one before.
    """
    for port in random.sample(range(20_000, 32_000), 200):
        claims: list[int] = []
        for each in range(port, port + 10 * nodes, 10):
            if (claim := _claim(each)) is None:
                break
            claims.append(claim)
        else:
            _claims.extend(claims)
            return port
        for claim in claims:
            os.close(claim)
    raise RuntimeError(f"of 200 ports between 20000 and 32000 none is free, with those of {nodes} nodes")


def _claim(port: int) -> int | None:
    """Lock a port, and return the lock's file; None if another has it, or it is in use."""
    claimed = Path(tempfile.gettempdir()) / "kryonix-test-ports"
    claimed.mkdir(exist_ok=True)
    claim = os.open(claimed / str(port), os.O_CREAT | os.O_RDWR)
    try:
        fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
    except OSError:
        os.close(claim)
        return None
    return claim


def tenant(id: str, *modules: str, plan: str = "enterprise", **fields: Any) -> dict[str, Any]:
    return {"id": id, "modules": list(modules) or ["crm"], "plan": plan, **fields}


class Project:
    """A folder with the program, and one stack in it that is run by the local engine."""

    def __init__(self, folder: Path, stack: str | None = None) -> None:
        self.folder = folder
        self.stack = stack or f"t{secrets.token_hex(4)}"
        self.on: Project | None = None
        self.env = {**os.environ, "PULUMI_CONFIG_PASSPHRASE": "a test's own", "COLUMNS": "200", "NO_COLOR": "1"}
        self.env.pop("PULUMI_CONFIG_PASSPHRASE_FILE", None)
        folder.mkdir(parents=True, exist_ok=True)
        for name in PROGRAM:
            (folder / name).symlink_to(ROOT / name)

    @classmethod
    def platform(cls, folder: Path, *tenants: Mapping[str, Any], **config: Any) -> Project:
        """A platform of its own, on free ports."""
        project = cls(folder)
        ports = {key: free_port(nodes=3) for key in ("amqpPort", "managementPort", "metricsPort")}
        project.configure(**ports, registryPort=free_port(), brokerMemoryMb=1024, **config)
        project.tenants(*tenants)
        return project

    def tenants(self, *tenants: Mapping[str, Any]) -> None:
        self.write("tenants.yaml", yaml.safe_dump({"tenants": [dict(entry) for entry in tenants]}, sort_keys=False))

    def write(self, name: str, content: str | bytes) -> None:
        path = self.folder / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)

    @property
    def config_file(self) -> Path:
        return self.folder / f"Pulumi.{self.stack}.yaml"

    def configure(self, **keys: Any) -> None:
        """Set keys of the stack's config; None removes one."""
        text = self.config_file.read_text() if self.config_file.exists() else "{}"
        document = yaml.safe_load(text) or {}
        config = document.setdefault("config", {})
        config.update({f"kryonix:{key}": value for key, value in keys.items()})
        document["config"] = {key: value for key, value in config.items() if value is not None}
        self.config_file.write_text(yaml.safe_dump(document))

    def secret(self, text: str) -> dict[str, str]:
        """Return the value of a secret in the stack's config file, which gets a salt."""
        config = yaml.safe_load(self.config_file.read_text())
        vault = Vault(config.get("encryptionsalt", ""), where="the stack's file")
        with patch.dict(os.environ, {"PULUMI_CONFIG_PASSPHRASE": self.env["PULUMI_CONFIG_PASSPHRASE"]}):
            self.config_file.write_text(yaml.safe_dump({**config, "encryptionsalt": vault.state}))
            return {"secure": vault.encrypt(text)}

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "kryonix", *arguments]

    def kryonix(self, *arguments: str, timeout: float = 300) -> Result:
        """Run the command, whatever its exit status."""
        return preloaded.run(arguments, folder=self.folder, env=self.env, timeout=timeout)

    def run(self, operation: str, *arguments: str, engine: str = "local") -> Result:
        """Run an operation on the stack, whatever its exit status."""
        yes = ["--yes"] if operation in ("up", "destroy", "refresh") else []
        return self.kryonix(operation, "--stack", self.stack, "--engine", engine, *yes, *arguments)

    def start(self, operation: str) -> subprocess.Popen[str]:
        """Begin an operation and leave it running."""
        return subprocess.Popen(
            self.command(operation, "--stack", self.stack, "--engine", "local", "--yes"),
            cwd=self.folder,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    @property
    def journal(self) -> str:
        """Return what a run has noted that has not ended, or was killed."""
        with suppress(FileNotFoundError):
            return (self.folder / ".kryonix" / "stacks" / self.stack / "journal.jsonl").read_text()
        return ""

    def kill(self, operation: str, once: Callable[[], object]) -> None:
        """Start an operation and kill it as soon as something holds."""
        with self.start(operation) as process:
            try:
                eventually(f"{operation} can be killed", lambda: once() or process.poll() is not None)
            finally:
                process.kill()

    def containers(self) -> list[Any]:
        """Return the stack's containers."""
        with closing(docker.from_env()) as client:
            return list(
                client.containers.list(all=True, ignore_removed=True, filters={"name": f"kryonix-{self.stack}-"})
            )

    def must(self, operation: str, *arguments: str, engine: str = "local") -> dict[str, Any]:
        """Run an operation that has to succeed, and return its JSON."""
        result = self.run(operation, "--json", *arguments, engine=engine)
        assert result.returncode == 0, f"{operation} ended with {result.returncode}:\n{result.stdout}\n{result.stderr}"
        parsed: dict[str, Any] = json.loads(result.stdout)
        return parsed

    def outputs(self) -> dict[str, Any]:
        """Return what `kryonix outputs --show-secrets` prints; read in this process, as most tests begin with it."""
        with patch.dict(os.environ, self.env, clear=True):
            return LocalStack(self.folder, self.stack).outputs(show_secrets=True)

    def administered(self) -> dict[str, Any]:
        """The stack's outputs, and the platform's administrator, which a tenant's own stack does not tell."""
        names = ("admin_username", "admin_password", "registry_dsn")
        found = self.outputs() if self.on is None else self.on.outputs()
        return {name: found[name] for name in names} | (found if self.on is None else self.outputs())

    def beside(self, stack: str, **config: Any) -> Project:
        """Another stack in the same folder, with the same state and passphrase: one tenant on this platform."""
        other = object.__new__(Project)
        other.folder, other.stack, other.env, other.on = self.folder, stack, self.env, self
        other.configure(platform=f"organization/kryonix/{self.stack}", **config)
        return other

    def use_cli(self, folder: Path) -> None:
        """Let the Pulumi CLI run the program, with its state in a folder."""
        (self.folder / ".venv").symlink_to(sys.prefix)
        folder.mkdir()
        self.env["PULUMI_BACKEND_URL"] = f"file://{folder}"

    @contextmanager
    def running(self, engine: str = "local") -> Iterator[Project]:
        """Bring the stack up, and take it away at the end, however far it got."""
        try:
            self.must("up", engine=engine)
            yield self
        finally:
            self.remove()

    def remove(self) -> None:
        """Take away what the stack has in Docker, however far it got, and the folder."""
        client = docker.from_env()
        mine = {"name": f"kryonix-{self.stack}-"}
        for container in client.containers.list(all=True, ignore_removed=True, filters=mine):
            container.remove(force=True, v=True)
        for thing in (*client.volumes.list(filters=mine), *client.networks.list(filters=mine)):
            thing.remove()
        client.close()
        shutil.rmtree(self.folder)
