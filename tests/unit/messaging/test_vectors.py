"""The shared vectors: what every SDK does, whatever its language."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any, Final, cast

import pytest
import zstandard
from pamqp.body import ContentBody
from pamqp.commands import Basic

from kryonix.messaging import LearnedRouter, MemoryIdempotency, MessagingClient, MessagingError, Reject, Retry
from kryonix.messaging.amqp.deliveries import DeliveryChannel
from kryonix.messaging.amqp.properties import PASSED_ON
from kryonix.messaging.configuration import find_address
from kryonix.messaging.idempotency import Claim
from kryonix.messaging.message import Envelope
from kryonix.messaging.transport import Deliver
from kryonix.routing.guard import Guard
from kryonix.routing.known import EXPLORES, FOLLOWS, NOTES, Known, draw
from kryonix.routing.learned import Decider
from kryonix.routing.model import ModelRefused, read_model
from kryonix.routing.shapes import Shapes
from kryonix.topology.catalog import Catalog, parse_catalog
from kryonix.topology.naming import Names, tenant_of_vhost
from tests.support import reference
from tests.support.project import ROOT
from tests.support.vectors import GIVEN, check, mutations, read_vectors, value
from tests.support.wire import Channel, Wire

ALL: Final = read_vectors()
_DRAWN: Final = {"explore": EXPLORES, "follow": FOLLOWS, "notes": NOTES}

Answer = dict[str, Any]


class Claims(MemoryIdempotency):
    """A store that keeps the last key."""

    claimed: str | None = None

    async def claim(self, key: str, lease: float) -> Claim:
        if not key.endswith(":after"):
            self.claimed = key
        return await super().claim(key, lease)


class Tape:
    """A transport that has every queue, and keeps what is published."""

    connected = True
    server = None

    def __init__(self) -> None:
        self.published: list[Envelope] = []
        self.claims = Claims()
        self.deliver: Deliver | None = None

    async def publish(self, envelope: Envelope, timeout: float) -> None:
        self.published.append(envelope)

    async def has_queue(self, queue: str, timeout: float) -> bool:
        return True

    async def subscribe(
        self, queues: Sequence[str], prefetch: int, deliver: Deliver, timeout: float, answer_within: float
    ) -> Tape:
        self.deliver = deliver
        return self

    async def queues(self, timeout: float) -> Sequence[Mapping[str, Any]]:
        return ()

    async def ping(self, timeout: float) -> None: ...

    async def cancel(self) -> None: ...

    async def close(self) -> None: ...


class Delivered:
    """A delivery that keeps its answer."""

    lost = False

    def __init__(self, envelope: Envelope, queue: str) -> None:
        self.envelope, self.queue = envelope, queue
        self.answer = ""

    def begin(self) -> None: ...

    async def ack(self) -> None:
        self.answer = "ack"

    async def reject(self, *, requeue: bool) -> None:
        self.answer = "requeue" if requeue else "reject"

    async def give_back(self) -> None:
        self.answer = "give back"


@cache
def _catalog(file: str) -> Catalog:
    return parse_catalog((GIVEN / file).read_bytes(), file)


async def _client(tape: Tape, given: Mapping[str, Any]) -> MessagingClient:
    options = dict(given.get("client", {}))
    if "catalog" in options:
        options["catalog"] = _catalog(options["catalog"])
    if "model" in options:
        own = {name: options.pop(name) for name in ("mode", "canary") if name in options}
        options["router"] = LearnedRouter(GIVEN / options.pop("model"), **own)
        await options["router"].refresh()
    if "idempotency" in options:
        options["idempotency"] = tape.claims
    return MessagingClient(tape, given.get("tenant", "acme"), application="vectors", **options)


async def _send(given: Mapping[str, Any]) -> Answer:
    tape = Tape()
    options = {
        name: value(each)
        for name, each in given.items()
        if name not in {"tenant", "client", "module", "action", "data", "facade"}
    }
    async with await _client(tape, given) as client:
        try:
            if "action" not in given:
                result = await client.broadcast(value(given["data"]), **options)
            elif given.get("facade"):
                result = await client.module(given["module"]).send(given["action"], value(given["data"]), **options)
            else:
                result = await client.send(given["module"], given["action"], value(given["data"]), **options)
        except MessagingError as error:
            told = {name: getattr(error, name) for name in ("message_id", "problem", "remedy")}
            return {"error": {"class": type(error).__name__, "text": str(error), **told}, "published": 0}
    [sent] = tape.published
    return {
        "published": 1,
        **{name: getattr(result, name) for name in ("message_id", "mobile_optimized", "decision", "bytes")},
        **{name: getattr(sent, name) for name in ("exchange", "routing_key", "priority", "expiration", "headers")},
        **{name: getattr(sent, name) for name in ("content_type", "content_encoding", "body", "app_id")},
        **({"data": _read(sent)} if sent.content_type == "application/json" else {}),
        "text": sent.body.decode(errors="replace"),
    }


def _read(sent: Envelope) -> Any:
    match sent.content_encoding:
        case "zstd":
            return json.loads(zstandard.decompress(sent.body))
        case "gzip":
            return json.loads(gzip.decompress(sent.body))
    return json.loads(sent.body)


def _envelope(given: Mapping[str, Any], tenant: str) -> Envelope:
    envelope = Envelope(f"cliente_{tenant}", "crm.leads.create.medium", b"", "", content_type=None, received=True)
    for name, each in given.items():
        if name in Envelope.__slots__:
            setattr(envelope, name, value(each))
    if isinstance(envelope.body, str):
        envelope.body = envelope.body.encode()
    return envelope


async def _receive(given: Mapping[str, Any]) -> Answer:
    return await _handled(given, _envelope(given, given.get("tenant", "acme")))


async def _delivered(given: Mapping[str, Any]) -> Answer:
    """Answer as `_receive`, from the bytes of a content header's frame."""
    payload, body = value(given["frame"]), value(given["body"])
    arrived: list[tuple[int, bool, Envelope]] = []
    wire = Wire()
    channel = DeliveryChannel(cast(Any, wire), cast(Any, Channel()))
    channel.on_delivery("c", lambda *delivery: arrived.append(delivery))
    wire.send(Basic.Deliver("c", 1, given["redelivered"], given["exchange"], given["routing_key"]))
    wire.send_bytes(b"\2\0\1" + len(payload).to_bytes(4) + payload + b"\xce")
    if body:
        wire.send(ContentBody(body))
    [(_, redelivered, envelope)] = arrived
    answer = await _handled(given, envelope)
    names = ("content_type", "content_encoding", "expiration", "correlation_id", "reply_to", "message_type")
    return {**answer, "redelivered": redelivered, **{name: getattr(envelope, name) for name in names}}


async def _handled(given: Mapping[str, Any], envelope: Envelope) -> Answer:
    """Hand an envelope to a consumer, and answer what its handler got, and what became of the message."""
    tape, module, action = Tape(), given.get("module", "crm"), given.get("action", "leads.create")
    queue = given.get("queue", f"cliente_{given.get('tenant', 'acme')}.{module}.{action}")
    delivered = Delivered(envelope, queue)
    after = Delivered(Envelope("", "", b"0", "after"), queue)
    async with await _client(tape, given) as client, client.module(module).stream(action) as stream:
        assert tape.deliver is not None
        tape.deliver(delivered)
        tape.deliver(after)
        async with await anext(stream) as message:
            if message.message_id != "after":
                match given.get("handler"):
                    case "reject":
                        raise Reject(value(given["reason"]))
                    case "retry":
                        raise Retry
    answer: Answer = {"answer": delivered.answer, "claimed": tape.claims.claimed}
    if tape.published:
        [dead] = tape.published
        moved = ("exchange", "routing_key", "headers", "body", "expiration", "priority", "message_id", *PASSED_ON)
        answer["moved"] = {name: getattr(dead, name) for name in moved}
        answer["reason"] = dead.headers.get("kryonix-reason")
    if message.message_id != "after":
        names = ("data", "message_id", "attempt", "priority", "sent_at", "received_at", "application", "broadcast")
        answer |= {name: getattr(message, name) for name in (*names, "headers")}
        answer["route"] = {name: getattr(message.route, name) for name in type(message.route).__slots__}
    return answer


def _address(given: Mapping[str, Any]) -> Answer:
    try:
        address = find_address(given["uri"], None, None, None, given.get("addresses"))
    except MessagingError as error:
        return {"error": {"class": type(error).__name__, "problem": error.problem, "text": str(error)}}
    return {
        "scheme": address.scheme,
        "nodes": address.amqp_addresses,
        "username": address.username,
        "password": address.password,
        "tenant": address.tenant_id,
        "external": "auth=EXTERNAL" in address.query.split("&"),
    }


def _names(given: Mapping[str, Any]) -> Answer:
    names = Names(given["tenant"])
    user = names.user_of(given.get("generation", 1))
    answer = {"vhost": names.vhost, "user": user, "stats_user": names.stats_user_of(given.get("generation", 1))}
    for name in ("exchange", "mobile_exchange", "critical_exchange", "automation_exchange", "unrouted"):
        answer[name] = getattr(names, name)
    if "module" in given:
        module, action = given["module"], given["action"]
        answer["dead_letter_exchange"] = names.dead_letter_exchange(module)
        for name in ("queue", "dead_letter_queue", "dead_letter_key", "mobile_key", "critical_key"):
            answer[name] = getattr(names, name)(module, action)
        if "priority" in given:
            answer["lane"] = names.lane(module, action, given["priority"])
            answer["routing_key"] = names.routing_key(module, action, given["priority"])
        if "attempt" in given:
            answer["retry_queue"] = names.retry_queue(answer["queue"], given["attempt"])
            answer["retry_key"] = names.retry_key(answer["queue"], given["attempt"])
    return answer


def _decide(given: Mapping[str, Any]) -> Answer:
    model = read_model((GIVEN / "model.json").read_bytes(), "model.json")
    at = datetime.fromisoformat(given["at"]).timestamp()
    module, _, action = given["action"].partition(".")
    known = Known(
        module,
        action,
        at,
        given.get("message_id", "m-1"),
        given.get("bytes", 1_000),
        given.get("device", "unknown"),
        given.get("shape", ""),
        given.get("priority", 5),
        given.get("expires_ms"),
    )
    decider = Decider(model.actions[given["action"]], model.explore, model.version)
    decider.decide_only(given.get("share", 1))
    choice = decider.choose(known)
    return {
        "decided_by": choice.who,
        "rules": choice.rules,
        "propensity": float(choice.propensity),
        "time": choice.prediction.time,
        "left": choice.prediction.left,
        "saving": choice.prediction.saving,
        "compresses": choice.prediction.compresses,
        "version": choice.version,
        **({} if choice.who == "rules" else {"priority": choice.priority, "reason": choice.reason}),
    }


def _watch(given: Mapping[str, Any]) -> Answer:
    learned = read_model((GIVEN / "model.json").read_bytes(), "model.json").actions[given["action"]]
    guard = Guard(learned.usual, learned.errors)
    for event in given["events"]:
        for _ in range(event["times"]):
            if "decided" in event:
                seen = event["decided"]
                guard.decided([Known("crm", "leads.create", 0.0, "m", seen["bytes"], seen["device"], "", 5, None)])
            elif "stated" in event:
                guard.stated(event["stated"])
            else:
                guard.became(event["became"], event["missed"], by_rules=event["by_rules"])
    return {"problem": guard.problem, "drifts": guard.drifts}


def _model(given: Mapping[str, Any]) -> Answer:
    content = value(given["content"])
    try:
        model = read_model(content.encode() if isinstance(content, str) else content, "model.json")
    except ModelRefused as error:
        return {"refused": str(error)}
    return {"version": model.version, "explore": model.explore, "actions": sorted(model.actions)}


def _at_once(answer: Callable[[Any], Answer]) -> Callable[[Any], Coroutine[Any, Any, Answer]]:
    async def answered(given: Any) -> Answer:
        return answer(given)

    return answered


KINDS: Final[Mapping[str, Callable[[Any], Coroutine[Any, Any, Answer]]]] = {
    "send": _send,
    "receive": _receive,
    "delivered": _delivered,
    "address": _at_once(_address),
    "names": _at_once(_names),
    "vhost": _at_once(lambda given: {"tenant": tenant_of_vhost(given)}),
    "draw": _at_once(lambda given: {"draw": draw(given["message_id"], _DRAWN[given["for"]])}),
    "shape": _at_once(lambda given: {"shape": Shapes(given["key"]).of(value(given["data"]))}),
    "decide": _at_once(_decide),
    "model": _at_once(_model),
    "watch": _at_once(_watch),
}
"""What an SDK does with each kind of what is given."""


@cache
def _answered(number: int) -> Answer:
    ((kind, given),) = ALL[number].given.items()
    return asyncio.run(KINDS[kind](given))


@cache
def _headings(page: str) -> frozenset[str]:
    lines = (ROOT / page).read_text(encoding="utf-8").splitlines()
    return frozenset(line.lstrip("#").strip() for line in lines if line.startswith("#"))


def test_every_vector_names_the_page_and_heading_that_decide_it() -> None:
    for vector in ALL:
        named = re.match(r"(docs/[a-z-]+\.md)(?:, ([^:;]+))?(?:[:;] |$)", vector.why)
        assert named, vector
        assert named[2] is None or named[2] in _headings(named[1]), vector


@pytest.mark.parametrize("number", range(len(ALL)), ids=[str(vector) for vector in ALL])
def test_the_sdk_answers_as_the_vector_expects(number: int) -> None:
    check(ALL[number].expect, _answered(number))


def test_there_are_three_hundred_vectors_and_no_two_have_one_name() -> None:
    names = [str(vector) for vector in ALL]
    assert len(names) >= 300
    assert len(set(names)) == len(names)
    assert all(vector.why for vector in ALL)


@pytest.mark.parametrize("file", sorted({vector.file for vector in ALL}))
def test_an_expectation_that_is_changed_anywhere_fails(file: str) -> None:
    for number, vector in enumerate(ALL):
        if vector.file == file:
            answer, changed = _answered(number), list(mutations(vector.expect))
            assert len(changed) > 1
            for expect in changed:
                with pytest.raises(AssertionError):
                    check(expect, answer)


def _by_reference(kind: str, given: Any) -> Answer | None:
    match kind:
        case "draw":
            return {"draw": reference.draw(given["message_id"], given["for"])}
        case "shape":
            return {"shape": reference.shape(value(given["data"]), given["key"])}
        case "decide":
            return reference.decide(json.loads((GIVEN / "model.json").read_bytes()), given)
        case "watch":
            return reference.watch(json.loads((GIVEN / "model.json").read_bytes()), given)
        case "delivered":
            return {"headers": reference.Frame(value(given["frame"])).properties().get("headers", {})}
    return None


@pytest.mark.parametrize("kind", ["draw", "shape", "decide", "watch", "delivered"])
def test_expectations_are_what_the_documentation_computes(kind: str) -> None:
    vectors = [vector for vector in ALL if kind in vector.given]
    assert len(vectors) > 10
    for vector in vectors:
        answer = _by_reference(kind, vector.given[kind])
        assert answer is not None
        assert {name: vector.expect[name] for name in answer} == answer, vector
