"""Commands, and the parts of the program, are imported when they run."""

from __future__ import annotations

import subprocess
import sys

import pytest

from kryonix.cli.app import COMMANDS, load_command
from tests.support.project import ROOT

HEAVY = {"pulumi", "aio_pika", "httpx", "prometheus_client", "uvicorn"}


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["plan", "--help"], ["schema"]], ids=" ".join)
def test_help_and_offline_commands_import_neither_pulumi_nor_the_sdk(arguments: list[str]) -> None:
    program = (
        "import sys; from kryonix.cli.app import app\n"
        "try: app()\n"
        "finally: print(*sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True)
    loaded = set(done.stderr.split())
    assert "typer" in loaded
    assert not HEAVY & loaded


@pytest.mark.parametrize(
    ("parts", "unused"),
    [
        ("existing_platform settings tenant", {"docker", "pulumi_docker", "pulumi_postgresql", "alembic", "aio_pika"}),
        ("platform settings tenant", {"alembic", "aio_pika"}),
    ],
    ids=["a tenant's own stack", "a platform"],
)
def test_a_run_imports_only_what_it_uses(parts: str, unused: set[str]) -> None:
    program = f"import sys, {', '.join(f'components.{part}' for part in parts.split())}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "pulumi_rabbitmq" in loaded
    assert not unused & loaded


@pytest.mark.parametrize(("name", "text"), [(n, t) for group in COMMANDS.values() for n, (_, t) in group.items()])
def test_the_list_of_commands_has_each_commands_own_help(name: str, text: str) -> None:
    loaded = load_command(name)
    assert loaded.name == name
    assert loaded.help.split("\n\n")[0].startswith(text)
