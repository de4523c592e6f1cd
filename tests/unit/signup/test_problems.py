"""Failures as problem documents for callers."""

from __future__ import annotations

import re
from typing import Any

import pytest
from pydantic import ValidationError

from kryonix.engines import errors as engines
from kryonix.errors import Failure
from kryonix.fleet.placement import NoRoom
from kryonix.rabbitmq.client import BrokerUnavailable
from kryonix.registry.errors import RegistryUnavailable
from kryonix.signup import errors as signup
from kryonix.signup.problems import describe_invalid, for_callers, problem_of, retry_after
from kryonix.signup.schemas import NewTenant
from kryonix.tenants import errors as tenants


def test_an_internal_error_reveals_nothing() -> None:
    problem = problem_of(RuntimeError("password=xyzzy at /srv/app.py"))
    assert problem.status == 500
    assert "xyzzy" not in str(problem)
    assert "app.py" not in str(problem)


def test_an_absent_database_is_not_named_to_callers() -> None:
    error = RegistryUnavailable("registry kryonix_signup@db.internal:5432/kryonix_main can't be used")
    problem = problem_of(error)
    assert (problem.status, "db.internal" in problem.detail) == (503, False)
    assert retry_after(error) == 5


def test_the_problem_contains_the_refusals_fields() -> None:
    fit = problem_of(tenants.DoesNotFit("too much", remove=["crm"], plan="pro"))
    assert (fit.status, fit.remove, fit.plan) == (422, ["crm"], "pro")
    lost = problem_of(tenants.WouldLoseMessages("lost", {"q": 2}))
    assert (lost.status, lost.queues) == (409, {"q": 2})
    assert problem_of(tenants.InvalidTenant(["a", "b"])).errors == ["a", "b"]
    assert problem_of(signup.OperationUnderWay("acme", "123", "create")).operation == "123"


REFUSALS = (
    tenants.InvalidTenant(["a"]),
    tenants.DoesNotFit("too much", remove=[], plan=None),
    tenants.TenantExists("there already"),
    tenants.UnknownTenant("acme"),
    tenants.WouldLoseMessages("lost", {}),
    tenants.WrongState("removed"),
    NoRoom("none"),
    tenants.TenantBusy("acme"),
)


@pytest.mark.parametrize("error", REFUSALS, ids=lambda error: type(error).__name__)
def test_every_lifecycle_refusal_is_a_client_error(error: engines.Refused) -> None:
    problem = problem_of(error)
    assert 400 <= problem.status < 500
    assert problem.detail == str(error).replace(" (`kryonix tenant list`)", "")


def test_a_rate_limited_caller_gets_retry_after() -> None:
    assert retry_after(signup.TooManyRequests(0.2)) == 1
    assert retry_after(signup.TooManyRequests(7.2)) == 8
    assert retry_after(tenants.UnknownTenant("x")) is None


ADDRESS = "the broker at http://10.1.2.3:15672 does not answer. Start it and run again"


@pytest.mark.parametrize(
    "error",
    [
        BrokerUnavailable(ADDRESS),
        engines.EngineFailed(ADDRESS, 1),
        engines.OperationDied("tenant-x", ADDRESS),
        engines.LifecycleError(ADDRESS),
        tenants.WouldLoseMessages(ADDRESS, {"q": 1}),
        NoRoom(ADDRESS),
        RuntimeError(ADDRESS),
    ],
    ids=lambda error: type(error).__name__,
)
def test_callers_see_no_platform_address(error: Exception) -> None:
    shown = for_callers(problem_of(error).as_json())
    assert "10.1.2.3" not in str(shown)
    assert "15672" not in str(shown)
    assert {"type", "title", "status", "detail"} <= set(shown)


def test_a_problem_of_a_later_release_is_shown_by_its_title() -> None:
    shown = for_callers({"type": "urn:kryonix:problem:new", "title": "Something new", "status": 500, "detail": ADDRESS})
    assert "Something new" in shown["detail"]
    assert "10.1.2.3" not in str(shown)


@pytest.mark.parametrize("error", REFUSALS, ids=lambda error: type(error).__name__)
def test_messages_for_callers_are_shown_unchanged(error: engines.Refused) -> None:
    problem = problem_of(error).as_json()
    assert for_callers(problem) == problem


def test_no_refusal_names_a_command_to_callers_of_the_service() -> None:
    for error in (*REFUSALS, tenants.UnknownTenant("x"), signup.InvalidKey()):
        assert not re.search(r"`(kryonix |--)", problem_of(error).detail)
    assert "(`kryonix tenant list`)" in str(tenants.UnknownTenant("acme"))
    loss = Failure(kind="would-lose-messages", exit_status=2, queues={"leads": 2})
    with pytest.raises(tenants.WouldLoseMessages) as caught, tenants.translate_loss_errors():
        raise engines.EngineFailed("anything", failure=loss)
    assert problem_of(caught.value).detail.endswith("accept the loss by naming each queue in `allow_delete`")


@pytest.mark.parametrize(
    ("received", "said"),
    [
        ({"id": "Acme Corp"}, r"id: must be 3 to 40 characters: .*; did you mean 'acme-corp'\?"),
        ({"plan": "a\0"}, "plan: must be printable characters only"),
        ({"modules": "crm"}, "modules: must be a valid list"),
        ({"modul": ["crm"]}, r"modul: unknown field; did you mean 'modules'\? Allowed: id, modules, .*, notify"),
        ({"plan": None}, "plan: must be a valid string"),
    ],
)
def test_an_invalid_field_is_described_with_a_remedy(received: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        NewTenant.model_validate({"id": "acme", "modules": ["crm"], "plan": "basic", **received})
    (error,) = caught.value.errors()
    assert re.fullmatch(said, describe_invalid(error, NewTenant))


def test_a_body_that_is_not_json_is_described() -> None:
    error = {"type": "json_invalid", "loc": ("body", 15), "ctx": {"error": "Expecting value"}}
    said = describe_invalid(error, None)
    assert said == "body: not valid JSON at character 15 (Expecting value). Send one JSON object"


def test_credentials_that_are_not_there_name_the_next_step() -> None:
    assert str(signup.NotReady(1, "suspend", "succeeded", gives=False)).endswith("Use the id of one of those")
    assert "Read its `problem`" in str(signup.NotReady(1, "create", "failed", gives=True))
    assert str(signup.NotReady(1, "create", "running", gives=True)).endswith("Wait until it has succeeded")
    for expired, said in ((True, "were not fetched in time"), (False, "have been delivered")):
        detail = problem_of(signup.AlreadyDelivered(1, "acme", expired=expired)).detail
        assert said in detail
        assert detail.endswith("Create new ones: POST /v1/tenants/acme/rotate")
