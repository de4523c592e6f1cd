"""Check that the registry answers: otherwise a run without changes would succeed with the database stopped."""

from __future__ import annotations

import asyncio
from typing import Final

import psycopg
import pulumi
from psycopg import pq
from psycopg.conninfo import make_conninfo

from components.errors import RegistryUnreachable, registry_errors
from kryonix.registry.connection import BoundedConnection, given_settings
from kryonix.registry.errors import address_parts, trust_fault
from kryonix.topology.addresses import host_port

_TIMEOUT_S: Final = 5


def answering(dsn: pulumi.Input[str]) -> pulumi.Output[str]:
    """Return the same DSN once PostgreSQL answers there. Raises RegistryUnreachable.

    Does not log in: this run may be about to repair the role or its password.
    """

    async def ask(known: str) -> str:
        with registry_errors():
            await asyncio.to_thread(_ask, known)
        return known

    return pulumi.Output.secret(dsn).apply(ask)


def ping(dsn: str) -> pq.Ping:
    """Return whether PostgreSQL answers at a DSN, without logging in."""
    timeout = address_parts(dsn).get("connect_timeout", _TIMEOUT_S)
    return pq.Ping(pq.PGconn.ping(make_conninfo(dsn, connect_timeout=timeout, **given_settings(dsn)).encode()))


def _untrusted(dsn: str) -> str:
    """Return why TLS with the server fails, which a ping does not say; empty if it does not."""
    try:
        BoundedConnection.connect(dsn).close()
    except psycopg.OperationalError as error:
        return trust_fault(error, dsn)
    return ""


def _ask(dsn: str) -> None:
    parts = address_parts(dsn)
    found = ping(dsn)
    if found == pq.Ping.OK:
        return
    where = host_port(str(parts.get("host")), parts.get("port", 5432))
    if found == pq.Ping.NO_RESPONSE and (fault := _untrusted(dsn)):
        raise RegistryUnreachable(f"the registry's PostgreSQL at {where} can't be trusted: {fault}")
    what = "is starting or stopping" if found == pq.Ping.REJECT else "does not answer"
    raise RegistryUnreachable(
        f"the registry's PostgreSQL at {where} {what}. Start it and run again: `docker ps -a` shows whether its "
        "container is stopped (`docker start NAME`) or paused (`docker unpause NAME`); if it was removed, run "
        "`kryonix refresh` and `kryonix up` on the platform's stack"
    )
