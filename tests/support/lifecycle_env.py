"""Tenants with their own stacks on the shared platform, and operations on them, in this process."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import aio_pika
import psycopg

from kryonix.engines.process import LocalEngine
from kryonix.tenants.credentials import Credentials
from kryonix.tenants.lifecycle import TenantLifecycle
from kryonix.topology.catalog import default_catalog
from kryonix.topology.cells import Cell, Cells
from kryonix.topology.tenants import Tenant
from tests.support.live_broker import LiveBroker
from tests.support.project import Project

__all__ = ["LifecycleEnv", "cells_of", "connects", "cut_off_during"]


def cells_of(stack: str) -> Cells:
    """Two cells on one platform: one as for development, and one as for production."""
    platform = f"organization/kryonix/{stack}"
    return Cells(cells={"main": Cell(platform=platform), "guarded": Cell(platform=platform, protect=True)})


@dataclass(frozen=True)
class LifecycleEnv:
    """The platform, its broker, and the lifecycle of its tenants."""

    project: Project
    broker: LiveBroker
    engine: LocalEngine
    lifecycle: TenantLifecycle

    @classmethod
    @contextmanager
    def on(cls, project: Project, broker: LiveBroker) -> Iterator[LifecycleEnv]:
        with closing(LocalEngine(project.folder, keep=True)) as engine:
            dsn, cells = str(broker.outputs["registry_dsn"]), cells_of(project.stack)
            lifecycle = TenantLifecycle(dsn, engine, cells, default_catalog(), overlap=timedelta(seconds=4))
            yield cls(project, broker, engine, lifecycle)

    def create(self, id: str, *modules: str, plan: str = "basic", cell: str = "main") -> Credentials:
        return self.lifecycle.create(Tenant(id=id, modules=modules, plan=plan, cell=cell))

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(str(self.broker.outputs["registry_dsn"])) as connection:
            return connection.execute(sql).fetchall()

    def execute(self, sql: str) -> None:
        """As the registry's owner would, to make time pass."""
        with psycopg.connect(str(self.broker.outputs["registry_dsn"])) as connection:
            connection.execute(sql)

    @contextmanager
    def leaving_nothing(self) -> Iterator[LifecycleEnv]:
        """Remove the tenants that the block creates, also again: other tests may share the platform."""
        before = self.lifecycle.states()
        there = {state.cliente_id for state in before if state.status != "removed"}
        try:
            yield self
        finally:
            for state in self.lifecycle.states():
                if state not in before and state.cliente_id not in there:
                    if state.status != "removed":
                        self.lifecycle.offboard(state.cliente_id)
                    self.lifecycle.remove(state.cliente_id, force=True)


def connects(credentials: Credentials) -> bool:
    """Whether an application with these credentials is let in."""

    async def connect() -> bool:
        try:
            await (await aio_pika.connect(credentials.amqp_uri, timeout=30)).close()
        except aio_pika.exceptions.AMQPError:
            return False
        return True

    return asyncio.run(connect())


def cut_off_during(credentials: Credentials, operation: Any) -> bool:
    """Whether an application's connection that was open is closed by the broker once the operation has ended."""

    async def watch() -> bool:
        ended = asyncio.Event()
        connection = await aio_pika.connect(credentials.amqp_uri, timeout=30)
        connection.close_callbacks.add(lambda *_: ended.set())
        await asyncio.to_thread(operation)
        try:
            await asyncio.wait_for(ended.wait(), 30)
        except TimeoutError:
            await connection.close()
            return False
        return True

    return asyncio.run(watch())
