"""A reading during which nothing changed is told from one during which something did."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kryonix.backup.errors import Changing
from kryonix.backup.reading import consistent


def read(versions: str, readings: str, *, still: bool = True) -> tuple[str, str]:
    """Read with these answers, one character each."""
    answers: Iterator[str] = iter(versions)
    found: Iterator[str] = iter(readings)
    return consistent("the tenant 'acme'", lambda: next(answers).strip(), lambda: next(found), lambda _: still)


def test_one_reading_is_enough_while_nothing_changes() -> None:
    assert read("11", "a") == ("a", "1")


def test_a_change_during_the_reading_reads_again() -> None:
    assert read("1222", "ab") == ("b", "2")


def test_two_equal_readings_are_consistent_while_others_change() -> None:
    assert read("1234", "aa") == ("a", "4")


def test_a_tenant_that_keeps_changing_is_refused() -> None:
    with pytest.raises(Changing, match="the tenant 'acme' changed while it was read, 3 times") as refused:
        read("123456", "aba")
    assert refused.value.exit_status == 3


def test_equal_readings_with_another_between_are_not_consistent() -> None:
    with pytest.raises(Changing):
        read("123456", "abab")


def test_rows_that_change_are_refused_even_if_the_broker_does_not() -> None:
    with pytest.raises(Changing):
        read("111111", "aaa", still=False)


def test_a_broker_without_versions_is_read_twice() -> None:
    assert read("    ", "aa") == ("a", "")
