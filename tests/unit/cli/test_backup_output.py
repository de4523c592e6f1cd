"""Tables of bundles at 80 columns."""

from __future__ import annotations

import io
from collections.abc import Iterable
from datetime import UTC, datetime

from rich.console import Console, RenderableType

from kryonix.backup.names import BundleName
from kryonix.cli.output.backup import Listed, list_report, listed_json, manifest_json, manifest_report
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
        "created_at": AT,
        "bytes": 9_800,
        "verified": None,
        "address": "/backups/dev/tenants/acme/20260501T020000Z.tar.zst.age",
    }


def test_what_a_bundle_holds_fits_a_narrow_terminal() -> None:
    of = manifest()
    text = printed(manifest_report(of, "bundle.age", Console(width=80)))
    assert "tenant acme" in text
    assert "RabbitMQ 4.3.6, 1 node" in text
    assert "2 queues" in text
    assert "users.json" in text
    assert max(map(len, text.splitlines())) <= 80
    assert manifest_json(of, "bundle.age")["address"] == "bundle.age"
