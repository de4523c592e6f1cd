"""Server settings of a lock's session: how soon the server releases a silent holder's lock."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from unittest import mock

import pytest
from psycopg.conninfo import make_conninfo

from kryonix.registry import connection as registry
from kryonix.registry import rollouts
from kryonix.registry.connection import Connection, open_session
from tests.support.lifecycle_env import LifecycleEnv

Holding = Callable[[str], AbstractContextManager[Connection]]


@pytest.fixture
def dsn(env: LifecycleEnv) -> str:
    return str(env.broker.outputs["registry_dsn"])


@contextmanager
def of_rollouts(dsn: str) -> Iterator[Connection]:
    with rollouts.session(dsn) as connection:
        assert rollouts.try_lock(connection)
        yield connection


@contextmanager
def of_a_tenant(dsn: str) -> Iterator[Connection]:
    opened: list[Connection] = []

    def remember(dsn: str) -> Connection:
        opened.append(open_session(dsn))
        return opened[-1]

    with mock.patch.object(registry, "open_session", remember), registry.tenant_lock(dsn, "nobody") as alone:
        assert alone
        yield opened[0]


def shown(connection: Connection, name: str) -> str:
    (row,) = connection.execute("SELECT current_setting(%s) AS value", [name])
    return str(row["value"])


@pytest.mark.parametrize("holding", [of_rollouts, of_a_tenant])
def test_the_server_releases_a_silent_holders_lock_in_30_seconds(dsn: str, holding: Holding) -> None:
    with holding(dsn) as connection:
        known = [shown(connection, f"tcp_keepalives_{name}") for name in ("idle", "interval", "count")]
    assert known == ["10", "5", "3"]


def test_lock_sessions_keep_the_options_of_the_url(dsn: str) -> None:
    with open_session(make_conninfo(dsn, options="-c statement_timeout=70s")) as connection:
        assert shown(connection, "statement_timeout") == "70s"
        assert shown(connection, "tcp_keepalives_idle") == "10"
