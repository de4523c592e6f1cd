"""`kryonix certificates` against real listeners; only the stack's outputs and the keeper's container are stand-ins."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import docker
import pytest
import yaml
from typer.testing import CliRunner, Result

from kryonix.certificates.authority import Authority
from kryonix.certificates.leaf import Leaf
from kryonix.cli import certificates, certificates_ca
from kryonix.engines.containers import run_inside
from kryonix.errors import InvalidChoice, ServiceUnreachable
from tests.support.tls import CA, HOST, Pair, faulty, pair, serving
from tests.support.waiting import eventually

SOON = {"soon": pair("soon", CA, names=[HOST], starts=-80, ends=3)}


class World:
    """A project with a platform, whose listeners serve what they are given, and its keeper's container."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.stack = ExitStack()
        self.outputs: dict[str, Any] = {"ca_certificate": CA.pem, "registry_dsn": "postgresql://x/y"}
        self.places: list[dict[str, Any]] = []
        self.ran: list[Sequence[str]] = []
        self.config = folder / "Pulumi.prod.yaml"
        (folder / "Pulumi.yaml").write_text(
            "name: kryonix\nruntime: python\nconfig:\n  caTrusted:\n    type: array\n    items:\n      type: integer\n"
            "    default: [1]\n  caIssuing:\n    type: integer\n    default: 1\n"
        )
        self.config.write_text("config:\n  kryonix:tls: 'true' # everywhere\n")
        monkeypatch.chdir(folder)
        for module in (certificates, certificates_ca):
            monkeypatch.setattr(module, "open_site", lambda _: SimpleNamespace(outputs=self.outputs))
        monkeypatch.setattr(certificates, "run_inside", self._run)
        monkeypatch.setattr(certificates, "print_outage", lambda _: None)

    def serve(self, name: str, served: Pair | Leaf | None) -> str:
        """Serve a certificate under an output's name; return its address."""
        port = self.stack.enter_context(serving(as_pair(served) if isinstance(served, Leaf) else served))
        self.outputs[name] = f"https://{HOST}:{port}"
        return f"{HOST}:{port}"

    def keep(self, role: str, served: Pair, **more: Any) -> None:
        serial = f"{served.certificate.serial_number:x}"
        empty = {"names": [HOST], "issuer": "CN=a CA", "expires": "", "renews": "2026-11-01", "problem": ""}
        place = {"role": role, "state": "served", "endpoint": f"{role}:1", "serial": serial, **empty, **more}
        self.places.append(place)

    def _run(self, container: str, command: Sequence[str], docker_host: str = "") -> tuple[int, str, str]:
        assert (container, docker_host) == ("kryonix-prod-keeper", "")
        self.ran.append(command)
        return 0, json.dumps({"at": "", "places": self.places}), ""


def as_pair(leaf: Leaf) -> Any:
    return SimpleNamespace(key_pem=leaf.key, pem=leaf.chain)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    made = World(tmp_path, monkeypatch)
    with made.stack:
        yield made


def run(*arguments: str) -> Result:
    return CliRunner().invoke(certificates.app, [*arguments, "--stack", "prod"])


def test_the_list_joins_what_is_served_with_what_is_kept(world: World) -> None:
    good, strange = faulty("good"), faulty("good")
    assert good
    assert strange
    kept, other = world.serve("management_url", good), world.serve("page", strange)
    world.keep("rabbitmq", good)
    world.keep("web", pair("new", CA, names=[HOST]), state="waiting", problem="the service has not taken /tls/web yet")
    result = run("list", "--json")
    assert result.exit_code == 0
    rows = {each["address"]: each for each in json.loads(result.stdout)}
    assert (rows[kept]["service"], rows[kept]["state"], rows[kept]["renews"]) == ("rabbitmq", "accepted", "2026-11-01")
    assert rows[kept]["serial"] == f"{good.certificate.serial_number:x}"
    assert (rows[other]["service"], rows[other]["state"]) == ("", "accepted")
    assert (rows["web:1"]["state"], rows["web:1"]["problem"]) == ("waiting", "the service has not taken /tls/web yet")
    assert kept in run("list").stdout


def test_the_list_tells_of_a_public_certificate_that_is_not_renewed(world: World) -> None:
    good = faulty("good")
    assert good
    shown = world.serve("management_url", good)
    world.keep("public", good, state="rejected", problem="the CA issued nothing")
    rows = {each["address"]: each for each in json.loads(run("list", "--json").stdout)}
    assert (rows[shown]["service"], rows[shown]["state"]) == ("public", "accepted")
    assert (rows["public:1"]["state"], rows["public:1"]["problem"]) == ("rejected", "the CA issued nothing")


def test_the_list_goes_without_the_keeper(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object) -> tuple[int, str, str]:
        raise ServiceUnreachable("Docker here has no container kryonix-prod-keeper")

    monkeypatch.setattr(certificates, "run_inside", away)
    world.serve("management_url", faulty("good"))
    result = run("list", "--json")
    assert (result.exit_code, len(json.loads(result.stdout))) == (0, 1)
    assert "no container kryonix-prod-keeper" in result.stderr


@pytest.mark.parametrize(
    ("fault", "state", "status"),
    [
        ("good", "accepted", 0),
        ("soon", "expires soon", 1),
        ("expired", "refused", 1),
        ("wrong CA", "refused", 1),
        ("plain", "not answering", 3),
    ],
)
def test_a_check_judges_as_a_client_does(world: World, fault: str, state: str, status: int) -> None:
    address = world.serve("management_url", SOON.get(fault) or faulty(fault))
    result = run("check", "--json")
    (row,) = json.loads(result.stdout)
    assert (row["address"], row["state"], result.exit_code) == (address, state, status)
    assert bool(row["problem"]) == (fault != "good")


def test_a_check_looks_as_far_ahead_as_it_is_told(world: World) -> None:
    world.serve("management_url", faulty("good"))
    assert run("check", "--within", "89").exit_code == 0
    assert run("check", "--within", "91").exit_code == 1


def test_a_renewal_runs_in_the_keeper_and_is_verified_from_here(world: World) -> None:
    good = faulty("good")
    assert good
    world.serve("management_url", good)
    world.keep("rabbitmq", good)
    result = run("renew", "--json")
    assert result.exit_code == 0, result.output
    (command,) = world.ran
    assert {"keep", "--once", "--force"} <= set(command)
    said = json.loads(result.stdout)
    assert [each["state"] for each in said["places"]] == ["served"]
    assert [(each["state"], each["service"]) for each in said["addresses"]] == [("accepted", "rabbitmq")]


@pytest.mark.parametrize(("state", "status"), [("rejected", 1), ("not served", 1), ("not answering", 3)])
def test_a_renewal_that_is_not_served_fails(world: World, state: str, status: int) -> None:
    good = faulty("good")
    assert good
    world.serve("management_url", good)
    world.keep("rabbitmq", good, state=state, problem="why")
    assert run("renew").exit_code == status


def test_a_renewal_that_the_keeper_cannot_do_tells_its_error(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certificates, "run_inside", lambda *_: (2, "", "INFO x\nerror: the file is broken\n"))
    world.serve("management_url", faulty("good"))
    result = run("renew")
    assert "the renewal in kryonix-prod-keeper failed: error: the file is broken" in str(result.exception)


def test_a_renewal_whose_output_was_lost_is_read_from_the_keepers_status(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = faulty("good")
    assert good
    world.serve("management_url", good)
    world.keep("rabbitmq", good)
    status = json.dumps({"at": "", "places": world.places})
    monkeypatch.setattr(certificates, "run_inside", lambda _, c, *__: (0, status if c[0] == "cat" else "", ""))
    result = run("renew", "--json")
    assert (result.exit_code, [each["role"] for each in json.loads(result.stdout)["places"]]) == (0, ["rabbitmq"])


def test_a_renewal_goes_on_without_a_machine_that_is_away(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    good = faulty("good")
    assert good
    world.serve("management_url", good)
    world.keep("rabbitmq-2", good)
    world.outputs["certificate_keepers"] = [{"container": f"keeper-{n}", "docker": f"ssh://{n}"} for n in (1, 2)]

    def inside(container: str, command: Sequence[str], docker_host: str) -> tuple[int, str, str]:
        if docker_host == "ssh://1":
            raise ServiceUnreachable("Docker at ssh://1 does not answer")
        return 0, json.dumps({"at": "", "places": world.places}), ""

    monkeypatch.setattr(certificates, "run_inside", inside)
    result = run("renew", "--json")
    assert "Docker at ssh://1 does not answer" in str(result.exception)
    assert [each["role"] for each in json.loads(result.stdout)["places"]] == ["rabbitmq-2"]


def test_a_renewal_goes_on_where_a_keeper_says_nothing_at_all(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    good = faulty("good")
    assert good
    world.serve("management_url", good)
    world.keep("rabbitmq-2", good)
    world.outputs["certificate_keepers"] = [{"container": f"keeper-{n}", "docker": ""} for n in (1, 2)]
    said = {"keeper-1": "", "keeper-2": json.dumps({"at": "", "places": world.places})}
    monkeypatch.setattr(certificates, "run_inside", lambda container, *_: (0, said[container], ""))
    result = run("renew", "--json")
    assert "keeper-1 has done no round yet" in str(result.exception)
    assert [each["role"] for each in json.loads(result.stdout)["places"]] == ["rabbitmq-2"]


@pytest.mark.parametrize("command", ["list", "check", "renew"])
def test_a_platform_without_tls_is_told_how_to_get_it(world: World, command: str) -> None:
    result = run(command)
    assert isinstance(result.exception, InvalidChoice)
    assert "no address of the platform 'prod' has TLS. `kryonix:tls` turns it on" in str(result.exception)


def generations(world: World) -> Mapping[str, Any]:
    config = yaml.safe_load(world.config.read_text())["config"]
    return {key: config.get(f"kryonix:{key}") for key in ("caTrusted", "caIssuing")}


def test_a_ca_is_changed_step_by_step_and_no_step_is_taken_twice(world: World) -> None:
    first, second = Authority.create("Kryonix prod CA 1"), Authority.create("Kryonix prod CA 2")
    world.outputs["ca_certificate"] = first.certificate
    assert run("ca", "print").stdout == first.certificate
    assert "there is no new CA" in str(run("ca", "use").exception)
    assert "there is one CA only" in str(run("ca", "retire").exception)

    assert run("ca", "rotate").exit_code == 0
    assert generations(world) == {"caTrusted": [1, 2], "caIssuing": None}
    assert "The next step is `kryonix certificates ca use`" in str(run("ca", "rotate").exception)
    assert "Run `kryonix up` first" in str(run("ca", "use").exception)

    world.outputs["ca_certificate"] = first.certificate + second.certificate
    assert json.loads(run("ca", "use", "--json").stdout)["issuing"] == 2
    assert generations(world) == {"caTrusted": [1, 2], "caIssuing": 2}
    assert "issues already" in str(run("ca", "use").exception)

    address = world.serve("management_url", first.issue_server([HOST]))
    assert f"{address} would be refused by clients that trust the new CA only" in str(run("ca", "retire").exception)
    world.serve("management_url", second.issue_server([HOST]))
    result = run("ca", "retire")
    assert (result.exit_code, generations(world)) == (0, {"caTrusted": [2], "caIssuing": 2})
    assert "Run `kryonix up --stack prod`" in result.stdout
    assert "kryonix:tls: 'true' # everywhere" in world.config.read_text()

    world.outputs["ca_certificate"] = second.certificate
    run("ca", "rotate")
    assert generations(world) == {"caTrusted": [2, 3], "caIssuing": 2}


def test_cas_outside_stay_while_the_platforms_own_is_changed(world: World) -> None:
    """A public name is served a certificate of theirs."""
    first, second = Authority.create("Kryonix prod CA 1"), Authority.create("Kryonix prod CA 2")
    world.config.write_text(yaml.safe_dump({"config": {"kryonix:caCertificate": f"# roots\n{CA.pem}"}}))
    world.outputs["ca_certificate"] = f"{first.certificate}# roots\n{CA.pem}"
    world.serve("signup_url", faulty("good"))
    assert run("ca", "rotate").exit_code == 0
    world.outputs["ca_certificate"] = f"{first.certificate}{second.certificate}# roots\n{CA.pem}"
    assert run("ca", "use").exit_code == 0
    address = world.serve("management_url", first.issue_server([HOST]))
    assert f"{address} would be refused" in str(run("ca", "retire").exception)
    world.serve("management_url", second.issue_server([HOST]))
    assert run("ca", "retire").exit_code == 0, run("ca", "retire").exception


def test_a_platform_without_a_ca_of_its_own_has_none_to_print(world: World) -> None:
    world.outputs["ca_certificate"] = ""
    for command in ("print", "rotate", "use", "retire"):
        assert "has no CA of its own" in str(run("ca", command).exception)


def test_a_command_runs_inside_a_container_and_an_absent_one_is_named() -> None:
    client = docker.from_env()
    container = client.containers.run("postgres:17", ["sleep", "600"], entrypoint="", detach=True)
    try:
        command, wanted = ["sh", "-c", "echo out; echo err >&2; exit 7"], (7, "out\n", "err\n")
        eventually("what it prints", lambda: run_inside(container.name, command) == wanted)
        container.stop(timeout=0)
        with pytest.raises(ServiceUnreachable, match="does not run"):
            run_inside(container.name, ["true"])
    finally:
        container.remove(force=True, v=True)
        client.close()
    with pytest.raises(ServiceUnreachable, match=f"no container {container.name}"):
        run_inside(container.name, ["true"])
