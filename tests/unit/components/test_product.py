"""The containers of the product's image: what each may do, and what each knows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pulumi
import pulumi_docker as docker
import pytest

from components.exporter_container import ExporterContainer, ExporterContainerArgs
from components.platform_inside import reached_at
from components.product import IMAGE, ProductSettings, source_hash
from components.product_services import ProductServices, ProductServicesArgs
from components.signup_service import SignupService, SignupServiceArgs
from components.tls_settings import TlsSettings
from kryonix import __version__
from kryonix.engines.deployments import SIGNATURE
from tests.support.mocked import Recorder, registered
from tests.support.platform_settings import platform_settings

PLATFORM = {
    "admin_password": "the admin's",
    "registry_dsn": "postgresql://writer:its-own@postgres:5432/kryonix_main",
    "signup_dsn": "postgresql://signup:another@postgres:5432/kryonix_main",
    "events_uri": "amqp://events:third@rabbitmq:5672/%2Fkryonix-master",
}
SECRETS = ("the admin's", "its-own", "another", "third")


def services(product: ProductSettings) -> Recorder:
    """The registrations of an exporter and of a signup service."""

    def program() -> None:
        broker, registry = docker.Network("broker", name="broker-net"), docker.Network("registry", name="registry-net")
        prometheus = docker.Network("prometheus", name="prometheus-net")
        ExporterContainer(
            "exporter",
            ExporterContainerArgs(
                product=product,
                networks=[broker, registry, prometheus],
                platform={"registry_dsn": "postgresql://reader:look@postgres/kryonix_main"},
            ),
        )
        SignupService(
            "signup",
            SignupServiceArgs(
                product=product,
                platform={key: pulumi.Output.secret(value) for key, value in PLATFORM.items()},
                broker=broker,
                registry=registry,
                monitoring=[prometheus],
                advertised_host="kryonix.example",
            ),
        )

    return registered(program)


def containers(product: ProductSettings) -> dict[str, Any]:
    """Return the inputs of the containers by name."""
    made = services(product).of("docker:index/container:Container")
    return {inputs["name"]: inputs for inputs in made.values()}


@pytest.fixture(scope="module")
def made() -> dict[str, Any]:
    return containers(ProductSettings(signup=True))


def files(inputs: Mapping[str, Any]) -> dict[str, str]:
    """Return the uploaded files, which are a secret."""
    assert SIGNATURE in inputs["uploads"]
    return {upload["file"]: upload["content"] for upload in inputs["uploads"]["value"]}


def test_each_container_runs_without_rights(made: dict[str, Any]) -> None:
    assert made.keys() == {"kryonix-dev-exporter", "kryonix-dev-web", "kryonix-dev-worker"}
    for name, inputs in made.items():
        assert inputs["image"] == IMAGE == f"kryonix:{__version__}"
        assert inputs["user"].split(":")[0] not in ("0", "root"), name
        assert inputs["capabilities"] == {"drops": ["ALL"]}
        assert inputs["securityOpts"] == ["no-new-privileges"]
        assert inputs["restart"] == "unless-stopped"
        assert inputs["memory"] < 2048
        compile(inputs["healthcheck"]["tests"][-1], name, "exec")


def test_no_secret_is_in_a_command_an_environment_or_a_label(made: dict[str, Any]) -> None:
    for inputs in made.values():
        shown = json.dumps({key: value for key, value in inputs.items() if key != "uploads"})
        assert not [secret for secret in SECRETS if secret in shown]


def test_each_container_knows_only_what_it_needs(made: dict[str, Any]) -> None:
    known = {name.removeprefix("kryonix-dev-"): "".join(files(inputs).values()) for name, inputs in made.items()}
    assert known["web"] == PLATFORM["signup_dsn"]
    assert json.loads(known["worker"]) == {"dev": PLATFORM}
    assert json.loads(known["exporter"]) == {"dev": {"registry_dsn": "postgresql://reader:look@postgres/kryonix_main"}}


def test_each_container_is_on_the_networks_it_needs(made: dict[str, Any]) -> None:
    joined = {
        name.removeprefix("kryonix-dev-"): {network["name"] for network in inputs["networksAdvanced"]}
        for name, inputs in made.items()
    }
    assert joined == {
        "exporter": {"broker-net", "registry-net", "prometheus-net"},
        "web": {"registry-net", "prometheus-net"},
        "worker": {"broker-net", "registry-net"},
    }
    aliases = [network["aliases"] for network in made["kryonix-dev-exporter"]["networksAdvanced"]]
    assert aliases == [["exporter"]] * 3


def test_only_the_web_is_published(made: dict[str, Any]) -> None:
    ports = {name: inputs.get("ports") for name, inputs in made.items()}
    assert ports.pop("kryonix-dev-web") == [{"internal": 8080, "ip": "127.0.0.1", "external": 8080}]
    assert set(ports.values()) == {None}


def test_a_proxy_is_trusted_only_where_nobody_else_can_reach_the_web(made: dict[str, Any]) -> None:
    assert "FORWARDED_ALLOW_IPS=*" in made["kryonix-dev-web"]["envs"]
    exposed = containers(ProductSettings(signup=True, address="0.0.0.0"))["kryonix-dev-web"]
    assert not [value for value in exposed["envs"] if value.startswith("FORWARDED")]


def test_charts_are_read_from_the_platforms_prometheus_with_its_login() -> None:
    def program() -> None:
        network = docker.Network("n", name="n")
        SignupService(
            "signup",
            SignupServiceArgs(
                product=ProductSettings(signup=True),
                platform=PLATFORM,
                broker=network,
                registry=network,
                prometheus="http://prometheus:9090",
                prometheus_login=pulumi.Output.secret("kryonix:its-login"),
                advertised_host="127.0.0.1",
            ),
        )

    web = registered(program).of("docker:index/container:Container")["signup-web-container"]
    assert "KRYONIX_PROMETHEUS_URL=http://prometheus:9090" in web["envs"]
    assert "KRYONIX_PROMETHEUS_LOGIN_FILE=/etc/kryonix/prometheus_login" in web["envs"]
    assert "its-login" not in json.dumps(web["envs"])
    assert files(web)["/etc/kryonix/prometheus_login"] == "kryonix:its-login"


def test_a_tenants_state_is_on_a_volume_that_the_stack_does_not_delete() -> None:
    recorder = services(ProductSettings(signup=True))
    worker = recorder.of("docker:index/container:Container")["signup-worker-container"]
    assert worker["volumes"] == [{"containerPath": "/var/lib/kryonix", "volumeName": "kryonix-dev-signup-state"}]
    assert recorder.of("docker:index/volume:Volume") == {}


def test_a_changed_source_replaces_the_containers(made: dict[str, Any], tmp_path: Path) -> None:
    own = made["kryonix-dev-web"]["labels"]
    assert own == [{"label": "br.com.kryonix.source", "value": source_hash(Path(__file__).parents[3])}]
    elsewhere = containers(ProductSettings(signup=True, image="registry.example/kryonix:2"))["kryonix-dev-web"]
    assert not elsewhere.get("labels"), "somebody else makes that image"

    (tmp_path / "kryonix" / "__pycache__").mkdir(parents=True)
    (tmp_path / "kryonix" / "a.py").write_text("1")
    found = [source_hash(tmp_path)]
    (tmp_path / "kryonix" / "__pycache__" / "a.pyc").write_text("compiled")
    assert source_hash(tmp_path) == found[0]
    (tmp_path / "kryonix" / "a.py").rename(tmp_path / "kryonix" / "b.py")
    found.append(source_hash(tmp_path))
    (tmp_path / "kryonix" / "b.py").write_text("2")
    found.append(source_hash(tmp_path))
    assert len(set(found)) == 3


def test_the_service_is_refused_where_it_could_not_reach_a_cell() -> None:
    cells = "cells:\n  main: {platform: organization/kryonix/dev}\n  west: {platform: organization/kryonix/west}\n"
    (problem,) = ProductSettings(signup=True, cells=cells).problems("dev")
    assert "kryonix:signup: cells.yaml has cells of other platforms: west." in problem
    assert ProductSettings(monitored=True, cells=cells).problems("dev") == []
    assert ProductSettings(cells=cells).cells_elsewhere("dev") == ["west"]
    own = "cells:\n  east: {platform: organization/kryonix/dev, max_tenants: 3}\n"
    settings = ProductSettings(signup=True, cells=own)
    assert settings.problems("dev") == []
    for name, inputs in containers(settings).items():
        assert files(inputs)["/srv/kryonix/cells.yaml"] == own, name


def known(role: str, count: int, tls: TlsSettings) -> dict[str, Any]:
    """Return what the container of a platform with so many nodes knows of it."""

    def program() -> None:
        settings = platform_settings(
            advertised_host="broker.example", broker_nodes=count, product=ProductSettings(signup=True), tls=tls
        )
        nodes = {"management_urls": ["http://a"] * count, "amqp_addresses": ["a:5672"] * count}
        platform = SimpleNamespace(
            broker_network=docker.Network("broker", name="broker-net"),
            registry_network=docker.Network("registry", name="registry-net"),
            inside=SimpleNamespace(outputs=PLATFORM, broker={}, reader_dsn=None, trust_files={}),
            outputs=SimpleNamespace(management_url="http://a", amqp_host="a", amqp_port=5672, nodes=nodes),
            web_certificate=None,
        )
        args: Any = {
            "platform": platform,
            "metrics": SimpleNamespace(outputs={"metrics_username": "m", "metrics_password": "p"}),
            "events": SimpleNamespace(uri=pulumi.Output.from_input(PLATFORM["events_uri"])),
        }
        ProductServices("services", ProductServicesArgs(settings=settings, **args))

    made = registered(program).of("docker:index/container:Container")
    (found,) = json.loads(files(made[f"services-{role}-container"])["/etc/kryonix/platform.json"]).values()
    return dict(found)


@pytest.mark.parametrize("count", [1, 3])
def test_tenants_made_in_the_container_get_the_address_of_every_node(count: int) -> None:
    """With one node the file, and so the container, is what it was before there were several."""
    several = {"management_urls": ["http://a"] * 3, "amqp_addresses": ["a:5672"] * 3} if count == 3 else {}
    found = known("signup-worker", count, TlsSettings())
    assert found["advertised"] == {"management_url": "http://a", "amqp_host": "a", "amqp_port": 5672, **several}


def test_the_exporter_reads_the_certificates_of_all_nodes_and_the_web() -> None:
    found = known("exporter", 3, TlsSettings(on=True))
    assert found["amqp_addresses"] == ["rabbitmq-1:5671", "rabbitmq-2:5671", "rabbitmq-3:5671"]
    assert found["signup_url"] == "https://web:8080"
    assert not {"amqp_addresses", "signup_url"} & known("exporter", 3, TlsSettings()).keys()


def test_a_uri_keeps_its_login_at_another_address() -> None:
    assert reached_at(PLATFORM["events_uri"], "broker", 1) == "amqp://events:third@broker:1/%2Fkryonix-master"
