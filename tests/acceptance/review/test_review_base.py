"""The base of a review: revisions, forks, clones and files, and their errors."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.project import tenant
from tests.support.review_kinds import TENANTS, TOPOLOGY
from tests.support.review_repository import CATALOG, Repository


def test_a_branch_is_compared_with_its_merge_base(list_only: Repository) -> None:
    list_only.git("checkout", "--quiet", "-b", "change")
    list_only.tenants(*TENANTS, tenant("mine", "crm", plan="pro"))
    list_only.commit()
    list_only.git("checkout", "--quiet", "main")
    list_only.tenants(*TENANTS, tenant("theirs", "crm", plan="pro"))
    list_only.commit()
    list_only.git("checkout", "--quiet", "change")
    found = list_only.review(against="main")
    assert found.returncode == 0
    assert "**1 tenant added**." in found.stdout
    assert "<code>main</code> has 1 newer commit(s)" in found.stdout
    assert "theirs" not in found.stdout


def test_a_review_warns_when_the_base_is_ahead(list_only: Repository) -> None:
    list_only.tenants(*TENANTS, tenant("later", "crm", plan="pro"))
    list_only.commit()
    list_only.git("tag", "later")
    list_only.git("checkout", "--quiet", "base")
    found = list_only.review(against="later")
    assert found.returncode == 11
    assert "<code>later</code> is ahead by 1 commit(s): they are shown as undone" in found.stdout


def test_a_clone_reviews_against_its_remote_branch(repository: Repository, tmp_path: Path) -> None:
    repository.tenants(*TENANTS)
    repository.commit()
    clone = Repository(tmp_path / "clone")
    repository.git("clone", "--quiet", str(repository.folder), str(clone.folder))
    clone.tenants(*TENANTS[:3])
    clone.replace(f"{TOPOLOGY}/expansion.py", 'configure="^$"', "configure=names.own_objects")
    found = clone.review(against="origin/main")
    assert found.returncode == 16, found.stderr
    assert "`tenant-removed` × 1, `permission-widened` × 3" in found.stdout


def test_uncommitted_changes_are_reviewed(list_only: Repository) -> None:
    list_only.tenants(*TENANTS[:3])
    assert list_only.review().returncode == 11
    assert list_only.review(against="HEAD").returncode == 11


def test_the_code_of_the_base_runs_with_its_own_errors(repository: Repository) -> None:
    errors, importing = "kryonix/errors.py", "from kryonix.errors import InvalidChoice\n"
    repository.tenants(*TENANTS)
    repository.write(errors, f"{repository.read(errors)}\n\nclass Gone(KryonixError):\n    pass\n")
    repository.replace(f"{TOPOLOGY}/errors.py", importing, f"from kryonix.errors import Gone\n{importing}")
    repository.commit()
    repository.git("tag", "base")
    repository.git("checkout", "--quiet", "HEAD~1", "--", "kryonix")
    found = repository.review()
    assert found.returncode == 0, found.stderr
    assert "can't be run here" not in found.stdout


def test_the_code_of_the_base_gets_an_empty_environment(repository: Repository) -> None:
    code = repository.read(f"{TOPOLOGY}/naming.py")
    spying = "import os\nif 'kryonix-base' in os.getcwd():\n    raise SystemExit(f'sees {sorted(os.environ)}')\n"
    repository.write(f"{TOPOLOGY}/naming.py", code.replace("import re\n", f"import re\n{spying}", 1))
    repository.tenants(*TENANTS)
    repository.commit()
    repository.git("tag", "base")
    repository.write(f"{TOPOLOGY}/naming.py", code)
    repository.env |= {"AWS_SECRET_ACCESS_KEY": "never", "PULUMI_CONFIG_PASSPHRASE": "never"}
    found = repository.review()
    assert found.returncode == 0
    assert "can't be run here (sees" in found.stdout
    assert "AWS" not in found.stdout
    assert "PULUMI" not in found.stdout
    assert "PATH" not in found.stdout


def test_a_symlink_in_the_bases_code_stays_within_its_folder(repository: Repository, tmp_path: Path) -> None:
    outside = tmp_path / "outside.py"
    outside.write_text("x = 1\n")
    (repository.folder / TOPOLOGY / "linked.py").symlink_to(outside)
    repository.tenants(*TENANTS)
    repository.commit()
    repository.git("tag", "base")
    (repository.folder / TOPOLOGY / "linked.py").unlink()
    found = repository.review()
    assert found.returncode == 0, found.stderr
    assert "it can't be unpacked" in found.stdout


def test_a_named_catalog_is_compared_with_its_own_base_version(repository: Repository) -> None:
    catalog = repository.read(CATALOG)
    repository.tenants(*TENANTS)
    repository.write("ours.yaml", catalog)
    repository.commit()
    repository.git("tag", "base")
    repository.write("ours.yaml", catalog.replace("max_queues: 200", "max_queues: 250"))
    assert repository.review("--catalog", "ours.yaml").returncode == 15
    assert repository.review().returncode == 0
    # With other code too, the base is read by the catalog it had.
    repository.replace(f"{TOPOLOGY}/naming.py", '"""Every name', '"""Each name')
    assert repository.review("--catalog", "ours.yaml").returncode == 15
    repository.write("ours.yaml", catalog)
    assert "no tenant changes" in repository.review("--catalog", "ours.yaml").stdout


def test_a_catalog_new_since_the_base_replaces_the_packages_catalog(repository: Repository) -> None:
    repository.tenants(*TENANTS)
    repository.commit()
    repository.git("tag", "base")
    repository.write("ours.yaml", repository.read(CATALOG).replace("max_queues: 200", "max_queues: 250"))
    assert repository.review("--catalog", "ours.yaml").returncode == 15


def test_an_unreadable_base_makes_every_tenant_new(list_only: Repository) -> None:
    orphan = Repository.empty(list_only.folder.parent / "orphan")
    orphan.write("tenants.yaml", "tenants: [\n")
    orphan.commit()
    orphan.git("tag", "base")
    orphan.tenants(*TENANTS)
    found = orphan.review()
    assert found.returncode == 0
    assert "**4 tenants added**" in found.stdout
    assert "nor any revision before it: every tenant is new" in found.stdout
    assert "✅" not in found.stdout


def test_the_full_report_is_written_to_the_given_file(list_only: Repository) -> None:
    list_only.tenants(*(tenant(f"loja-{number}", "crm", "portal", plan="pro") for number in range(40)))
    shown = list_only.review("--full", "all.md", "--limit", "4000")
    assert "The whole report is in <code>all.md</code>" in shown.stdout
    assert len(shown.stdout.encode()) <= 4_000
    assert all(f"<code>loja-{number}</code>" in list_only.read("all.md") for number in range(40))


def test_one_tenant_can_be_reviewed_alone(list_only: Repository) -> None:
    list_only.tenants(*TENANTS[2:])
    found = list_only.review("--tenant", "beta")
    assert found.returncode == 11
    assert "acme" not in found.stdout
    assert list_only.review("--tenant", "gama").returncode == 0
    assert list_only.review("--tenant", "bета").returncode == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--against", "nowhere"), "neither a file nor a revision in this clone"),
        (("--against", "--all"), "neither a file nor a revision in this clone"),
        (("--against", ""), "is neither a file nor a git revision"),
        (("--against", "base", "--limit", "10"), "minimum: 4000 bytes"),
        (("--against", "base", "--tenants", "gone.yaml"), "can't be read"),
        (("--against", "base", "--full", "none/all.md"), "can't be written"),
        (("--against", "base", "--format", "html"), "html"),
        (("--format", "markdown"), "need --against"),
        (("--full", "all.md"), "need --against"),
    ],
)
def test_a_user_error_is_one_sentence(list_only: Repository, arguments: tuple[str, ...], said: str) -> None:
    found = list_only.kryonix("plan", *arguments)
    assert found.returncode == 2
    assert said in found.stderr
    assert "Traceback" not in found.stderr


def test_a_shallow_clone_is_reported(list_only: Repository, tmp_path: Path) -> None:
    base = list_only.git("rev-parse", "HEAD")
    list_only.tenants(*TENANTS[:3])
    list_only.commit()
    shallow = Repository(tmp_path / "shallow")
    list_only.git("clone", "--quiet", "--depth", "1", f"file://{list_only.folder}", str(shallow.folder))
    found = shallow.review(against=base)
    assert found.returncode == 2
    assert "git fetch --unshallow" in found.stderr


def test_a_folder_without_git_is_reported(tmp_path: Path) -> None:
    folder = Repository(tmp_path)
    folder.tenants(*TENANTS)
    found = folder.review(against="main")
    assert found.returncode == 2
    assert "is not in a git repository" in found.stderr


def test_a_review_inside_a_git_hook_ignores_the_hooks_repository(list_only: Repository, tmp_path: Path) -> None:
    list_only.env["GIT_DIR"] = str(tmp_path / "another")
    assert list_only.kryonix("plan", "--against", "base", "--format", "markdown").returncode == 0
