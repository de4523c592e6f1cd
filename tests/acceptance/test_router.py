"""`kryonix router`, as an operator runs it: from outcomes to a model, its decisions, and its use by a tenant."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from threading import Thread
from typing import Any

import docker
import pytest
from psycopg.conninfo import conninfo_to_dict

from kryonix.routing.outcomes import Outcome
from tests.support.containers import output_of
from tests.support.project import Project
from tests.support.worlds import RECIPES, make, played, shuffled

ROOT = Path(__file__).parents[2]
WORLD = make(RECIPES["kinds"], messages=4_000)
ASKED = ("module", "action", "at", "message_id", "bytes", "device", "shape", "priority", "expires_ms")


def router(*arguments: object, stdin: str = "", env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "kryonix", "router", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **(env or {})}
    return subprocess.run(
        command, input=stdin, env=environment, capture_output=True, text=True, timeout=300, check=False
    )


def written(file: Path, outcomes: Iterable[Outcome]) -> Path:
    file.write_text("".join(each.line() for each in outcomes))
    return file


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("outcomes") / "outcomes.jsonl", played(WORLD))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, outcomes: Path) -> Path:
    file = tmp_path_factory.mktemp("model") / "model.json"
    trained = router("train", "--outcomes", outcomes, "--out", file, "--json")
    assert trained.returncode == 0, trained.stderr
    report = json.loads(trained.stdout)
    (action,) = report["actions"]
    assert (report["out"], action["action"], action["messages"]) == (str(file), "crm.leads.create", 4_000)
    assert [held["load"] for held in action["held"]] == [0.8, 0.95, 1.1]
    return file


def test_a_trained_model_is_shown_and_everybody_may_read_it(model: Path) -> None:
    shown = router("show", "--model", model, "--json")
    assert shown.returncode == 0, shown.stderr
    assert json.loads(shown.stdout)["actions"]["crm.leads.create"]["messages"] == 4_000
    assert model.stat().st_mode & 0o777 == 0o666 & ~umask()
    assert list(model.parent.iterdir()) == [model]


def umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_50_000_messages_are_decided_in_order_within_10_s(model: Path, outcomes: Path) -> None:
    one = [json.loads(line) for line in outcomes.read_text().splitlines()]
    messages = [{**one[number % len(one)], "message_id": f"m-{number}"} for number in range(50_000)]
    text = "".join(json.dumps({name: each[name] for name in ASKED}) + "\n" for each in messages)
    begin = time.monotonic()
    decided = router("decide", "--model", model, stdin=text)
    seconds = time.monotonic() - begin
    assert decided.returncode == 0, decided.stderr
    answers = [json.loads(line) for line in decided.stdout.splitlines()]
    assert [each["message_id"] for each in answers] == [f"m-{number}" for number in range(50_000)]
    assert all(set(each) == {"message_id", "priority", "reason"} and 0 <= each["priority"] <= 10 for each in answers)
    assert len({each["priority"] for each in answers}) > 3
    assert seconds <= 10


def test_decide_answers_what_precedes_a_wrong_line(model: Path, outcomes: Path) -> None:
    good = outcomes.read_text().splitlines()[:2]
    decided = router("decide", "--model", model, stdin="\n".join([*good, '{"module": "crm"}', *good]))
    assert decided.returncode == 2
    assert len(decided.stdout.splitlines()) == 2
    assert "standard input:3: " in decided.stderr
    assert "Traceback" not in decided.stderr


def test_decide_is_quiet_when_nobody_reads_on(model: Path, outcomes: Path) -> None:
    command = [sys.executable, "-m", "kryonix", "router", "decide", "--model", str(model), str(outcomes)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""


def test_an_evaluation_compares_all_ways_and_draws_them(model: Path, tmp_path: Path) -> None:
    later = written(tmp_path / "later.jsonl", played(make(RECIPES["kinds"], messages=2_000, seed=2)))
    picture = tmp_path / "evaluation.svg"
    found = router("evaluate", "--outcomes", later, "--model", model, "--picture", picture, "--json")
    assert found.returncode == 0, found.stderr
    (action,) = json.loads(found.stdout)["actions"]
    ways = action["loads"][1]["ways"]
    assert set(ways) == {"fifo", "rules", "table", "model", "shuffled", "oracle"}
    assert all(each["low"] <= each["missed"] <= each["high"] for each in ways.values())
    assert picture.read_text().startswith("<svg")
    shown = router("evaluate", "--outcomes", later, "--model", model)
    assert shown.returncode == 0, shown.stderr
    assert "oracle" in shown.stdout


def test_shuffled_outcomes_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    file = written(tmp_path / "shuffled.jsonl", shuffled(played(WORLD)))
    refused = router("train", "--outcomes", file, "--out", tmp_path / "model.json")
    assert refused.returncode == 1, refused.stderr
    assert "no action gets a model" in refused.stderr
    assert list(tmp_path.iterdir()) == [file]


def test_a_wrong_outcome_is_named_and_nothing_is_written(tmp_path: Path, outcomes: Path) -> None:
    lines = outcomes.read_text().splitlines(keepends=True)
    file = tmp_path / "wrong.jsonl"
    file.write_text("".join([*lines[:2], lines[2].replace('"attempts":1', '"attempts":-1'), *lines[3:]]))
    refused = router("train", "--outcomes", file, "--out", tmp_path / "model.json")
    assert refused.returncode == 2
    assert f"{file}:3: attempts" in refused.stderr
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("place", ["none/model.json", "folder"])
def test_a_place_that_cannot_be_written_is_refused_first(tmp_path: Path, place: str) -> None:
    (tmp_path / "folder").mkdir()
    refused = router("train", "--outcomes", tmp_path / "not read", "--out", tmp_path / place)
    assert refused.returncode == 2
    assert "--out" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_password_on_the_command_line_is_refused_unread() -> None:
    refused = router("train", "--outcomes", "postgresql://kryonix:hidden@127.0.0.1:1/x", "--out", "model.json")
    assert refused.returncode == 2
    assert "KRYONIX_OUTCOMES" in refused.stderr
    assert "hidden" not in refused.stdout + refused.stderr


def test_training_without_lightgbm_says_how_to_install_it(tmp_path: Path, outcomes: Path) -> None:
    (tmp_path / "lightgbm.py").write_text("raise OSError('libgomp.so.1: cannot open shared object file')")
    env = {"PYTHONPATH": f"{tmp_path}:{ROOT}"}
    missing = router("train", "--outcomes", outcomes, "--out", tmp_path / "model.json", env=env)
    assert missing.returncode == 3
    assert "pip install 'kryonix-messaging[router]'" in missing.stderr
    assert "libgomp1" in missing.stderr


def test_a_killed_training_leaves_no_file(tmp_path: Path) -> None:
    pipe, folder = tmp_path / "outcomes", tmp_path / "models"
    os.mkfifo(pipe)
    folder.mkdir()
    arguments = ["train", "--outcomes", str(pipe), "--out", str(folder / "model.json")]
    command = [sys.executable, "-m", "kryonix", "router", *arguments]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL) as process:
        with pipe.open("w") as opened:  # waits for the command to read
            opened.writelines(each.line() for each in played(WORLD))
        process.kill()
    assert process.returncode < 0, "it ended before it was killed"
    assert list(folder.iterdir()) == []


def test_two_trainings_of_one_file_leave_a_whole_model(tmp_path: Path, outcomes: Path) -> None:
    file = tmp_path / "model.json"
    done: list[subprocess.CompletedProcess[str]] = []
    threads = [
        Thread(target=lambda: done.append(router("train", "--outcomes", outcomes, "--out", file))) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [each.returncode for each in done] == [0, 0], [each.stderr for each in done]
    assert router("show", "--model", file).returncode == 0
    assert list(tmp_path.iterdir()) == [file]


def test_notes_in_a_file_are_exported_as_outcomes(tmp_path: Path) -> None:
    sent: dict[str, Any] = {
        "note": "published",
        "tenant": "acme",
        "module": "crm",
        "action": "leads.create",
        "bytes": 10,
    }
    sent |= {"device": "web", "shape": "s", "priority": None, "expires_ms": None, "priority_used": 5}
    now = time.time()
    handled: dict[str, Any] = {
        "note": "consumed",
        "tenant": "acme",
        "module": "crm",
        "action": "leads.create",
        "message_id": "new",
    }
    handled |= {"at": now, "waited_ms": 5, "handled_ms": 7, "attempts": 1, "outcome": "done"}
    notes = tmp_path / "notes.jsonl"
    published = [{**sent, "message_id": id, "at": at} for id, at in (("old", now - 9e5), ("new", now), ("open", now))]
    old = {**handled, "message_id": "old"}
    notes.write_text("".join(json.dumps(each) + "\n" for each in (*published, handled, old)) + "no note\n")
    found = router("outcomes", "export", "--notes", notes, "--since", "7d")
    assert found.returncode == 0, found.stderr
    (outcome,) = [json.loads(line) for line in found.stdout.splitlines()]
    assert (outcome["message_id"], outcome["waited_ms"], outcome["outcome"]) == ("new", 5, "done")
    assert "1 outcome(s); left out: " in found.stderr
    assert "1 not yet handled" in found.stderr
    assert "1 line(s) that are no notes" in found.stderr
    whole = router("outcomes", "export", "--notes", notes, "--output", tmp_path / "outcomes.jsonl")
    assert whole.returncode == 0, whole.stderr
    assert len((tmp_path / "outcomes.jsonl").read_text().splitlines()) == 2


@pytest.fixture
def table(platform: Project) -> Iterator[str]:
    """The address of an empty database, with a password."""
    name, password = f"outcomes_{secrets.token_hex(4)}", secrets.token_hex(8)
    server = str(platform.outputs()["registry_dsn"]).rpartition("@")[2].partition("/")[0]
    with closing(docker.from_env()) as client:
        container = client.containers.get(f"kryonix-{platform.stack}-postgres")

        def run(*statements: str) -> None:
            for statement in statements:
                script = f'psql -v ON_ERROR_STOP=1 -U "$POSTGRES_USER" -d "$POSTGRES_DB" -c "{statement}"'
                output_of(container, "sh", "-c", script)

        run(f"CREATE ROLE {name} LOGIN PASSWORD '{password}'", f"CREATE DATABASE {name} OWNER {name}")
        yield f"postgresql://{name}:{password}@{server}/{name}"
        run(f"DROP DATABASE {name} WITH (FORCE)", f"DROP ROLE {name}")


def test_imported_outcomes_come_back_as_they_were(table: str, outcomes: Path) -> None:
    env = {"KRYONIX_OUTCOMES": table}
    for _ in range(2):  # the second time nothing is new
        stored = router("outcomes", "import", outcomes, "--tenant", "acme", env=env)
        assert stored.returncode == 0, stored.stderr
    exported = router("outcomes", "export", "--tenant", "acme", env=env)
    assert exported.returncode == 0, exported.stderr
    assert str(conninfo_to_dict(table)["password"]) not in stored.stdout + stored.stderr + exported.stderr

    def by_id(lines: str) -> dict[str, dict[str, object]]:
        return {(found := json.loads(line))["message_id"]: found for line in lines.splitlines()}

    sent, came = by_id(outcomes.read_text()), by_id(exported.stdout)
    assert len(exported.stdout.splitlines()) == len(came)
    assert came.keys() == sent.keys()
    assert [id for id, found in came.items() if sent[id].items() - found.items()] == []


def test_a_table_that_cannot_be_reached_is_an_error_without_the_password() -> None:
    env = {"KRYONIX_OUTCOMES": "postgresql://kryonix:hidden@127.0.0.1:1/none"}
    for arguments in (["outcomes", "export"], ["train", "--out", "/tmp/never.json"]):
        away = router(*arguments, env=env)
        assert away.returncode == 3, away.stderr
        assert "hidden" not in away.stdout + away.stderr
        assert "Traceback" not in away.stderr


def test_a_tenants_model_is_published_used_and_watched(platform: Project, outcomes: Path, tmp_path: Path) -> None:
    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        return platform.kryonix("router", *map(str, arguments), "--stack", platform.stack, "--engine", "local")

    none = run("enable", "--tenant", "acme", "--mode", "on")
    assert none.returncode == 2
    assert "kryonix router train" in none.stderr
    unshared = run("train", "--tenant", "acme", "--also", "beta", "--outcomes", outcomes, "--publish")
    assert unshared.returncode == 2
    assert "kryonix router share acme" in unshared.stderr
    published = run("train", "--tenant", "acme", "--outcomes", outcomes, "--publish", "--json")
    assert published.returncode == 0, published.stderr
    version = json.loads(published.stdout)["version"]
    enabled = run("enable", "--tenant", "acme", "--mode", "canary", "--canary", 20, "--json")
    assert enabled.returncode == 0, enabled.stderr
    assert json.loads(enabled.stdout) == {"tenant": "acme", "mode": "canary", "canary": 20.0, "version": version}
    assert run("share", "acme").returncode == 0
    listed = json.loads(run("status", "--json").stdout)
    (found,) = [each for each in listed if each["tenant"] == "acme"]
    assert (found["mode"], found["version"], found["shares"], found["access"]) == ("canary", version, True, False)
    watched = run("status", "--tenant", "acme", "--outcomes", outcomes)
    assert watched.returncode == 0, watched.stdout + watched.stderr
    assert "crm.leads.create" in watched.stdout
    shown = run("show", "--tenant", "acme", "--json")
    assert json.loads(shown.stdout)["version"] == version
    file = tmp_path / "acme.credentials.json"
    assert run("access", "acme", "--output", file).returncode == 0
    assert file.stat().st_mode & 0o777 == 0o600
    assert json.loads(file.read_text())["routing_dsn"].startswith("postgresql://")
    assert run("access", "acme", "--revoke").returncode == 0
    assert run("share", "acme", "--stop").returncode == 0
    assert run("enable", "--tenant", "acme", "--mode", "off").returncode == 0
