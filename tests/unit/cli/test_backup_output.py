"""Tables of bundles at 80 columns."""

from __future__ import annotations

import io
from collections.abc import Iterable
from datetime import UTC, datetime

from rich.console import Console, RenderableType

from kryonix.backup.creation import Created
from kryonix.backup.errors import BackupError
from kryonix.backup.names import BundleName
from kryonix.backup.store import StoredBundle
from kryonix.cli.output.backup import (
    Listed,
    created_json,
    created_report,
    list_report,
    listed_json,
    manifest_json,
    manifest_report,
    prune_json,
    prune_report,
)
from tests.support.bundles import manifest

AT = datetime(2026, 5, 1, 2, tzinfo=UTC)


def printed(shown: Iterable[RenderableType]) -> str:
    text = io.StringIO()
    console = Console(file=text, width=80)
    for each in shown:
        console.print(each, soft_wrap=isinstance(each, str))
    return text.getvalue()


def listed(subject: str, verified: str | None = None) -> Listed:
    name = BundleName("dev", "tenant", subject, AT)
    return Listed(name=name, address=f"/backups/{name}", bytes=9_800, verified=verified)


def test_a_bundle_is_named_whole_in_a_narrow_terminal() -> None:
    console = Console(width=80)
    text = printed([list_report([listed("acme", "verified"), listed("beta", "failed")], "dev", "/backups", console)])
    assert "2 bundle(s) of stack dev in /backups" in text
    assert "tenants/acme/20260501T020000Z" in text
    assert "2026-05-01 02:00" in text
    assert "9.8 kB" in text
    assert text.split().count("yes") == text.split().count("failed") == 1
    assert max(map(len, text.splitlines())) <= 80


def test_a_store_without_bundles_of_the_stack_is_named() -> None:
    assert list_report([], "dev", "s3://a[b]", Console()) == "There are no bundles of stack dev in s3://a\\[b]."


def test_a_bundles_json_has_its_address_and_is_null_where_nothing_is_known() -> None:
    assert listed_json(listed("acme")) == {
        "bundle": "tenants/acme/20260501T020000Z",
        "kind": "tenant",
        "subject": "acme",
        "stack": "dev",
        "at": AT,
        "bytes": 9_800,
        "verified": None,
        "address": "/backups/dev/tenants/acme/20260501T020000Z.tar.zst.age",
    }


def test_what_a_bundle_holds_fits_a_narrow_terminal() -> None:
    of = manifest(counts={"queues": 2, "policies": 1, "global_parameters": 1, "users": 0})
    text = printed(manifest_report(of, "bundle.age", Console(width=80)))
    assert "tenant acme" in text
    assert "RabbitMQ 4.3.6, 1 node" in text
    assert "2 queues, 1 policy, 1 global parameter\n" in text
    assert "users.json" in text
    assert max(map(len, text.splitlines())) <= 80
    assert manifest_json(of, "bundle.age")["address"] == "bundle.age"


def test_what_was_made_and_what_was_not_are_told_apart() -> None:
    good = Created(name=BundleName("dev", "platform", "dev", AT), seconds=0.25, stored=StoredBundle("x", 30_000, AT))
    bad = Created(name=BundleName("dev", "tenant", "acme", AT), seconds=1, error=BackupError("the broker is [away]"))
    text = printed(created_report([good, bad], "/backups", Console(width=80)))
    assert "1 bundle(s) in /backups, 1 failed" in text
    assert "30.0 kB" in text
    assert text.split().count("failed") == 2
    assert max(map(len, text.splitlines())) <= 80
    assert printed(created_report([good], "/backups", Console(width=80))) == (
        "/backups/dev/platform/20260501T020000Z.tar.zst.age: 30.0 kB, 0.2 s\n"
    )
    made, failed = created_json([good, bad], "/backups")
    assert (made["address"], made["error"]) == ("/backups/dev/platform/20260501T020000Z.tar.zst.age", None)
    assert (failed["address"], failed["bytes"], failed["error"]) == (None, None, "the broker is [away]")


def test_a_clean_up_shows_why_each_bundle_stays() -> None:
    old, new = (BundleName("dev", "tenant", "acme", datetime(2026, 5, day, tzinfo=UTC)) for day in (1, 2))
    reasons, sizes = {new: ("newest", "daily"), old: ()}, {new: 2_000, old: 1_000}
    text = printed([prune_report(reasons, sizes, Console(width=80))])
    assert "1 of 2 bundles to delete, 1.0 kB" in text
    assert "newest, daily" in text
    assert prune_json(reasons, sizes, dry_run=True) == {
        "dry_run": True,
        "deleted": ["tenants/acme/20260501T000000Z"],
        "bytes": 1_000,
        "kept": {"tenants/acme/20260502T000000Z": ["newest", "daily"]},
    }
