"""Shared state of the routes."""

from __future__ import annotations

from dataclasses import dataclass, field

from fastapi import Request

from kryonix.signup.database import Database
from kryonix.signup.intake import Intake
from kryonix.signup.monitoring import Cached, Metrics, Readiness
from kryonix.signup.streams import Streams
from kryonix.topology.catalog import Catalog
from kryonix.topology.cells import Cells


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """The parts of one service, shared by all of its requests."""

    database: Database = field(repr=False)
    catalog: Catalog = field(repr=False)
    cells: Cells
    intake: Intake = field(repr=False)
    metrics: Metrics = field(repr=False)
    readiness: Cached[Readiness] = field(repr=False)
    streams: Streams = field(repr=False)


def services(request: Request) -> Services:
    """Return the services of the request's application."""
    found: Services = request.app.state.services
    return found
