"""The signup service as subprocesses, called over HTTP."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import docker
import httpx
import psycopg
from psycopg.rows import dict_row

from kryonix.certificates.trust import context
from kryonix.tenants.credentials import Credentials
from tests.support.containers import output_of
from tests.support.project import Project
from tests.support.waiting import eventually

__all__ = ["Caller", "Process", "Signup"]

_ADDRESS = re.compile(r"listening on (http://\S+?);")


class Process:
    """`kryonix signup serve` or `worker`, until it says that it is there."""

    def __init__(self, project: Project, log: Path, *arguments: str, engine: str = "local") -> None:
        self._log = log
        command = project.command("signup", *arguments, "--stack", project.stack, "--engine", engine)
        with log.open("ab") as sink:
            self.process = subprocess.Popen(
                command,
                cwd=project.folder,
                env=project.env,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                start_new_session=True,
            )

    @property
    def said(self) -> str:
        return self._log.read_text()

    def wait_for(self, text: str) -> None:
        try:
            eventually(f"it says {text!r}", lambda: re.search(text, self.said), process=self.process)
        except AssertionError as error:
            error.add_note(self.said)
            raise

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def end(self) -> int:
        self.process.terminate()
        return self.process.wait(60)


class Caller:
    """One caller with an API key."""

    def __init__(self, base: str, key: str | None, ca_certificate: str = "") -> None:
        # No connection is used again: uvicorn closes idle ones, and httpx's pool may close one that it has just given
        # to another thread.
        headers = {"Connection": "close"} | ({} if key is None else {"Authorization": f"Bearer {key}"})
        self.http = httpx.Client(base_url=base, headers=headers, timeout=60, verify=context(ca_certificate))

    def ask(self, method: str, path: str, json: Any = None, key: str | None = None) -> httpx.Response:
        headers = {} if key is None else {"Idempotency-Key": key}
        return self.http.request(method, path, json=json, headers=headers)

    def taken(self, method: str, path: str, json: Any = None, key: str | None = None) -> dict[str, Any]:
        """Send a request that must be accepted."""
        response = self.ask(method, path, json, key)
        assert response.status_code == 202, response.text
        assert response.headers["location"] == f"/v1/operations/{response.json()['id']}"
        return dict(response.json())

    def ended(self, operation: Mapping[str, Any], timeout: float = 120) -> dict[str, Any]:
        """Wait for an operation's end, however it ends."""

        def look() -> dict[str, Any] | None:
            found = self.http.get(f"/v1/operations/{operation['id']}").raise_for_status().json()
            return dict(found) if found["ended_at"] else None

        return eventually(f"the operation {operation['id']} has ended", look, timeout)

    def done(self, method: str, path: str, json: Any = None, key: str | None = None) -> dict[str, Any]:
        """Send a request that must be accepted and succeed; return its response."""
        taken = self.taken(method, path, json, key)
        ended = self.ended(taken)
        assert ended["status"] == "succeeded", ended
        return taken

    def refused(self, status: int, kind: str, method: str, path: str, json: Any = None, key: str | None = None) -> Any:
        """Send a request that must be refused; return the problem."""
        response = self.ask(method, path, json, key)
        assert response.status_code == status, response.text
        assert response.headers["content-type"] == "application/problem+json"
        problem = response.json()
        assert problem["type"] == f"urn:kryonix:problem:{kind}", problem
        assert "Traceback" not in response.text
        return problem

    def credentials(self, taken: Mapping[str, Any]) -> Credentials:
        body = {"credentials_key": taken["credentials_key"]}
        response = self.http.post(f"/v1/operations/{taken['id']}/credentials", json=body)
        assert response.status_code == 200, response.text
        return Credentials(**response.json())


class Signup:
    """A platform with the service and a worker on it, which runs tenants' stacks by the engine that made its own."""

    def __init__(self, project: Project, folder: Path, engine: str = "local") -> None:
        self.project, self._folder, self._engine = project, folder, engine
        self.outputs = project.must("outputs", "--show-secrets", engine=engine)
        self.key = self.make_key("admin")
        self.worker = self.start_worker()
        self.web = self.start_web("0")
        self.caller = self.call_as(self.key)

    def make_key(self, scope: str, *more: str) -> str:
        stack = ("--stack", self.project.stack, "--engine", self._engine)
        made = self.project.kryonix("signup", "keys", "create", f"a {scope}", "--scope", scope, *more, *stack, "--json")
        assert made.returncode == 0, made.stderr
        return str(json.loads(made.stdout)["key"])

    def call_as(self, key: str | None) -> Caller:
        return Caller(self.base, key)

    @property
    def base(self) -> str:
        found = _ADDRESS.findall(self.web.said)
        return str(found[-1])

    @property
    def said(self) -> str:
        """Everything that its processes have written."""
        return "".join(file.read_text() for file in self._folder.glob("*.log"))

    def start_web(self, port: str) -> Process:
        """The web, on a free port, or again on the one that it had."""
        number = len(list(self._folder.glob("web*.log")))
        web = Process(
            self.project, self._folder / f"web{number}.log", "serve", "--port", port, "--workers", "0",
            "--rate", "1000", "--burst", "1000", engine=self._engine,
        )  # fmt: skip
        web.wait_for("listening on")
        return web

    def start_worker(self, *more: str) -> Process:
        number = len(list(self._folder.glob("worker*.log")))
        worker = Process(
            self.project, self._folder / f"worker{number}.log", "worker", "--concurrency", "3", "--overlap-hours",
            "0.001", *more, engine=self._engine,
        )  # fmt: skip
        worker.wait_for("working")
        return worker

    def query(self, sql: str) -> list[dict[str, Any]]:
        """As the database's owner of rows sees it."""
        with psycopg.connect(self.outputs["signup_dsn"], row_factory=dict_row) as connection:
            return connection.execute(sql).fetchall()

    def execute(self, sql: str) -> None:
        """To make time pass."""
        with psycopg.connect(self.outputs["signup_dsn"]) as connection:
            connection.execute(sql)

    def as_superuser(self, sql: str) -> str:
        """Run SQL beyond the service's own privileges; return psql's output."""
        container = docker.from_env().containers.get(f"kryonix-{self.project.stack}-postgres")
        psql = 'psql -v ON_ERROR_STOP=1 -U "$POSTGRES_USER" -d kryonix_main -At -c "$SQL"'
        if sql.startswith("SELECT "):
            return output_of(container, "sh", "-c", psql, env={"SQL": sql}).strip()
        status, printed = container.exec_run(["sh", "-c", psql], environment={"SQL": sql})
        assert status == 0, printed.decode()
        return str(printed.decode().strip())

    @contextmanager
    def another_web(self, *more: str) -> Iterator[str]:
        """A web beside the first, for the block; its address."""
        number = len(list(self._folder.glob("beside*.log")))
        web = Process(
            self.project, self._folder / f"beside{number}.log", "serve", "--port", "0", "--workers", "0", *more,
            engine=self._engine,
        )  # fmt: skip
        try:
            web.wait_for("listening on")
            yield str(_ADDRESS.findall(web.said)[-1])
        finally:
            web.end()

    def end(self) -> None:
        self.web.end()
        self.worker.end()

    @classmethod
    @contextmanager
    def on_own_platform(cls, folder: Path, **config: Any) -> Iterator[Signup]:
        with Project.platform(folder / "project", **config).running() as project:
            logs = folder / "logs"
            logs.mkdir()
            signup = cls(project, logs)
            try:
                yield signup
            finally:
                signup.end()
