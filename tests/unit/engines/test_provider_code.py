"""A deployment from elsewhere brings no code: only references to the program's own provider classes pass."""

from __future__ import annotations

import base64
import os
import pickle
from typing import Any

import pytest
from pulumi.dynamic.dynamic import serialize_provider

from components.migrations import _MigrationsProvider
from components.safeguards import _SafeguardsProvider
from components.tenant_record import _TenantRecordProvider
from kryonix.engines.provider_code import KEY, foreign_code

URN = "urn:pulumi:dev::kryonix::pulumi-python:dynamic/kryonix:TenantRecord::acme/record"


def deployment(code: Any, *, where: str = "inputs", kind: str = "resources") -> dict[str, Any]:
    resource = {"urn": URN, where: {KEY: code, "name": "acme"}}
    listed = [resource] if kind == "resources" else [{"resource": resource, "type": "creating"}]
    return {"version": 3, "deployment": {kind: listed}}


class Runs:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.getpid, ()


class Setting(_MigrationsProvider):
    def __init__(self) -> None:
        self.asked = ["x"]


def encoded(thing: Any) -> str:
    return base64.b64encode(pickle.dumps(thing, protocol=4)).decode()


@pytest.mark.parametrize("provider", [_MigrationsProvider, _SafeguardsProvider, _TenantRecordProvider])
def test_the_programs_own_providers_pass(provider: type[Any]) -> None:
    assert foreign_code(deployment(serialize_provider(provider()))) == ""


def test_a_deployment_without_dynamic_resources_passes() -> None:
    assert foreign_code({"version": 3, "deployment": {"resources": [{"urn": URN, "inputs": {"a": 1}}]}}) == ""
    assert foreign_code({}) == ""


@pytest.mark.parametrize(
    "code",
    [
        encoded(Runs()),
        encoded(Setting()),
        encoded([_MigrationsProvider()]),
        serialize_provider(_MigrationsProvider()).replace("gASV", "AAAA", 1),
        base64.b64encode(b"\x80\x04\x8c\x02os\x8c\x06system\x93)\x81.").decode(),
        base64.b64encode(b"\x80\x04\x8c\x12components.settings\x8c\x02os\x93)\x81.").decode(),
        base64.b64encode(b"cos\nsystem\n(S'id'\ntR.").decode(),
        "not base64!",
        "",
        None,
        {"ciphertext": "v1:abc"},
        7,
    ],
)
def test_any_other_code_is_named(code: Any) -> None:
    assert foreign_code(deployment(code)) == URN


def test_code_is_found_wherever_an_engine_would_load_it() -> None:
    code = encoded(Runs())
    assert foreign_code(deployment(code, where="outputs")) == URN
    assert foreign_code(deployment(code, kind="pending_operations")) == URN


def test_nothing_after_the_reference_passes() -> None:
    """A second pickle's worth of steps between the reference and the end."""
    own = base64.b64decode(serialize_provider(_MigrationsProvider()))
    assert foreign_code(deployment(base64.b64encode(own[:-1] + b"cos\nsystem\n)R.").decode())) == URN
