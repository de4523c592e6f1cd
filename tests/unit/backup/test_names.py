"""A bundle's name holds its stack, kind, subject and time, and nothing else is one."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from kryonix.backup.errors import InvalidAddress
from kryonix.backup.names import BundleName
from tests.support.bundles import AT

TENANT = BundleName.of("prod", "tenant", "acme", AT)
PLATFORM = BundleName.of("prod", "platform", "prod", AT)


def test_names_are_paths_that_sort_by_time() -> None:
    assert str(TENANT) == "prod/tenants/acme/20261129T020000Z.tar.zst.age"
    assert str(PLATFORM) == "prod/platform/20261129T020000Z.tar.zst.age"
    later = BundleName.of("prod", "tenant", "acme", AT + timedelta(seconds=1))
    assert later > TENANT
    assert str(TENANT) < str(later)


@pytest.mark.parametrize("name", [TENANT, PLATFORM])
def test_a_name_is_read_from_its_path(name: BundleName) -> None:
    assert BundleName.parse(str(name)) == name


def test_times_are_in_utc_to_the_second() -> None:
    at = datetime(2026, 11, 29, 4, 0, 0, 999, tzinfo=timezone(timedelta(hours=2)))
    assert BundleName.of("prod", "tenant", "acme", at) == TENANT


@pytest.mark.parametrize(
    "path",
    [
        "prod/tenants/acme/20261329T020000Z.tar.zst.age",
        "prod/tenants/acme/20261129T020000Z.tar.zst",
        "prod/tenants/acme/.20261129T020000Z.tar.zst.age",
        "prod/tenants/../20261129T020000Z.tar.zst.age",
        "prod/tenants/Acme/20261129T020000Z.tar.zst.age",
        "/prod/platform/20261129T020000Z.tar.zst.age",
        "prod/platform/20261129T020000Z.tar.zst.age\n",
        "../platform/20261129T020000Z.tar.zst.age",
        "prod/20261129T020000Z.tar.zst.age",
        "",
    ],
)
def test_other_paths_are_not_bundles(path: str) -> None:
    assert BundleName.parse(path) is None


@pytest.mark.parametrize(
    ("stack", "kind", "subject"),
    [("../x", "platform", "../x"), ("prod", "platform", "other"), ("prod", "tenant", "a/b"), ("", "tenant", "acme")],
)
def test_a_name_that_could_leave_its_folder_is_not_made(stack: str, kind: str, subject: str) -> None:
    with pytest.raises(InvalidAddress, match="there is no bundle"):
        BundleName.of(stack, kind, subject, AT)  # type: ignore[arg-type] # a parameter of the test
