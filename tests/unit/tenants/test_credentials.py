"""A tenant's credentials, from its own stack's state or the platform's."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest

from kryonix.engines.deployments import Change, Deployment
from kryonix.engines.engine import StackSpec, ignore
from kryonix.engines.events import OnEvent, Summary
from kryonix.messaging.configuration import find_address
from kryonix.tenants.credentials import find_credentials
from kryonix.tenants.errors import NoCredentials


def entry(id: str, password: str) -> dict[str, Any]:
    user = f"kryonix_{id}"
    return {
        "vhost": f"/cliente_{id}",
        "username": user,
        "password": password,
        "amqp_uri": f"amqp://{user}:{password}@broker:5672/%2Fcliente_{id}",
        "plan": "basic",
        "modules": ["crm"],
        "queues": 18,
    }


class Kept:
    """A engine whose stacks have outputs, and that may run nothing."""

    def __init__(self, **outputs: dict[str, Any]) -> None:
        self._outputs = outputs

    def outputs(self, stack: StackSpec, *, show_secrets: bool = True) -> dict[str, Any]:
        return self._outputs.get(stack.name, {})

    def rewrite(self, stack: StackSpec, change: Change) -> None:
        raise NotImplementedError

    def restore(self, stack: StackSpec, deployment: Deployment) -> None:
        raise NotImplementedError

    def export(self, stack: StackSpec, *, show_secrets: bool = False) -> dict[str, Any]:
        raise AssertionError("nothing but outputs and names is read")

    def stacks(self) -> list[str]:
        return sorted(self._outputs)

    def marks(self, names: Collection[str]) -> dict[str, str]:
        raise AssertionError("nothing but outputs and names is read")

    def program_digest(self) -> str:
        raise AssertionError("nothing but outputs and names is read")

    def preview(self, stack: StackSpec, on_event: OnEvent = ignore) -> Summary:
        raise AssertionError("nothing but outputs is read")

    up = refresh = destroy = preview


PLATFORM = {
    "management_url": "http://broker:15672",
    "admin_password": "the administrator's",
    "registry_dsn": "postgresql://kryonix_admin:hidden@db/kryonix",
    "tenants": {"acme": entry("acme", "a1"), "beta": entry("beta", "b1")},
}
OWN = {"management_url": "http://cell:15672", "tenants": {"solo": entry("solo", "s1")}}
ENGINE = Kept(**{"dev": PLATFORM, "tenant-solo": OWN})


@pytest.mark.parametrize(
    ("id", "password", "management"),
    [("acme", "a1", "http://broker:15672"), ("solo", "s1", "http://cell:15672")],
)
def test_the_sdk_reads_one_tenants_credentials(tmp_path: Path, id: str, password: str, management: str) -> None:
    found = find_credentials(ENGINE, id, "dev")
    names = ["tenant", "vhost", "username", "password", "amqp_uri", "management_url", "plan", "modules"]
    assert list(found) == names
    text = json.dumps(found)
    for foreign in ("administrator", "hidden", "postgresql", "beta", "b1"):
        assert foreign not in text
    file = tmp_path / "file.json"
    file.touch(mode=0o600)
    file.write_text(text)
    address = find_address(None, file, None, None)
    assert (address.tenant_id, address.password, address.management_url) == (id, password, management)


def test_a_tenant_on_another_cells_platform_is_found() -> None:
    elsewhere = {"management_url": "http://south:15672", "tenants": {"gama": entry("gama", "g1")}}
    engine = Kept(dev=PLATFORM, south=elsewhere)
    found = find_credentials(engine, "gama", "dev", ["dev", "south"])
    assert (found["password"], found["management_url"]) == ("g1", "http://south:15672")
    with pytest.raises(NoCredentials, match="did you mean 'gama'"):
        find_credentials(engine, "gamma", "dev", ["dev", "south"])


def test_an_unknown_tenant_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(NoCredentials, match=r"'tenant-acne'.*'dev'.*did you mean 'acme'.*--stack") as caught:
        find_credentials(ENGINE, "acne", "dev")
    assert caught.value.exit_status == 2
    with pytest.raises(NoCredentials, match="--stack"):
        find_credentials(Kept(), "acme", "dev")
