"""What the routes depend on: the parts of the service, and the acceptance of an operation."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Header, Path, Request, Response

from kryonix.signup.alerts import Alerts
from kryonix.signup.charts import Charts
from kryonix.signup.database import Database
from kryonix.signup.intake import Intake
from kryonix.signup.keys import Caller
from kryonix.signup.monitoring import AWAY, FRESH_S, Cached, Metrics, look
from kryonix.signup.operations import Kind
from kryonix.signup.prometheus import Monitoring, PrometheusAddress
from kryonix.signup.schemas import TENANT_ID_PATTERN, AcceptedAnswer
from kryonix.signup.streams import Streams
from kryonix.topology.catalog import Catalog
from kryonix.topology.cells import Cells


class Services:
    """The parts of one service, shared by all of its requests."""

    def __init__(self, dsn: str, catalog: Catalog, cells: Cells, prometheus: PrometheusAddress) -> None:
        self.database = Database(dsn)
        self.catalog = catalog
        self.intake = Intake(self.database, catalog, cells)
        self.metrics = Metrics(self.database)
        self.readiness = Cached(FRESH_S, lambda: look(self.database), AWAY)
        self.streams = Streams(self.database)
        self.monitoring = Monitoring(prometheus.connect())
        self.charts = Charts(self.monitoring)
        self.alerts = Alerts(self.monitoring)


def _services(request: Request) -> Services:
    found: Services = request.app.state.services
    return found


Using = Annotated[Services, Depends(_services)]
Id = Annotated[str, Path(pattern=TENANT_ID_PATTERN, description="The tenant's id.", examples=["acme"])]
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        pattern=r"^[\x21-\x7e]+$",
        description="Your name for this request. Repeated with the same key, it runs once and gets the same answer.",
    ),
]


class _Accept:
    """Accept an operation, and answer with it and its location."""

    def __init__(self, using: Using, request: Request, response: Response, key: IdempotencyKey = None) -> None:
        self._intake, self._request, self._response, self._key = using.intake, request, response, key

    def __call__(self, caller: Caller, kind: Kind, tenant: str, asked: dict[str, Any] | None = None) -> AcceptedAnswer:
        self._request.state.tenant = tenant
        accepted = self._intake.accept(kind, tenant, asked or {}, caller, self._key)
        self._request.state.operation = accepted.operation.id
        self._response.headers["Location"] = f"/v1/operations/{accepted.operation.id}"
        return AcceptedAnswer.of(accepted.operation, caller.scope, credentials_key=accepted.credentials_key)


Accept = Annotated[_Accept, Depends(_Accept)]
