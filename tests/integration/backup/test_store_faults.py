"""A store that refuses, stalls, forgets or lies ends in a clear error, or in a bundle that is whole."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from kryonix.backup.errors import BundleExists, InvalidAddress, StoreUnreachable, UnknownBundle
from kryonix.backup.object_store import SETTINGS_FILE_VARIABLE
from kryonix.backup.store import BundleStore
from tests.support.object_storage import (
    Fault,
    Handler,
    Storage,
    answers,
    cuts_off,
    error,
    running,
    stalls,
    writes_and_cuts_off,
)

NAME = "prod/tenants/acme/20261129T020000Z.tar.zst.age"
ACTIONS: Mapping[str, tuple[Any, ...]] = {"put": (NAME, b"bundle"), "get": (NAME,), "list": (), "delete": (NAME,)}


@pytest.fixture(scope="module")
def server() -> Iterator[Storage]:
    with running() as storage:
        yield storage


@pytest.fixture
def storage(server: Storage) -> Storage:
    server.objects, server.faults, server.always, server.requests = {}, [], None, []
    server.honours_conditions = True
    return server


@pytest.fixture
def store(storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BundleStore:
    settings = tmp_path / "store.json"
    settings.write_text(json.dumps(storage.settings))
    monkeypatch.setenv(SETTINGS_FILE_VARIABLE, str(settings))
    return BundleStore.open("s3://backups/kryonix")


@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_the_fake_store_works_without_faults(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    settings = storage.settings if scheme == "s3" else storage.google_settings
    (tmp_path / "store.json").write_text(json.dumps(settings))
    monkeypatch.setenv(SETTINGS_FILE_VARIABLE, str(tmp_path / "store.json"))
    store = BundleStore.open(f"{scheme}://backups/kryonix")
    store.put(NAME, b"bundle")
    assert store.get(NAME) == b"bundle"
    with pytest.raises(BundleExists):
        store.put(NAME, b"another")
    assert [(each.name, each.bytes) for each in store.list("prod/")] == [(NAME, 6)]
    store.delete(NAME)
    store.delete(NAME)
    assert storage.objects == {}


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (answers(500, "InternalError"), "InternalError|500"),
        (answers(503, "SlowDown"), "SlowDown|503"),
        (answers(403, "RequestTimeTooSkewed"), "RequestTimeTooSkewed.*this machine's clock"),
        (answers(403, "AccessDenied"), "AccessDenied.*Check its credentials and rights"),
        (answers(401, "InvalidToken"), "InvalidToken.*Check its credentials and rights"),
        (answers(404, "NoSuchBucket"), "there is no such bucket"),
        (answers(301, "PermanentRedirect"), "region"),
        (answers(400, "BadRequest"), "BadRequest"),
        (cuts_off, "error sending request"),
    ],
    ids=["500", "503", "clock", "403", "401", "no bucket", "region", "400", "cut off"],
)
@pytest.mark.parametrize("action", ACTIONS)
def test_a_store_that_fails_ends_in_a_clear_error(
    store: BundleStore, storage: Storage, fault: Fault, reason: str, action: str
) -> None:
    storage.always = fault
    with pytest.raises(StoreUnreachable, match=reason) as caught:
        getattr(store, action)(*ACTIONS[action])
    text = str(caught.value)
    assert text.startswith("s3://backups/kryonix")
    assert "\n" not in text
    assert not [word for word in ("Debug source", "secret-of-the-store", "<?xml", "/usr/", "src/") if word in text]
    assert len(storage.requests) <= 10


@pytest.mark.parametrize("action", ACTIONS)
def test_a_store_that_stalls_is_not_waited_for(
    storage: Storage, store: BundleStore, tmp_path: Path, action: str
) -> None:
    (tmp_path / "store.json").write_text(json.dumps({**storage.settings, "read_timeout": "200ms"}))
    storage.always = stalls
    with pytest.raises(StoreUnreachable, match=r"body error|error sending request|Content-Range"):
        getattr(BundleStore.open(store.address), action)(*ACTIONS[action])


@pytest.mark.parametrize("fault", [answers(500, "InternalError"), answers(503, "SlowDown"), cuts_off])
def test_one_failure_is_tried_again(store: BundleStore, storage: Storage, fault: Fault) -> None:
    storage.faults = [fault]
    store.put(NAME, b"bundle")
    storage.faults = [fault]
    assert store.get(NAME) == b"bundle"


def test_an_answer_that_is_lost_leaves_a_bundle_that_counts_as_written(store: BundleStore, storage: Storage) -> None:
    storage.faults = [lambda handler: False, writes_and_cuts_off]
    store.put(NAME, b"bundle")
    assert store.get(NAME) == b"bundle"


def test_the_lost_answer_to_the_end_of_an_upload_is_no_failure(store: BundleStore, storage: Storage) -> None:
    """Sent again, the end of an upload in parts is refused: the upload is no more."""

    def ended(handler: Handler) -> bool:
        storage.objects[handler.path] = handler.body()
        handler.answer(404, error("NoSuchUpload"))
        return True

    storage.faults = [lambda handler: False, ended]
    store.put(NAME, b"bundle")


def test_a_conflict_with_nothing_there_is_an_error(store: BundleStore, storage: Storage) -> None:
    storage.always = lambda handler: handler.command == "PUT" and answers(412, "PreconditionFailed")(handler)
    with pytest.raises(BundleExists):
        store.put(NAME, b"bundle")
    storage.always = None
    store.put(NAME, b"bundle")


def test_a_store_that_knows_no_conditions_writes_nothing_over(store: BundleStore, storage: Storage) -> None:
    storage.honours_conditions = False
    store.put(NAME, b"bundle")
    with pytest.raises(BundleExists):
        store.put(NAME, b"another")
    assert store.get(NAME) == b"bundle"


@pytest.mark.parametrize("kept", [b"bundlE", b"", None], ids=["other", "empty", "lost"])
def test_a_store_that_keeps_other_bytes_is_noticed(store: BundleStore, storage: Storage, kept: bytes | None) -> None:
    def keeps(handler: object) -> bool:
        return False

    def spoils(handler: object) -> bool:
        storage.objects = {} if kept is None else dict.fromkeys(storage.objects, kept)
        return False

    storage.faults = [keeps, keeps, spoils]
    with pytest.raises(StoreUnreachable, match="read back is not what was written"):
        store.put(NAME, b"bundle")
    assert storage.objects == {}
    store.put(NAME, b"bundle")


def test_a_store_that_is_not_there_is_an_error(store: BundleStore, storage: Storage, tmp_path: Path) -> None:
    (tmp_path / "store.json").write_text(json.dumps({**storage.settings, "endpoint_url": "http://127.0.0.1:1"}))
    with pytest.raises(StoreUnreachable, match=f"s3://backups/{NAME}: HTTP error: error sending request"):
        BundleStore.open("s3://backups").get(NAME)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[]", "is not a JSON object"),
        ("{", "is not a JSON object"),
        ('{"surprise": "secret"}', "not a setting of s3://.*surprise"),
        ('{"region": {"a": "secret"}}', "is not a valid store with the settings of .*store.json"),
        ('{"read_timeout": "secret"}', "is not a valid store with the settings of .*store.json"),
    ],
)
def test_settings_that_are_not_valid_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, reason: str
) -> None:
    (tmp_path / "store.json").write_text(text)
    monkeypatch.setenv(SETTINGS_FILE_VARIABLE, str(tmp_path / "store.json"))
    with pytest.raises(InvalidAddress, match=reason) as caught:
        BundleStore.open("s3://backups")
    assert "secret" not in str(caught.value)


def test_settings_that_are_missing_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SETTINGS_FILE_VARIABLE, str(tmp_path / "absent.json"))
    with pytest.raises(InvalidAddress, match=r"absent\.json .*can't be read \(No such file"):
        BundleStore.open("s3://backups")


def test_without_a_file_the_settings_are_those_of_the_environment(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {"ENDPOINT_URL": storage.address, "ALLOW_HTTP": "true", "ACCESS_KEY_ID": "key", "SECRET_ACCESS_KEY": "x"}
    for name, value in {**names, "REGION": "us-east-1"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    BundleStore.open("s3://backups").put(NAME, b"bundle")
    assert storage.objects == {f"/backups/{NAME}": b"bundle"}
    monkeypatch.delenv("AWS_ALLOW_HTTP")
    with pytest.raises(StoreUnreachable, match=r"endpoint is not https://\. Set allow_http"):
        BundleStore.open("s3://backups").list()


def test_a_bundle_larger_than_any_is_not_read(store: BundleStore, storage: Storage) -> None:
    def claims(handler: object) -> bool:
        handler.answer(200, ETag='"x"', Content_Length=str(2**40))  # type: ignore[attr-defined] # a Handler
        return True

    storage.always = claims
    with pytest.raises(StoreUnreachable, match="no bundle has more than 1073741824"):
        store.get(NAME)


def test_a_bundle_that_is_not_there_is_unknown(store: BundleStore) -> None:
    with pytest.raises(UnknownBundle):
        store.get(NAME)
