"""Where a tenant's alerts go."""

from __future__ import annotations

import pytest

from kryonix.topology.catalog import default_catalog
from kryonix.topology.errors import InvalidInput
from kryonix.topology.notify import Notify
from kryonix.topology.tenants import Tenant, parse_tenants

TOKEN = "T0KEN"
URL = f"https://hooks.example.com/services/{TOKEN}?key={TOKEN}"


def parse(notify: str) -> Notify | None:
    text = f"tenants:\n  - id: acme\n    modules: [crm]\n    plan: basic\n{notify}"
    (tenant,) = parse_tenants(text.encode(), "tenants.yaml", default_catalog())
    return tenant.notify


def problems(notify: str) -> list[str]:
    with pytest.raises(InvalidInput) as caught:
        parse(notify)
    return [str(problem) for problem in caught.value.problems]


def test_a_webhook_addresses_or_both_are_given() -> None:
    assert parse("") is None
    assert parse(f"    notify: {{webhook: '{URL}'}}\n") == Notify(webhook=URL)
    assert parse("    notify: {email: [ops@example.com]}\n") == Notify(email=("ops@example.com",))
    both = parse(f"    notify:\n      webhook: {URL}\n      email: [a.b+c@example.com, d@localhost]\n")
    assert both == Notify(webhook=URL, email=("a.b+c@example.com", "d@localhost"))


def test_every_problem_is_named_with_its_line() -> None:
    found = problems(
        "    notify:\n      webhook: ftp://example.com/a\n      email:\n        - nobody\n      sms: '1'\n"
    )
    expected = [
        ("tenants.yaml:6:", "'acme' notify.webhook", "no URL such as https://hooks.example.com/alerts"),
        ("tenants.yaml:7:", "'acme' notify.email", "'nobody' is not an e-mail address"),
        ("tenants.yaml:9:", "'acme' notify.sms", "unknown field 'sms'; allowed: webhook, email"),
    ]
    for parts in expected:
        assert any(all(part in problem for part in parts) for problem in found), (parts, found)
    assert len(found) == len(expected)


def test_a_masked_webhook_is_named_once() -> None:
    (found,) = problems("    notify: {webhook: 'https://me:T0KEN@h.example/'}\n")
    assert "'https://h.example/…' is not a valid webhook" in found


def test_an_empty_notify_is_refused() -> None:
    (found,) = problems("    notify: {}\n")
    assert "tenants.yaml:5:" in found
    assert "expected `webhook`, `email` or both" in found


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:9999/hook",
        "http://[::1]:80/",
        "https://example.com",
        "https://example.com/a%20b?c=d&e=[f]",
        "https://xn--bcher-kva.example/",
    ],
)
def test_a_valid_webhook_is_taken_as_it_is(url: str) -> None:
    assert Notify(webhook=url).webhook == url


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("", "it is empty, or has characters"),
        ("example.com/hook", "no URL such as"),
        ("https:///hook", "no URL such as"),
        ("https://example.com:0/", "no URL such as"),
        ("https://example.com:99999/", "no URL such as"),
        ("https://[::1/", "no URL such as"),
        ("https://[1:2]/", "no URL such as"),
        ("https://-example.com/", "no URL such as"),
        (f"https://user:{TOKEN}@example.com/", "it has a login. Put a token into the path or the query"),
        (f"https://example.com/{TOKEN}{{{{ .Status }}}}", "characters that a URL can't have"),
        (f"https://example.com/{TOKEN}%zz", "characters that a URL can't have"),
        (f"https://example.com/{TOKEN}\nevil: true", "characters that a URL can't have"),
        (f"https://example.com/#{TOKEN}", "characters that a URL can't have"),
        ("https://bücher.example/", "characters that a URL can't have"),
        ("https://example.com/" + "a" * 2_000, "longer than 2,000 characters"),
    ],
)
def test_a_bad_webhook_is_refused_without_its_token(url: str, problem: str) -> None:
    with pytest.raises(ValueError, match="is not a valid webhook") as caught:
        Tenant(id="acme", modules=("crm",), plan="basic", notify=Notify.model_validate({"webhook": url}))
    assert problem in caught.value.errors()[0]["msg"]  # type: ignore[attr-defined]  # pydantic's
    assert TOKEN not in caught.value.errors()[0]["msg"]  # type: ignore[attr-defined]  # pydantic's


@pytest.mark.parametrize(
    "address",
    [
        "",
        "ops",
        "ops@",
        "@example.com",
        "a..b@example.com",
        "a b@example.com",
        "a@example..com",
        "{{ a }}@example.com",
        "a@b.example,c@d.example",
        "Ops <ops@example.com>",
        "ops@example.com\nBcc: x@example.com",
        "a" * 250 + "@b.de",
    ],
)
def test_a_bad_address_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="is not an e-mail address"):
        Notify.model_validate({"email": [address]})


def test_an_address_is_given_once_and_not_too_many_are() -> None:
    with pytest.raises(ValueError, match="in the list twice"):
        Notify.model_validate({"email": ["a@b.de", "a@b.de"]})
    with pytest.raises(ValueError, match="at most 20"):
        Notify.model_validate({"email": [f"a{number}@b.de" for number in range(21)]})


def test_no_text_of_it_has_more_of_a_webhook_than_the_host() -> None:
    notify = Notify(webhook=URL, email=("ops@example.com",))
    tenant = Tenant(id="acme", modules=("crm",), plan="basic", notify=notify)
    for text in (str(notify), repr(notify), str(tenant), repr(tenant), str(notify.masked())):
        assert TOKEN not in text
        assert "https://hooks.example.com/…" in text
    assert Notify.stored(notify.plain()) == notify


def test_a_stored_value_that_is_not_valid_counts_as_none() -> None:
    assert Notify.stored({"webhook": "no URL"}) is None
    assert Notify.stored({"pager": "of a later version"}) is None
    assert Notify.stored(None) is None
