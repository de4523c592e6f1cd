"""Background settling: it yields to requests and retries failures after a pause."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from kryonix.signup import operations
from kryonix.signup.database import Database
from kryonix.signup.operations import enqueue
from tests.support.signup_service import Caller, Signup
from tests.support.waiting import eventually

ID = "due"


@pytest.fixture(scope="module", autouse=True)
def tenant(signup: Signup) -> None:
    signup.caller.done("POST", "/v1/tenants", {"id": ID, "modules": ["portal"], "plan": "basic"})


@contextmanager
def no_worker(signup: Signup) -> Iterator[None]:
    assert signup.worker.end() == 0
    try:
        yield
    finally:
        signup.worker = signup.start_worker()


def settling(signup: Signup) -> str:
    """The id of an operation that settles, queued as the service's own are."""
    with Database(signup.outputs["signup_dsn"]) as database, database.transaction() as connection:
        made = operations.insert(connection, operations.Request(tenant=ID, kind="settle"))
        assert made is not None
        enqueue(connection, made.id, ID)
    return str(made.id)


def settled(signup: Signup) -> list[dict[str, Any]]:
    where = f"tenant = '{ID}' AND kind = 'settle' ORDER BY created_at"
    return signup.query(f"SELECT id, status, result FROM signup.operations WHERE {where}")


def test_settling_yields_to_requests(signup: Signup, caller: Caller) -> None:
    with no_worker(signup):
        queued = settling(signup)
        asked = caller.taken("POST", f"/v1/tenants/{ID}/suspend")
        caller.refused(409, "operation-under-way", "POST", f"/v1/tenants/{ID}/rotate")
    assert caller.ended(asked)["status"] == "succeeded"
    ended = caller.ended({"id": queued})
    assert (ended["status"], ended["result"]) == ("succeeded", {"removed": False, "gave_way_to": asked["id"]})
    caller.done("POST", f"/v1/tenants/{ID}/resume")


def test_a_waiting_removal_can_be_resumed_and_a_started_one_cannot(signup: Signup, caller: Caller) -> None:
    caller.done("DELETE", f"/v1/tenants/{ID}")
    with no_worker(signup):
        queued = settling(signup)
        signup.execute(f"UPDATE signup.operations SET status = 'running' WHERE id = '{queued}'")
        problem = caller.refused(409, "operation-under-way", "POST", f"/v1/tenants/{ID}/resume")
        assert problem["operation"] == queued
        signup.execute(f"UPDATE signup.operations SET status = 'queued' WHERE id = '{queued}'")
        asked = caller.taken("POST", f"/v1/tenants/{ID}/resume")
    assert caller.ended(asked)["status"] == "succeeded"
    assert caller.http.get(f"/v1/tenants/{ID}").json()["status"] == "active"


def test_a_tenant_that_fails_to_settle_is_retried_after_a_pause(signup: Signup, caller: Caller) -> None:
    with no_worker(signup):
        patient = signup.start_worker("--overlap-hours", "1")
        rotated = caller.done("POST", f"/v1/tenants/{ID}/rotate")
        assert patient.end() == 0
        failed = settling(signup)
        signup.execute(f"UPDATE signup.operations SET status = 'failed', ended_at = now() WHERE id = '{failed}'")
        signup.as_superuser(f"UPDATE tenants.desired_states SET retiring_until = now() WHERE cliente_id = '{ID}'")
        before = settled(signup)
        of_rotation = f"WHERE operation = '{rotated['id']}'"
        signup.as_superuser(f"UPDATE signup.audit SET at = now() - interval '401 days' {of_rotation}")
    # The new worker looks for what is due, and then deletes old rows.
    eventually("the worker has looked", lambda: not signup.query(f"SELECT 1 FROM signup.audit {of_rotation}"))
    assert settled(signup) == before
    signup.execute(f"UPDATE signup.operations SET ended_at = now() - interval '3 minutes' WHERE id = '{failed}'")

    def again() -> bool:
        return any(each["status"] == "succeeded" for each in settled(signup)[len(before) :])

    eventually("the tenant is settled", again)
