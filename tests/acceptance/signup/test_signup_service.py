"""The signup service over HTTP, with a real broker, a real database and a worker process."""

from __future__ import annotations

import asyncio
import json
import re
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import aio_pika
import httpx
import psycopg
import pytest

from kryonix.messaging import Message, MessagingClient
from tests.conftest import ALL_MODULES
from tests.support.live_broker import LiveBroker
from tests.support.signup_service import Caller, Process, Signup
from tests.support.waiting import eventually

SMALL = {"modules": ["portal"], "plan": "basic"}


async def _connects(uri: str) -> bool:
    try:
        await (await aio_pika.connect(uri, timeout=30)).close()
    except aio_pika.exceptions.AMQPError:
        return False
    return True


def connects(uri: str) -> bool:
    return asyncio.run(_connects(uri))


async def _first_message(uri: str) -> Any:
    got: asyncio.Queue[Any] = asyncio.Queue()

    async def take(message: Message) -> None:
        await got.put(message.data)

    async with await MessagingClient.connect(uri, application="first") as client:
        await client.consume("crm", "leads.create", take, timeout=30)
        await client.send("crm", "leads.create", {"name": "Ana"}, timeout=30)
        return await asyncio.wait_for(got.get(), 60)


def test_one_request_creates_a_working_tenant(caller: Caller) -> None:
    taken = caller.done("POST", "/v1/tenants", {"id": "full", "modules": list(ALL_MODULES), "plan": "enterprise"})
    shown = caller.http.get("/v1/tenants/full").json()
    assert (shown["status"], shown["converged"], shown["queues"]) == ("active", True, {"used": 87, "allowed": 500})
    credentials = caller.credentials(taken)
    assert asyncio.run(_first_message(credentials.amqp_uri)) == {"name": "Ana"}
    assert credentials.amqp_addresses == [credentials.amqp_uri.partition("@")[2].partition("/")[0]]


@pytest.fixture(scope="module")
def small(signup: Signup) -> dict[str, Any]:
    """A small tenant's creation, its credentials not yet fetched."""
    return signup.caller.done("POST", "/v1/tenants", {"id": "small", **SMALL}, key="small-is-made")


def test_credentials_are_returned_once_and_stored_unreadable(
    signup: Signup, caller: Caller, small: dict[str, Any]
) -> None:
    path, body = f"/v1/operations/{small['id']}/credentials", {"credentials_key": small["credentials_key"]}
    signup.call_as(signup.make_key("admin")).refused(404, "unknown-operation", "POST", path, body)
    caller.refused(403, "wrong-credentials-key", "POST", path, {"credentials_key": "A" * 43})
    again = caller.taken("POST", "/v1/tenants", {"id": "small", **SMALL}, key="small-is-made")
    assert (again["id"], again["credentials_key"]) == (small["id"], small["credentials_key"])

    kept = str(signup.query("SELECT * FROM signup.operations")) + str(signup.query("SELECT * FROM signup.outbox"))
    credentials = caller.credentials(small)
    assert connects(credentials.amqp_uri)
    for secret in (credentials.password, small["credentials_key"], signup.key.split("_", 2)[-1]):
        assert secret not in kept
        assert secret not in signup.said
    caller.refused(410, "already-delivered", "POST", path, body)
    assert caller.http.get(f"/v1/operations/{small['id']}").json()["credentials"] == "delivered"


def test_a_tenant_is_changed_suspended_resumed_rotated_and_removed(
    signup: Signup, caller: Caller, at_broker: LiveBroker
) -> None:
    """Slow: one tenant goes through each operation, and each deploys its stack."""
    first = caller.credentials(caller.done("POST", "/v1/tenants", {"id": "life", **SMALL}))
    caller.done("PATCH", "/v1/tenants/life", {"modules": ["portal", "crm"], "plan": "pro"})
    assert at_broker.has("queues", "/cliente_life", "cliente_life.crm.leads.create")
    caller.done("POST", "/v1/tenants/life/suspend")
    assert caller.http.get("/v1/tenants/life").json()["status"] == "suspended"
    assert not connects(first.amqp_uri)
    caller.done("POST", "/v1/tenants/life/resume")
    assert connects(first.amqp_uri)
    hook = {"webhook": "https://hooks.example.com/a-token", "email": ["ops@example.com"]}
    shown = {**hook, "webhook": "https://hooks.example.com/…"}
    assert caller.done("PATCH", "/v1/tenants/life", {"notify": hook})["request"] == {"notify": shown}
    assert caller.http.get("/v1/tenants/life").json()["notify"] == shown
    caller.refused(422, "unprocessable-entity", "PATCH", "/v1/tenants/life", {"notify": {"webhook": "no URL"}})
    caller.done("PATCH", "/v1/tenants/life", {"notify": None})
    assert caller.http.get("/v1/tenants/life").json()["notify"] is None
    second = caller.credentials(caller.done("POST", "/v1/tenants/life/rotate"))
    assert second.username == "kryonix_life.2"
    assert connects(second.amqp_uri)

    at_broker.publish("/cliente_life", "cliente_life.crm.leads.create", 2)
    failed = caller.ended(caller.taken("PATCH", "/v1/tenants/life", {"modules": ["portal"]}))
    assert failed["problem"]["type"] == "urn:kryonix:problem:would-lose-messages"
    assert failed["attempts"] == 1, "what is refused is not tried again"
    assert caller.http.get("/v1/tenants/life").json()["problem"] == failed["problem"]
    assert failed["problem"]["queues"] == {"cliente_life.crm.leads.create": 2}
    allowed = {"modules": ["portal"], "allow_delete": ["cliente_life.crm.leads.create"]}
    caller.done("PATCH", "/v1/tenants/life", allowed)
    assert caller.http.get("/v1/tenants/life").json()["problem"] is None

    left = caller.ended(caller.taken("DELETE", "/v1/tenants/life"))
    assert left["result"]["remove_after"] > left["ended_at"]
    caller.done("POST", "/v1/tenants/life/resume")
    assert connects(second.amqp_uri)
    caller.done("DELETE", "/v1/tenants/life?now=true")
    assert caller.http.get("/v1/tenants/life").json()["status"] == "removed"
    assert not at_broker.has("vhosts", "/cliente_life")
    caller.refused(409, "wrong-state", "POST", "/v1/tenants/life/resume")


def test_a_tenant_beyond_its_plan_can_be_suspended_and_removed(
    signup: Signup, caller: Caller, at_broker: LiveBroker
) -> None:
    """Slow: a tenant of all modules is deployed and removed."""
    caller.done("POST", "/v1/tenants", {"id": "oversold", "modules": list(ALL_MODULES), "plan": "pro"})
    # What a catalog that was made smaller does, to this one tenant.
    signup.as_superuser("UPDATE tenants.desired_states SET plan = 'basic' WHERE cliente_id = 'oversold'")
    caller.done("POST", "/v1/tenants/oversold/suspend")
    assert caller.refused(422, "does-not-fit", "POST", "/v1/tenants/oversold/resume")["plan"] == "pro"
    assert caller.http.get("/v1/tenants/oversold").json()["status"] == "suspended"
    caller.done("DELETE", "/v1/tenants/oversold?now=true")
    assert not at_broker.has("vhosts", "/cliente_oversold")


def test_an_immediate_removal_needs_acceptance_to_delete_messages(
    signup: Signup, caller: Caller, at_broker: LiveBroker
) -> None:
    caller.done("POST", "/v1/tenants", {"id": "leaving", **SMALL})
    queue = "cliente_leaving.portal.treinamentos.sync"
    at_broker.publish("/cliente_leaving", queue, 3)
    path = ("queues", "/cliente_leaving", queue)
    eventually("the broker has counted them", lambda: at_broker.get(*path).get("messages") == 3)
    refused = caller.ended(caller.taken("DELETE", "/v1/tenants/leaving?now=true"))
    assert refused["problem"]["type"] == "urn:kryonix:problem:would-lose-messages"
    assert refused["problem"]["queues"] == {queue: 3}
    assert "accept_loss" in refused["problem"]["detail"]
    assert caller.http.get("/v1/tenants/leaving").json()["status"] == "active", "nothing has changed"

    # The broker still reports no message of this one, so it is found once the tenant is suspended.
    caller.done("POST", "/v1/tenants", {"id": "staying", **SMALL})
    before, picture = caller.http.get("/v1/tenants/staying").json(), at_broker.permissions("/cliente_staying")
    rows = "SELECT c.status, d.status, count(e) FROM tenants.rabbitmq_configurations c JOIN tenants.desired_states d "
    rows += "USING (cliente_id) LEFT JOIN tenants.final_exports e USING (cliente_id) WHERE cliente_id = 'staying' "
    row = signup.as_superuser(rows + "GROUP BY 1, 2")
    at_broker.publish("/cliente_staying", queue.replace("leaving", "staying"), 1)
    refused = caller.ended(caller.taken("DELETE", "/v1/tenants/staying?now=true"))
    assert refused["problem"]["type"] == "urn:kryonix:problem:would-lose-messages"
    after = caller.http.get("/v1/tenants/staying").json()
    assert {**after, "problem": None} == {**before, "problem": None}
    assert at_broker.permissions("/cliente_staying") == picture
    assert signup.as_superuser(rows + "GROUP BY 1, 2") == row == "ativo|active|0"

    done = caller.ended(caller.taken("DELETE", "/v1/tenants/leaving?now=true&accept_loss=true"))
    assert (done["status"], done["result"]) == ("succeeded", {"messages_deleted": 3})
    assert not at_broker.has("vhosts", "/cliente_leaving")


def test_old_credentials_expire_after_the_overlap(caller: Caller, small: dict[str, Any], at_broker: LiveBroker) -> None:
    caller.done("POST", "/v1/tenants/small/rotate")
    eventually("the old user is gone after the overlap of 3.6 s", lambda: not at_broker.has("users", "kryonix_small"))
    assert at_broker.has("users", "kryonix_small.2")


def test_events_of_every_operation_reach_the_control_vhost(
    signup: Signup, caller: Caller, small: dict[str, Any], at_broker: LiveBroker
) -> None:
    eventually("all is published", lambda: not signup.query("SELECT 1 FROM signup.outbox WHERE published_at IS NULL"))
    how = {"count": 1000, "ackmode": "ack_requeue_true", "encoding": "auto"}
    got = at_broker.call("POST", "queues", "/kryonix-master", "kryonix.events", "get", json=how).json()
    bodies = [json.loads(message["payload"]) for message in got]
    told = {(body["event"], body["tenant"]) for body in bodies}
    assert ("tenant.created", "small") in told
    all_of_a_life = {"created", "changed", "suspended", "resumed", "removed", "failed"}
    assert {event for event, tenant in told if tenant == "life"} == {f"tenant.{each}" for each in all_of_a_life}
    assert {message["routing_key"] for message in got} == {event for event, _ in told}
    ids = {str(row["id"]) for row in signup.query("SELECT id FROM signup.outbox")}
    # Rows that were told long ago may be forgotten meanwhile; their messages are not.
    assert ids <= {message["properties"]["message_id"] for message in got}
    assert not re.search(r"amqp://|password", json.dumps(bodies))


@pytest.mark.parametrize(
    ("status", "kind", "method", "path", "body"),
    [
        (422, "does-not-fit", "POST", "/v1/tenants", {"id": "big", "modules": list(ALL_MODULES), "plan": "basic"}),
        (422, "invalid-tenant", "POST", "/v1/tenants", {"id": "new", "modules": ["crn"], "plan": "basic"}),
        (422, "invalid-tenant", "POST", "/v1/tenants", {"id": "new", "modules": ["crm", "crm"], "plan": "basic"}),
        (422, "invalid-tenant", "POST", "/v1/tenants", {"id": "admin", **SMALL}),
        (422, "invalid-tenant", "POST", "/v1/tenants", {"id": "new", "cell": "moon", **SMALL}),
        (422, "unprocessable-entity", "POST", "/v1/tenants", {"id": "new", "colour": "red", **SMALL}),
        (422, "unprocessable-entity", "POST", "/v1/tenants", {"id": "new", "modules": "crm", "plan": "basic"}),
        (422, "unprocessable-entity", "POST", "/v1/tenants", {"id": "new", "modules": ["a\0b"], "plan": "basic"}),
        (422, "unprocessable-entity", "PATCH", "/v1/tenants/small", {"plan": "pro", "allow_delete": ["\0"]}),
        (409, "tenant-exists", "POST", "/v1/tenants", {"id": "small", **SMALL}),
        (404, "unknown-tenant", "POST", "/v1/tenants/nobody/suspend", None),
        (404, "unknown-tenant", "GET", "/v1/tenants/nobody", None),
        (422, "nothing-asked", "PATCH", "/v1/tenants/small", {}),
        (422, "does-not-fit", "PATCH", "/v1/tenants/small", {"modules": list(ALL_MODULES)}),
        (422, "invalid-tenant", "PATCH", "/v1/tenants/small", {"modules": ["portal", "portal"]}),
        (404, "unknown-operation", "GET", "/v1/operations/00000000-0000-4000-8000-000000000000", None),
        (404, "not-found", "GET", "/v1/nothing", None),
        (404, "not-found", "GET", "/v1/tenants/", None),
        (405, "method-not-allowed", "PUT", "/v1/tenants", {}),
    ],
)
def test_an_invalid_request_is_refused_with_a_remedy(
    caller: Caller, small: dict[str, Any], status: int, kind: str, method: str, path: str, body: Any
) -> None:
    before = wanted(caller)
    problem = caller.refused(status, kind, method, path, body)
    assert problem["detail"]
    if kind == "does-not-fit":
        assert problem["plan"] == "pro"
        assert problem["remove"]
    assert wanted(caller) == before


def wanted(caller: Caller) -> list[tuple[Any, ...]]:
    """What every tenant is to be. How far it has come changes by itself."""
    found = caller.http.get("/v1/tenants?limit=200").json()["tenants"]
    return [tuple(tenant[name] for name in ("id", "modules", "plan", "status", "cell", "username")) for tenant in found]


def test_a_wrong_method_is_refused_with_the_allowed_ones(caller: Caller) -> None:
    assert caller.http.put("/v1/tenants").headers["allow"] == "GET, HEAD, POST"
    assert caller.http.put("/v1/tenants/small").headers["allow"] == "DELETE, GET, HEAD, PATCH"


@pytest.mark.parametrize(
    "id", ["../../etc", "a'; DROP TABLE x", ".*", "асме", "ａcme", "x" * 10_000, "a\x00b", "A-b-c", "ab", "-abc", "a/b"]
)
def test_a_hostile_id_in_body_or_path_creates_nothing(caller: Caller, id: str) -> None:
    response = caller.ask("POST", "/v1/tenants", {"id": id, **SMALL})
    assert response.status_code == 422, response.text
    for method, more in (("GET", ""), ("PATCH", ""), ("POST", "/suspend"), ("DELETE", "")):
        answer = caller.http.request(
            method, f"/v1/tenants/{httpx.URL('', params={'x': id}).query.decode()[2:]}{more}", json=SMALL
        )
        assert answer.status_code in (404, 405, 422), answer.text
        assert "Traceback" not in answer.text


def test_an_invalid_or_oversized_body_is_refused(signup: Signup, caller: Caller) -> None:
    headers = {"content-type": "application/json"}
    for content in (b"", b"{", b"[]", b"null", b'{"id": "\xff"}', b"[" * 30_000):
        answer = caller.http.post("/v1/tenants", content=content, headers=headers)
        assert answer.status_code in (400, 422), content[:20]
        assert answer.headers["content-type"] == "application/problem+json"
    for told in ({"content-type": "text/plain"}, {}):
        answer = caller.http.post("/v1/tenants", content=b"{}", headers=told)
        assert (answer.status_code, answer.json()["type"]) == (415, "urn:kryonix:problem:unsupported-media-type")
    assert caller.http.post("/v1/tenants", content=b" " * 70_000, headers=headers).status_code == 413

    def chunks() -> Any:
        for _ in range(100):
            yield b" " * 1000

    assert caller.http.post("/v1/tenants", content=chunks(), headers=headers).status_code == 413


def test_a_key_is_limited_to_its_scope_and_ends_when_revoked(signup: Signup, small: dict[str, Any]) -> None:
    for caller in (signup.call_as(None), signup.call_as("kx_nobody_x"), signup.call_as("kx_a")):
        caller.refused(401, "invalid-key", "GET", "/v1/tenants")
    unread = signup.call_as(None).http.post("/v1/tenants", content=b"{", headers={"content-type": "application/json"})
    assert unread.status_code == 401, "who has no key is not told what is wrong with a body"
    reader, writer = signup.make_key("read"), signup.make_key("write")
    assert signup.call_as(reader).http.get("/v1/tenants/small").status_code == 200
    signup.call_as(reader).refused(403, "scope-too-small", "POST", "/v1/tenants/small/suspend")
    signup.call_as(writer).refused(403, "scope-too-small", "DELETE", "/v1/tenants/small")
    forged = f"{writer[:-4]}abcd"
    signup.call_as(forged).refused(401, "invalid-key", "GET", "/v1/tenants")

    stack = ("--stack", signup.project.stack, "--engine", "local")
    id = reader.split("_")[1]
    listed = signup.project.kryonix("signup", "keys", "list", *stack)
    assert id in listed.stdout
    assert reader not in listed.stdout
    assert signup.project.kryonix("signup", "keys", "revoke", id, *stack).returncode == 0
    signup.call_as(reader).refused(401, "invalid-key", "GET", "/v1/tenants")
    assert signup.project.kryonix("signup", "keys", "revoke", "nobody", *stack).returncode == 2
    assert signup.project.kryonix("signup", "keys", "revoke", "\udcff", *stack).returncode == 2
    assert signup.project.kryonix("signup", "serve", "--host", "\udcff", "--port", "0", *stack).returncode == 2
    signup.call_as(expired := signup.make_key("read", "--days", "1")).http.get("/v1/catalog").raise_for_status()
    signup.execute(f"UPDATE signup.api_keys SET expires_at = now() WHERE id = '{expired.split('_')[1]}'")
    signup.call_as(expired).refused(401, "invalid-key", "GET", "/v1/catalog")


def audited(signup: Signup, answer: httpx.Response) -> tuple[Any, ...]:
    """The one audit row of a request. It is written just after the answer."""
    audit = f"SELECT * FROM signup.audit WHERE request_id = '{answer.headers['x-request-id']}'"
    (row,) = eventually("the row is written", lambda: signup.query(audit))
    return row["method"], row["path"], row["status"], row["key_id"]


def test_every_call_leaves_an_audit_row(signup: Signup, caller: Caller, small: dict[str, Any]) -> None:
    key_id = signup.key.split("_")[1]
    assert audited(signup, caller.http.get("/v1/tenants/small")) == ("GET", "/v1/tenants/small", 200, key_id)
    assert audited(signup, signup.call_as(None).http.get("/v1/tenants")) == ("GET", "/v1/tenants", 401, None)
    asked = signup.query(f"SELECT * FROM signup.audit WHERE operation = '{small['id']}' AND tenant = 'small'")
    assert asked[0]["method"] == "POST"


def test_tenants_are_listed_in_pages(caller: Caller, small: dict[str, Any]) -> None:
    seen, after = [], ""
    while True:
        page = caller.http.get("/v1/tenants", params={"limit": 1, "after": after}).raise_for_status().json()
        seen += [tenant["id"] for tenant in page["tenants"]]
        if page["next"] is None:
            break
        after = page["next"]
    assert seen == sorted(set(seen))
    assert "small" in seen
    caller.refused(422, "unprocessable-entity", "GET", "/v1/tenants?limit=0")


def test_a_plan_is_returned_without_creating_anything(caller: Caller) -> None:
    answer = caller.http.post("/v1/plan", json={"id": "idea", "modules": ["crm", "portal"], "plan": "basic"}).json()
    assert answer["queues"] == {"used": 25, "allowed": 50}
    assert answer["queues_by_module"] == {"crm": 14, "portal": 10}
    assert caller.http.get("/v1/tenants/idea").status_code == 404


def test_an_operation_is_followed_live_to_its_end(caller: Caller) -> None:
    taken = caller.taken("POST", "/v1/tenants", {"id": "live", "modules": list(ALL_MODULES), "plan": "enterprise"})
    with caller.http.stream("GET", f"/v1/operations/{taken['id']}/events") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        data = [json.loads(line[6:]) for line in stream.iter_lines() if line.startswith("data: ")]
    done = [event["progress"]["done"] for event in data]
    assert done == sorted(done)
    assert any(0 < count < data[-1]["progress"]["total"] for count in done), done
    assert (data[-1]["status"], data[-1]["progress"]["done"]) == ("succeeded", data[-1]["progress"]["total"])
    topology = caller.http.get("/v1/tenants/live").json()
    assert topology["converged"]


def test_requests_with_one_idempotency_key_run_once_in_any_order(signup: Signup) -> None:
    caller = signup.caller
    body = {"id": "once", **SMALL}
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: caller.taken("POST", "/v1/tenants", body, key="once-1"), range(16)))
    assert len({answer["id"] for answer in answers}) == 1
    assert len({answer["credentials_key"] for answer in answers}) == 1
    caller.ended(answers[0])
    caller.done("POST", "/v1/tenants/once/suspend", key="once-2")
    late = caller.taken("POST", "/v1/tenants", body, key="once-1")
    assert late["id"] == answers[0]["id"]
    assert caller.http.get("/v1/tenants/once").json()["status"] == "suspended"
    other = {**body, "plan": "pro"}
    caller.refused(422, "idempotency-key-reused", "POST", "/v1/tenants", other, key="once-1")
    caller.refused(422, "idempotency-key-reused", "POST", "/v1/tenants/once/resume", key="once-1")
    assert signup.query("SELECT count(*) AS n FROM signup.operations WHERE tenant = 'once'") == [{"n": 2}]
    # Another caller's key of the same name is another.
    signup.call_as(signup.make_key("admin")).done("POST", "/v1/tenants/once/resume", key="once-1")


def test_only_one_of_conflicting_operations_runs(signup: Signup, caller: Caller, small: dict[str, Any]) -> None:
    paths = [("POST", "/v1/tenants/small/suspend"), ("POST", "/v1/tenants/small/resume")] * 10
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda each: caller.ask(*each), paths))
    taken = [answer.json() for answer in answers if answer.status_code == 202]
    refused = [answer.json() for answer in answers if answer.status_code == 409]
    assert len(taken) >= 1
    assert len(taken) + len(refused) == 20
    ids = {operation["id"] for operation in taken}
    assert {problem["type"] for problem in refused} == {"urn:kryonix:problem:operation-under-way"}
    assert all(any(id in problem["detail"] for id in ids) for problem in refused)
    for operation in taken:
        assert caller.ended(operation)["status"] == "succeeded"
    caller.done("POST", "/v1/tenants/small/resume")
    assert caller.http.get("/v1/tenants/small").json()["converged"]


def test_the_service_reports_readiness_and_metrics(signup: Signup, small: dict[str, Any]) -> None:
    http = signup.call_as(None).http
    assert http.get("/healthz").json() == {"status": "ok"}
    ready = http.get("/readyz")
    assert (ready.status_code, ready.json()["ready"]) == (200, True)
    eventually("all events are published", lambda: "events_unpublished 0.0\n" in http.get("/metrics").text)
    text = http.get("/metrics").text
    assert 'kryonix_signup_operations{kind="create",status="succeeded"}' in text
    assert "small" not in text


def test_serve_prints_its_address_and_readiness_in_one_line(signup: Signup, tmp_path: Path) -> None:
    web = Process(signup.project, tmp_path / "web.log", "serve", "--port", "0", "--workers", "1")
    try:
        web.wait_for("/openapi.json")
        (line,) = [line for line in web.said.splitlines() if "listening on" in line]
        assert line.endswith("/openapi.json; /readyz returns 200 once the worker is ready")
        web.wait_for("worker: working")
    finally:
        web.end()


@pytest.mark.parametrize("when", ["its worker starts", "its worker is ready"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_worker_ends_with_its_service(signup: Signup, tmp_path: Path, when: str, number: signal.Signals) -> None:
    web = Process(signup.project, tmp_path / "web.log", "serve", "--port", "0", "--workers", "1")
    found = Path(f"/proc/{web.process.pid}/task/{web.process.pid}/children")
    children = eventually("a worker is started", lambda: found.read_text().split(), process=web.process)
    if when == "its worker is ready":
        web.wait_for("worker: working")
    web.process.send_signal(number)
    web.process.wait(60)
    eventually("its worker ends", lambda: not any(Path(f"/proc/{child}").exists() for child in children), 45)


@pytest.mark.parametrize(("host", "warned"), [("0.0.0.0", True), ("127.0.0.1", False)])
def test_listening_beyond_loopback_prints_a_warning(signup: Signup, tmp_path: Path, host: str, warned: bool) -> None:
    web = Process(signup.project, tmp_path / "web.log", "serve", "--host", host, "--port", "0", "--workers", "0")
    try:
        web.wait_for("listening on")
        assert ("WARNING" in web.said and "TLS" in web.said) is warned
    finally:
        web.end()


def test_the_signup_role_reads_no_secret_and_writes_no_tenant(signup: Signup) -> None:
    for statement in (
        "SELECT * FROM tenants.rabbitmq_credentials",
        "UPDATE tenants.desired_states SET plan = 'enterprise'",
        "SELECT * FROM tenants.final_exports",
        "CREATE TABLE signup.mine ()",
        "CREATE TEMPORARY TABLE mine ()",
        "CREATE SCHEMA mine",
        "DELETE FROM signup.audit",
        "UPDATE signup.audit SET key_id = NULL",
        "TRUNCATE signup.audit",
        "DELETE FROM signup.api_keys",
        "UPDATE signup.api_keys SET scope = 'admin'",
    ):
        with pytest.raises(Exception, match="permission denied"):
            signup.query(statement)


def test_the_signup_role_can_delete_only_old_audit_rows(signup: Signup, caller: Caller) -> None:
    old, young = caller.http.get("/v1/catalog"), caller.http.get("/v1/catalog")
    for answer, age in ((old, "31 days"), (young, "29 days")):
        audited(signup, answer)
        where = f"request_id = '{answer.headers['x-request-id']}'"
        signup.as_superuser(f"UPDATE signup.audit SET at = now() - interval '{age}' WHERE {where}")
    signup.query("SELECT signup.forget_audit(0, 1000000)")
    kept = {str(row["request_id"]) for row in signup.query("SELECT request_id FROM signup.audit")}
    assert old.headers["x-request-id"] not in kept
    assert young.headers["x-request-id"] in kept


def test_only_its_own_roles_connect_to_the_registry(signup: Signup) -> None:
    signup.as_superuser("CREATE ROLE stranger LOGIN PASSWORD 'strange'")
    try:
        address = signup.outputs["signup_dsn"].rsplit("@", 1)[-1]
        with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
            psycopg.connect(f"postgresql://stranger:strange@{address}")
        for right in ("CONNECT", "TEMPORARY", "CREATE"):
            assert signup.as_superuser(f"SELECT has_database_privilege('stranger', 'kryonix_main', '{right}')") == "f"
        for role, right in (("kryonix_registry", "CONNECT"), ("kryonix_signup", "CONNECT")):
            assert signup.as_superuser(f"SELECT has_database_privilege('{role}', 'kryonix_main', '{right}')") == "t"
        assert (
            signup.as_superuser(
                "SELECT has_function_privilege('stranger', 'signup.forget_audit(float,int)', 'EXECUTE')"
            )
            == "f"
        )
    finally:
        signup.as_superuser("DROP ROLE stranger")


def test_a_port_in_use_is_reported_without_a_traceback(signup: Signup) -> None:
    port = signup.base.rsplit(":", 1)[-1]
    result = signup.project.kryonix(
        "signup", "serve", "--port", port, "--stack", signup.project.stack, "--engine", "local"
    )
    assert result.returncode == 3
    assert "Choose another --port" in result.stderr
    assert "Traceback" not in result.stderr
