"""Errors about a registry URL never show its password."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from components.errors import RegistryUnreachable
from components.registry_check import _ask
from kryonix.registry import rollouts, schema
from kryonix.registry.connection import connect, tenant_lock
from kryonix.registry.errors import (
    RegistryAddressInvalid,
    RegistryError,
    RegistryUnavailable,
    RegistryUntrusted,
    translated,
)
from kryonix.signup.database import Database
from tests.support.tls import CA, FAULTS, HOST, faulty, serving

UNREADABLE = {
    "percent sign": "postgresql://someone:S3cr%t@127.0.0.1:1/kryonix",
    "no colon": "postgresql//someone:S3cr-t@127.0.0.1:1/kryonix",
    "no colon, with options": "postgresql//someone:S3cr-t@127.0.0.1:1/kryonix?sslmode=disable",
    "slash": "postgresql://someone:S3cr/t@127.0.0.1:1/kryonix",
    "at sign": "postgresql://someone:x@S3cr@127.0.0.1:1/kryonix",
}


def connected(dsn: str) -> None:
    with connect(dsn):
        pass


def in_session(dsn: str) -> None:
    with rollouts.session(dsn):
        pass


def locked(dsn: str) -> None:
    with tenant_lock(dsn, "acme"):
        pass


@pytest.mark.parametrize("dsn", UNREADABLE.values(), ids=UNREADABLE)
@pytest.mark.parametrize(
    "use", [connected, in_session, locked, schema.upgrade, schema.current, Database], ids=lambda use: use.__qualname__
)
def test_an_invalid_registry_url_is_reported_without_its_password(use: Callable[[str], Any], dsn: str) -> None:
    with pytest.raises(RegistryError) as caught:
        use(dsn)
    shown = "".join(traceback.format_exception(caught.value))
    assert "registry_dsn" in str(caught.value)
    assert "postgresql://USER:PASSWORD@HOST:PORT/DATABASE" in str(caught.value)
    assert "S3cr" not in shown
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)


def test_an_invalid_registry_url_exits_with_2() -> None:
    assert RegistryAddressInvalid().exit_status == 2


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://someone:S3cr%25t%40%2F@127.0.0.1:1/kryonix",
        "host=127.0.0.1 port=1 dbname=kryonix user=someone password=S3cr@/t",
        "postgresql:///kryonix?host=/run/postgresql",
    ],
)
def test_a_valid_registry_url_is_accepted(dsn: str) -> None:
    with pytest.raises(RegistryUnavailable, match="down") as caught, translated(dsn):
        raise psycopg.OperationalError("down")
    assert "S3cr" not in str(caught.value)


def verified(port: int, trust: Path) -> str:
    return f"postgresql://someone:S3cr@{HOST}:{port}/kryonix?sslmode=verify-full&sslrootcert={trust}"


@pytest.fixture
def trust(tmp_path: Path) -> Path:
    file = tmp_path / "ca.pem"
    file.write_text(CA.pem)
    return file


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_tls_is_told_by_its_name(fault: str, trust: Path) -> None:
    with (
        serving(faulty(fault)) as port,
        pytest.raises(RegistryUntrusted, match=f"can't be trusted: {fault}: ") as error,
    ):
        connected(verified(port, trust))
    assert f"{HOST}:{port}" in str(error.value)
    assert "S3cr" not in str(error.value)


def test_a_missing_file_with_the_ca_is_named_with_what_writes_it(tmp_path: Path) -> None:
    with serving(faulty("good")) as port, pytest.raises(RegistryUntrusted, match=r"gone\.pem.*`kryonix status`"):
        connected(verified(port, tmp_path / "gone.pem"))


def test_the_program_tells_a_fault_of_tls_from_a_stopped_server(trust: Path) -> None:
    with serving(faulty("expired")) as port, pytest.raises(RegistryUnreachable, match="can't be trusted: expired: "):
        _ask(verified(port, trust))
    with pytest.raises(RegistryUnreachable, match="does not answer"):
        _ask(verified(port, trust))


def test_the_environments_trust_is_not_the_registrys(trust: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGSSLROOTCERT", str(trust))
    monkeypatch.setenv("HOME", str(trust.parent))
    with serving(faulty("good")) as port, pytest.raises(RegistryUntrusted, match="there is no file"):
        connected(f"postgresql://someone:S3cr@{HOST}:{port}/kryonix?sslmode=verify-full")
