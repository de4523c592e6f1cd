"""How a command names a bundle, a store and keys."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from kryonix.backup.archive import Archive
from kryonix.backup.names import BundleName
from kryonix.backup.store import StoredBundle
from kryonix.cli.bundles import archive_of, find_bundle, identities_of, recipients_of, subject_of
from kryonix.cli.options import PlatformOptions
from kryonix.errors import InvalidChoice

PLATFORM = PlatformOptions(stack="dev")
OLD = BundleName("dev", "tenant", "acme", datetime(2026, 5, 1, 2, tzinfo=UTC))
NEW = BundleName("dev", "tenant", "acme", datetime(2026, 5, 2, 2, tzinfo=UTC))
OF_PLATFORM = BundleName("dev", "platform", "dev", datetime(2026, 5, 1, 2, tzinfo=UTC))
KEY = "age15jjnquqgut4pkx0mcwq7r672tn4sn66xje0k5df9mmu6gvsxy3gslxgz7a"


class Store:
    """A store that has these bundles."""

    address = "/backups"

    def list(self, prefix: str = "") -> Sequence[StoredBundle]:
        return [
            StoredBundle(str(name), 10, name.at) for name in (OLD, NEW, OF_PLATFORM) if str(name).startswith(prefix)
        ]

    def address_of(self, name: str) -> str:
        return f"{self.address}/{name}"


@pytest.fixture(autouse=True)
def stored(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("kryonix.cli.bundles.BundleStore.open", lambda address: Store())


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("tenants/acme", NEW),
        ("tenants/acme/", NEW),
        ("acme", NEW),
        ("tenants/acme/20260501T020000Z", OLD),
        ("platform", OF_PLATFORM),
        ("platform/20260501T020000Z", OF_PLATFORM),
    ],
)
def test_a_bundle_of_the_stack_is_named_with_or_without_its_time(text: str, name: BundleName) -> None:
    found = find_bundle(PLATFORM, text, "/backups")
    assert (found.name, found.where) == (name, f"/backups/{name}")


def test_an_address_names_its_own_store_and_stack() -> None:
    found = find_bundle(PLATFORM, f"s3://bucket/some/where/{OF_PLATFORM}", None)
    assert found.name == OF_PLATFORM
    assert isinstance(found.archive, Archive)
    assert found.archive.stack == "dev"


def test_a_file_is_read_whatever_its_name(tmp_path: Path) -> None:
    Path("copy.age").write_bytes(b"x")
    assert find_bundle(PLATFORM, "copy.age", None).where == "copy.age"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tenants/acne", "neither a file nor a bundle of stack 'dev' in /backups; did you mean 'tenants/acme'?"),
        ("/missing/", "'/missing/' is neither a file nor a bundle"),
        ("x" * 300, "neither a file nor a bundle"),
        ("missing.age", "neither a file nor a bundle"),
        ("s3://bucket/acme.age", "is not the address of a bundle, which ends as in dev/tenants/acme/"),
    ],
)
def test_a_bundle_that_is_not_there_is_refused_with_the_nearest(text: str, message: str) -> None:
    with pytest.raises(InvalidChoice) as refused:
        find_bundle(PLATFORM, text, "/backups")
    assert message in str(refused.value)


def test_without_a_store_and_a_stack_the_option_is_named() -> None:
    with pytest.raises(InvalidChoice, match="no --from is given, and stack 'dev' has no `backup_to`"):
        archive_of(PLATFORM, None, "--from")


def test_recipients_are_keys_or_files_of_keys() -> None:
    Path("keys").write_text(f"# ours\n{KEY}\n")
    assert recipients_of(PLATFORM, [KEY]).lines == (KEY,)
    assert recipients_of(PLATFORM, ["keys", KEY]).lines == (KEY,)


def test_a_missing_key_names_its_option() -> None:
    with pytest.raises(InvalidChoice, match="nokeys: can't be read"):
        recipients_of(PLATFORM, ["nokeys"])
    with pytest.raises(InvalidChoice, match="is a private key, not a recipient") as caught:
        recipients_of(PLATFORM, ["AGE-SECRET-KEY-1QQQ"])
    assert "1QQQ" not in str(caught.value)
    with pytest.raises(InvalidChoice, match=r"make a key with `kryonix backup keygen FILE`"):
        recipients_of(PLATFORM, None)
    with pytest.raises(InvalidChoice, match="Add --identity"):
        identities_of(None)


def test_a_bundle_is_called_by_what_it_is_of() -> None:
    assert (subject_of(NEW), subject_of(OF_PLATFORM)) == ("tenants/acme", "platform")
