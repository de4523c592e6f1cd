"""Dynamic resources: the provider is unpickled, configured once, and called as by Pulumi."""

from __future__ import annotations

from typing import Any

import pulumi
import pytest
from pulumi.dynamic import (
    CheckFailure,
    CheckResult,
    ConfigureRequest,
    CreateResult,
    DiffResult,
    ReadResult,
    ResourceProvider,
    UpdateResult,
)
from pulumi.dynamic.dynamic import serialize_provider

from components.errors import ComponentError
from kryonix.engines.local.errors import ApplyFailed, InvalidInputs, Refusal, ServiceUnavailable, UnsupportedResource
from kryonix.engines.local.handlers import UNKNOWN, Handler, provider
from kryonix.engines.local.handlers.dynamic import PROVIDER_KEY
from kryonix.engines.local.resource import Resource
from kryonix.engines.local.run import ResourceFailed

CONFIG = {"pulumi:project": "kryonix", "kryonix:greeting": "hello"}
CALLS: list[tuple[Any, ...]] = []


class Down(ComponentError):
    exit_status = 3


class Refused(ComponentError):
    exit_status = 2


class Recorder(ResourceProvider):
    """A provider that records its calls."""

    def configure(self, req: ConfigureRequest) -> None:
        CALLS.append(("configure", req.config.require("greeting"), req.config.get("kryonix:greeting")))

    def check(self, _olds: dict[str, Any], news: dict[str, Any]) -> CheckResult:
        failures = [CheckFailure("size", "is too big")] if news.get("size") == 99 else []
        return CheckResult({**news, "checked": True}, failures)

    def diff(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> DiffResult:
        if "size" not in _olds:
            return DiffResult()
        changed = _olds["size"] != _news["size"]
        return DiffResult(changes=changed, replaces=["size"] if _news["size"] == 7 else [], delete_before_replace=True)

    def create(self, props: dict[str, Any]) -> CreateResult:
        if props.get("size") == 13:
            raise ValueError("unlucky")
        if props.get("size") == 14:
            raise Down("the service is down: start it")
        return CreateResult("id-1", {"size": props["size"], "made": True})

    def read(self, id_: str, props: dict[str, Any]) -> ReadResult:
        if props["size"] == 0:
            return ReadResult("", {})
        return ReadResult(id_, {**props, "size": 5})

    def update(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> UpdateResult:
        return UpdateResult({"size": _news["size"], "was": _olds["size"]})

    def delete(self, _id: str, _props: dict[str, Any]) -> None:
        if _props["size"] == 8:
            raise Refused("it is held: let it go first")
        CALLS.append(("delete", _id, _props["size"]))


@pytest.fixture
def handler() -> Handler:
    CALLS.clear()
    return provider("pulumi-python", CONFIG).handler("pulumi-python:dynamic/kryonix:Recorder")


@pytest.fixture(scope="module")
def code() -> str:
    return str(serialize_provider(Recorder()))


def test_a_resource_goes_from_check_to_delete(handler: Handler, code: str) -> None:
    inputs = handler.check(None, {"size": 1, PROVIDER_KEY: code})
    assert inputs == {"size": 1, "checked": True, PROVIDER_KEY: code}
    id, outputs = handler.create(inputs)
    assert (id, outputs) == ("id-1", {"size": 1, "made": True, PROVIDER_KEY: code})
    assert handler.update(id, inputs, outputs, {**inputs, "size": 2}) == {"size": 2, "was": 1, PROVIDER_KEY: code}
    live = handler.read(id, inputs, outputs)
    assert live is not None
    assert (live.id, live.inputs, live.outputs["size"]) == (id, inputs, 5)
    handler.delete(id, inputs, outputs)
    assert CALLS[-1] == ("delete", "id-1", 1)


def test_the_provider_is_configured_once_with_the_stacks_config(handler: Handler, code: str) -> None:
    for _ in range(3):
        handler.create({"size": 1, PROVIDER_KEY: code})
    assert CALLS == [("configure", "hello", "hello")]


def test_a_refusal_shows_only_its_message(handler: Handler, code: str) -> None:
    with pytest.raises(Refusal) as raised:
        handler.delete("id-1", {}, {"size": 8, PROVIDER_KEY: code})
    told = ResourceFailed(
        Resource(urn="urn:pulumi:dev::p::t:i:T::n", type="t:i:T", custom=True), "delete", raised.value
    )
    assert (str(told), told.exit_status) == ("it is held: let it go first", 2)


def test_a_resource_that_read_misses_is_deleted(handler: Handler, code: str) -> None:
    assert handler.read("id-1", {}, {"size": 0, PROVIDER_KEY: code}) is None


@pytest.mark.parametrize(("size", "changed", "replaces"), [(1, (), ()), (2, ("size",), ()), (7, ("size",), ("size",))])
def test_diff_is_delegated_to_the_provider(
    handler: Handler, code: str, size: int, changed: tuple[str, ...], replaces: tuple[str, ...]
) -> None:
    old = {"size": 1, PROVIDER_KEY: code}
    diff = handler.diff("id-1", old, old, {**old, "size": size})
    assert (diff.changed, diff.replaces) == (changed, replaces)
    assert diff.delete_before_replace


def test_without_an_answer_from_diff_the_inputs_are_compared(handler: Handler, code: str) -> None:
    old = {"size": 1, "gone": 1, PROVIDER_KEY: code}
    assert handler.diff("id-1", old, {}, {"size": 2, PROVIDER_KEY: code}).changed == ("gone", "size")


def test_unknown_values_reach_the_provider_as_pulumis_unknowns(handler: Handler, code: str) -> None:
    found = handler.check(None, {"size": UNKNOWN, "list": [UNKNOWN], PROVIDER_KEY: code})
    assert (found["size"], found["list"]) == (UNKNOWN, [UNKNOWN])
    assert handler.check(None, {"size": 1, PROVIDER_KEY: UNKNOWN})["size"] == 1
    assert pulumi.runtime.rpc.UNKNOWN not in str(found)


def test_failures_and_exceptions_become_engine_errors(handler: Handler, code: str) -> None:
    with pytest.raises(InvalidInputs, match="`size`: is too big"):
        handler.check(None, {"size": 99, PROVIDER_KEY: code})
    with pytest.raises(ApplyFailed, match="create of `n` failed in the dynamic provider: ValueError: unlucky"):
        handler.create({"size": 13, "name": "n", PROVIDER_KEY: code})
    with pytest.raises(ServiceUnavailable, match=r"^the service is down: start it$"):
        handler.create({"size": 14, PROVIDER_KEY: code})


def test_only_dynamic_types_have_this_handler() -> None:
    with pytest.raises(UnsupportedResource, match="rabbitmq:index/queue:Queue is not a dynamic resource"):
        provider("pulumi-python", CONFIG).handler("rabbitmq:index/queue:Queue")
