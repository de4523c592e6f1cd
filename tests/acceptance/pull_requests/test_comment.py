"""The pull request comment: created once, then updated, and safe against hostile reports."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from kryonix.review.report import LONGEST_COMMENT, MARKER
from tests.support.forge import SOMEBODY, TOKEN, Forge, serving
from tests.support.project import ROOT
from tests.support.rendered import Rendered

REPORT = f"{MARKER}\n## What this change does to the tenants\n\n**1 tenant added**: <code>acme</code>\n"
SHA = "0123456789abcdef0123456789abcdef01234567"


class Poster:
    """scripts/comment, as the workflows run it."""

    def __init__(self, url: str, folder: Path) -> None:
        self.file = folder / "report.md"
        self.env = {
            "PATH": os.environ["PATH"],
            "GITHUB_API_URL": url,
            "GITHUB_REPOSITORY": "kryonix/messaging",
            "GITHUB_TOKEN": TOKEN,
            "HEAD_OWNER": "somebody",
            "HEAD_BRANCH": "feature/one",
            "HEAD_SHA": SHA,
            "CI_API_V4_URL": f"{url}/api/v4",
            "CI_PROJECT_ID": "7",
            "CI_MERGE_REQUEST_IID": "12",
            "GITLAB_TOKEN": TOKEN,
        }

    def post(self, report: str | bytes | None = REPORT, forge: str = "github") -> subprocess.CompletedProcess[str]:
        if report is not None:
            self.file.write_bytes(report.encode() if isinstance(report, str) else report)
        command = [str(ROOT / "scripts/comment"), forge, str(self.file)]
        return subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def forge() -> Forge:
    forge = Forge()
    forge.pull(12, "somebody", "feature/one", SHA)
    return forge


@pytest.fixture
def poster(forge: Forge, tmp_path: Path) -> Iterator[Poster]:
    with serving(forge) as url:
        yield Poster(url, tmp_path)


COMMENTS = "/repos/kryonix/messaging/issues/12/comments"
NOTES = "/api/v4/projects/7/merge_requests/12/notes"


@pytest.mark.parametrize(
    ("name", "create", "update"),
    [
        ("github", f"POST {COMMENTS}", "PATCH /repos/kryonix/messaging/issues/comments/1"),
        ("gitlab", f"POST {NOTES}", f"PUT {NOTES}/1"),
    ],
)
def test_the_first_report_creates_a_comment_and_later_ones_update_it(
    poster: Poster, forge: Forge, name: str, create: str, update: str
) -> None:
    assert poster.post(forge=name).returncode == 0
    assert [comment["body"] for comment in forge.comments] == [REPORT]
    again = REPORT.replace("added", "removed")
    assert poster.post(again, forge=name).returncode == 0
    assert [comment["body"] for comment in forge.comments] == [again]
    assert forge.writes == [create, update]


def test_the_comment_is_found_among_hundreds(poster: Poster, forge: Forge) -> None:
    for number in range(250):
        forge.comment(f"comment {number}", SOMEBODY)
    forge.comment(REPORT)
    assert poster.post().returncode == 0
    assert forge.writes == ["PATCH /repos/kryonix/messaging/issues/comments/251"]


def test_a_users_comment_that_looks_like_a_report_is_left_alone(poster: Poster, forge: Forge) -> None:
    forge.comment(REPORT, SOMEBODY)
    assert poster.post().returncode == 0
    assert forge.writes == [f"POST {COMMENTS}"]


def test_a_commit_that_heads_no_open_request_gets_no_comment(poster: Poster, forge: Forge) -> None:
    forge.pulls.clear()
    forge.pull(12, "somebody", "feature/one", "f" * 40)  # it has been pushed to again
    forge.pull(13, "somebody-else", "feature/one", SHA)
    done = poster.post()
    assert (done.returncode, forge.writes) == (0, [])
    assert "nothing to post" in done.stderr


def test_two_open_requests_with_one_commit_get_no_comment(poster: Poster, forge: Forge) -> None:
    forge.pull(13, "somebody", "feature/one", SHA)
    assert (poster.post().returncode, forge.writes) == (2, [])


@pytest.mark.parametrize(
    ("report", "why"),
    [
        ("## no marker\n", "first line"),
        (f"x{MARKER}\n", "first line"),
        (f"{MARKER}\n{'x' * LONGEST_COMMENT}", "may have 65536"),
        (f"{MARKER}\n".encode() + b"\xff\xfe", "no UTF-8"),
        (f"{MARKER}\na\x00b\n", "U+0000"),
        (f"{MARKER}\na\x1b[31mb\n", "U+001B"),
        (f"{MARKER}\na‮b\n", "U+202E"),
    ],
    ids=["no marker", "marker later", "too long", "not text", "zero byte", "escape sequence", "right to left"],
)
def test_a_report_not_written_by_a_review_is_refused(
    poster: Poster, forge: Forge, report: str | bytes, why: str
) -> None:
    done = poster.post(report)
    assert (done.returncode, forge.writes) == (2, [])
    assert why in done.stderr
    assert "Traceback" not in done.stderr


def test_a_link_to_a_file_of_the_runner_is_refused(poster: Poster, forge: Forge, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text(f"{MARKER}\nof the runner\n")
    poster.file.symlink_to(secret)
    done = poster.post(None)
    assert (done.returncode, forge.writes) == (2, [])


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ("@kryonix/everybody", "&#64;&#8203;kryonix/everybody"),
        ("&#64;kryonix", "&#64;&#8203;kryonix"),
        ("&#x40;kryonix", "&#64;&#8203;kryonix"),
        ("[click](https://evil.example)", "[click]&#40;https:&#8203;&#47;&#47;evil.example)"),
        ("![x](//evil.example/x.png)", "![x]&#40;//evil.example/x.png)"),
        ("[click][1]\n\n[1]: /x", "[click]&#91;1]\n\n[1]&#58; /x"),
        ("WWW.evil.example", "WWW&#8203;&#46;evil.example"),
        ("<img src=x>", "&lt;img src=x>"),
        ("<a href='x'>", "&lt;a href='x'>"),
        ("<!-- hidden -->", "&lt;!-- hidden -->"),
        ("<details open ontoggle=x>", "&lt;details open ontoggle=x>"),
        ("<https://evil.example>", "&lt;https:&#8203;&#47;&#47;evil.example>"),
    ],
)
def test_a_report_contains_no_mention_link_or_image(poster: Poster, forge: Forge, hostile: str, shown: str) -> None:
    assert poster.post(f"{MARKER}\n{hostile}\n").returncode == 0
    assert forge.comments[-1]["body"] == f"{MARKER}\n{shown}\n"


COMMIT = "1f2e3d4c5b6a798081726354453627180912fedc"
HOSTILE = (
    *("#1", "(#1)", "owner/repo#12", "GH-12", "gh-12", f"owner/repo@{COMMIT}", COMMIT, COMMIT[:7], "1234567"),
    *("!1", "group/project!1", "&1", "%1", '%"a milestone"', "$1", "~label", '~"a label"', "GL-12", "[issue:1]"),
    *("&#35;1", "&num;1", "&#x23;1", "#&#49;", "&#x47;H-12", "GH&#45;12", "GH\\-12", "\\#1", "&excl;1", "&amp;1"),
    *("&dollar;1", "&percnt;1", "&commat;somebody", "&#64somebody", "&#35&#49;", COMMIT.upper()),
    f"{COMMIT[:3]}&#{ord(COMMIT[3])};{COMMIT[4:]}",
    *("http://evil.example", "http&#58;//evil.example", "http&colon;&sol;&sol;evil.example", "ftp:&#47;/e.example"),
    *("www.evil.example", "www&period;evil.example", "[[page]]"),
)


@pytest.mark.parametrize("around", ["{}", "<b>{}</b>", "<details>\n{}\n</details>", "<code>a</code>{}", "- {}"])
def test_a_report_contains_no_automatic_reference(poster: Poster, forge: Forge, around: str) -> None:
    """Check the rendered text, as both services do."""
    report = "\n\n".join(around.format(each) for each in HOSTILE)
    assert poster.post(f"{MARKER}\n{report}\n").returncode == 0
    shown = "".join(Rendered.of(forge.comments[-1]["body"]).texts)
    for reference in (
        r"#\d", r"\bG[HL]-\d", r"(?<![0-9a-f])[0-9a-f]{7,40}(?![0-9a-f])", r"[!&%$]\d", r"[~%][\w\"]", r"@\w",
        r"://", r"www\.", r"\[issue:\d", r"\[\[",
    ):  # fmt: skip
        assert not re.search(reference, shown, re.IGNORECASE), (reference, shown)


@pytest.mark.parametrize("line", ["/close", "  /merge", "/label ~bug", "text\n/approve"])
def test_a_report_contains_no_slash_command(poster: Poster, forge: Forge, line: str) -> None:
    assert poster.post(f"{MARKER}\n{line}\n", forge="gitlab").returncode == 0
    assert not re.search(r"^\s*/", forge.comments[-1]["body"], re.MULTILINE)


def test_every_golden_report_is_posted_unchanged(poster: Poster, forge: Forge) -> None:
    reports = sorted((ROOT / "tests/acceptance/review/golden").glob("*.md"))
    assert len(reports) >= 20
    changed = {}
    for file in reports:
        text = file.read_text()
        assert poster.post(text).returncode == 0, file.name
        if forge.comments[-1]["body"].replace("&#8203;", "") != text:  # where it can't be seen
            changed[file.name] = forge.comments[-1]["body"]
    assert changed == {}


@pytest.mark.parametrize("missing", ["GITHUB_TOKEN", "HEAD_SHA", "GITHUB_REPOSITORY"])
def test_a_missing_environment_variable_is_named(poster: Poster, missing: str) -> None:
    del poster.env[missing]
    done = poster.post()
    assert done.returncode == 2
    assert missing in done.stderr


def test_an_error_of_the_service_hides_the_token(poster: Poster, forge: Forge) -> None:
    forge.down = True
    done = poster.post()
    assert (done.returncode, "503" in done.stderr) == (3, True)
    forge.down = False
    poster.env["GITHUB_TOKEN"] = "another token"
    done = poster.post()
    assert (done.returncode, "401" in done.stderr, "another token" in done.stderr) == (3, True, False)
    poster.env["GITHUB_API_URL"] = "http://127.0.0.1:9"
    assert poster.post().returncode == 3
