"""Bundles in a folder: whole or not there, never written over, and only encrypted bytes reach the disk."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from kryonix.backup.archive import Archive
from kryonix.backup.errors import BundleExists, InvalidAddress, InvalidBundle, StoreUnreachable, UnknownBundle
from kryonix.backup.names import BundleName
from kryonix.backup.store import BundleStore
from tests.support.bundles import AT, FACTS, MEMBERS, keys

NAME = "prod/tenants/acme/20261129T020000Z.tar.zst.age"


@pytest.fixture
def store(tmp_path: Path) -> BundleStore:
    return BundleStore.open(str(tmp_path / "backups"))


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_file_comes_back_and_is_listed(store: BundleStore) -> None:
    store.put(NAME, b"bundle")
    assert store.get(NAME) == b"bundle"
    [listed] = store.list("prod/")
    assert (listed.name, listed.bytes) == (NAME, 6)
    assert store.list("other/") == store.list("prod/platform/") == []
    store.delete(NAME)
    store.delete(NAME)
    assert store.list() == []


def test_a_folder_that_takes_no_bundle_is_named(
    store: BundleStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.check()
    assert files(tmp_path) == []
    (tmp_path / "backups").write_text("a file")
    with pytest.raises(StoreUnreachable, match=f"{store.address}: the user"):
        store.check()
    (tmp_path / "backups").unlink()
    monkeypatch.setattr(os, "access", lambda *_: False)  # no folder refuses root
    with pytest.raises(StoreUnreachable, match=f"{tmp_path}: the user {os.getuid()} can't write into it. Make"):
        store.check()


def test_a_file_is_never_written_over(store: BundleStore) -> None:
    store.put(NAME, b"bundle")
    with pytest.raises(BundleExists, match="exists already and was left as it is"):
        store.put(NAME, b"another")
    assert store.get(NAME) == b"bundle"
    assert files(Path(store.address)) == [NAME]


def test_a_missing_file_is_named_with_its_address(store: BundleStore) -> None:
    with pytest.raises(UnknownBundle, match=f"there is no bundle {store.address}/{NAME}"):
        store.get(NAME)


def test_what_a_killed_writer_left_is_not_listed_and_goes_later(store: BundleStore) -> None:
    store.put(NAME, b"bundle")
    old, young = (Path(store.address, f"{NAME}.{each}").with_name(f".{each}.part") for each in ("old", "young"))
    old.write_bytes(b"half")
    young.write_bytes(b"half")
    os.utime(old, (0, 0))
    assert [each.name for each in store.list()] == [NAME]
    store.put(NAME.replace("T02", "T03"), b"next")
    assert (old.exists(), young.exists()) == (False, True)


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond a size, as a full disk would not."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_disk_that_is_full_leaves_nothing_and_a_rerun_works(store: BundleStore) -> None:
    with largest_file(1000), pytest.raises(StoreUnreachable, match=f"{NAME}: File too large"):
        store.put(NAME, bytes(2000))
    assert files(Path(store.address)) == []
    store.put(NAME, bytes(2000))


def test_a_folder_that_can_not_be_made_is_an_error(tmp_path: Path) -> None:
    store = BundleStore.open(str(tmp_path / "file" / "backups"))
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnreachable, match=r"the folder .*/backups/prod/.* can't be made \((Not a|File) "):
        store.put(NAME, b"bundle")
    with pytest.raises(StoreUnreachable, match=r"the folder /proc/prod/.* can't be made"):
        BundleStore.open("/proc").put(NAME, b"bundle")
    with pytest.raises(InvalidAddress, match="file is not a folder"):
        BundleStore.open(str(tmp_path / "file"))


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("ftp://host/x", "ftp:// is not a store of backups. Use a folder, or one of s3://, gs://, az://"),
        ("s3://key:secret@bucket/x", "s3://bucket/x: credentials don't belong into an address"),
        (" ", "' ' is not the path of a folder"),
        ("a\udcff", r"'a\\udcff' is not the path of a folder"),
        ("az://container/x?sig=secret", "az://container/x: credentials don't belong into an address"),
    ],
)
def test_an_address_that_is_not_valid_is_refused(address: str, reason: str) -> None:
    with pytest.raises(InvalidAddress, match=reason) as caught:
        BundleStore.open(address)
    assert "secret" not in str(caught.value)


def test_an_archive_finds_the_newest_bundle_of_every_subject(store: BundleStore) -> None:
    recipients, identities = keys()
    archive, other = Archive(store, "prod"), Archive(store, "prod-eu")
    for hours in (2, 0, 1):
        archive.write("tenant", "acme", MEMBERS, FACTS, AT + timedelta(hours=hours), recipients)
    archive.write("tenant", "beta", MEMBERS, FACTS, AT, recipients)
    archive.write("platform", "prod", MEMBERS, FACTS, AT, recipients)
    other.write("tenant", "acme", MEMBERS, FACTS, AT + timedelta(hours=9), recipients)
    Path(store.address, "prod/tenants/acme/README").write_text("not a bundle")

    newest = archive.newest("tenant", "acme")
    assert newest == BundleName.of("prod", "tenant", "acme", AT + timedelta(hours=2))
    assert archive.subjects() == [("platform", "prod"), ("tenant", "acme"), ("tenant", "beta")]
    bundle = archive.read(newest, identities)
    assert (bundle.members, bundle.manifest.facts) == (MEMBERS, FACTS)
    assert bundle.manifest.at == newest.at
    assert datetime.now(UTC) - bundle.manifest.created_at < timedelta(hours=1)  # not the time that it was due
    assert archive.newest("tenant", "nobody") is None


def test_a_bundle_under_another_name_is_refused(store: BundleStore) -> None:
    recipients, identities = keys()
    archive = Archive(store, "prod")
    written = archive.write("tenant", "acme", MEMBERS, FACTS, AT, recipients)
    name = BundleName.of("prod", "tenant", "beta", AT)
    store.put(str(name), store.get(written.name))
    with pytest.raises(InvalidBundle, match=f"holds another bundle, {NAME}"):
        archive.read(name, identities)


def test_writers_at_the_same_time_make_one_file(store: BundleStore) -> None:
    written = [f"bundle {number}".encode() for number in range(8)]

    def write(data: bytes) -> bytes | None:
        with suppress(BundleExists):
            store.put(NAME, data)
            return data
        return None

    with ThreadPoolExecutor(8) as pool:
        [won] = [each for each in pool.map(write, written) if each]
    assert store.get(NAME) == won
    assert files(Path(store.address)) == [NAME]


def write_with(fault: str, store: BundleStore, log: Path) -> subprocess.CompletedProcess[str]:
    """Write a bundle in a process whose system calls fail as strace's `--inject` says."""
    script = (
        f"from kryonix.backup.store import BundleStore\nBundleStore.open({store.address!r}).put({NAME!r}, b'bundle')"
    )
    trace = ["strace", "-f", "-o", str(log), "-e", f"inject={fault}"]
    run = [*trace, sys.executable, "-B", "-c", script]
    return subprocess.run(run, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("fsync:error=EIO", "Input/output error"),
        ("link,linkat:error=ENOSPC", "No space left on device"),
        ("fsync:signal=KILL", None),
        ("link,linkat:signal=KILL", None),
    ],
)
def test_a_writer_that_fails_or_is_killed_leaves_no_bundle(
    store: BundleStore, tmp_path: Path, fault: str, error: str | None
) -> None:
    Path(store.address, NAME).parent.mkdir(parents=True)  # an fsync then is that of the file
    ran = write_with(fault, store, tmp_path / "strace")
    assert ran.returncode == (-signal.SIGKILL if error is None else 1)
    assert (f"StoreUnreachable: {store.address}/{NAME}: {error}" if error else "") in ran.stderr
    assert store.list() == []
    store.put(NAME, b"bundle")


def test_only_encrypted_bytes_are_written_to_any_file(tmp_path: Path) -> None:
    script = (
        "from kryonix.backup.archive import Archive\n"
        "from kryonix.backup.store import BundleStore\n"
        "from tests.support.bundles import AT, FACTS, MEMBERS, keys\n"
        f"Archive(BundleStore.open({str(tmp_path)!r}), 'prod').write('tenant', 'acme', MEMBERS, FACTS, AT, keys()[0])\n"
    )
    log = tmp_path / "strace"
    calls = "trace=write,writev,pwrite64,pwritev,pwritev2,sendfile,copy_file_range,mmap"
    trace = ["strace", "-f", "-s", "1000000", "-y", "-e", calls, "-o", str(log)]
    subprocess.run([*trace, sys.executable, "-B", "-c", script], check=True, timeout=120)
    lines = log.read_text().splitlines()
    written = [line for line in lines if "write(" in line and "backup" not in line.split("<")[0]]
    assert [line for line in written if ".tar.zst.age" in line and "age-encryption.org/v1" in line]
    assert [line for line in lines if "password_hash" in line or "c2VjcmV0" in line] == []
    assert [line for line in lines if "MAP_SHARED" in line and "PROT_WRITE" in line and "</dev/" not in line] == []
