"""One platform with the signup service, shared by all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.live_broker import LiveBroker
from tests.support.signup_service import Caller, Signup


@pytest.fixture(scope="package")
def signup(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Signup]:
    with Signup.on_own_platform(tmp_path_factory.mktemp("signup"), receiveTime=True) as made:
        yield made


@pytest.fixture
def caller(signup: Signup) -> Caller:
    return signup.caller


@pytest.fixture
def at_broker(signup: Signup) -> Iterator[LiveBroker]:
    with LiveBroker(signup.outputs) as found:
        yield found
