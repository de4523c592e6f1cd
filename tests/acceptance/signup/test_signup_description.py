"""Requests generated from the OpenAPI document get the answers that it describes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode
from schemathesis.checks import CheckFunction
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from tests.support.prometheus import example_platform
from tests.support.signup_service import Signup

EXAMPLES = 15
# What is described can still be wrong for the catalog, which is data: 422 is for that too. And a parameter that nobody
# has heard of is left alone, as everywhere on the web.
NOT_MEANT: list[CheckFunction] = [positive_data_acceptance, negative_data_rejection]


@pytest.fixture(scope="module")
def monitored(signup: Signup) -> Iterator[str]:
    """A web that reads from a Prometheus, and in which the tenant of the document's examples exists."""
    signup.caller.done("POST", "/v1/tenants", {"id": "acme", "modules": ["portal"], "plan": "basic"})
    with example_platform() as url, signup.another_web("--prometheus", url, "--rate", "1000", "--burst", "1000") as web:
        answer = signup.caller.http.get(f"{web}/v1/tenants/acme/metrics").raise_for_status()
        assert answer.json()["figures"]["connections"][-1] == 9
        yield web


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
def test_every_answer_matches_the_openapi_description(signup: Signup, monitored: str, mode: GenerationMode) -> None:
    schema = schemathesis.openapi.from_url(f"{monitored}/openapi.json")
    headers = {"Authorization": f"Bearer {signup.make_key('write')}"}
    seen = set()
    for found in schema.get_all_operations():
        operation = found.ok()  # type: ignore[union-attr]  # an operation that is described wrongly raises here
        seen.add((operation.method.upper(), operation.path))

        @settings(max_examples=EXAMPLES, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy(mode))
        def answers_as_described(case: Case[Any]) -> None:
            response = case.call_and_validate(headers=headers, excluded_checks=NOT_MEANT)
            assert response.status_code < 500 or case.path == "/readyz", response.text

        with suppress(Unsatisfiable):  # nothing can be wrong with a request that has no input
            answers_as_described()
    assert {("POST", "/v1/tenants"), ("GET", "/v1/operations/{operation}/events"), ("POST", "/v1/plan")} <= seen


def test_every_refusal_is_described_as_a_problem(signup: Signup) -> None:
    document = signup.caller.http.get("/openapi.json").json()
    for path, methods in document["paths"].items():
        if not path.startswith("/v1/"):
            continue
        for method, operation in methods.items():
            told = operation["responses"]
            assert {"401", "422", "429", "503", "413", "500"} <= set(told), (method, path)
            for status, response in told.items():
                if int(status) >= 400:
                    assert list(response["content"]) == ["application/problem+json"], (method, path, status)
