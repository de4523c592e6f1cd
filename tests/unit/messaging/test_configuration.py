from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kryonix.messaging import ConfigurationError
from kryonix.messaging.configuration import Address, find_address, parse_uri
from tests.support.tls import CA, pair

URI = "amqp://kryonix_acme:s%2Fcret@broker.example:5673/%2Fcliente_acme"


@pytest.fixture(autouse=True)
def _empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "KRYONIX_AMQP_URI",
        "KRYONIX_OUTPUTS",
        "KRYONIX_MANAGEMENT_URL",
        "KRYONIX_AMQP_ADDRESSES",
        "KRYONIX_CA_FILE",
        "KRYONIX_CLIENT_CERTIFICATE",
    ):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def _private_files() -> Iterator[None]:
    before = os.umask(0o077)
    yield
    os.umask(before)


def test_a_uri_gives_user_and_address() -> None:
    address = parse_uri(URI)
    assert (address.host, address.port, address.username, address.password) == (
        "broker.example",
        5673,
        "kryonix_acme",
        "s/cret",
    )
    assert (address.tenant_id, address.vhost, address.scheme) == ("acme", "/cliente_acme", "amqp")
    assert address.uri() == URI


def test_ports_are_those_of_the_scheme_and_ipv6_is_understood() -> None:
    assert parse_uri("amqps://u:p@[::1]/%2Fcliente_acme").port == 5671
    assert parse_uri("amqp://u:p@h/%2Fcliente_acme").port == 5672
    assert parse_uri("amqps://u:p@[::1]/%2Fcliente_acme").uri() == "amqps://u:p@[::1]:5671/%2Fcliente_acme"


def test_the_password_is_never_shown() -> None:
    address = parse_uri(URI)
    assert "cret" not in repr(address)
    assert "cret" not in address.place
    for broken in (URI.replace("cliente_acme", "monitoring"), URI.replace("amqp:", "http:"), URI.replace("5673", "x")):
        with pytest.raises(ConfigurationError) as failure:
            parse_uri(broken)
        assert "cret" not in str(failure.value)


@pytest.mark.parametrize("secret", ["cret/s", "12/cret", "cret#s", "cret?s", "/cret", "12/cret@h"])
def test_an_unescaped_password_is_not_shown(secret: str) -> None:
    for vhost in ("%2Fcliente_acme", "%2Fother"):
        with pytest.raises(ConfigurationError, match="%2F") as failure:
            parse_uri(f"amqp://kryonix_acme:{secret}@host:5672/{vhost}")
        assert "cret" not in str(failure.value) + repr(failure.value.__cause__)


@pytest.mark.parametrize("url", ["nonsense", "ftp://h", "http://", "http://u:hidden@h", "http://[x", "http://h:port"])
def test_a_management_url_holds_no_credentials(url: str) -> None:
    with pytest.raises(ConfigurationError, match="http://HOST:15672") as failure:
        parse_uri(URI, url)
    assert "hidden" not in str(failure.value)


def test_a_tenant_other_than_the_uris_is_refused() -> None:
    assert find_address(URI, None, "acme", None).tenant_id == "acme"
    with pytest.raises(ConfigurationError, match="'beta' is not the one"):
        find_address(URI, None, "beta", None)


@pytest.mark.parametrize(
    "uri", ["", "x", "amqp://", "amqp://h/%2Fcliente_acme", "amqp://u:p@h/", "amqp://u:p@h/%2F", "amqp://u:p@h:99999/x"]
)
def test_an_invalid_uri_is_refused_with_the_expected_form(uri: str) -> None:
    with pytest.raises(ConfigurationError, match="amqp"):
        parse_uri(uri)


def test_the_uri_defaults_to_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="KRYONIX_AMQP_URI"):
        find_address(None, None, None, None)
    monkeypatch.setenv("KRYONIX_AMQP_URI", URI)
    monkeypatch.setenv("KRYONIX_MANAGEMENT_URL", "http://m")
    assert find_address(None, None, None, None).management_url == "http://m"
    assert find_address(URI.replace("broker", "other"), None, None, "http://n").host == "other.example"


def outputs(folder: Path, *ids: str) -> Path:
    file = folder / "outputs.json"
    tenants = {id: {"amqp_uri": URI.replace("acme", id)} for id in ids}
    file.write_text(json.dumps({"management_url": "http://from-file", "tenants": tenants}))
    return file


def test_outputs_can_be_read_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = outputs(tmp_path, "acme")
    assert find_address(None, file, None, None).tenant_id == "acme"
    monkeypatch.setenv("KRYONIX_OUTPUTS", str(file))
    found = find_address(None, None, None, None)
    assert (found.tenant_id, found.management_url) == ("acme", "http://from-file")


def test_of_several_tenants_one_must_be_named(tmp_path: Path) -> None:
    file = outputs(tmp_path, "acme", "beta")
    assert find_address(None, file, "beta", None).tenant_id == "beta"
    with pytest.raises(ConfigurationError, match="Name one of them: `tenant=`"):
        find_address(None, file, None, None)
    with pytest.raises(ConfigurationError, match="did you mean 'acme'"):
        find_address(None, file, "acne", None)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"tenants": 3}',
        '{"tenants": {"acme": 3}}',
        "[" * 100_000,
        '{"tenants": {"acme": {"amqp_uri": "[secret]"}}}',
        '{"amqp_uri": 3}',
        '{"amqp_uri": "amqp://kryonix_acme:hidden@[/%2Fcliente_acme"}',
        '{"amqp_uri": "amqp://u:hidden@h/%2Fmonitoring"}',
    ],
    ids=lambda content: content[:40],
)
def test_a_file_without_credentials_is_refused_with_a_remedy(tmp_path: Path, content: str) -> None:
    file = tmp_path / "outputs.json"
    file.write_text(content)
    for given in (file, tmp_path / "absent", tmp_path):
        with pytest.raises(ConfigurationError, match="kryonix tenant credentials ID --output") as failure:
            find_address(None, given, None, None)
        assert "hidden" not in str(failure.value)


def test_one_tenants_credentials_need_no_tenant_name(tmp_path: Path) -> None:
    file = tmp_path / "acme.json"
    file.write_text(json.dumps({"tenant": "acme", "amqp_uri": URI, "management_url": "http://from-file"}))
    found = find_address(None, file, None, None)
    assert (found.uri(), found.management_url) == (URI, "http://from-file")
    assert find_address(None, file, "acme", None).tenant_id == "acme"
    with pytest.raises(ConfigurationError, match="no tenant 'beta'"):
        find_address(None, file, "beta", None)


def test_a_file_without_credentials_is_not_said_to_hold_passwords(tmp_path: Path) -> None:
    file = tmp_path / "tenants.yaml"
    file.write_text("tenants: []\n")
    file.chmod(0o644)
    with pytest.raises(ConfigurationError, match=r"tenants.yaml' is not JSON\. Write it with"):
        find_address(None, file, "acme", None)


@pytest.mark.parametrize("mode", [0o644, 0o602, 0o444])
def test_a_file_accessible_to_everybody_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int) -> None:
    file = outputs(tmp_path, "acme")
    file.chmod(mode)
    monkeypatch.setenv("KRYONIX_OUTPUTS", str(file))
    for given in (file, None):
        with pytest.raises(ConfigurationError, match=f"has mode {mode:o}: other users .* `chmod 600") as failure:
            find_address(None, given, None, None)
        assert "cret" not in str(failure.value)


@pytest.mark.parametrize("mode", [0o600, 0o440])
def test_a_file_of_the_owner_and_group_is_read(tmp_path: Path, mode: int) -> None:
    file = outputs(tmp_path, "acme")
    file.chmod(mode)
    assert find_address(None, file, None, None).tenant_id == "acme"


def test_an_ipv6_address_has_brackets_in_uris_and_messages() -> None:
    address = parse_uri("amqp://kryonix_acme:pw@[::1]:5673/%2Fcliente_acme")
    assert address.host == "::1"
    assert address.place == "amqp://[::1]:5673/cliente_acme"
    assert address.uri() == "amqp://kryonix_acme:pw@[::1]:5673/%2Fcliente_acme"


def test_a_missing_choice_of_a_tenant_lists_the_tenants(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"has 2 tenants: acme, beta\. Name one") as failure:
        find_address(None, outputs(tmp_path, "acme", "beta"), None, None)
    assert "None" not in str(failure.value)
    many = outputs(tmp_path, *(f"tenant-{number}" for number in range(200)))
    with pytest.raises(ConfigurationError, match=r"did you mean 'tenant-\d+'\? Name one"):
        find_address(None, many, "tenant-x", None)


def of_nodes(**given: Any) -> Address:
    return find_address(URI_OF_NODES, None, None, None, **given)


URI_OF_NODES = "amqp://kryonix_acme:pw@one:5672/%2Fcliente_acme"
"""Of the first of several nodes."""


def test_the_nodes_come_from_argument_outputs_or_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "outputs.json"
    file.touch(mode=0o600)
    tenants = {"tenants": {"acme": {"amqp_uri": URI_OF_NODES}}}
    file.write_text(json.dumps({**tenants, "amqp_addresses": ["one:5672", "two:5672"], "ca_certificate": "PEM"}))
    monkeypatch.setenv("KRYONIX_AMQP_ADDRESSES", "one:5672, three:5673,")
    assert of_nodes().amqp_addresses == ["one:5672", "three:5673"]
    assert of_nodes(addresses=["[::1]", "four:1"]).amqp_addresses == ["one:5672", "[::1]:5672", "four:1"]
    found = find_address(None, file, None, None)
    assert (found.amqp_addresses, found.ca_certificate) == (["one:5672", "two:5672"], "PEM")
    file.write_text(json.dumps(tenants))  # an older platform's
    assert find_address(None, file, None, None).amqp_addresses == ["one:5672", "three:5673"]


def test_one_tenants_file_of_credentials_has_the_nodes_too(tmp_path: Path) -> None:
    file = tmp_path / "acme.json"
    file.touch(mode=0o600)
    platform = {"amqp_addresses": ["two:5672"], "management_url": "http://one", "management_urls": ["http://two"]}
    file.write_text(json.dumps({"tenant": "acme", "amqp_uri": URI_OF_NODES, **platform}))
    found = find_address(None, file, None, None)
    assert (found.amqp_addresses, found.management_urls) == (["one:5672", "two:5672"], ("http://two",))
    assert find_address(None, file, None, "http://mine").management_urls == ()


@pytest.mark.parametrize(
    "address", ["", "two:x", "amqp://two:5672", "pw@two:5672", "two:5672/x", 5, {"host": "two", "password": "pw"}]
)
def test_an_invalid_address_of_a_node_is_refused(address: Any) -> None:
    with pytest.raises(ConfigurationError, match="is not the HOST:PORT of a node") as error:
        of_nodes(addresses=[address])
    assert "pw" not in str(error.value)


def test_a_uri_with_several_hosts_says_where_to_write_them() -> None:
    with pytest.raises(ConfigurationError, match=r"names several hosts.*KRYONIX_AMQP_ADDRESSES") as error:
        parse_uri("amqp://kryonix_acme:s3cret@one:5672,two:5672/%2Fcliente_acme")
    assert "s3cret" not in str(error.value)


PAIR = pair("kryonix_acme", CA)
CERTIFIED = {
    "amqp_uri": "amqps://kryonix_acme@one:5671/%2Fcliente_acme",
    "username": "kryonix_acme",
    "password": "for figures",
    "client_certificate": PAIR.pem,
    "client_key": PAIR.key_pem,
}


def test_a_certificate_that_was_handed_out_is_shown_instead_of_a_password(tmp_path: Path) -> None:
    file = tmp_path / "acme.json"
    file.write_text(json.dumps(CERTIFIED))
    file.chmod(0o600)
    address = find_address(None, file, None, None)
    assert address.uri() == "amqps://kryonix_acme@one:5671/%2Fcliente_acme?auth=EXTERNAL"
    assert address.password == "for figures"
    assert address.trust() is not None
    assert PAIR.key_pem not in repr(address)


def test_a_certificate_comes_from_a_file_for_a_uri_without_a_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "client.pem"
    file.write_text(PAIR.key_pem + PAIR.pem)
    monkeypatch.setenv("KRYONIX_CLIENT_CERTIFICATE", str(file))
    assert find_address(CERTIFIED["amqp_uri"], None, None, None).uri().endswith("?auth=EXTERNAL")
    assert find_address(URI, None, None, None).uri() == URI, "a password of its own counts"
    file.write_text("not PEM")
    with pytest.raises(ConfigurationError, match="certificate with its own key"):
        find_address(CERTIFIED["amqp_uri"], None, None, None).trust()
    file.unlink()
    with pytest.raises(ConfigurationError, match=r"cannot read .*client\.pem"):
        find_address(CERTIFIED["amqp_uri"], None, None, None)


def test_a_certificate_is_refused_without_tls(tmp_path: Path) -> None:
    file = tmp_path / "acme.json"
    file.write_text(json.dumps({**CERTIFIED, "amqp_uri": "amqp://kryonix_acme@one:5672/%2Fcliente_acme"}))
    file.chmod(0o600)
    with pytest.raises(ConfigurationError, match="a client certificate needs TLS"):
        find_address(None, file, None, None)


def test_a_certificate_of_the_callers_own_context_needs_no_password() -> None:
    uri = "amqps://kryonix_acme@one:5671/%2Fcliente_acme?auth=EXTERNAL"
    assert parse_uri(uri).uri() == uri
    with pytest.raises(ConfigurationError, match="incomplete"):
        parse_uri(uri.partition("?")[0])
