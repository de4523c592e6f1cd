"""TLS of the SDK: each fault is refused at once, by its name, and what is trusted comes from four places."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from kryonix.certificates.trust import context
from kryonix.messaging import AccessRefused, ConfigurationError, MessagingClient, NotConnected, StatsUnavailable
from kryonix.messaging.configuration import parse_uri
from kryonix.messaging.stats import queue_figures
from tests.support.tls import CA, FAULTS, HOST, faulty, serving

pytestmark = pytest.mark.anyio


def uri(port: int) -> str:
    return f"amqps://kryonix_acme:s3cret@{HOST}:{port}/%2Fcliente_acme"


@pytest.fixture
def ca_file(tmp_path: Path) -> Path:
    file = tmp_path / "ca.pem"
    file.write_text(CA.pem)
    return file


async def refused(**options: Any) -> str:
    """Return why a connection is refused, which it must be before its deadline."""
    began = time.monotonic()
    with pytest.raises(AccessRefused) as error:
        await MessagingClient.connect(application="shop", timeout=3600, **options)
    assert time.monotonic() - began < 60
    assert "s3cret" not in str(error.value)
    return str(error.value)


async def accepted(**options: Any) -> bool:
    with pytest.raises(NotConnected) as error:
        await MessagingClient.connect(application="shop", timeout=0.5, **options)
    return not isinstance(error.value, AccessRefused)


@pytest.mark.parametrize("fault", FAULTS)
async def test_each_fault_is_refused_at_once_by_its_name(fault: str, ca_file: Path) -> None:
    with serving(faulty(fault)) as port:
        text = await refused(amqp_uri=uri(port), ca_file=ca_file)
    assert f"{HOST}:{port}/cliente_acme: {'this port has no TLS' if fault == 'plain' else f'{fault}: '}" in text


async def test_a_fault_of_one_node_does_not_hide_behind_another_that_is_down(ca_file: Path) -> None:
    with serving(None) as gone:
        pass
    with serving(faulty("expired")) as port:
        text = await refused(amqp_uri=uri(port), addresses=[f"{HOST}:{gone}"], ca_file=ca_file)
    assert f": expired: the certificate of {HOST}:{port} has expired" in text
    assert f"{HOST}:{gone}" in text


async def test_a_certificate_of_a_trusted_ca_is_accepted(ca_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given as an argument, by the environment, or in the outputs. The server behind it has no AMQP."""
    outputs = ca_file.with_name("outputs.json")
    with serving(faulty("good")) as port:
        content = {"tenants": {"acme": {"amqp_uri": uri(port)}}, "ca_certificate": CA.pem}
        outputs.touch(mode=0o600)
        outputs.write_text(json.dumps(content))
        assert ": wrong CA: " in await refused(amqp_uri=uri(port))
        assert await accepted(amqp_uri=uri(port), ca_file=ca_file)
        assert await accepted(outputs=outputs)
        monkeypatch.setenv("KRYONIX_CA_FILE", str(ca_file))
        assert await accepted(amqp_uri=uri(port))


@pytest.mark.parametrize("content", ["", "no PEM", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
async def test_an_unusable_ca_file_is_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "ca.pem"
    if content:
        file.write_text(content)
    with pytest.raises(ConfigurationError, match=r"CA .*`kryonix certificates ca print`"):
        await MessagingClient.connect(uri(1), application="shop", ca_file=file)


@pytest.mark.parametrize("fault", FAULTS)
async def test_figures_are_read_from_a_trusted_server_only(fault: str) -> None:
    with serving(faulty(fault)) as port:
        address = parse_uri(uri(1), f"https://{HOST}:{port}")
        with pytest.raises(StatsUnavailable, match=f"{fault}: .*{HOST}:{port}"):
            await queue_figures(address, 30, context(CA.pem))
