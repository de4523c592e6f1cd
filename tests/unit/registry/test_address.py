"""Errors about a registry URL never show its password."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from kryonix.registry import rollouts, schema
from kryonix.registry.connection import connect, tenant_lock
from kryonix.registry.errors import RegistryAddressInvalid, RegistryError, RegistryUnavailable, translated
from kryonix.signup.database import Database

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
