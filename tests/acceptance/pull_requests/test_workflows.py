"""Workflows pass both linters, are pinned, have minimal permissions, and run scripts only."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.project import ROOT

WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
TOOLS = Path(sys.executable).parent
SCRIPT = re.compile(r"(?:^|[\s\"'(])((?:scripts|\.ci)/[\w-]+)")


def load(file: Path) -> dict[str, Any]:
    """A workflow; YAML reads its key `on` as the value true."""
    document: dict[Any, Any] = yaml.safe_load(file.read_text())
    return {("on" if key is True else key): value for key, value in document.items()}


def jobs(file: Path) -> dict[str, dict[str, Any]]:
    return dict(load(file)["jobs"])


def steps() -> Iterator[tuple[str, dict[str, Any]]]:
    for file in WORKFLOWS:
        for job in jobs(file).values():
            yield from ((file.name, step) for step in job.get("steps", ()))


@pytest.fixture
def workflows() -> dict[str, dict[str, Any]]:
    return {file.stem: load(file) for file in WORKFLOWS}


@pytest.mark.parametrize("command", [("zizmor", "--offline", "--no-progress"), ("actionlint",)], ids=lambda c: c[0])
def test_the_linters_find_nothing(command: tuple[str, ...]) -> None:
    tool, *options = command
    env = {key: value for key, value in os.environ.items() if key not in ("GH_TOKEN", "GITHUB_TOKEN")}
    done = subprocess.run(
        [TOOLS / tool, *options, *map(str, WORKFLOWS)], capture_output=True, text=True, env=env, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("command", "text"),
    [
        (("zizmor", "--offline"), "run: echo ${{ github.event.pull_request.title }}"),
        (("zizmor", "--offline"), "uses: actions/checkout@v4"),
        (("actionlint",), "run: echo ${{ github.evnt.number }}"),
    ],
)
def test_the_linters_detect_a_bad_workflow(tmp_path: Path, command: tuple[str, ...], text: str) -> None:
    bad = tmp_path / ".github" / "workflows" / "bad.yml"
    bad.parent.mkdir(parents=True)
    bad.write_text(f"on: pull_request\njobs:\n  a:\n    runs-on: ubuntu-24.04\n    steps:\n      - {text}\n")
    tool, *options = command
    assert subprocess.run([TOOLS / tool, *options, bad], capture_output=True, check=False).returncode != 0


def test_every_action_is_pinned_by_commit_with_its_version() -> None:
    used = [
        line.strip() for file in WORKFLOWS for line in file.read_text().splitlines() if re.match(r"\s*(- )?uses:", line)
    ]
    assert len(used) > 8
    pinned = re.compile(r"(- )?uses: [\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")
    assert [u for u in used if not pinned.fullmatch(u) and "./.github/workflows/ci.yml" not in u] == []


def test_a_checkout_leaves_no_token_behind() -> None:
    checkouts = [step for _, step in steps() if step.get("uses", "").startswith("actions/checkout@")]
    assert len(checkouts) == 7
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)


def test_a_workflow_has_no_permissions_and_each_job_names_its_own(workflows: dict[str, dict[str, Any]]) -> None:
    writing = {}
    for name, workflow in workflows.items():
        assert workflow["permissions"] == {}, name
        for job, about in workflow["jobs"].items():
            rights = about["permissions"]
            assert isinstance(rights, dict), f"{name}.{job}"
            writing[f"{name}.{job}"] = {right for right, level in rights.items() if level == "write"}
    assert {job: rights for job, rights in writing.items() if rights} == {
        "comment.comment": {"pull-requests"},
        "preview.stack": {"pull-requests"},
    }


def test_code_of_a_fork_gets_neither_secrets_nor_a_write_token(workflows: dict[str, dict[str, Any]]) -> None:
    assert all("pull_request_target" not in workflow["on"] for workflow in workflows.values())
    for name, about in workflows["preview"]["jobs"].items():
        privileged = "secrets." in str(about) or "write" in about["permissions"].values() or "environment" in about
        own_branches = "head.repo.full_name == github.repository" in about.get("if", "")
        no_request = "github.event_name != 'pull_request'" in about.get("if", "")
        assert not privileged or own_branches or no_request, name
    assert "secrets: inherit" not in "".join(file.read_text() for file in WORKFLOWS)


def test_the_commenting_job_runs_one_script_of_the_default_branch(workflows: dict[str, dict[str, Any]]) -> None:
    (job,) = workflows["comment"]["jobs"].values()
    checkout, download, post = job["steps"]
    assert checkout["with"]["ref"] == "${{ github.event.repository.default_branch }}"
    assert download["with"]["path"].startswith("${{ runner.temp }}/"), "beside the scripts it could replace them"
    assert post["run"].startswith("scripts/comment github ")
    assert "${{" not in post["run"]
    assert workflows["comment"]["on"] == {"workflow_run": {"workflows": ["preview"], "types": ["completed"]}}


def test_a_deployment_needs_approval_runs_alone_and_is_not_cancelled(workflows: dict[str, dict[str, Any]]) -> None:
    deploy = workflows["deploy"]
    assert deploy["on"] == {"push": {"branches": ["main"]}}
    assert deploy["concurrency"] == {"group": "deploy", "cancel-in-progress": False}
    assert deploy["jobs"]["deploy"]["environment"] == "production"
    assert deploy["jobs"]["deploy"]["needs"] == "tests"


def test_the_tests_of_a_pull_request_run_once(workflows: dict[str, dict[str, Any]]) -> None:
    on_requests = [name for name, workflow in workflows.items() if "pull_request" in workflow["on"]]
    assert on_requests == ["preview"]
    runs = [
        job for job in workflows["preview"]["jobs"].values() if "ci.yml" in job.get("uses", "") or ".ci/run" in str(job)
    ]
    assert len(runs) == 1
    assert workflows["ci"]["on"] == {"workflow_call": None}


def test_every_command_is_an_existing_script_without_pasted_input() -> None:
    for where, step in steps():
        if (run := step.get("run")) is None:
            continue
        assert "${{" not in run, f"{where}: {run}"
        if run != 'cat report/report.md >>"$GITHUB_STEP_SUMMARY"':
            (script,) = SCRIPT.findall(run)
            assert os.access(ROOT / script, os.X_OK), f"{where}: {run}"


def test_the_workflows_use_the_cli_version_of_the_sdk() -> None:
    (pinned,) = re.findall(r"^pulumi==(\S+)$", (ROOT / "requirements.in").read_text(), re.MULTILINE)
    versions = {step["with"]["pulumi-version"] for _, step in steps() if "pulumi/actions@" in step.get("uses", "")}
    assert versions == {pinned}


def test_the_gitlab_example_is_complete_and_calls_existing_scripts() -> None:
    document = yaml.safe_load((ROOT / "docs/gitlab-ci.yml").read_text())
    work = {name: job for name, job in document.items() if isinstance(job, dict) and "script" in job}
    assert set(work) == {"tests", "audit", "review", "comment", "stack", "drift", "deploy"}
    assert all(job["stage"] in document["stages"] for job in work.values())
    called = {script for job in work.values() for line in job["script"] for script in SCRIPT.findall(line)}
    assert called == {
        ".ci/run",
        *(f"scripts/{s}" for s in ("audit", "review", "comment", "preview", "drift", "deploy")),
    }
    assert all(os.access(ROOT / script, os.X_OK) for script in called)
    assert work["deploy"]["rules"][0]["when"] == "manual"
    assert not [name for name, job in work.items() if "when" in job], "beside `rules` GitLab refuses it"
    named = {job["image"] for job in work.values() if "image" in job} | {document["default"]["image"]}
    assert named == {"$PULUMI_IMAGE", "$DEBIAN_IMAGE"}, "each is pinned in one place"
    images = {document["variables"]["PULUMI_IMAGE"].rpartition(":")[2]}
    (pinned,) = re.findall(r"^pulumi==(\S+)$", (ROOT / "requirements.in").read_text(), re.MULTILINE)
    assert images == {pinned}
    assert document["deploy"]["resource_group"] == "deploy"
