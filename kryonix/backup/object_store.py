"""Object storage as a store of bundles: S3 and what is compatible, Google Cloud Storage, Azure Blob Storage."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, UnknownConfigurationKeyError
from obstore.store import AzureStore, GCSStore, S3Store

from kryonix.backup.errors import BundleExists, InvalidAddress, StoreUnreachable, UnknownBundle
from kryonix.backup.store import BundleStore, StoredBundle

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

SETTINGS_FILE_VARIABLE: Final = "KRYONIX_BACKUP_STORE_FILE"
"""Names a JSON file of obstore's settings. Without it they are taken from AWS_*, GOOGLE_* or AZURE_* variables."""

SCHEMES: Final[Mapping[str, Any]] = {"s3": S3Store, "gs": GCSStore, "az": AzureStore}

_CLIENT: Final[ClientConfig] = {"connect_timeout": "5s", "read_timeout": "20s", "timeout": "120s"}
"""`timeout` is that of a whole request, so of 5 MiB at most when writing."""
_RETRIES: Final[RetryConfig] = {"max_retries": 4, "retry_timeout": timedelta(seconds=60)}
_NO_BUCKET: Final = re.compile("NoSuchBucket|ContainerNotFound|The specified bucket does not exist")
_REFUSED: Final = re.compile(r"status code: 40[13]\b|InvalidAccessKeyId|lacked (valid|the necessary)")
_STATUS: Final = re.compile(r"status code: (\d{3} [A-Za-z ]+)")
_CODE: Final = re.compile(r"<Code>(\w+)</Code>")
_ALLOW_HTTP: Final = {"s3": "AWS_ALLOW_HTTP", "gs": "GOOGLE_ALLOW_HTTP", "az": "AZURE_ALLOW_HTTP"}
_URL: Final = re.compile(r"https?://\S+")
_CLIENT_SETTINGS: Final = ("allow_http", "allow_invalid_certificates", "proxy_url", *_CLIENT)


class ObjectStore(BundleStore):
    """A bucket or a container, and a path within it."""

    def __init__(self, address: str) -> None:
        super().__init__(address)
        scheme = address.partition("://")[0]
        settings = dict(_settings(scheme))
        client: dict[str, Any] = {name: settings.pop(name) for name in _CLIENT_SETTINGS if name in settings}
        try:
            self._store = SCHEMES[scheme].from_url(
                self.address, config=settings, client_options={**_CLIENT, **client}, retry_config=_RETRIES
            )
        except UnknownConfigurationKeyError:
            names = ", ".join(sorted(settings))
            raise InvalidAddress(
                f"{os.environ[SETTINGS_FILE_VARIABLE]}: not a setting of {scheme}:// in {names}"
            ) from None
        except (BaseError, TypeError, ValueError):
            source = os.environ.get(SETTINGS_FILE_VARIABLE, "the environment's variables")
            raise InvalidAddress(f"{self.address}: is not a valid store with the settings of {source}") from None

    def _create(self, name: str, data: bytes) -> None:
        with self._translated(name):
            if self._exists(name):  # some compatible stores ignore the condition of a write
                raise BundleExists(self.address_of(name))
            obstore.put(self._store, name, data, mode="create")

    def _exists(self, name: str) -> bool:
        try:
            obstore.get(self._store, name)  # not `head`: its answer has no body to tell why it is refused
        except FileNotFoundError as error:
            if _NO_BUCKET.search(str(error)):
                raise
            return False
        return True

    def get(self, name: str) -> bytes:
        with self._translated(name):
            answer = obstore.get(self._store, name)
            self.checked_size(name, answer.meta["size"])
            return bytes(answer.bytes())

    def list(self, prefix: str = "") -> Sequence[StoredBundle]:
        with self._translated(prefix):
            found = [each for batch in obstore.list(self._store, prefix or None) for each in batch]
        files = (StoredBundle(each["path"], each["size"], each["last_modified"]) for each in found)
        return sorted(files, key=lambda each: each.name)

    def delete(self, name: str) -> None:
        try:
            with self._translated(name):
                obstore.delete(self._store, name)
        except UnknownBundle:
            return

    @contextmanager
    def _translated(self, name: str) -> Iterator[None]:
        try:
            yield
        except AlreadyExistsError:
            raise BundleExists(self.address_of(name)) from None
        except (BaseError, FileNotFoundError) as error:  # FileNotFoundError is what it raises for NotFound
            text, reason = str(error), _reason(error)
            if _NO_BUCKET.search(text):
                raise StoreUnreachable(f"{self.address}: there is no such bucket or container") from None
            if isinstance(error, FileNotFoundError):
                raise UnknownBundle(self.address_of(name)) from None
            if _REFUSED.search(text):
                reason = f"the store refuses: {reason}. Check its credentials and rights, and this machine's clock"
            if reason.startswith("HTTP error"):
                reason = f"{reason}. Check the store's address and the network, then run again"
            raise StoreUnreachable(f"{self.address_of(name)}: {reason}") from None


def _settings(scheme: str) -> Mapping[str, Any]:
    file = os.environ.get(SETTINGS_FILE_VARIABLE)
    if not file:
        # The library reads the others itself. This one it forgets where a time to wait is given.
        return {"allow_http": True} if os.environ.get(_ALLOW_HTTP[scheme], "").lower() in ("1", "true") else {}
    try:
        settings = json.loads(Path(file).read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidAddress(f"{file} ({SETTINGS_FILE_VARIABLE}): can't be read ({error.strerror})") from None
    except ValueError:
        settings = None
    if not isinstance(settings, dict):
        raise InvalidAddress(f"{file} ({SETTINGS_FILE_VARIABLE}): is not a JSON object of the store's settings")
    return settings


def _reason(error: Exception) -> str:
    """Return what a person can use of the library's message: it goes on with its own source, and may hold addresses."""
    text = " ".join(str(error).split("Debug source:")[0].rsplit(" - ", 1)[-1].split())
    if text.endswith("builder error"):
        return "its endpoint is not https://. Set allow_http for a store without TLS"
    status, code = _STATUS.search(text), _CODE.search(text)
    if status and code:
        return f"{code.group(1)} ({status.group(1)})"
    return _URL.sub("the store", status.group(1) if status else text)[:200]
