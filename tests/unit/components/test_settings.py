"""Errors of a stack's config name the file and the line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pulumi
import pytest

from components.current_address import CurrentAddress, local_host
from components.errors import InvalidStack
from components.exporter import MetricsEndpoint
from components.host_settings import Host
from components.node_settings import NodeSettings
from components.platform import warn_of_plain_text
from components.product import ProductSettings
from components.settings import _ip_address, _place
from components.tls_settings import TlsSettings
from kryonix.rabbitmq.counts import BrokerAccess
from tests.support.mocked import registered
from tests.support.platform_settings import platform_settings


def test_a_value_of_the_config_file_is_located(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pulumi, "get_stack", lambda: "dev")
    assert _place("amqpPort", 0) == ""
    (tmp_path / "Pulumi.dev.yaml").write_text("config:\n  kryonix:domain: x\n  kryonix:amqpPort: 0\n")
    assert _place("amqpPort", 0) == "Pulumi.dev.yaml:3: "
    assert _place("amqpPort", 70_000) == "", "another file's value"
    assert _place("registryPort", 0) == ""


def test_an_ipv6_address_has_brackets_in_every_url() -> None:
    found = CurrentAddress(host=local_host("::"), amqp_port=1, management_port=2, registry_port=3)
    access = BrokerAccess(management_url="", username="u", password="p", amqp_host="", amqp_port=0)
    assert found.broker(access).management_url == "http://[::1]:2"
    assert found.registry("postgresql://u:p@127.0.0.1:5432/kryonix") == "postgresql://u:p@[::1]:3/kryonix"
    assert MetricsEndpoint(address="::", port=4).url("fd00::1") == "http://[fd00::1]:4/metrics"
    assert MetricsEndpoint(address="::1", port=4).url("fd00::1") == "http://[::1]:4/metrics"
    assert MetricsEndpoint(port=4).url("broker.example") == "http://127.0.0.1:4/metrics"


def test_every_node_has_a_url_for_its_metrics() -> None:
    ports: dict[str, Any] = {"amqp": 5672, "management": 15672, "metrics": 9419}
    hosts = [Host(address=address) for address in ("a.example", "b.example")]
    here = NodeSettings.of(2, "rabbitmq", local="127.0.0.1", address="broker.example", **ports)
    there = NodeSettings.of(2, "rabbitmq", local="a.example", address="a.example", hosts=hosts, **ports)
    loopback, wide = MetricsEndpoint(), MetricsEndpoint(address="10.0.0.1", tls=True)
    assert loopback.urls("h", here) == ["http://127.0.0.1:9419/metrics", "http://127.0.0.1:9429/metrics"]
    assert wide.urls("a.example", there) == ["https://a.example:9419/metrics", "https://b.example:9419/metrics"]


@pytest.mark.parametrize("key", ["bindAddress", "metricsAddress"])
def test_an_address_with_a_zone_or_brackets_is_refused(key: str) -> None:
    for value in ("fe80::1%eth0", "[::1]", "localhost", "1.2.3"):
        with pytest.raises(InvalidStack, match=f"kryonix:{key}: .* is not a valid IP address"):
            _ip_address(_Config({key: value}), key)


def test_one_warning_names_all_addresses_reached_in_plain_text(caplog: pytest.LogCaptureFixture) -> None:
    off: dict[str, Any] = {"address": "0.0.0.0", "metrics": MetricsEndpoint(address="192.0.2.1")}
    web = ProductSettings(signup=True, address="::")

    def warned(**given: Any) -> list[str]:
        caplog.clear()
        registered(lambda: warn_of_plain_text(platform_settings(**given)))
        return [message for message in caplog.messages if "plain text" in message]

    (said,) = warned(**off, product=web)
    assert "(kryonix:bindAddress 0.0.0.0, kryonix:metricsAddress 192.0.2.1, kryonix:signupAddress ::)" in said
    assert 'Set kryonix:tls to "true"' in said
    (said,) = warned(metrics=off["metrics"], product=replace(web, signup=False))
    assert "(kryonix:metricsAddress 192.0.2.1)" in said
    assert warned() == warned(**off, product=web, tls=TlsSettings(on=True)) == []


class _Config(pulumi.Config):
    def __init__(self, values: dict[str, str]) -> None:
        super().__init__("kryonix")
        self._values = values

    def require(self, key: str, *args: Any, **options: Any) -> str:
        return self._values[key]
