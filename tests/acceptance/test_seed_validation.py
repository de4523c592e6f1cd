"""The validation script of the product source document passes against a platform."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.support.project import Project

SCRIPT = Path(__file__).parent / "seed_validation.sh"


def validate(folder: Path, outputs: dict[str, Any], **changed: str) -> subprocess.CompletedProcess[str]:
    login = {"login": outputs["admin_username"], "password": outputs["admin_password"], **changed}
    netrc = folder / "netrc"
    netrc.touch(mode=0o600)
    netrc.write_text(f"machine localhost login {login['login']} password {login['password']}\n")
    ports = {
        "MANAGEMENT_PORT": str(urlsplit(outputs["management_url"]).port),
        "METRICS_PORT": str(urlsplit(outputs["metrics_url"]).port),
    }
    return subprocess.run(
        ["bash", str(SCRIPT)],
        env={**os.environ, **ports, "NETRC": str(netrc)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture(scope="module")
def outputs(platform: Project) -> dict[str, Any]:
    return platform.outputs()


def test_every_check_of_the_source_documents_script_passes(tmp_path: Path, outputs: dict[str, Any]) -> None:
    result = validate(tmp_path, outputs)
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.count("✅") == 5
    assert "❌" not in result.stdout


def test_the_script_detects_a_wrong_password(tmp_path: Path, outputs: dict[str, Any]) -> None:
    result = validate(tmp_path, outputs, password="KryonixRabbit2025")
    assert "❌ Management API com problemas" in result.stdout
    assert result.returncode > 0
