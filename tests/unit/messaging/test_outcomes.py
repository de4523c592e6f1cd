"""Notes of messages, and how they are joined to outcomes."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from kryonix.errors import InvalidChoice
from kryonix.messaging import (
    ConfigurationError,
    JsonLinesOutcomes,
    LearnedRouter,
    MemoryBroker,
    Message,
    Outcomes,
    Reject,
    Retry,
)
from kryonix.messaging.outcomes import Consumed, Note, Published, join, read_notes
from kryonix.messaging.outcomes.lines import line_of
from kryonix.routing.known import NOTES, draw
from tests.support.learned import model_file, model_of
from tests.support.notes import AT, consumed, published
from tests.support.recording_handler import Seen
from tests.support.waiting import eventually_async

pytestmark = pytest.mark.anyio

LATER = datetime.fromtimestamp(AT + 10_000, UTC)


class Kept:
    """A sink in memory."""

    def __init__(self) -> None:
        self.notes: list[Note] = []

    async def write(self, notes: Sequence[Note]) -> None:
        self.notes += notes

    async def close(self) -> None:
        """Nothing to do."""


async def test_a_send_and_its_handling_make_one_outcome() -> None:
    sink, seen = Kept(), Seen()
    async with await MemoryBroker("acme", modules=["crm"]).connect(outcomes=Outcomes(sink, 1.0)) as client:
        await client.crm.send("leads.create", {"name": "Ana"}, message_id="m", device="mobile", expires=3600)
        await client.crm.consume("leads.create", seen)
        await seen.wait(1)
    (outcome,) = join(sink.notes, datetime.now(UTC))
    assert (outcome.message_id, outcome.route, outcome.device, outcome.bytes) == ("m", "crm.leads.create", "mobile", 14)
    assert (outcome.priority, outcome.priority_used, outcome.expires_ms) == (5, 5, 3_600_000.0)
    assert (outcome.outcome, outcome.attempts, outcome.decision, outcome.propensity) == ("done", 1, "rules", 1.0)
    assert 0 <= (outcome.waited_ms or 0) < 60_000
    assert outcome.handled_ms is not None


async def test_notes_have_no_value_of_the_data() -> None:
    sink, seen = Kept(), Seen()
    secret = "Ana-4711"
    async with await MemoryBroker("acme", modules=["crm"]).connect(outcomes=Outcomes(sink, 1.0)) as client:
        await client.crm.consume("leads.create", seen)
        await client.crm.send("leads.create", {"name": secret, secret: [secret]}, headers={"who": secret})
        await seen.wait(1)
    assert len(sink.notes) == 2
    assert secret not in repr(sink.notes)


async def test_both_sides_note_the_same_share_of_the_messages() -> None:
    sink, seen = Kept(), Seen()
    async with await MemoryBroker("acme", modules=["crm"]).connect(outcomes=Outcomes(sink, 0.3)) as client:
        await client.crm.consume("leads.create", seen)
        for number in range(100):
            await client.crm.send("leads.create", number, message_id=f"m-{number}")
        await seen.wait(100)
    expected = {f"m-{number}" for number in range(100) if draw(f"m-{number}", NOTES) < 0.3}
    for kind in (Published, Consumed):
        assert {note.message_id for note in sink.notes if isinstance(note, kind)} == expected


async def test_shapes_depend_on_the_key() -> None:
    shapes = []
    for key in ("one", "two", "one"):
        sink = Kept()
        async with await MemoryBroker("acme", modules=["crm"]).connect(outcomes=Outcomes(sink, 1.0, key)) as client:
            await client.crm.send("leads.create", {"name": "Ana"})
        shapes += [note.shape for note in sink.notes if isinstance(note, Published)]
    assert shapes[0] == shapes[2] != shapes[1]


@pytest.mark.parametrize(
    ("error", "outcomes"), [(Reject("no"), [("dead", 1)]), (Retry(), [("retried", 1), ("retried", 2)])]
)
async def test_a_failed_attempt_is_noted(error: Exception, outcomes: list[tuple[str, int]]) -> None:
    async def handler(message: Message) -> None:
        raise error

    sink, broker = Kept(), MemoryBroker("acme", modules=["crm"], delay=0.0001)
    async with await broker.connect(outcomes=Outcomes(sink, 1.0)) as client:
        await client.crm.send("leads.create", {})
        await client.crm.consume("leads.create", handler)
        await eventually_async(lambda: broker.dead_letters("crm", "leads.create"))
    broker.close()
    noted = [note for note in sink.notes if isinstance(note, Consumed)]
    assert [(note.outcome, note.attempts) for note in noted][: len(outcomes)] == outcomes
    assert noted[-1].outcome == "dead"
    assert [note.waited_ms is None for note in noted] == [False] + [True] * (len(noted) - 1)


async def test_a_message_of_a_stream_is_noted() -> None:
    sink = Kept()
    async with await MemoryBroker("acme", modules=["crm"]).connect(outcomes=Outcomes(sink, 1.0)) as client:
        await client.crm.send("leads.create", {})
        async with client.crm.stream("leads.create") as stream:
            async for item in stream:
                async with item:
                    pass
                break
    (outcome,) = join(sink.notes, datetime.now(UTC))
    assert (outcome.outcome, outcome.waited_ms is None, outcome.handled_ms is None) == ("done", False, False)


async def test_a_model_in_shadow_notes_what_it_expects(tmp_path: Path) -> None:
    file, sink = tmp_path / "model.json", Kept()
    file.write_bytes(model_file(model_of(9)))
    router = LearnedRouter(file)
    broker = MemoryBroker("acme", modules=["crm"])
    async with await broker.connect(outcomes=Outcomes(sink, 1.0), router=router) as client:
        await client.crm.send("leads.create", {})
    (note,) = sink.notes
    assert isinstance(note, Published)
    assert (note.decision, note.propensity, note.priority_used) == ("rules", 1.0, 5)
    assert (note.version, note.time is None) == (router.status().version, False)


async def test_propensities_are_those_of_canary_and_exploration(tmp_path: Path) -> None:
    file, sink = tmp_path / "model.json", Kept()
    file.write_bytes(model_file(model_of(9, explore=0.5)))
    router = LearnedRouter(file, mode="canary", canary=40)
    broker = MemoryBroker("acme", modules=["crm"])
    async with await broker.connect(outcomes=Outcomes(sink, 1.0), router=router) as client:
        for number in range(100):
            await client.crm.send("leads.create", {}, message_id=f"m-{number}")
    found = {(note.decision, round(note.propensity, 6)) for note in sink.notes if isinstance(note, Published)}
    assert found == {("rules", 0.6), ("learned", 0.2), ("explored", 0.2)}


async def test_a_refused_message_and_a_broadcast_are_not_noted() -> None:
    sink, broker = Kept(), MemoryBroker("acme", modules=["analytics"])
    async with await broker.connect(outcomes=Outcomes(sink, 1.0)) as client:
        with pytest.raises(Exception, match="no queue"):
            await client.crm.send("leads.create", {})
        await client.broadcast({})
    assert sink.notes == []


async def test_a_failing_sink_stops_no_message_and_its_notes_count() -> None:
    class Broken(Kept):
        async def write(self, notes: Sequence[Note]) -> None:
            raise OSError("disk full")

    async with await MemoryBroker("acme", modules=["crm"]).connect(outcomes=Outcomes(Broken(), 1.0)) as client:
        await client.crm.send("leads.create", {})
        await eventually_async(lambda: client.outcomes_dropped == 1)


async def test_a_pipe_keeps_no_notes_and_does_not_keep_the_program(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(OSError, match="a pipe can't keep notes"):
        await JsonLinesOutcomes(pipe).write([consumed("m")])


@pytest.mark.parametrize("value", ["NaN", "Infinity", "1e999"])
def test_a_note_with_an_endless_number_is_not_read(value: str) -> None:
    counts = Counter[str]()
    endless = line_of(published("m")).replace('"at":1800000000.0', f'"at":{value}')
    assert list(read_notes([endless.encode(), line_of(published("m")).encode()], counts)) == [published("m")]
    assert counts["unreadable"] == 1


async def test_lines_of_a_file_are_read_back_and_bad_ones_counted(tmp_path: Path) -> None:
    file, counts = tmp_path / "notes.jsonl", Counter[str]()
    notes: list[Note] = [published("half\ud800"), consumed("m"), published("ção")]
    await JsonLinesOutcomes(file).write(notes[:2])
    with file.open("ab") as torn:
        torn.write(b'{"note":"published","ten')
    await JsonLinesOutcomes(file).write(notes[2:])
    with file.open("ab") as torn:
        torn.write(b'[]\nnull\n{"note":"other"}\n{"note":"consumed"}\n\xff\n{"note":')
    with file.open("rb") as lines:
        found = list(read_notes(lines, counts))
    assert found[1:] == notes[1:]
    assert counts["unreadable"] == 7


def test_a_late_attempt_counts_and_the_first_wait() -> None:
    notes: list[Note] = [
        consumed(attempts=2, waited_ms=None, handled_ms=7.0, at=AT + 5),
        published(),
        consumed(attempts=1, waited_ms=50.0, outcome="retried", at=AT + 2),
    ]
    (outcome,) = join(notes, LATER)
    assert (outcome.waited_ms, outcome.handled_ms, outcome.attempts, outcome.outcome) == (50.0, 7.0, 2, "done")


def test_a_message_never_consumed_has_expired_only_if_others_were_consumed() -> None:
    lost = published("lost", expires_ms=1_000.0)
    counts = Counter[str]()
    assert list(join([lost], LATER, counts=counts)) == []
    assert counts["open"] == 1
    others: list[Note] = [published("other"), consumed("other", at=AT + 100)]
    (expired, _) = join([lost, *others], LATER)
    assert (expired.message_id, expired.outcome, expired.waited_ms, expired.missed) == ("lost", "expired", None, True)
    just_now = datetime.fromtimestamp(AT + 2, UTC)
    assert [each.message_id for each in join([lost, *others], just_now)] == ["other"]


def test_messages_of_others_are_skipped_and_counted() -> None:
    counts = Counter[str]()
    assert list(join([consumed("foreign")], LATER, counts=counts)) == []
    assert counts["unpublished"] == 1


def test_notes_of_several_tenants_are_not_joined_by_accident() -> None:
    notes: list[Note] = [published(), consumed(), published(tenant="other"), consumed(tenant="other")]
    with pytest.raises(InvalidChoice, match="several tenants"):
        list(join(notes, LATER))
    assert len(list(join(notes, LATER, tenant="other"))) == 1


def test_an_outcome_of_notes_is_a_line_of_the_documented_format() -> None:
    (outcome,) = join([published(), consumed()], LATER)
    assert json.loads(outcome.line())["waited_ms"] == 100.0


@pytest.mark.parametrize("share", [0, 1.5, True, "all"])
def test_a_share_that_is_none_is_refused(share: Any) -> None:
    with pytest.raises(ConfigurationError, match="share"):
        Outcomes(Kept(), share)
