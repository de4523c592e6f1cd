"""Messages validated as a model before the handler gets them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import BaseModel, TypeAdapter, field_validator
from typing_extensions import TypedDict

from kryonix.messaging import ConfigurationError, MemoryBroker, Message
from tests.support.recording_handler import Seen
from tests.support.waiting import eventually_async

pytestmark = pytest.mark.anyio


class Mute(Exception):
    def __str__(self) -> str:
        raise ValueError("a bug of the error's own text")


class Lead(BaseModel):
    at: datetime
    tags: set[str] = set()

    @field_validator("tags")
    @classmethod
    def check(cls, tags: set[str]) -> set[str]:
        if "bug" in tags:
            raise KeyError("a bug of the validator")
        if "mute" in tags:
            raise Mute
        if "cancelled" in tags:
            raise asyncio.CancelledError  # as of a Future that the validator reads
        return tags


@dataclass
class Contact:
    name: str


class Task(TypedDict):
    name: str


NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
FITTING: dict[str, tuple[Any, Any, Any]] = {
    "model": (Lead, Lead(at=NOON), Lead(at=NOON)),
    "dataclass": (Contact, {"name": "Ana"}, Contact("Ana")),
    "TypedDict": (Task, {"name": "Ana"}, {"name": "Ana"}),
    "list": (list[Contact], [{"name": "Ana"}], [Contact("Ana")]),
    "union": (TypeAdapter(Contact | int), 7, 7),
    "bytes": (bytes, b"\xff", b"\xff"),
}


@pytest.mark.parametrize("case", FITTING)
async def test_a_handler_gets_the_model(case: str) -> None:
    model, data, expected = FITTING[case]
    broker, seen = MemoryBroker(modules=["crm"]), Seen()
    async with await broker.connect() as client:
        await client.crm.consume("leads.create", seen, model=model)
        await client.crm.send("leads.create", data)
        [message] = await seen.wait(1)
    assert message.data == expected


async def test_a_stream_hands_out_the_model() -> None:
    async with await MemoryBroker(modules=["crm"]).connect() as client:
        await client.crm.send("leads.create", {"name": 1})
        await client.crm.send("leads.create", {"name": "Ana"})
        async with client.crm.stream("leads.create", model=Contact) as stream, await anext(stream) as message:
            assert message.data == Contact("Ana")


@pytest.mark.parametrize(
    ("model", "data", "reason"),
    [
        (Lead, {}, "the data is not a valid Lead: at: Field required"),
        (Lead, {"at": "soon"}, "the data is not a valid Lead: at: Input should be a valid datetime"),
        (Lead, b"{}", "the data is not a valid Lead: the data: Input should be a valid dictionary"),
        (Lead, {"at": "2026-01-02", "tags": ["bug"]}, "Lead cannot be validated: KeyError: 'a bug of the validator'"),
        (Lead, {"at": "2026-01-02", "tags": ["mute"]}, "Lead cannot be validated: Mute"),
        (Lead, {"at": "2026-01-02", "tags": ["cancelled"]}, "Lead cannot be validated: CancelledError"),
        (
            list[Contact],
            [{}] * 5,
            "[0].name: Field required; [1].name: Field required; [2].name: Field required; 2 more",
        ),
        (dict[str, int], {"a b": "x"}, "['a b']: Input should be a valid integer"),
    ],
)
async def test_a_message_that_does_not_fit_is_a_dead_letter_at_once(model: Any, data: Any, reason: str) -> None:
    broker, seen = MemoryBroker(modules=["crm"]), Seen()
    async with await broker.connect() as client:
        consumer = await client.crm.consume("leads.create", seen, model=model)
        await client.crm.send("leads.create", data)
        await eventually_async(lambda: broker.dead_letters("crm", "leads.create"))
    [dead] = broker.dead_letters("crm", "leads.create")
    assert dead.headers["kryonix-reason"].startswith("undecodable: ")
    assert reason in dead.headers["kryonix-reason"]
    assert (seen.messages, consumer.undecodable, consumer.retried) == ([], 1, 0)


class Unfinished(BaseModel):
    later: Nowhere  # type: ignore[name-defined]  # noqa: F821


class Plain:
    pass


@pytest.mark.parametrize("model", [Unfinished, Plain, Plain(), "Lead", 3, print, lambda message: None])
async def test_a_type_that_cannot_be_validated_is_refused(model: Any) -> None:
    async with await MemoryBroker(modules=["crm"]).connect() as client:
        with pytest.raises(ConfigurationError, match=r"^model: .* cannot be validated \([^\n]*\)\. Pass a"):
            await client.crm.consume("leads.create", Seen(), model=model)
        with pytest.raises(ConfigurationError, match=r"^model: "):
            client.crm.stream("leads.create", model=model)


def test_a_message_with_its_type_can_be_made() -> None:
    message = Message[Contact](Contact("Ana"), "1", 1, {}, route=None)  # type: ignore[arg-type]
    assert message.data.name == "Ana"
