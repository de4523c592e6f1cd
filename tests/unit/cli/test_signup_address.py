"""Where the signup service listens, and what is said of it."""

from __future__ import annotations

import pytest

from kryonix.cli.signup.runs import _loopback


@pytest.mark.parametrize(
    ("address", "loopback"),
    [
        ("127.0.0.1", True), ("127.8.8.8", True), ("::1", True),
        ("0.0.0.0", False), ("::", False), ("192.0.2.1", False), ("fe80::1%eth0", False),
    ],
)  # fmt: skip
def test_an_address_that_other_machines_reach_is_told_from_one_of_this_machine(address: str, loopback: bool) -> None:
    assert _loopback(address) is loopback
