"""A model's file is read as it was written, or refused."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from kryonix.errors import InvalidChoice
from kryonix.routing.forest import Forest
from kryonix.routing.guard import Spread
from kryonix.routing.model import MAX_BYTES, Model, ModelRefused, read_model, write_model
from tests.support.routing_models import learned, model, stump


def full() -> Model:
    """Return a model with a value in every field."""
    made = learned(
        saving=Forest((stump("bytes", 1_000, 0.0, -0.5),)),
        spreads={"device": Spread((), ("web", "mobile"), (0.5, 0.3, 0.2), 0.01)},
    )
    actions = {"crm.leads.create": replace(made, held_out={"missed": 0.1}), "crm.tasks.assign": learned()}
    return replace(model(actions), refused={"crm.contacts.sync": "12 outcomes, at least 2,000"}, tenants=("acme",))


CONTENT, VERSION = write_model(full())


def refusal(content: bytes) -> str:
    with pytest.raises(ModelRefused) as caught:
        read_model(content, "model.json")
    return str(caught.value)


def with_hash(fields: Any) -> bytes:
    """Return a file of these fields with the hash that belongs to them."""
    rest = json.dumps({name: value for name, value in fields.items() if name != "hash"})[1:].encode()
    return b'{"hash":"' + hashlib.sha256(rest).hexdigest().encode() + b'",' + rest


def altered(change: Callable[[Any], None]) -> bytes:
    fields = json.loads(CONTENT)
    change(fields)
    return with_hash(fields)


def test_a_model_is_read_as_it_was_written() -> None:
    assert read_model(CONTENT, "model.json") == replace(full(), version=VERSION)
    assert re.fullmatch(r"[0-9a-f]{12}", VERSION)


def test_the_same_model_is_the_same_file() -> None:
    assert write_model(read_model(CONTENT, "model.json")) == (CONTENT, VERSION)
    assert write_model(replace(full(), explore=0.06))[1] != VERSION


def test_a_model_is_one_line_of_plain_json() -> None:
    assert CONTENT.endswith(b"}\n")
    assert CONTENT.count(b"\n") == 1
    assert json.loads(CONTENT)["kind"] == "kryonix routing model"


def test_every_altered_byte_is_refused() -> None:
    for at in range(len(CONTENT)):
        changed = bytearray(CONTENT)
        changed[at] ^= 1
        with pytest.raises(ModelRefused):
            read_model(bytes(changed), "model.json")


def test_a_file_that_is_cut_off_is_refused() -> None:
    for length in range(len(CONTENT)):
        with pytest.raises(ModelRefused):
            read_model(CONTENT[:length], "model.json")
    assert "has been cut off or altered since it was made: its hash differs" in refusal(CONTENT[:-2])


def test_anything_behind_the_model_is_refused() -> None:
    assert "its hash differs" in refusal(CONTENT + b" ")


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[]", b"\x80\x04}", b"\xff" * 100, b'{"kind":"kryonix routing model"}']
)
def test_content_that_is_no_model_is_refused(content: bytes) -> None:
    assert refusal(content) == (
        "model.json: not a routing model: its content does not begin with a hash. "
        "Use a file that `kryonix router train` has written"
    )


def test_a_file_that_is_too_large_is_refused_before_it_is_read() -> None:
    began = time.process_time()
    assert f"it is larger than a model may be, {MAX_BYTES:,} bytes" in refusal(b"{" * 50_000_000)
    assert time.process_time() - began < 1


def test_a_newer_format_is_refused_with_its_remedy() -> None:
    found = refusal(altered(lambda fields: fields.update(format=2)))
    assert found.startswith("model.json: the model has format 2, this version reads 1. Use the version of ")


def test_another_kind_of_file_is_refused() -> None:
    assert "not a routing model, but 'a backup'" in refusal(altered(lambda fields: fields.update(kind="a backup")))


def action(fields: Any) -> Any:
    return fields["actions"]["crm.leads.create"]


WRONG: dict[str, tuple[Callable[[Any], None], str]] = {
    "a number that is none": (lambda f: action(f)["errors"].update(time=float("nan")), "errors.time"),
    "an infinite number": (lambda f: action(f)["policy"]["levels"].__setitem__(6, float("inf")), "policy.levels.6"),
    "text for a number": (lambda f: action(f).update(unknown=["x", 1]), "unknown.0"),
    "a number beyond all": (lambda f: action(f).update(unknown=[10**400, 1]), "unknown.0"),
    "a missing field": (lambda f: action(f).pop("policy"), "policy: Field required"),
    "actions that are a list": (lambda f: f.update(actions=[]), "actions"),
    "too few levels": (lambda f: action(f)["policy"]["levels"].pop(), "levels are not 8 ascending numbers"),
    "levels that descend": (lambda f: action(f)["policy"]["levels"].reverse(), "levels are not 8 ascending numbers"),
    "a tree with a cycle": (
        lambda f: action(f)["left"]["trees"][0].update(lefts=[0]),
        "tree 0 does not lead from its root to its leaves",
    ),
    "an unknown feature": (lambda f: action(f)["left"]["trees"][0].update(features=[99]), "tree 0 does not lead"),
    "a wrong tree of compression": (
        lambda f: action(f)["saving"]["trees"][0].update(leaves=[1.0]),
        "tree 0 does not lead",
    ),
    "a leaf whose sum is infinite": (
        lambda f: action(f)["time"]["trees"][0].update(leaves=[1e308]),
        "leaves.0",
    ),
    "an index that is infinite": (lambda f: action(f)["policy"]["index"].update(left=1e308), "policy.index.left"),
    "an error without measure": (lambda f: action(f)["errors"].update(left=1e308), "errors.left"),
    "an error below none": (lambda f: action(f)["errors"].update(left=-1.0), "errors.left"),
    "text spread over numbers": (
        lambda f: action(f)["usual"]["spreads"].update(
            shape={"edges": [1.0], "names": [], "shares": [0, 1, 0], "ordinary": 0}
        ),
        "shape is text, and its spread has no names",
    ),
    "an infinite leaf": (lambda f: action(f)["time"]["trees"][0].update(leaves=[float("inf")]), "leaves.0"),
    "shares for other bins": (
        lambda f: action(f)["usual"]["spreads"]["device"].update(shares=[1.0]),
        "1 shares for 3 bins",
    ),
    "a spread of no feature": (
        lambda f: action(f)["usual"]["spreads"].update(
            hour={"edges": [], "names": [], "shares": [0, 1], "ordinary": 0}
        ),
        "hour: no feature that is watched",
    ),
    "all are explored": (lambda f: f.update(explore=1.0), "explore 1.0 is not 0 to below 1"),
    "a negative share": (lambda f: f.update(explore=-0.1), "explore -0.1 is not 0 to below 1"),
    "a moment that is none": (lambda f: f.update(made_at="yesterday"), "made_at"),
}


@pytest.mark.parametrize(("change", "problem"), WRONG.values(), ids=WRONG)
def test_a_wrong_value_is_refused_and_named(change: Callable[[Any], None], problem: str) -> None:
    found = refusal(altered(change))
    assert found.startswith("model.json: not a valid model: ")
    assert problem in found
    assert len(found) < 600


def test_deeply_nested_content_is_refused() -> None:
    rest = b'"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}\n"
    digest = hashlib.sha256(rest).hexdigest().encode()
    assert refusal(b'{"hash":"' + digest + b'",' + rest).startswith("model.json: not")


def test_a_refused_model_is_an_invalid_choice() -> None:
    assert issubclass(ModelRefused, InvalidChoice)
