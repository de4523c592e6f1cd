"""The Automation API with state in PostgreSQL and secrets in a vault."""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import docker
import pytest

from kryonix.engines.choice import engine_for
from tests.integration.tenants.conftest import NO_CLI, Notes
from tests.support.project import Project

pytestmark = NO_CLI


class Vault(ThreadingHTTPServer):
    """The two calls of HashiCorp Vault's transit engine that Pulumi's `hashivault://` makes, without a cipher."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Transit)
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Transit(BaseHTTPRequestHandler):
    def do_PUT(self) -> None:
        server = self.server
        assert isinstance(server, Vault)
        server.asked.append(self.path)
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if "/encrypt/" in self.path:
            data = {"ciphertext": f"vault:v1:{asked['plaintext'][::-1]}"}
        else:
            data = {"plaintext": asked["ciphertext"].removeprefix("vault:v1:")[::-1]}
        body = json.dumps({"data": data}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_PUT

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def vault() -> Iterator[Vault]:
    server = Vault()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("notes", ["pulumi"], indirect=True)
def test_secrets_stay_with_the_chosen_provider(
    notes: Notes, vault: Vault, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("VAULT_SERVER_URL", "VAULT_ADDR"):
        monkeypatch.setenv(name, vault.url)
    for name in ("VAULT_SERVER_TOKEN", "VAULT_TOKEN"):
        monkeypatch.setenv(name, "a token")
    monkeypatch.setenv("KRYONIX_SECRETS_PROVIDER", "hashivault://kryonix")
    monkeypatch.delenv("PULUMI_CONFIG_PASSPHRASE")
    engine = engine_for("pulumi", notes.project)
    engine.up(notes.spec("one", {"a": "1"}))
    assert provider(tmp_path) == ("cloud", "hashivault://kryonix")
    monkeypatch.delenv("KRYONIX_SECRETS_PROVIDER")  # it is the choice for new stacks; this one has its own
    again = engine_for("pulumi", notes.project)
    again.up(notes.spec("one", {"a": "2"}))
    assert provider(tmp_path) == ("cloud", "hashivault://kryonix")
    assert again.outputs(notes.spec("one"))["password"] == notes.text("one", "secret")
    assert {path.rsplit("/", 2)[-2] for path in vault.asked} == {"encrypt", "decrypt"}
    assert notes.text("one", "secret") not in kept(tmp_path).read_text()


def kept(folder: Path) -> Path:
    (found,) = (folder / "backend").rglob("stacks/notes/one.json")
    return found


def provider(folder: Path) -> tuple[str, str]:
    """Which provider the state says that it was encrypted by."""
    said = json.loads(kept(folder).read_text())["checkpoint"]["latest"]["secrets_providers"]
    return said["type"], said["state"]["url"]


@pytest.mark.parametrize("notes", ["pulumi"], indirect=True)
def test_state_can_be_stored_in_postgresql(notes: Notes, platform: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    database, password = f"state_{secrets.token_hex(4)}", secrets.token_hex(8)
    psql(
        platform, f"CREATE ROLE {database} LOGIN PASSWORD '{password}'", f"CREATE DATABASE {database} OWNER {database}"
    )
    address = platform.outputs()["registry_dsn"].rpartition("@")[2].partition("/")[0]
    monkeypatch.setenv("PULUMI_BACKEND_URL", f"postgres://{database}:{password}@{address}/{database}?sslmode=disable")
    try:
        notes.engine.up(notes.spec("one", {"a": "1"}))
        other = engine_for("pulumi", notes.project)
        assert other.stacks() == ["one"]
        assert other.up(notes.spec("one", {"a": "1"})).changes.keys() == {"same"}
        assert other.outputs(notes.spec("one"))["notes"] == ["a"]
        other.destroy(notes.spec("one"))
        assert notes.files() == set()
    finally:
        psql(platform, f"DROP DATABASE {database} WITH (FORCE)", f"DROP ROLE {database}")


def psql(platform: Project, *statements: str) -> None:
    """Run statements as the platform's database administrator, inside its container."""
    client = docker.from_env()
    try:
        container = client.containers.get(f"kryonix-{platform.stack}-postgres")
        for statement in statements:
            script = f'psql -v ON_ERROR_STOP=1 -U "$POSTGRES_USER" -d "$POSTGRES_DB" -c "{statement}"'
            result = container.exec_run(["sh", "-c", script])
            assert result.exit_code == 0, result.output
    finally:
        client.close()
