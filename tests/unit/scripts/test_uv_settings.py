"""scripts/setup hands pip's settings on to uv."""

from __future__ import annotations

import pytest

from scripts.uv_settings import exports


@pytest.mark.parametrize(
    ("listed", "expected"),
    [
        ("global.index-url='https://mirror/simple'", {"UV_DEFAULT_INDEX": "https://mirror/simple"}),
        (
            "global.index-url='https://site'\ninstall.index-url='https://command'\n:env:.index-url='https://shell'",
            {"UV_DEFAULT_INDEX": "https://shell"},
        ),
        (":env:.extra-index-url='https://a https://b'", {"UV_INDEX": "https://a https://b"}),
        ("global.extra-index-url='\\nhttps://a\\nhttps://b'", {"UV_INDEX": "https://a https://b"}),
        (":env:.find-links='/no/such/folder https://wheels'", {"UV_FIND_LINKS": "https://wheels"}),
        (":env:.cert='/etc/ca.pem'\n:env:.no-color='1'", {"SSL_CERT_FILE": "/etc/ca.pem"}),
        ("", {}),
    ],
)
def test_pips_setting_is_used_for_uv(listed: str, expected: dict[str, str]) -> None:
    assert exports(listed, {}) == expected


def test_an_existing_uv_setting_stays() -> None:
    assert exports(":env:.index-url='https://mirror'", {"UV_DEFAULT_INDEX": "https://own"}) == {}
