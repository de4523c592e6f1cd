"""Limits of the service: a caller's rate, a cell's capacity, and the retention of operations."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from tests.support.signup_service import Caller, Signup
from tests.support.waiting import eventually

SMALL = {"modules": ["portal"], "plan": "basic"}


def test_a_caller_over_the_rate_gets_retry_after_and_others_do_not_wait(signup: Signup) -> None:
    reader = signup.make_key("read")
    with signup.another_web("--rate", "0.1", "--burst", "3") as base:
        caller = Caller(base, reader)
        statuses = [caller.http.get("/v1/catalog").status_code for _ in range(4)]
        assert statuses == [200, 200, 200, 429]
        refused = caller.http.get("/v1/catalog")
        assert (refused.json()["type"], int(refused.headers["retry-after"]) >= 1) == (
            "urn:kryonix:problem:too-many-requests", True,
        )  # fmt: skip
        nobody, json = Caller(base, None), {"content-type": "application/json"}
        guesses = [nobody.http.post("/v1/tenants", content=b"{", headers=json).status_code for _ in range(4)]
        assert guesses == [401, 401, 401, 429], "a body that is none spares nobody being counted"
        assert Caller(base, signup.key).http.get("/v1/catalog").status_code == 200


def test_concurrent_signups_respect_a_cells_bounds(signup: Signup) -> None:
    signup.caller.done("POST", "/v1/tenants", {"id": "placed", **SMALL})
    counted = [each for each in signup.caller.http.get("/v1/tenants?limit=200").json()["tenants"] if each["queues"]]
    there = sum(tenant["status"] != "removed" for tenant in counted)
    file = signup.project.folder / "cells.yaml"
    platform = f"organization/kryonix/{signup.project.stack}"
    file.write_text(f"cells: {{main: {{platform: {platform}, max_tenants: {there + 1}}}}}\n")
    try:
        with signup.another_web() as base, ThreadPoolExecutor(6) as pool:
            caller = Caller(base, signup.key)
            asked = [{"id": f"placed-{number}", **SMALL} for number in range(6)]
            answers = list(pool.map(lambda body: caller.ask("POST", "/v1/tenants", body), asked))
    finally:
        file.unlink()
    assert sorted(answer.status_code for answer in answers) == [202, 409, 409, 409, 409, 409]
    refused = next(answer.json() for answer in answers if answer.status_code == 409)
    assert refused["type"] == "urn:kryonix:problem:no-room"
    assert "1 tenants too many" in refused["detail"]
    (taken,) = [answer.json() for answer in answers if answer.status_code == 202]
    assert signup.caller.ended(taken)["status"] == "succeeded"


def test_old_operations_and_their_idempotency_keys_are_deleted(signup: Signup) -> None:
    body = {"id": "forgotten", **SMALL}
    first = signup.caller.done("POST", "/v1/tenants", body, key="to-be-forgotten")
    kept = signup.caller.done("POST", "/v1/tenants/forgotten/suspend", key="to-be-kept")
    eventually("all is published", lambda: not signup.query("SELECT 1 FROM signup.outbox WHERE published_at IS NULL"))
    of_first = f"WHERE operation = '{first['id']}'"
    signup.execute(f"UPDATE signup.operations SET ended_at = now() - interval '401 days' WHERE id = '{first['id']}'")
    signup.as_superuser(f"UPDATE signup.audit SET at = now() - interval '401 days' {of_first}")
    signup.execute(
        "UPDATE signup.outbox SET published_at = now() - interval '401 days' WHERE event = 'tenant.created' "
        "AND tenant = 'forgotten'"
    )
    fresh = signup.start_worker()  # it looks at once, and every hour from then
    try:
        eventually("the row is gone", lambda: not signup.query(f"SELECT 1 FROM signup.audit {of_first}"))
    finally:
        fresh.end()
    signup.caller.refused(404, "unknown-operation", "GET", f"/v1/operations/{first['id']}")
    assert signup.query("SELECT event FROM signup.outbox WHERE tenant = 'forgotten'") == [{"event": "tenant.suspended"}]
    signup.caller.refused(409, "tenant-exists", "POST", "/v1/tenants", body, key="to-be-forgotten")
    again = signup.caller.taken("POST", "/v1/tenants/forgotten/suspend", key="to-be-kept")
    assert again["id"] == kept["id"]
