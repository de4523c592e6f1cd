"""Notifications of tenants by a real Alertmanager, and its check of the configuration."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import docker
import httpx
import pytest
import yaml
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP as Server
from aiosmtpd.smtp import Envelope, Session
from docker.models.containers import Container
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from kryonix.monitoring.alertmanager import Alertmanager, AlertmanagerUnavailable, ConfigurationRefused
from kryonix.monitoring.notifications import with_tenants
from kryonix.registry.desired_states import DesiredState
from kryonix.topology.naming import TENANT_ID
from kryonix.topology.notify import Notify
from tests.support import promtool
from tests.support.project import ROOT, free_port
from tests.support.waiting import eventually

BASE: dict[str, Any] = yaml.safe_load((ROOT / "components/monitoring_files/alertmanager.yml").read_text())
SMTP = {"smtp_smarthost": "mail.example.com:587", "smtp_from": "kryonix@example.com"}
CHARACTERS = r"[A-Za-z0-9\-._~:/?\[\]@!$&'()*+,;=%{}\"\\ #\n]"


def valid(**value: Any) -> Notify | None:
    """Return what our own check accepts."""
    try:
        return Notify.model_validate(value)
    except ValidationError:
        return None


URLS = st.builds(
    "{}://{}{}".format,
    st.sampled_from(["http", "https"]),
    st.one_of(
        st.from_regex(r"([a-z0-9._-]{1,12}|\[[0-9a-f:.]{1,12}\])(:[0-9]{1,5})?", fullmatch=True),
        st.ip_addresses(v=6).map("[{}]:80".format),
    ),
    st.from_regex(rf"([/?]{CHARACTERS}{{0,30}})?", fullmatch=True),
)
ADDRESSES = st.lists(st.from_regex(rf"{CHARACTERS}{{1,8}}@[a-z0-9.-]{{1,12}}", fullmatch=True), max_size=3, unique=True)
NOTIFIED = st.one_of(
    st.builds(lambda url: valid(webhook=url), URLS),
    st.builds(lambda addresses: valid(email=addresses), ADDRESSES),
    st.builds(lambda url, addresses: valid(webhook=url, email=addresses), URLS, ADDRESSES),
)
TENANTS = st.dictionaries(st.from_regex(TENANT_ID, fullmatch=True), NOTIFIED, min_size=10, max_size=25)


def state(id: str, notify: Notify | None) -> DesiredState:
    return DesiredState(cliente_id=id, modules=("crm",), plan="basic", notify=notify)


def test_amtool_accepts_every_configuration_with_valid_tenants() -> None:
    files = {"broken.bad": yaml.safe_dump({**BASE, "receivers": [{"name": "other"}]})}
    tenants = 0

    @settings(max_examples=12, database=None)
    @given(TENANTS)
    def collect(entries: dict[str, Notify | None]) -> None:
        nonlocal tenants
        found = with_tenants({**BASE, "global": SMTP}, [state(id, notify) for id, notify in entries.items()])
        tenants += len(found.routed)
        files[f"{len(files)}.yml"] = yaml.safe_dump(dict(found.configuration), width=1_000_000)

    collect()
    assert tenants > 50
    script = "cd /c && if amtool check-config broken.bad; then exit 3; fi; amtool check-config *.yml"
    status, output = promtool.run(promtool.image("alertmanager"), script, files, "/c")
    assert status == 0, output[-3000:]
    assert output.count("SUCCESS") == len(files) - 1


class Hooks:
    """A web server with a path per receiver, a mail server, and what arrived: alerts by path, mails by address."""

    def __init__(self) -> None:
        self.arrived: dict[str, list[tuple[str, str]]] = {}
        self.mails: dict[str, list[str]] = {}
        hooks = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                found = [(alert["labels"]["alertname"], alert["status"]) for alert in body["alerts"]]
                hooks.arrived.setdefault(self.path.strip("/"), []).extend(found)
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()
        self.mail = Controller(self, "127.0.0.1", free_port())
        self.mail.start()

    async def handle_DATA(self, _: Server, __: Session, envelope: Envelope) -> str:
        assert isinstance(envelope.content, bytes)
        subject = message_from_bytes(envelope.content, policy=policy.default)["subject"]
        for address in envelope.rcpt_tos:
            self.mails.setdefault(address, []).append(subject)
        return "250 OK"

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/{name}"

    def close(self) -> None:
        self.mail.stop()
        self.server.shutdown()
        self.server.server_close()

    def has(self, name: str, *alerts: tuple[str, str]) -> bool:
        return set(alerts) <= set(self.arrived.get(name, ()))


@dataclass
class Home:
    """An Alertmanager's folder, the tenants, and where the notifications arrive."""

    folder: Path
    url: str
    hooks: Hooks
    tenants: list[DesiredState]
    container: Container | None = None

    @property
    def file(self) -> Path:
        return self.folder / "alertmanager.yml"

    def start(self, client: docker.DockerClient) -> None:
        """Start the server on the host's network, where the listener is."""
        files = {str(self.folder): {"bind": "/etc/alertmanager", "mode": "ro"}}
        address = self.url.removeprefix("http://")
        command = ["--config.file=/etc/alertmanager/alertmanager.yml", "--storage.path=/alertmanager"]
        self.container = client.containers.run(
            promtool.image("alertmanager"),
            [*command, "--cluster.listen-address=", f"--web.listen-address={address}"],
            detach=True,
            network_mode="host",
            user="0:0",
            volumes=files,
            labels={"kryonix.test": "1"},
        )

    def started_at(self) -> str:
        assert self.container is not None
        self.container.reload()
        return str(self.container.attrs["State"]["StartedAt"])

    def raise_alert(self, name: str, tenant: str, *, ended: bool = False, **labels: str) -> None:
        now = datetime.now(UTC)
        end = now if ended else now + timedelta(hours=1)
        alert = {
            "labels": {"alertname": name, "cliente_id": tenant, "severity": "warning", **labels},
            "startsAt": (now - timedelta(minutes=1)).isoformat(),
            "endsAt": end.isoformat(),
        }
        httpx.post(f"{self.url}/api/v2/alerts", json=[alert], timeout=30).raise_for_status()


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    hooks, client = Hooks(), docker.from_env()
    operators = {"name": "operators", "webhook_configs": [{"url": hooks.url("operators")}]}
    route = {"receiver": "operators", "group_by": ["alertname", "cliente_id"], "group_wait": "0s"}
    route |= {"group_interval": "1s", "repeat_interval": "1h"}
    tmp_path.chmod(0o755)
    smtp = {"smtp_smarthost": f"127.0.0.1:{hooks.mail.port}", "smtp_from": "k@example.com", "smtp_require_tls": False}
    base = {"global": smtp, "route": route, "receivers": [operators]}
    (tmp_path / "base.yml").write_text(yaml.safe_dump(base))
    tenants = [state(id, Notify(webhook=hooks.url(id), email=(f"ops@{id}.example",))) for id in ("acme", "beta")]
    made = Home(tmp_path, f"http://127.0.0.1:{free_port()}", hooks, tenants)
    try:
        yield made
    finally:
        if made.container is not None:
            made.container.remove(force=True, v=True)
        client.close()
        hooks.close()


def test_a_tenants_alerts_arrive_at_its_own_receivers_and_the_operators(home: Home) -> None:
    alertmanager, hooks = Alertmanager(home.url, home.file, lambda: home.tenants), home.hooks
    with pytest.raises(AlertmanagerUnavailable, match="does not answer"):
        alertmanager.read()
    assert "tenant/acme" in home.file.read_text(), "it is written, and read when Alertmanager starts"
    client = docker.from_env()
    home.start(client)
    client.close()
    eventually("it is reloaded", alertmanager.read, ignoring=(AlertmanagerUnavailable,))
    started = home.started_at()

    home.raise_alert("TenantQueueBacklog", "acme", audience="tenant")
    home.raise_alert("TenantDrifted", "acme")
    firing = ("TenantQueueBacklog", "firing")
    eventually("the tenant has it", lambda: hooks.has("acme", firing))
    eventually("and by mail", lambda: hooks.mails.get("ops@acme.example"))
    eventually("the operators have both", lambda: hooks.has("operators", firing, ("TenantDrifted", "firing")))
    home.raise_alert("TenantQueueBacklog", "acme", audience="tenant", ended=True)
    resolved = ("TenantQueueBacklog", "resolved")
    eventually("both know its end", lambda: hooks.has("acme", resolved) and hooks.has("operators", resolved))

    home.tenants.append(state("gamma", Notify(webhook=hooks.url("gamma"))))
    (figures,) = alertmanager.read()
    assert {each.labels["outcome"]: each.value for each in figures.samples} == {"routed": 3, "without_smtp": 0}
    home.raise_alert("TenantQueueBacklog", "gamma", audience="tenant")
    eventually("the later tenant has it", lambda: hooks.has("gamma", firing))
    assert set(hooks.arrived["acme"]) == {firing, resolved}, "what is for operators only did not arrive"
    assert "beta" not in hooks.arrived
    assert set(hooks.mails) == {"ops@acme.example"}
    assert all("TenantQueueBacklog" in subject for subject in hooks.mails["ops@acme.example"])
    assert home.started_at() == started

    good = home.file.read_text()
    home.tenants.append(state("bad", Notify.model_construct(webhook="no URL", email=())))
    for _ in range(2):
        with pytest.raises(ConfigurationRefused, match="It goes on with the configuration before"):
            alertmanager.read()
        assert home.file.read_text() == good, "a restarted Alertmanager could load it"
    home.tenants.pop()
    alertmanager.read()
    home.file.write_text((home.folder / "base.yml").read_text())  # as a new container does
    alertmanager.read()
    assert home.file.read_text() == good
    assert list(home.folder.glob(".*")) == []


def test_a_missing_or_broken_base_is_named(tmp_path: Path) -> None:
    alertmanager = Alertmanager("http://127.0.0.1:1", tmp_path / "alertmanager.yml", list)
    with pytest.raises(AlertmanagerUnavailable, match=r"base\.yml can't be read: No such file"):
        alertmanager.read()
    (tmp_path / "base.yml").write_text("[")
    with pytest.raises(AlertmanagerUnavailable, match=r"base\.yml is not YAML"):
        alertmanager.read()
    assert not (tmp_path / "alertmanager.yml").exists()
