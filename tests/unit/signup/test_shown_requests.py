"""What answers show of an operation's request."""

from __future__ import annotations

from typing import Any

import pytest

from kryonix.signup.schemas import _shown_request


@pytest.mark.parametrize(
    ("notify", "shown"),
    [
        ({"webhook": "https://h.example/T0KEN"}, {"webhook": "https://h.example/…", "email": []}),
        ({"webhook": "no longer valid T0KEN"}, None),
        (None, None),
    ],
)
def test_a_request_is_shown_without_tokens(notify: Any, shown: Any) -> None:
    assert _shown_request({"plan": "pro", "notify": notify}) == {"plan": "pro", "notify": shown}
    assert _shown_request({"plan": "pro"}) == {"plan": "pro"}
