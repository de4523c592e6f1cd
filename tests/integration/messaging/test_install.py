"""The wheel, installed in an empty environment, sends and consumes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.project import ROOT

PROGRAM = """
import asyncio, importlib.util, sys
from kryonix.messaging import MessagingClient

assert not [name for name in sys.modules if name.startswith("pulumi")]
for name in ("pulumi", "docker", "fastapi", "typer", "alembic", "psycopg", "grpc"):
    assert importlib.util.find_spec(name) is None, f"{name} is installed"

async def main():
    arrived = asyncio.Queue()
    async with await MessagingClient.connect(application="installed") as client:
        await client.portal.consume("interacoes.track", arrived.put)
        sent = await client.portal.send("interacoes.track", {"clicked": True}, device="mobile")
        message = await asyncio.wait_for(arrived.get(), 60)
        assert (message.data, message.message_id) == ({"clicked": True}, sent.message_id)
    print("done")

asyncio.run(main())
"""


def run(*command: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHONPATH", "VIRTUAL_ENV"))}
    return subprocess.run(
        [str(part) for part in command], env=env | environment, capture_output=True, text=True, timeout=900, check=False
    )


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the Python of a new environment with the wheel and its dependencies."""
    folder = tmp_path_factory.mktemp("install")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")
    # Built from a copy: setuptools writes beside what it builds.
    for name in ("pyproject.toml", "kryonix"):
        (folder / "source").mkdir(exist_ok=True)
        run("cp", "-r", ROOT / name, folder / "source" / name)
    built = run(*pip, "wheel", "--no-deps", "--wheel-dir", folder, folder / "source")
    assert built.returncode == 0, built.stderr
    assert run(sys.executable, "-m", "venv", folder / "venv").returncode == 0
    (wheel,) = folder.glob("*.whl")
    python = folder / "venv" / "bin" / "python"
    installed = run(
        python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-c", _pins(folder), wheel
    )
    assert installed.returncode == 0, installed.stderr
    return python


def _pins(folder: Path) -> Path:
    """requirements.txt as constraints: they may not name extras, and with hashes the wheel would need one too."""
    pins = folder / "constraints.txt"
    pinned = re.findall(r"^([\w.-]+)(?:\[\w+\])?(==[\w.]+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    assert len(pinned) > 90
    pins.write_text("".join(f"{name}{version}\n" for name, version in pinned))
    return pins


def test_the_installed_sdk_works_without_infrastructure_tools(
    python: Path, tenants: dict[str, tuple[str, str]]
) -> None:
    result = run(python, "-c", PROGRAM, KRYONIX_AMQP_URI=tenants["sdk"][0])
    assert (result.returncode, result.stdout) == (0, "done\n"), result.stderr


CHECKED = """
from dataclasses import dataclass
from typing_extensions import TypedDict
from pydantic import BaseModel, TypeAdapter
from kryonix.messaging import Message, MessagingClient

class Lead(BaseModel):
    name: str

@dataclass
class Contact:
    name: str

class Task(TypedDict):
    name: str

async def handle(message: Message) -> None: ...
async def lead(message: Message[Lead]) -> None: message.data.name.upper()
async def contact(message: Message[Contact]) -> None: message.data.name.upper()
async def task(message: Message[Task]) -> None: message.data["name"].upper()
async def either(message: Message[Lead | int]) -> None: ...
def plain(message: Message) -> None: ...

async def main() -> None:
    client = await MessagingClient.connect(application="typed")
    await client.crm.send("leads.create", {}, priority=8)
    await client.crm.consume("leads.create", handle)
    await client.crm.consume("leads.create", handle, model=Lead)
    await client.crm.consume("leads.create", lead, model=Lead)
    await client.consume("crm", "leads.create", contact, model=Contact)
    await client.crm.consume("leads.create", task, model=Task)
    both: TypeAdapter[Lead | int] = TypeAdapter(Lead | int)
    await client.crm.consume("leads.create", either, model=both)
    async with client.crm.stream("leads.create", model=Lead) as stream:
        async for item in stream:
            async with item as message: message.data.name.upper()
    # Every line from here on is wrong.
    await client.crm.consume("leads.create", lead, model=Contact)
    message.data.nome
    await client.crm.send("leads.crate", {})
    await client.crm.send("leads.create", {}, priority="high")
    await client.crm.consume("leads.create", plain)
    client.cmr
"""


def test_mypy_checks_programs_against_the_installed_types(python: Path, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(CHECKED.lstrip())
    mypy = (sys.executable, "-m", "mypy", "--strict", "--config-file=", "--python-executable", python)
    result = run(*mypy, "--cache-dir", tmp_path / "cache", tmp_path / "program.py")
    found = re.findall(r"program\.py:(\d+): error: .*\[([\w-]+)\]", result.stdout)
    kinds = ["arg-type", "attr-defined", "arg-type", "arg-type", "arg-type", "attr-defined"]
    first = CHECKED.lstrip().splitlines().index("    # Every line from here on is wrong.") + 2
    assert found == [(str(line), kind) for line, kind in enumerate(kinds, first)], result.stdout + result.stderr


def test_the_command_without_its_extras_says_what_to_install(python: Path) -> None:
    result = run(python.parent / "kryonix", "--help")
    assert result.returncode == 1
    assert "pip install '.[platform]'" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_missing_psycopg_is_reported(python: Path) -> None:
    program = "from kryonix.messaging import PostgresAudit; PostgresAudit('postgresql://x')"
    result = run(python, "-c", program)
    assert "ConfigurationError: psycopg is not installed. Install it with" in result.stderr
