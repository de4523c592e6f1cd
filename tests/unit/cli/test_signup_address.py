"""The address that the signup service listens on."""

from __future__ import annotations

import pytest

from kryonix.topology.addresses import is_loopback


@pytest.mark.parametrize(
    ("address", "loopback"),
    [
        ("127.0.0.1", True), ("127.8.8.8", True), ("::1", True),
        ("0.0.0.0", False), ("::", False), ("192.0.2.1", False), ("fe80::1%eth0", False),
    ],
)  # fmt: skip
def test_only_this_machine_reaches_a_loopback_address(address: str, loopback: bool) -> None:
    assert is_loopback(address) is loopback
