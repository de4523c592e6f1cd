"""A tenant that logs in with a certificate: its users, what it is handed out, and platforms that can't have one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pulumi
import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from components.broker_listeners import listeners_of
from components.client_certificate import _ClientCertificateProvider
from components.errors import InvalidStack
from components.existing_platform import PlatformOutputs
from components.previous_run import PreviousRun
from components.settings import Settings
from components.tenant import TenantMessaging, TenantMessagingArgs
from components.tls_settings import TlsSettings
from kryonix.certificates.authority import Authority
from kryonix.certificates.leaf import Leaf
from kryonix.engines.deployments import SIGNATURE
from kryonix.rabbitmq.counts import BrokerAccess
from kryonix.topology.catalog import default_catalog
from kryonix.topology.credentials import Generations
from kryonix.topology.expansion import expand
from kryonix.topology.tenants import Tenant
from tests.support.mocked import Recorder, registered

CERTIFICATE = "pulumi-python:dynamic/kryonix:ClientCertificate"
USER = "rabbitmq:index/user:User"
AUTHORITY = Authority.create("Kryonix test CA")


def stored(authority: Authority) -> dict[str, str]:
    return {"certificate": authority.certificate, "key": authority.key}


def tenant(auth: str, authority: Any = None, **generations: int) -> Recorder:
    """The registrations of one tenant."""
    access = BrokerAccess(
        management_url="https://broker:15671", username="admin", password="p", amqp_host="broker", amqp_port=5671
    )

    def program() -> None:
        topology = expand(Tenant(id="acme", modules=("crm",), plan="basic", auth=auth), default_catalog())  # type: ignore[arg-type]
        platform = PlatformOutputs(
            access=pulumi.Output.from_input(access),
            endpoint=access.management_url,
            username=access.username,
            management_url=pulumi.Output.from_input(access.management_url),
            amqp_host=pulumi.Output.from_input(access.amqp_host),
            amqp_port=pulumi.Output.from_input(access.amqp_port),
            registry_dsn=pulumi.Output.from_input("postgresql://registry"),
            nodes={},
            authority=authority,
        )
        settings = Settings(
            topologies=[topology],
            platform=None,
            deletion_protection=True,
            allow_delete=(),
            protect=False,
            generations=Generations.model_validate(generations),
            previous=PreviousRun(outputs={}),
        )
        made = TenantMessaging("acme", TenantMessagingArgs(topology=topology, platform=platform, settings=settings))
        summaries.append(sorted(made.summary()))
        made.amqp_uri.apply(uris.append)

    summaries: list[list[str]] = []
    uris: list[str] = []
    recorder = registered(program)
    recorder.summary, recorder.uri = summaries[0], uris[0]  # type: ignore[attr-defined]
    return recorder


def plain(value: Any) -> Any:
    return value["value"] if isinstance(value, Mapping) and SIGNATURE in value else value


def passwords(recorder: Recorder) -> dict[str, str]:
    return {inputs["name"]: plain(inputs["password"]) for inputs in recorder.of(USER).values()}


def test_its_user_for_messages_has_no_password_and_the_one_for_figures_has() -> None:
    made = tenant("certificate", stored(AUTHORITY))
    assert passwords(made) == {"kryonix_acme": "", "kryonix_acme.stats": "acme/password's secret"}
    (record,) = made.of("pulumi-python:dynamic/kryonix:TenantRecord").values()
    assert plain(record["passwordHash"]) == ""
    assert {"auth", "client_certificate", "client_key"} <= set(made.summary)  # type: ignore[attr-defined]
    assert made.uri == "amqp://kryonix_acme@broker:5671/%2Fcliente_acme"  # type: ignore[attr-defined]


def test_a_tenant_with_a_password_has_what_it_always_had() -> None:
    made = tenant("password", stored(AUTHORITY))
    assert set(passwords(made).values()) == {"acme/password's secret"}
    assert not made.of(CERTIFICATE)
    assert not {"auth", "client_certificate", "client_key"} & set(made.summary)  # type: ignore[attr-defined]
    assert made.uri.startswith("amqp://kryonix_acme:acme/password's secret@")  # type: ignore[attr-defined]


def test_each_generation_has_a_certificate_of_its_own() -> None:
    made = tenant("certificate", stored(AUTHORITY), generation=2, retiring=1).of(CERTIFICATE)
    names = {resource: inputs["commonName"] for resource, inputs in made.items()}
    assert names == {"acme/certificate.2": "kryonix_acme.2", "acme/certificate": "kryonix_acme"}
    for inputs in made.values():
        assert SIGNATURE in inputs["authority"], "the CA's key is a secret"


@pytest.mark.parametrize("authority", [None, pulumi.Output.from_input(None)], ids=["known", "of another stack"])
def test_a_platform_without_tls_is_refused(authority: Any) -> None:
    with pytest.raises(InvalidStack, match="'acme': `auth: certificate` needs a platform that speaks TLS"):
        tenant("certificate", authority)


def test_the_certificate_names_the_user_and_is_issued_by_the_given_ca() -> None:
    made = _ClientCertificateProvider().create({"commonName": "kryonix_acme", "authority": stored(AUTHORITY)})
    assert made.outs is not None
    assert "authority" not in made.outs
    assert AUTHORITY.key not in json.dumps(made.outs)
    leaf = Leaf(chain=made.outs["certificate"], key=made.outs["key"])
    (name,) = leaf.certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    assert name.value == "kryonix_acme"
    issuer = x509.load_pem_x509_certificate(AUTHORITY.certificate.encode())
    leaf.certificate.verify_directly_issued_by(issuer)
    assert 364 <= (leaf.expires - leaf.starts).days <= 366


def test_only_another_name_makes_another_certificate() -> None:
    provider, other = _ClientCertificateProvider(), stored(Authority.create("the next CA"))
    made = provider.create({"commonName": "kryonix_acme", "authority": stored(AUTHORITY)})
    olds = dict(made.outs or {})
    rotated = provider.diff("kryonix_acme", olds, {"commonName": "kryonix_acme", "authority": other})
    assert not rotated.changes, "what was handed out stays"
    renamed = provider.diff("kryonix_acme", olds, {"commonName": "kryonix_acme.2", "authority": other})
    assert (renamed.changes, renamed.replaces) == (True, ["commonName"])


def test_a_ca_of_others_logs_nobody_in() -> None:
    """It may issue any common name, the administrator's too."""
    made_by_others = TlsSettings(on=True, certificate_dir="/etc/certificates", certificate_ca=AUTHORITY.certificate)
    own, others = listeners_of(TlsSettings(on=True)), listeners_of(made_by_others)
    assert "EXTERNAL" in own.configuration
    assert own.configuration.count("\nssl_options.cacertfile = /tls/clients.pem\n") == 1
    assert own.configuration.count("\nssl_options.cacertfile") == 1
    assert "rabbitmq_auth_mechanism_ssl" in own.more_files["enabled_plugins"]
    for listeners in (others, listeners_of(TlsSettings())):
        assert "EXTERNAL" not in listeners.configuration
        assert "verify_peer" not in listeners.configuration
        assert "enabled_plugins" not in listeners.more_files
