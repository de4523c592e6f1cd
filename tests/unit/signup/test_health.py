from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import UUID

import httpx
import pytest

from kryonix.signup.monitoring import Metrics
from kryonix.signup.service import build_service
from kryonix.topology.catalog import default_catalog
from kryonix.topology.cells import Cell, Cells


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    cells = Cells(cells={"main": Cell(platform="organization/kryonix/none")})
    service = build_service("postgresql://nobody:x@127.0.0.1:1/none", default_catalog(), cells)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(service), base_url="http://signup") as made:
        yield made


@pytest.mark.anyio
async def test_head_answers_as_get_for_health_and_metrics(client: httpx.AsyncClient) -> None:
    for path, status in (("/healthz", 200), ("/readyz", 503), ("/metrics", 200)):
        got, head = await client.get(path), await client.head(path)
        assert (got.status_code, head.status_code) == (status, status)
        assert head.headers["content-type"] == got.headers["content-type"]
    assert set((await client.put("/healthz")).headers["allow"].split(", ")) == {"GET", "HEAD"}
    assert set((await client.get("/openapi.json")).json()["paths"]["/healthz"]) == {"get"}


@pytest.mark.anyio
async def test_head_is_answered_on_every_path_but_a_stream(client: httpx.AsyncClient) -> None:
    described = (await client.get("/openapi.json")).json()["paths"]
    assert not any("head" in methods for methods in described.values())
    paths = [
        path.format(operation=UUID(int=1), tenant="acme") for path, methods in described.items() if "get" in methods
    ]
    refused = {path for path in paths if (await client.head(path)).status_code == 405}
    assert refused == {f"/v1/operations/{UUID(int=1)}/events"}
    answers = {path: (await client.head(path)).status_code for path in paths if path.startswith("/v1/")}
    assert set(answers.values()) == {401, 405}, "a key is required as for GET"


@pytest.mark.anyio
async def test_a_defect_is_answered_with_the_headers_of_any_answer(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr(Metrics, "text", broken)
    answer, sound = await client.get("/metrics"), await client.get("/healthz")
    assert answer.status_code == 500
    assert answer.json()["type"] == "urn:kryonix:problem:internal"
    assert "secret" not in answer.text
    assert answer.json()["request_id"] == answer.headers["x-request-id"]
    assert f"request {answer.headers['x-request-id']} ended with a defect" in caplog.text
    assert {"content-security-policy", "x-content-type-options"} <= set(answer.headers) >= set(sound.headers)
