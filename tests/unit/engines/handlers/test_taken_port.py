"""The error for a taken port names the key to change."""

from __future__ import annotations

import pytest

from kryonix.engines.local.handlers.container import _overlap, _port_taken

PORTS = [
    {"ip": "127.0.0.1", "internal": 5672, "external": 7000},
    {"ip": "127.0.0.1", "internal": 15672, "external": 7001},
]


def test_a_taken_port_names_its_config_key() -> None:
    reason = "Bind for 127.0.0.1:7001 failed: port is already allocated"
    said = _port_taken({"name": "kryonix-dev-rabbitmq", "ports": PORTS}, reason)
    assert "can't have the port 127.0.0.1:7001: it is in use" in said
    assert "or set another `kryonix:managementPort` in the stack's config" in said


def test_a_port_of_another_container_is_named_by_its_address() -> None:
    said = _port_taken({"name": "other", "ports": [{"ip": "127.0.0.1", "internal": 80, "external": 7000}]}, "in use")
    assert "can't have the port 127.0.0.1:7000" in said
    assert "or set another port in the stack's config" in said


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("127.0.0.1:1", "127.0.0.1:1", True),
        ("127.0.0.1:1", "0.0.0.0:1", True),
        ("0.0.0.0:1", "10.0.0.1:1", True),
        ("127.0.0.1:1", "10.0.0.1:1", False),
        ("0.0.0.0:1", "0.0.0.0:2", False),
    ],
)
def test_a_container_gives_up_its_port_for_all_interfaces(one: str, other: str, same: bool) -> None:
    def parts(address: str) -> tuple[str, int]:
        return address[:-2], int(address[-1])

    assert _overlap(parts(one), parts(other)) is same
