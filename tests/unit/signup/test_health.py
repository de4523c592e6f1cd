from __future__ import annotations

import httpx
import pytest

from kryonix.signup.service import build_service
from kryonix.topology.catalog import default_catalog
from kryonix.topology.cells import Cell, Cells


@pytest.mark.anyio
async def test_head_answers_as_get_for_health_and_metrics() -> None:
    cells = Cells(cells={"main": Cell(platform="organization/kryonix/none")})
    service = build_service("postgresql://nobody:x@127.0.0.1:1/none", default_catalog(), cells)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(service), base_url="http://signup") as client:
        for path, status in (("/healthz", 200), ("/readyz", 503), ("/metrics", 200)):
            got, head = await client.get(path), await client.head(path)
            assert (got.status_code, head.status_code) == (status, status)
            assert head.headers["content-type"] == got.headers["content-type"]
        assert set((await client.put("/healthz")).headers["allow"].split(", ")) == {"GET", "HEAD"}
        assert set((await client.get("/openapi.json")).json()["paths"]["/healthz"]) == {"get"}
