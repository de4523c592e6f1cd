"""Kills and concurrent requests: no loss, no half-created tenant, no effect on other tenants."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import aio_pika
import docker
import httpx
import pytest

from tests.conftest import ALL_MODULES
from tests.support.live_broker import LiveBroker
from tests.support.signup_service import Signup
from tests.support.waiting import eventually

FULL = {"modules": list(ALL_MODULES), "plan": "enterprise"}
SMALL = {"modules": ["portal"], "plan": "basic"}
CROWD = 50


async def _connect(uri: str) -> None:
    await (await aio_pika.connect(uri, timeout=30)).close()


def begun(signup: Signup, operation: dict[str, Any]) -> Callable[[], bool]:
    """Whether an operation is in the middle of its work."""

    def look() -> bool:
        found = signup.caller.http.get(f"/v1/operations/{operation['id']}").json()
        assert not found["ended_at"], f"it ended before it could be disturbed: {found}"
        return bool(found["status"] == "running" and found["progress"]["done"] > 0)

    return look


@contextmanager
def killed(signup: Signup, what: str, once: Callable[[], object]) -> Iterator[None]:
    """A container of the platform is killed for the block, as soon as something holds, and is there again after it."""
    container = docker.from_env().containers.get(f"kryonix-{signup.project.stack}-{what}")
    eventually(f"{what} can be killed", once)
    container.kill()
    try:
        yield
    finally:
        container.start()


def whole(signup: Signup, id: str) -> None:
    """A full tenant is all there, and its credentials work."""
    with LiveBroker(signup.outputs) as broker:
        assert len(broker.get("queues", f"/cliente_{id}", disable_stats="true")) == 87
    shown = signup.caller.http.get(f"/v1/tenants/{id}").json()
    assert (shown["status"], shown["converged"], shown["operation"]) == ("active", True, None)


def test_another_worker_continues_the_job_of_a_killed_one(signup: Signup) -> None:
    """Slow: a dead worker's job is taken over once its heartbeat is 10 s old."""
    operation = signup.caller.taken("POST", "/v1/tenants", {"id": "kill-worker", **FULL})
    eventually("it is in the middle", begun(signup, operation))
    signup.worker.kill()
    signup.worker = signup.start_worker()
    ended = signup.caller.ended(operation)
    assert (ended["status"], ended["attempts"] >= 2) == ("succeeded", True), ended
    whole(signup, "kill-worker")
    asyncio.run(_connect(signup.caller.credentials(operation).amqp_uri))
    events = signup.query("SELECT event FROM signup.outbox WHERE tenant = 'kill-worker'")
    assert events == [{"event": "tenant.created"}]


def test_a_killed_web_process_loses_no_accepted_request(signup: Signup) -> None:
    port = signup.base.rsplit(":", 1)[-1]
    operation = signup.caller.taken("POST", "/v1/tenants", {"id": "kill-web", **SMALL}, key="kill-web")
    signup.web.kill()
    with pytest.raises(httpx.TransportError):
        signup.caller.http.get("/healthz")
    signup.web = signup.start_web(port)
    again = signup.caller.taken("POST", "/v1/tenants", {"id": "kill-web", **SMALL}, key="kill-web")
    assert again["id"] == operation["id"]
    assert signup.caller.ended(operation)["status"] == "succeeded"
    asyncio.run(_connect(signup.caller.credentials(again).amqp_uri))


def test_a_worker_that_lost_its_registration_goes_on(signup: Signup) -> None:
    operation = signup.caller.taken("POST", "/v1/tenants", {"id": "unregistered", **FULL})
    eventually("it is in the middle", begun(signup, operation))
    signup.execute("DELETE FROM signup.procrastinate_workers")
    ended = signup.caller.ended(operation)
    assert (ended["status"], ended["attempts"]) == ("succeeded", 1)
    eventually("it has registered again", lambda: signup.query("SELECT 1 FROM signup.procrastinate_workers"))
    signup.caller.done("PATCH", "/v1/tenants/unregistered", {"modules": ["portal"]})


def test_a_job_whose_end_was_not_recorded_does_not_block_its_tenant(signup: Signup) -> None:
    signup.as_superuser("""
        CREATE SEQUENCE signup.refused;
        CREATE FUNCTION signup.refuse() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS
        $$ BEGIN PERFORM nextval('signup.refused'); RAISE EXCEPTION 'the database is away'; END $$;
        CREATE TRIGGER refuse BEFORE UPDATE OR DELETE ON signup.procrastinate_jobs FOR EACH ROW
        WHEN (OLD.status = 'doing' AND OLD.lock = 'tenant/untold') EXECUTE FUNCTION signup.refuse()
    """)
    try:
        signup.caller.done("POST", "/v1/tenants", {"id": "untold", **SMALL})
        eventually(
            "the end has been refused", lambda: signup.as_superuser("SELECT is_called FROM signup.refused") == "t"
        )
    finally:
        signup.as_superuser("DROP FUNCTION signup.refuse() CASCADE; DROP SEQUENCE signup.refused")
    left = signup.query("SELECT status::text FROM signup.procrastinate_jobs WHERE lock = 'tenant/untold'")
    assert left == [{"status": "doing"}]
    signup.caller.done("POST", "/v1/tenants/untold/suspend")
    events = signup.query("SELECT event FROM signup.outbox WHERE tenant = 'untold' ORDER BY created_at")
    assert [row["event"] for row in events] == ["tenant.created", "tenant.suspended"], "what had ended was done again"


def test_a_job_waits_for_a_killed_broker(signup: Signup) -> None:
    operation = signup.caller.taken("POST", "/v1/tenants", {"id": "kill-broker", **FULL})
    with killed(signup, "rabbitmq", begun(signup, operation)):
        eventually("the attempt has failed", lambda: _problem(signup, operation))
        assert not signup.caller.http.get(f"/v1/operations/{operation['id']}").json()["ended_at"]
    assert signup.caller.ended(operation, 180)["status"] == "succeeded"
    whole(signup, "kill-broker")
    eventually(
        "events are told again", lambda: not signup.query("SELECT 1 FROM signup.outbox WHERE published_at IS NULL")
    )


def test_a_killed_database_is_reported_and_waited_for(signup: Signup) -> None:
    operation = signup.caller.taken("POST", "/v1/tenants", {"id": "kill-database", **FULL})
    with killed(signup, "postgres", begun(signup, operation)):
        problem = signup.caller.refused(503, "registry-unavailable", "GET", "/v1/tenants")
        assert "postgresql" not in str(problem)
        assert signup.caller.http.get("/readyz").status_code == 503
        assert signup.caller.http.get("/healthz").status_code == 200
        time.sleep(3)
    eventually("the database is seen again", lambda: signup.caller.http.get("/readyz").status_code == 200)
    assert signup.caller.ended(operation, 180)["status"] == "succeeded"
    whole(signup, "kill-database")


def test_a_frozen_database_is_reported_and_waited_for(signup: Signup) -> None:
    operation = signup.caller.taken("POST", "/v1/tenants", {"id": "frozen-database", **FULL})
    container = docker.from_env().containers.get(f"kryonix-{signup.project.stack}-postgres")
    eventually("it is in the middle", begun(signup, operation))
    container.pause()
    try:
        problem = signup.caller.refused(503, "registry-unavailable", "GET", "/v1/tenants")
        assert "postgresql" not in str(problem)
        assert signup.caller.http.get("/readyz").status_code == 503
        assert signup.caller.http.get("/metrics").status_code == 200
        eventually("the worker has noticed", lambda: signup.worker.said.count("can't be used: ") > 0)
    finally:
        container.unpause()
    eventually("the database is seen again", lambda: signup.caller.http.get("/readyz").status_code == 200)
    assert signup.caller.ended(operation, 240)["status"] == "succeeded"
    whole(signup, "frozen-database")


def _signed_up(signup: Signup, id: str) -> dict[str, Any]:
    """Ask for a tenant as a caller does: again where the service says that it has too much to do."""

    def answer() -> httpx.Response | None:
        found = signup.caller.ask("POST", "/v1/tenants", {"id": id, **SMALL}, id)
        return None if found.status_code == 503 else found

    accepted = eventually("the service takes the request", answer)
    assert accepted.status_code == 202, accepted.text
    return dict(accepted.json())


def test_fifty_concurrent_signups_succeed_and_affect_no_other_tenant(signup: Signup) -> None:
    """Slow: fifty stacks are deployed, three at a time."""
    signup.caller.done("POST", "/v1/tenants", {"id": "bystander", **SMALL})
    with LiveBroker(signup.outputs) as broker:
        before = _picture(broker, "/cliente_bystander")
        ids = [f"crowd-{number:02}" for number in range(CROWD)]
        with ThreadPoolExecutor(CROWD) as pool:
            taken = list(pool.map(lambda id: _signed_up(signup, id), ids))
            assert len({operation["id"] for operation in taken}) == CROWD
        ended = [signup.caller.ended(operation, 900) for operation in taken]
        assert [operation["status"] for operation in ended] == ["succeeded"] * CROWD
        users = {signup.caller.credentials(operation).username for operation in taken}
        assert len(users) == CROWD
        for id in ids:
            names = {queue["name"] for queue in broker.get("queues", f"/cliente_{id}", disable_stats="true")}
            assert len(names) == 11
            assert all(name.startswith(f"cliente_{id}.") for name in names)
        assert _picture(broker, "/cliente_bystander") == before


def _picture(broker: LiveBroker, vhost: str) -> Any:
    return broker.topology(vhost), broker.permissions(vhost)


def _problem(signup: Signup, operation: dict[str, Any]) -> bool:
    return bool(signup.caller.http.get(f"/v1/operations/{operation['id']}").json()["problem"])
